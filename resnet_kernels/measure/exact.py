"""Float64 results of the operators with their error scales, a few images at a time.

PyTorch's float64 operators on the device, from the same operands; T is the same formula on absolute values.
Statistics are those of the rounded tensor that the implementation itself returned, as they are defined.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
import torch.nn.grad as nn_grad
from torch import Tensor

from .inputs import Inputs
from .match import Exact

CHUNK = {"cuda": 1 << 28, "cpu": 1 << 23}  # values of the largest tensor of a part
EPS = 1e-5
_AXES = (0, 2, 3)


def chunks(inputs: Inputs, largest: int) -> Iterator[slice]:
    """Slices of the batch such that `largest` values an image fit in a part."""
    batch = next(iter(inputs.values())).shape[0]
    step = max(1, CHUNK[next(iter(inputs.values())).device.type] // max(1, largest))
    for first in range(0, batch, step):
        yield slice(first, min(batch, first + step))


def _wide(inputs: Inputs, name: str, part: slice | None = None) -> Tensor:
    value = inputs[name] if part is None else inputs[name][part]
    return value.double().contiguous()


def per_channel(vector: Tensor) -> Tensor:
    """[C] -> [1, C, 1, 1]."""
    return vector.view(1, -1, 1, 1)


def affine(inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """BatchNorm as s x + b with float64 vectors: (s, b, |shift| + |mean s|)."""
    scale, shift, mean, var = (_wide(inputs, name) for name in ("scale", "shift", "mean", "var"))
    s = scale / (var + EPS).sqrt()
    return s, shift - mean * s, shift.abs() + (mean * s).abs()


def fprop(inputs: Inputs, geometry: dict[str, Any], epilogue: str) -> Iterator[tuple[int, slice, Exact]]:
    """Output 0 of a forward convolution with its epilogue, part by part."""
    weight = _wide(inputs, "weight")
    terms = weight[0].numel()
    largest = max(inputs["x"][0].numel(), math.prod(output_size(inputs, geometry)) * weight.shape[0])
    for part in chunks(inputs, largest):
        x = _wide(inputs, "x", part)
        y = F.conv2d(x, weight, **geometry)
        t = F.conv2d(x.abs(), weight.abs(), **geometry)
        if "bn" in epilogue:
            s, b, offset = affine(inputs)
            y = y.mul_(per_channel(s)).add_(per_channel(b))
            t = t.mul_(per_channel(s.abs())).add_(per_channel(offset))
        if "add" in epilogue:
            residual = _wide(inputs, "residual", part)
            y, t = y.add_(residual), t.add_(residual.abs())
        if "relu" in epilogue:
            y = y.relu_()
        if "maxpool" in epilogue:
            y, t = (F.max_pool2d(value, 3, 2, 1) for value in (y, t))
        yield 0, part, Exact(y, t, terms)


def dgrad(inputs: Inputs, geometry: dict[str, Any], epilogue: str) -> Iterator[tuple[int, slice, Exact]]:
    """Output 0 of the input's gradient: mask (dgrad + residual)."""
    weight = _wide(inputs, "weight")
    k, c, r, s = weight.shape
    size = [int(side) for side in inputs["y"].shape[2:]]
    for part in chunks(inputs, max(inputs["dy"][0].numel(), c * math.prod(size))):
        dy = _wide(inputs, "dy", part)
        values = []
        for gradient, filters in ((dy, weight), (dy.abs(), weight.abs())):
            shape = (dy.shape[0], c, *size)
            values.append(nn_grad.conv2d_input(shape, filters, gradient, **geometry))
        dx, t = values
        if "add" in epilogue:
            residual = _wide(inputs, "residual", part)
            dx, t = dx.add_(residual), t.add_(residual.abs())
        if "mask" in epilogue:
            passes = inputs["y"][part] > 0
            dx, t = (torch.where(passes, value, 0.0) for value in (dx, t))
        yield 0, part, Exact(dx, t, k * r * s)


def wgrad(inputs: Inputs, geometry: dict[str, Any]) -> Iterator[tuple[int, slice, Exact]]:
    """Output 0 of the weight's gradient, summed over all images."""
    weight = inputs["weight"]
    totals = [torch.zeros(weight.shape, dtype=torch.float64, device=weight.device) for _ in range(2)]
    for part in chunks(inputs, max(inputs["dy"][0].numel(), inputs["x"][0].numel())):
        x, dy = _wide(inputs, "x", part), _wide(inputs, "dy", part)
        for total, a, b in zip(totals, (x, x.abs()), (dy, dy.abs()), strict=True):
            total += nn_grad.conv2d_weight(a, tuple(weight.shape), b, **geometry)
    dy = inputs["dy"]
    terms = dy.shape[0] * dy.shape[2] * dy.shape[3]
    yield 0, slice(None), Exact(totals[0], totals[1], terms)


def moments(y: Tensor) -> list[Exact]:
    """Mean and biased variance by channel of what an implementation returned, [C] each."""
    wide = y.double()
    mean = wide.mean(_AXES)
    deviation = wide - per_channel(mean)
    var, pixels = deviation.square().mean(_AXES), y.numel() // y.shape[1]
    # A mean that is off by d moves the variance by d^2: far inside of its own bound.
    return [Exact(mean, wide.abs().mean(_AXES), pixels), Exact(var, var, pixels)]


def gradient_sums(h: Tensor, x: Tensor, mean: Tensor) -> Exact:
    """[2, C]: sum h and sum h (x - mean) of what an implementation returned."""
    wide, deviation = h.double(), x.double() - per_channel(mean.double())
    value = torch.stack((wide.sum(_AXES), (wide * deviation).sum(_AXES)))
    # x - mean is rounded to float32 before it is multiplied: its share of T.
    spread = deviation.abs() + per_channel(mean.double().abs())
    scale = torch.stack((wide.abs().sum(_AXES), (wide.abs() * spread).sum(_AXES)))
    return Exact(value, scale, h.numel() // h.shape[1])


def output_size(inputs: Inputs, geometry: dict[str, Any]) -> list[int]:
    """(P, Q) of the convolution of x with weight."""
    sides = zip(inputs["x"].shape[2:], inputs["weight"].shape[2:], strict=True)
    return [(side + 2 * geometry["padding"] - window) // geometry["stride"] + 1 for side, window in sides]
