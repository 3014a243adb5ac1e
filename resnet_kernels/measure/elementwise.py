"""Cases of what runs between convolutions: BatchNorm's passes, pooling and the classifier.

    bn_act              relu(BatchNorm(x) + residual), fixed statistics
    bn_relu_mask        the same with a batch's statistics, and one bit a value for the backward pass
    bn_backward_reduce  mask g, and its sums by channel
    bn_backward_apply   the gradient through BatchNorm from those sums
    max_pool, max_pool_indices, max_pool_backward    3x3, stride 2, padding 1: the stem's
    global_avg_pool, global_avg_pool_backward
    linear              the classifier

All but the last are bound by memory; their bytes are operands and results, each once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import ops
from ..training.compositions import pack_mask
from ..training.operators import run
from .case import Case, Implementation, Ours, Outputs
from .exact import EPS, gradient_sums, per_channel
from .inputs import Inputs, generator, normal
from .match import Exact, Judge, Verdict
from .peers import Choice, pytorch
from .roofline import TORCH_DTYPES, item_bytes

POOL = (3, 2, 1)  # window, stride, padding


@dataclass(frozen=True)
class Kernel:
    """One operator: both ways to write it, its exact results, and how many values it moves.

    values: (values of x, of y) -> (values in the dtype, bytes beside them); roundings: of PyTorch's way, and
    composed: of its composition of our operator.
    """

    ours: Callable[[Inputs], Outputs]
    eager: Callable[[Inputs], Outputs]
    exact: Callable[[Inputs, Outputs], list[Exact]]
    values: Callable[[int, int], tuple[int, int]]
    roundings: int = 0
    idle: tuple[str, ...] = ()
    composed: int = 0


def case(
    name: str, shape: tuple[int, int, int], batch: int, dtype: str, choice: Choice, ours: Ours, places: str
) -> Case:
    """One operator on [batch, *shape]; `places`: where in a network."""
    kernel = KERNELS[name]
    c, h, w = (shape[0], 1, 1) if name == "linear" else shape
    x = batch * c * h * w
    values, beside = kernel.values(x, _results(name, shape) * batch)
    weight, bias = (_CLASSES * c, 4 * _CLASSES) if name == "linear" else (0, 0)
    return Case(
        suite="layers",
        name=f"linear {c}>{_CLASSES}" if name == "linear" else f"{name} {c} {h}x{w}",
        dtype=dtype,
        batch=batch,
        direction="elementwise",
        make=partial(_make, name, shape, batch, dtype, choice.device),
        implementations=partial(_implementations, kernel, choice, ours),
        problem={"x": [batch, c, h, w], "weight": None, "where": places},
        flops=2 * x * _CLASSES if name == "linear" else 0,
        bytes=item_bytes(dtype) * (values + weight) + beside + bias,
        idle=kernel.idle,
        judge=partial(_judge, kernel, dtype),
    )


_CLASSES = 1000


def _pooled(side: int) -> int:
    return (side + 2 * POOL[2] - POOL[0]) // POOL[1] + 1


def _results(name: str, shape: tuple[int, int, int]) -> int:
    """Values of the result an image; of max_pool_backward and the average's, those of its operand dy."""
    c, h, w = shape
    if name.startswith("max_pool"):
        return c * _pooled(h) * _pooled(w)
    if name.startswith("global_avg_pool"):
        return c
    return _CLASSES if name == "linear" else c * h * w


def _make(
    name: str, shape: tuple[int, int, int], batch: int, dtype: str, device: torch.device, seed: int
) -> Inputs:
    source, kind = generator(device, seed), TORCH_DTYPES[dtype]

    def activation(*sizes: int) -> Tensor:
        return normal(source, *sizes).to(kind).contiguous(memory_format=torch.channels_last)

    c, h, w = shape
    if name == "linear":
        weight = (normal(source, _CLASSES, c) / c**0.5).to(kind)
        return {"x": normal(source, batch, c).to(kind), "weight": weight, "bias": normal(source, _CLASSES)}
    inputs = {"x": activation(batch, *shape)}
    if name.startswith("bn"):
        inputs |= {
            "scale": 1 + 0.2 * normal(source, c),
            "shift": 0.2 * normal(source, c),
            "mean": 0.2 * normal(source, c),
            "var": 0.5 + torch.rand(c, generator=source, device=device),
        }
        rstd = (inputs["var"] + EPS).rsqrt()
        inputs["norm"] = torch.stack((inputs["mean"], inputs["scale"] * rstd, inputs["shift"], rstd))
        if name in ("bn_act", "bn_relu_mask"):
            inputs["residual"] = activation(batch, *shape)
        else:
            inputs |= {"g": activation(batch, *shape), "y": activation(batch, *shape).relu_()}
            inputs["mask"] = pack_mask(inputs["y"] > 0)
            inputs["sums"] = gradient_sums(inputs["g"], inputs["x"], inputs["mean"]).value.float()
            inputs["invstd"] = rstd
            inputs["count"] = torch.full((1,), batch * h * w, dtype=torch.int32, device=device)
    elif name == "max_pool_backward":
        inputs["dy"] = activation(batch, c, _pooled(h), _pooled(w))
        _, inputs["indices"] = run("max_pool_indices", inputs["x"], *_pool_arguments())
        _, inputs["places"] = torch.ops.aten.max_pool2d_with_indices(inputs["x"], *_pool_arguments())
    elif name == "global_avg_pool_backward":
        inputs["dy"] = normal(source, batch, c).to(kind)
    return inputs


