"""Cases of one convolution: forward with every epilogue, and the gradients of its input and its weight.

    fprop   none | bn | bn_relu | bn_add_relu | bn_relu_maxpool: conv, BatchNorm with fixed statistics, ...
            stats: conv, and mean and variance of its output by channel, as training needs them
    dgrad   none; mask_sums: what ReLU's mask lets pass, and what the BatchNorm before needs summed;
            add_mask_sums: with a shortcut's gradient added first
    wgrad   none

Each is written twice: with this package's operators, and as a PyTorch user writes it.  FLOPs are two a
multiply-add; bytes are those of operands and results, each once (a strided 1x1 reads every second pixel).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import ops
from ..training.compositions import pack_mask
from ..training.operators import run
from . import exact
from .case import Case, Implementation, Ours, Outputs
from .inputs import Inputs, generator, normal
from .match import Judge, Verdict
from .peers import Choice, cudnn, pytorch, xla
from .problems import Conv
from .roofline import TORCH_DTYPES, item_bytes

FPROP = ("none", "bn", "bn_relu", "bn_add_relu", "bn_relu_maxpool", "stats")
DGRAD = ("none", "mask_sums", "add_mask_sums")
WGRAD = ("none",)
EPILOGUES = {"fprop": FPROP, "dgrad": DGRAD, "wgrad": WGRAD}
_AXES = (0, 2, 3)


def case(
    conv: Conv, batch: int, dtype: str, direction: str, epilogue: str, choice: Choice, ours: Ours
) -> Case:
    """One computation on one convolution."""
    flops, moved = 2 * conv.macs(batch), _bytes(conv, batch, dtype, direction, epilogue)
    return Case(
        suite="layers",
        name=conv.name,
        dtype=dtype,
        batch=batch,
        direction=direction,
        epilogue=epilogue,
        make=partial(_make, conv, batch, dtype, direction, epilogue, choice.device),
        implementations=partial(_implementations, conv, dtype, direction, epilogue, choice, ours),
        problem=conv.problem(batch),
        networks=list(conv.count),
        count=dict(conv.count),
        flops=flops,
        bytes=moved,
        idle=("weight",) if direction == "wgrad" else ("y",) * ("mask" not in epilogue),
        judge=partial(_judge, conv, dtype, direction, epilogue),
    )


def _bytes(conv: Conv, batch: int, dtype: str, direction: str, epilogue: str) -> int:
    """Of operands and results, each once; vectors are float32, a mask is a bit a value."""
    count, item = conv.values(batch), item_bytes(dtype)
    if direction == "wgrad":
        return item * (count["read"] + count["y"] + count["weight"])
    if direction == "dgrad":
        values = count["y"] + count["weight"] + count["x"]
        values += count["x"] * (("sums" in epilogue) + ("add" in epilogue))
        return item * values + ("mask" in epilogue) * count["x"] // 8 + ("sums" in epilogue) * 12 * conv.c
    results = count["y"]
    if "maxpool" in epilogue:
        p, q = ((side - 1) // 2 + 1 for side in conv.size)
        results = batch * conv.k * p * q
    values = count["read"] + count["weight"] + results + ("add" in epilogue) * count["y"]
    vectors = 4 * ("bn" in epilogue) + 2 * (epilogue == "stats")
    return item * values + 4 * vectors * conv.k


def _make(
    conv: Conv,
    batch: int,
    dtype: str,
    direction: str,
    epilogue: str,
    device: torch.device,
    seed: int,
) -> Inputs:
    """Random operands in channels_last; weights scaled so that results are of order 1."""
    source, kind = generator(device, seed), TORCH_DTYPES[dtype]

    def activation(*shape: int, scale: float = 1.0) -> Tensor:
        values = normal(source, *shape).mul_(scale).to(kind)
        return values.contiguous(memory_format=torch.channels_last)

    x, y = (batch, conv.c, conv.h, conv.w), (batch, conv.k, *conv.size)
    filters = conv.k, conv.c, conv.kernel, conv.kernel
    fan_in = conv.c * conv.kernel**2
    weight = activation(*filters, scale=(2 / fan_in) ** 0.5)
    if direction == "wgrad":
        return {"x": activation(*x), "dy": activation(*y), "weight": weight}
    if direction == "dgrad":
        inputs = {"dy": activation(*y), "weight": weight, "y": activation(*x)}
        inputs["y"].relu_()  # the layer before: its zeros are where no gradient passes
        if "add" in epilogue:
            inputs["residual"] = activation(*x)
        if "mask" in epilogue:
            inputs["mask"] = pack_mask(inputs["y"] > 0)
        if "sums" in epilogue:
            inputs |= {"bn_input": activation(*x), "bn_mean": 0.2 * normal(source, conv.c)}
            inputs["bn_invstd"] = 1 + torch.rand(conv.c, generator=source, device=device)
            rest = torch.ones_like(inputs["bn_mean"])
            inputs["bn_norm"] = torch.stack((inputs["bn_mean"], rest, torch.zeros_like(rest), rest))
        return inputs
    inputs = {"x": activation(*x), "weight": weight}
    if "bn" in epilogue:
        inputs |= {
            "scale": 1 + 0.2 * normal(source, conv.k),
            "shift": 0.2 * normal(source, conv.k),
            "mean": 0.2 * normal(source, conv.k),
            "var": 0.5 + torch.rand(conv.k, generator=source, device=device),
        }
    if "add" in epilogue:
        inputs["residual"] = activation(*y)
    return inputs


def _implementations(
    conv: Conv, dtype: str, direction: str, epilogue: str, choice: Choice, ours: Ours
) -> list[Implementation]:
    geometry = conv.geometry
    functions = {"fprop": (_our_fprop, _fprop), "dgrad": (_our_dgrad, _dgrad), "wgrad": (_our_wgrad, _wgrad)}
    mine, theirs = functions[direction]
    roundings = 1 + epilogue.count("_") + (epilogue != "none")
    return [
        Implementation(
            "ours",
            ours.label,
            pytorch.eager(partial(mine, geometry, epilogue, dtype == "tf32")),
            ours=True,
            roundings=ours.roundings(1),  # PyTorch's composition of it rounds after the convolution
            finish=_variance if epilogue == "stats" else None,
        ),
        *pytorch.implementations(partial(theirs, geometry, epilogue), choice, roundings),
        *cudnn.convolutions(direction, epilogue, geometry, dtype, choice),
        *xla.convolutions(direction, epilogue, geometry, dtype, choice),
    ]


# -----------------------------------------------------------------------------
# With this package's operators


def _our_fprop(geometry: dict[str, Any], epilogue: str, tf32: bool, i: Inputs) -> Outputs:
    if epilogue == "stats":
        pairs = [[value] * 2 for value in geometry.values()]
        return run("conv_fprop_stats", i["x"], None, None, i["weight"], *pairs, False, tf32)[:2]
    vectors: dict[str, Any] = {name: i.get(name) for name in ("scale", "shift", "mean", "var")}
    if "maxpool" in epilogue:
        return (ops.conv_bn_relu_maxpool(i["x"], i["weight"], **vectors, **geometry),)
    relu = "relu" in epilogue
    residual = i.get("residual")
    return (ops.conv_bn_act(i["x"], i["weight"], residual=residual, **vectors, **geometry, relu=relu),)


def _variance(results: Outputs) -> Outputs:
    """(y, mean, variance) from (y, [mean, sum of squared deviations])."""
    y, (mean, deviations) = results
    return y, mean, deviations / (y.numel() // y.shape[1])


def _our_dgrad(geometry: dict[str, Any], epilogue: str, tf32: bool, i: Inputs) -> Outputs:
    pairs = [[value] * 2 for value in geometry.values()]
    source = i["dy"], None, None, None, i["weight"]
    epilogue_of = i.get("residual"), None, *(i.get(name) for name in ("mask", "bn_input", "bn_norm")), False
    size = list(i["y"].shape[2:])
    dx, sums, _ = run("conv_dgrad", *source, *epilogue_of, size, *pairs, tf32)
    return (dx, sums) if "sums" in epilogue else (dx,)


def _our_wgrad(geometry: dict[str, Any], epilogue: str, tf32: bool, i: Inputs) -> Outputs:
    pairs = [[value] * 2 for value in geometry.values()]
    return (run("conv_wgrad", i["dy"], i["x"], None, list(i["weight"].shape[2:]), *pairs, tf32),)


# -----------------------------------------------------------------------------
# As a PyTorch user writes it


def _fprop(geometry: dict[str, Any], epilogue: str, i: Inputs) -> Outputs:
    y = F.conv2d(i["x"], i["weight"], None, **geometry)
    if epilogue == "stats":
        running = torch.zeros(y.shape[1], device=y.device), torch.ones(y.shape[1], device=y.device)
        return (y, *torch.batch_norm_update_stats(y, *running, 0.1))
    if "bn" in epilogue:
        y = F.batch_norm(y, i["mean"], i["var"], i["scale"], i["shift"], eps=exact.EPS)
    if "add" in epilogue:
        y = y.add_(i["residual"])
    if "relu" in epilogue:
        y = y.relu_()
    if "maxpool" in epilogue:
        y = F.max_pool2d(y, 3, 2, 1)
    return (y,)


def _dgrad(geometry: dict[str, Any], epilogue: str, i: Inputs) -> Outputs:
    dx = _convolution_backward(geometry, i["dy"], i["y"], i["weight"], (True, False))
    if "add" in epilogue:
        dx = dx.add_(i["residual"])
    if "mask" in epilogue:
        dx = torch.ops.aten.threshold_backward(dx, i["y"], 0)
    if "sums" not in epilogue:
        return (dx,)
    x, mean = i["bn_input"], i["bn_mean"]
    if dx.is_cuda:  # what SyncBatchNorm calls
        wanted = (True, False, False)
        sums = torch.batch_norm_backward_reduce(dx, x, mean, i["bn_invstd"], None, *wanted)[:2]
    else:
        sums = (dx.sum(_AXES), (dx * (x - exact.per_channel(mean))).sum(_AXES))
    return dx, torch.stack(sums)


def _wgrad(geometry: dict[str, Any], epilogue: str, i: Inputs) -> Outputs:
    return (_convolution_backward(geometry, i["dy"], i["x"], i["weight"], (False, True)),)


def _convolution_backward(
    geometry: dict[str, Any], dy: Tensor, x: Tensor, weight: Tensor, wants: tuple[bool, bool]
) -> Any:
    """The one of (dx, dw) that is wanted."""
    pairs = [[value] * 2 for value in geometry.values()]
    found = torch.ops.aten.convolution_backward(
        dy, x, weight, None, *pairs, False, [0, 0], 1, [*wants, False]
    )
    return found[wants.index(True)]


# -----------------------------------------------------------------------------
# Against float64


def _judge(
    conv: Conv,
    dtype: str,
    direction: str,
    epilogue: str,
    inputs: Inputs,
    results: dict[str, tuple[Implementation, Outputs]],
) -> dict[str, Verdict]:
    """Every implementation's results against the same float64 parts."""
    judges = {name: Judge(dtype, implementation.roundings) for name, (implementation, _) in results.items()}
    for index, part, wanted in _parts(conv, direction, epilogue, inputs):
        for name, (_, outputs) in results.items():
            judges[name].see(outputs[index][part], wanted)
    for name, (_, outputs) in results.items():
        if epilogue == "stats":
            for actual, wanted in zip(outputs[1:], exact.moments(outputs[0]), strict=True):
                judges[name].see(actual, wanted)
        elif "sums" in epilogue:
            wanted = exact.gradient_sums(outputs[0], inputs["bn_input"], inputs["bn_mean"])
            judges[name].see(outputs[1], wanted)
    return {name: Verdict.of(judge) for name, judge in judges.items()}


def _parts(
    conv: Conv, direction: str, epilogue: str, inputs: Inputs
) -> Iterator[tuple[int, slice, exact.Exact]]:
    if direction == "wgrad":
        return exact.wgrad(inputs, conv.geometry)
    if direction == "dgrad":
        return exact.dgrad(inputs, conv.geometry, epilogue)
    return exact.fprop(inputs, conv.geometry, epilogue)
