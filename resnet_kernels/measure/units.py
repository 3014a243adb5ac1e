"""Cases of one trained layer: convolution, BatchNorm with the batch's statistics, (add,) ReLU.

    train_forward    with everything that backward will need kept
    train_backward   the gradients of x, weight, gamma, beta (and the residual) from that of y; forward's
                     result is handed on beside them

`rk.training.conv_bn_act_train` against torch.nn's functions under autograd.  There is no sharp bound for a
chain of gradients: results are judged by PyTorch's own error (`match.relative`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..training import conv_bn_act_train
from .case import Bind, Case, Implementation, Ours, Outputs, Thunk
from .inputs import Inputs, generator, normal
from .match import Verdict, distance, relative
from .peers import NAMES, Choice, pytorch
from .problems import Conv
from .roofline import TORCH_DTYPES, item_bytes

Layer = Callable[..., Tensor]
EPILOGUES = ("bn_relu", "bn_add_relu")


def case(
    conv: Conv, batch: int, dtype: str, direction: str, epilogue: str, choice: Choice, ours: Ours
) -> Case:
    """`direction`: train_forward or train_backward."""
    backward = direction == "train_backward"
    return Case(
        suite="layers",
        name=conv.name,
        dtype=dtype,
        batch=batch,
        direction=direction,
        epilogue=epilogue,
        make=partial(_make, conv, batch, dtype, epilogue, choice.device),
        implementations=partial(_implementations, conv.geometry, backward, choice, ours),
        problem=conv.problem(batch),
        networks=list(conv.count),
        count=dict(conv.count),
        flops=2 * conv.macs(batch) * (2 if backward else 1),
        bytes=_bytes(conv, batch, dtype, backward, "add" in epilogue),
        idle=() if backward else ("dy",),
        judge=partial(_judge, conv.geometry, backward, dtype),
    )


def _bytes(conv: Conv, batch: int, dtype: str, backward: bool, adds: bool) -> int:
    """Of kernels that have every reduction in a convolution's epilogue, which is this package's schedule.

    forward: x, weight -> y; y (, residual) -> a, mask.  backward: dy, mask, y -> sums (one pass); dy, y ->
    the convolution's gradient h; h, weight -> dx; h, x -> dw.
    """
    count, item = conv.values(batch), item_bytes(dtype)
    x, y, weight = count["read"], count["y"], count["weight"]
    if backward:
        return item * (5 * y + 2 * y + count["x"] + x + 2 * weight + adds * y) + y // 8
    return item * (x + weight + 3 * y + adds * y) + y // 8


def _make(conv: Conv, batch: int, dtype: str, epilogue: str, device: torch.device, seed: int) -> Inputs:
    source, kind = generator(device, seed), TORCH_DTYPES[dtype]

    def activation(*shape: int, scale: float = 1.0) -> Tensor:
        values = normal(source, *shape).mul_(scale).to(kind)
        return values.contiguous(memory_format=torch.channels_last)

    y = (batch, conv.k, *conv.size)
    fan_in = conv.c * conv.kernel**2
    inputs = {
        "x": activation(batch, conv.c, conv.h, conv.w),
        "weight": activation(conv.k, conv.c, conv.kernel, conv.kernel, scale=(2 / fan_in) ** 0.5),
        "gamma": 1 + 0.2 * normal(source, conv.k),
        "beta": 0.2 * normal(source, conv.k),
        "running_mean": torch.zeros(conv.k, device=device),
        "running_var": torch.ones(conv.k, device=device),
        "dy": activation(*y),
    }
    if "add" in epilogue:
        inputs["residual"] = activation(*y)
    return inputs


def _implementations(
    geometry: dict[str, Any], backward: bool, choice: Choice, ours: Ours
) -> list[Implementation]:
    torch._dynamo.reset()
    compiled = torch.compile(partial(_plain, geometry), dynamic=False)
    binds: dict[str, Bind] = {
        "eager_nhwc": partial(_bind, partial(_plain, geometry), backward),
        "eager_nchw": lambda i: _bind(partial(_plain, geometry), backward, pytorch.nchw(i)),
        "compile_default": partial(_bind, compiled, backward),
    }
    mine = partial(_bind, partial(_ours, geometry), backward)
    return [
        Implementation("ours", ours.label, mine, ours=True),
        *(
            Implementation(name, NAMES[name], bind, absent=choice.absent(name, pytorch.LEFT_OUT.get(name)))
            for name, bind in binds.items()
        ),
    ]


def _ours(geometry: dict[str, Any], i: Inputs) -> Tensor:
    vectors: dict[str, Any] = {name: i[name] for name in ("gamma", "beta", "running_mean", "running_var")}
    residual = i.get("residual")
    return conv_bn_act_train(i["x"], i["weight"], **vectors, residual=residual, **geometry)[0]


def _normalised(geometry: dict[str, Any], i: Inputs) -> Tensor:
    y = F.conv2d(i["x"], i["weight"], None, **geometry)
    y = F.batch_norm(y, i["running_mean"], i["running_var"], i["gamma"], i["beta"], training=True)
    return y + i["residual"] if "residual" in i else y


def _plain(geometry: dict[str, Any], i: Inputs) -> Tensor:
    return F.relu(_normalised(geometry, i), inplace=True)


def _bind(layer: Layer, backward: bool, inputs: Inputs) -> Thunk:
    """The call; where backward is timed, forward has been run."""
    leaves = [name for name in ("x", "weight", "gamma", "beta", "residual") if name in inputs]
    held = {n: value.detach().requires_grad_() if n in leaves else value for n, value in inputs.items()}
    for name in ("running_mean", "running_var"):
        held[name] = inputs[name].clone()  # changed in place by each forward of PyTorch's

    def forward() -> Tensor:
        with torch.enable_grad():
            return layer(held)

    if not backward:
        return lambda: (forward().detach(),)
    y = forward()
    wanted = [held[name] for name in leaves]
    return lambda: (*torch.autograd.grad(y, wanted, held["dy"], retain_graph=True), y.detach())


def _judge(
    geometry: dict[str, Any],
    backward: bool,
    dtype: str,
    inputs: Inputs,
    results: dict[str, tuple[Implementation, Outputs]],
) -> dict[str, Verdict]:
    """Relative to the larger error of PyTorch's two layouts.

    A ReLU's input near zero may have either sign after rounding, and its gradient passes or not: gradients
    are those of each implementation's own mask.  Its result comes last among a backward pass's.
    """
    wide = {name: value.double() for name, value in inputs.items()}

    def masked(y: Tensor, i: Inputs) -> Tensor:
        return _normalised(geometry, i) * (y > 0)

    def error(outputs: Outputs) -> float:
        layer = partial(masked, outputs[-1]) if backward else partial(_plain, geometry)
        exact = _bind(layer, backward, wide)()
        results = len(exact) - backward
        return distance(outputs[:results], exact[:results])

    errors = {name: error(outputs) for name, (_, outputs) in results.items()}
    eager = [errors[name] for name in ("eager_nhwc", "eager_nchw") if name in errors]
    peer = max(eager) if eager else error(_bind(partial(_plain, geometry), backward, inputs)())
    return {name: relative(error, peer, dtype) for name, error in errors.items()}