def _pool_arguments() -> list[list[int]]:
    return [[value] * 2 for value in POOL]


def _implementations(kernel: Kernel, choice: Choice, ours: Ours) -> list[Implementation]:
    roundings = ours.roundings(kernel.composed)
    mine = Implementation("ours", ours.label, pytorch.eager(kernel.ours), ours=True, roundings=roundings)
    peers = pytorch.implementations(kernel.eager, choice, kernel.roundings)
    return [mine, *peers]


def _judge(
    kernel: Kernel, dtype: str, inputs: Inputs, results: dict[str, tuple[Implementation, Outputs]]
) -> dict[str, Verdict]:
    verdicts = {}
    for name, (implementation, outputs) in results.items():
        judge = Judge(dtype, implementation.roundings)
        for actual, wanted in zip(outputs, kernel.exact(inputs, outputs), strict=False):
            judge.see(actual, wanted)
        verdicts[name] = Verdict.of(judge)
    return verdicts


# -----------------------------------------------------------------------------
# BatchNorm


def _vectors(i: Inputs) -> dict[str, Any]:
    return {name: i[name] for name in ("scale", "shift", "mean", "var")}


def _our_bn_act(i: Inputs) -> Outputs:
    return (ops.bn_act(i["x"], **_vectors(i), residual=i["residual"]),)


def _our_bn_relu_mask(i: Inputs) -> Outputs:
    return run("bn_normalise", i["x"], i["norm"], i["residual"], None, True, True)


def _bn_act(i: Inputs) -> Outputs:
    y = F.batch_norm(i["x"], i["mean"], i["var"], i["scale"], i["shift"], eps=EPS)
    return (y.add_(i["residual"]).relu_(),)


def _exact_bn_act(i: Inputs, outputs: Outputs) -> list[Exact]:
    scale, shift, mean, var = (per_channel(value.double()) for value in _vectors(i).values())
    s = scale / (var + EPS).sqrt()
    x, residual = i["x"].double(), i["residual"].double()
    t = (x.abs() + mean.abs()) * s.abs() + shift.abs() + residual.abs()
    return [Exact(((x - mean) * s + shift + residual).relu_(), t, 4)]


def _exact_bn_relu_mask(i: Inputs, outputs: Outputs) -> list[Exact]:
    """The mask, which only ours returns, is that of the rounded result, bit by bit."""
    mask = pack_mask(outputs[0] > 0).double()
    return [*_exact_bn_act(i, outputs), Exact(mask, torch.zeros_like(mask), 1)]


def _our_reduce(i: Inputs) -> Outputs:
    return run("bn_backward_reduce", i["g"], i["mask"], i["x"], i["norm"], None, None, True)[:2]


def _reduce(i: Inputs) -> Outputs:
    h = torch.ops.aten.threshold_backward(i["g"], i["y"], 0)
    if h.is_cuda:
        arguments = h, i["x"], i["mean"], i["invstd"], None, True, False, False
        return h, torch.stack(torch.batch_norm_backward_reduce(*arguments)[:2])
    axes = (0, 2, 3)
    return h, torch.stack((h.sum(axes), (h * (i["x"] - per_channel(i["mean"]))).sum(axes)))


def _exact_reduce(i: Inputs, outputs: Outputs) -> list[Exact]:
    h = torch.where(i["y"] > 0, i["g"].double(), 0.0)
    return [Exact(h, torch.zeros_like(h), 1), gradient_sums(outputs[0], i["x"], i["mean"])]


def _our_apply(i: Inputs) -> Outputs:
    count = float(i["x"].numel() // i["x"].shape[1])
    coefficients, *_ = run("bn_backward_finalize", i["norm"], i["sums"], i["sums"], count, True)
    return (run("bn_backward_apply", i["g"], None, i["x"], coefficients),)


def _apply(i: Inputs) -> Outputs:
    """PyTorch's call makes the sums again; its own kernel for this step alone is there on a GPU only."""
    if i["x"].is_cuda:
        first = i["g"], i["x"], i["mean"], i["invstd"], i["scale"]
        return (torch.batch_norm_backward_elemt(*first, i["sums"][0], i["sums"][1], i["count"]),)
    vectors = i["scale"], i["mean"], i["var"], i["mean"], i["invstd"]
    wanted = [True, True, True]
    return torch.ops.aten.native_batch_norm_backward(i["g"], i["x"], *vectors, True, EPS, wanted)[:1]


def _exact_apply(i: Inputs, outputs: Outputs) -> list[Exact]:
    scale, mean, var = (per_channel(i[name].double()) for name in ("scale", "mean", "var"))
    g, deviation = i["g"].double(), i["x"].double() - mean
    pixels = g.numel() // g.shape[1]
    rstd = (var + EPS).rsqrt()
    first, second = (per_channel(value.double()) / pixels for value in i["sums"])
    dx = (g - first - deviation * second * rstd.square()) * rstd * scale
    spread = (deviation.abs() + mean.abs()) * second.abs() * rstd.square()
    return [Exact(dx, (g.abs() + first.abs() + spread) * (rstd * scale).abs(), pixels)]


# -----------------------------------------------------------------------------
# Pooling and the classifier


def _exact_max_pool(i: Inputs, outputs: Outputs) -> list[Exact]:
    y = F.max_pool2d(i["x"].double(), *POOL)
    return [Exact(y, torch.zeros_like(y), 1)]


def _max_pool_backward(i: Inputs) -> Outputs:
    window = *_pool_arguments(), [1, 1], False
    return (torch.ops.aten.max_pool2d_with_indices_backward(i["dy"], i["x"], *window, i["places"]),)


def _exact_max_pool_backward(i: Inputs, outputs: Outputs) -> list[Exact]:
    x, dy = i["x"].double(), i["dy"].double()
    dx, t = (_max_pool_backward({**i, "x": x, "dy": value})[0] for value in (dy, dy.abs()))
    return [Exact(dx, t, POOL[0] ** 2)]


def _our_max_pool_backward(i: Inputs) -> Outputs:
    size = list(i["x"].shape[2:])
    return (run("max_pool_backward", i["dy"], i["indices"], size, *_pool_arguments()),)


def _exact_average(i: Inputs, outputs: Outputs) -> list[Exact]:
    x = i["x"].double()
    return [Exact(x.mean((2, 3)), x.abs().mean((2, 3)), x.shape[2] * x.shape[3])]


def _average_backward(i: Inputs) -> Outputs:
    pixels = i["x"].shape[2] * i["x"].shape[3]
    return ((i["dy"] / pixels)[:, :, None, None].expand(i["x"].shape).contiguous(),)


def _exact_average_backward(i: Inputs, outputs: Outputs) -> list[Exact]:
    dx = _average_backward({**i, "dy": i["dy"].double()})[0]
    return [Exact(dx, dx.abs(), 1)]


def _exact_linear(i: Inputs, outputs: Outputs) -> list[Exact]:
    x, weight, bias = (i[name].double() for name in ("x", "weight", "bias"))
    return [Exact(F.linear(x, weight, bias), F.linear(x.abs(), weight.abs(), bias.abs()), x.shape[1])]


KERNELS = {
    "bn_act": Kernel(_our_bn_act, _bn_act, _exact_bn_act, lambda x, y: (3 * x, 0), 3),
    "bn_relu_mask": Kernel(_our_bn_relu_mask, _bn_act, _exact_bn_relu_mask, lambda x, y: (3 * x, x // 8), 3),
    "bn_backward_reduce": Kernel(_our_reduce, _reduce, _exact_reduce, lambda x, y: (3 * x, x // 8), 1),
    "bn_backward_apply": Kernel(_our_apply, _apply, _exact_apply, lambda x, y: (3 * x, 0), 2, ("y", "mask")),
    "max_pool": Kernel(
        lambda i: (ops.max_pool(i["x"], *POOL),),
        lambda i: (F.max_pool2d(i["x"], *POOL),),
        _exact_max_pool,
        lambda x, y: (x + y, 0),
    ),
    "max_pool_indices": Kernel(
        lambda i: run("max_pool_indices", i["x"], *_pool_arguments()),
        lambda i: torch.ops.aten.max_pool2d_with_indices(i["x"], *_pool_arguments()),
        _exact_max_pool,
        lambda x, y: (x + y, y),
    ),
    "max_pool_backward": Kernel(
        _our_max_pool_backward,
        _max_pool_backward,
        _exact_max_pool_backward,
        lambda x, y: (x + y, y),
        3,  # up to four windows add to a pixel, in the short format
        ("x", "places"),
    ),
    "global_avg_pool": Kernel(
        lambda i: (ops.global_avg_pool(i["x"]),),
        lambda i: (i["x"].mean((2, 3)),),
        _exact_average,
        lambda x, y: (x + y, 0),
    ),
    "global_avg_pool_backward": Kernel(
        lambda i: (run("global_avg_pool_backward", i["dy"], list(i["x"].shape[2:])),),
        _average_backward,
        _exact_average_backward,
        lambda x, y: (x + y, 0),
        1,
        ("x",),
    ),
    "linear": Kernel(
        lambda i: (ops.linear(i["x"], i["weight"], i["bias"]),),
        lambda i: (F.linear(i["x"], i["weight"], i["bias"].to(i["x"].dtype)),),
        _exact_linear,
        lambda x, y: (x + y, 0),
        2,
        composed=1,  # the bias
    ),
}

HEADS = ("global_avg_pool", "global_avg_pool_backward", "linear")
"""Those of the network's end, behind the last convolution."""
