"""The problems by which `verify` judges the training operators, each way through them.

What is made on load is an intermediate rounded to the operands' format.  TF32 is judged where nothing is made
on load: with operands rounded beforehand PyTorch's float32 has the same sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import backend, reference
from ..machine import Machine
from ..training import compositions
from ..training.operators import run
from .judgement import DTYPES, SEED, Expected, Result, judge, rounded
from .networks import to_numpy

Array = np.ndarray
Tensors = dict[str, Tensor]
Arrays = dict[str, Array]
Geometry = tuple[list[int], ...]
PIXELS = (0, 2, 3)
SAME = [1, 1], [1, 1], [1, 1]  # stride, padding, dilation of a 3x3
HALVED = [2, 2], [1, 1], [1, 1]
POINT = [1, 1], [0, 0], [1, 1]
NAMES = "stride", "padding", "dilation"
FACTORS = ("x", "weight", "dy")  # what TF32 rounds


class Draw:
    """Random operands of order 1 in a dtype; vectors are float32."""

    def __init__(self, dtype: str) -> None:
        self.dtype = DTYPES[dtype]
        self.generator = torch.Generator().manual_seed(SEED)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def image(self, c: int = 64, size: int = 14) -> Tensor:
        return self.normal(2, c, size, size).to(self.dtype).contiguous(memory_format=torch.channels_last)

    def weight(self, k: int, c: int, r: int) -> Tensor:
        weight = self.normal(k, c, r, r) * (2 / (c * r * r)) ** 0.5
        return weight.to(self.dtype).contiguous(memory_format=torch.channels_last)

    def norm(self, c: int = 64) -> Tensor:
        """[4, C] as bn_finalize gives: mean, scale, shift, rstd."""
        rows = 0.2 * self.normal(4, c)
        rows[1] += 1
        rows[3] = 1 + rows[3].abs()
        return rows

    def coefficients(self, c: int = 64) -> Tensor:
        """[4, C] as bn_backward_finalize gives: slope, offset, mean, tilt."""
        rows = 0.2 * self.normal(4, c)
        rows[0] += 1
        return rows

    def mask(self, c: int = 64, size: int = 14) -> Tensor:
        return compositions.pack_mask(self.normal(2, c, size, size) > 0)


@dataclass(frozen=True)
class TrainingProblem:
    """One way through an operator.

    Attributes:
        draw: its tensors.
        call: its results, with the TF32 flag.
        oracle: what they should be; also from the results themselves, where they depend on those.
    """

    operator: str
    what: str
    draw: Callable[[Draw], Tensors]
    call: Callable[[Tensors, bool], list[Tensor]]
    oracle: Callable[[Arrays, list[Array]], list[Expected]]
    precisions: tuple[str, ...] = ("bf16", "f16", "f32")
    quick: bool = True

    def dtypes(self, machine: Machine) -> tuple[str, ...]:
        return tuple(dtype for dtype in self.precisions if dtype != "tf32" or machine.ours)

    def check(self, dtype: str, machine: Machine) -> Result:
        """Run it on one machine and judge it."""
        tensors = {name: value.to(machine.device) for name, value in self.draw(Draw(dtype)).items()}
        with backend(machine.backend):
            results = self.call(tensors, dtype == "tf32")
        operands = {
            name: rounded(value, dtype) if name in FACTORS else value for name, value in tensors.items()
        }
        with backend("aten"):
            peers = self.call(operands, False)
        arrays = {name: _array(value) for name, value in operands.items()}
        expected = self.oracle(arrays, [to_numpy(result) for result in results])
        return judge(self, dtype, machine, results, peers, expected)


def _array(value: Tensor) -> Array:
    """float64; a mask as zeros and ones [N, C, H, W]."""
    if value.dtype == torch.int32:
        value = compositions.unpack_mask(value, 32 * value.shape[3])
    return to_numpy(value)


# Formulas with their error's scale T


def _normalised(x: Array, norm: Array) -> tuple[Array, Array]:
    """(norm(x), T)."""
    mean, scale, shift, _ = norm
    y = reference.affine(reference.affine(x, None, -mean), scale, shift)
    centred = reference.affine(np.abs(x), None, np.abs(mean))
    return y, reference.affine(centred, np.abs(scale), np.abs(shift))


def _activated(a: Arrays) -> tuple[Array, Array]:
    """What a convolution reads: (x, |x|), or relu(norm(x) + residual) and its T."""
    if "norm" not in a:
        return a["x"], np.abs(a["x"])
    y, scale = _normalised(a["x"], a["norm"])
    if "residual" in a:
        y, scale = y + a["residual"], scale + np.abs(a["residual"])
    return reference.relu(y), scale


def _gradient(a: Arrays) -> tuple[Array, Array]:
    """What a gradient's convolution reads: (dy, |dy|), or BatchNorm's of g and its T."""
    if "coefficients" not in a:
        return a["dy"], np.abs(a["dy"])
    h = a["g"] * a["g_mask"]
    slope, offset, mean, tilt = a["coefficients"]
    centred = reference.affine(a["y"], None, -mean)
    dy = reference.affine(reference.affine(h, None, -offset) - reference.affine(centred, tilt), slope)
    terms = reference.affine(np.abs(a["y"]), None, np.abs(mean))
    terms = reference.affine(terms, np.abs(tilt), np.abs(offset)) + np.abs(h)
    return dy, reference.affine(terms, np.abs(slope))


def _moments(y: Array) -> list[Expected]:
    """Mean and sum of squared deviations of a result."""
    mean, m2 = reference.batch_norm_moments(y)
    pixels = y[:, 0].size
    return [Expected(mean, np.abs(y).mean(PIXELS), pixels), Expected(m2, 4 * m2, pixels)]


def _sums(h: Array, x: Array, mean: Array) -> Expected:
    """The two sums for a BatchNorm's gradient."""
    scale = reference.batch_norm_sums(np.abs(h), np.abs(x), -np.abs(mean))
    return Expected(reference.batch_norm_sums(h, x, mean), scale, h[:, 0].size)


# The convolutions


def _fprop(
    what: str, k: int, r: int, geometry: Geometry, on_load: tuple[str, ...] = (), quick: bool = True
) -> TrainingProblem:
    named: dict[str, Any] = dict(zip(NAMES, (pair[0] for pair in geometry), strict=True))
    keep = "residual" in on_load

    def draw(of: Draw) -> Tensors:
        tensors = {"x": of.image(), "weight": of.weight(k, 64, r), "norm": of.norm(), "residual": of.image()}
        return {name: tensors[name] for name in ("x", "weight", *on_load)}

    def call(t: Tensors, tf32: bool) -> list[Tensor]:
        source = t["x"], t.get("norm"), t.get("residual"), t["weight"]
        y, moments, a, mask = run("conv_fprop_stats", *source, *geometry, keep, tf32)
        kept = [a, compositions.unpack_mask(mask, 64)] if keep else []
        return [y, *moments, *kept]

    def oracle(a: Arrays, results: list[Array]) -> list[Expected]:
        source, size = _activated(a)
        y = reference.conv2d(source, a["weight"], **named)
        scale = reference.conv2d(size, np.abs(a["weight"]), **named)
        found = [Expected(y, scale, 64 * r * r, len(on_load[:1])), *_moments(results[0])]
        if keep:
            passes = (results[3] > 0).astype(float)
            found += [Expected(source, size, 3), Expected(passes, 0 * passes)]
        return found

    precisions = tuple(DTYPES) if not on_load else ("bf16", "f16", "f32")
    return TrainingProblem("conv_fprop_stats", what, draw, call, oracle, precisions, quick)


def _dgrad(
    what: str, k: int, r: int, geometry: Geometry, on_load: bool = False, quick: bool = True
) -> TrainingProblem:
    named: dict[str, Any] = dict(zip(NAMES, (pair[0] for pair in geometry), strict=True))
    size = 14 // geometry[0][0]

    def draw(of: Draw) -> Tensors:
        tensors = {"weight": of.weight(k, 64, r), "residual": of.image(), "bn_input": of.image()}
        tensors |= {"residual_mask": of.mask(), "mask": of.mask(), "norm": of.norm()}
        if not on_load:
            return tensors | {"dy": of.image(k, size)}
        gradient = {"g": of.image(k, size), "y": of.image(k, size), "g_mask": of.mask(k, size)}
        return tensors | gradient | {"coefficients": of.coefficients(k)}

    def call(t: Tensors, tf32: bool) -> list[Tensor]:
        source = t.get("dy", t.get("g")), t.get("g_mask"), t.get("y"), t.get("coefficients"), t["weight"]
        epilogue = t["residual"], t["residual_mask"], t["mask"], t["bn_input"], t["norm"], True
        dx, sums, dy = run("conv_dgrad", *source, *epilogue, [14, 14], *geometry, tf32)
        return [dx, sums, dy] if on_load else [dx, sums]

    def oracle(a: Arrays, results: list[Array]) -> list[Expected]:
        dy, dy_size = _gradient(a)
        passes = a["mask"] * (_normalised(a["bn_input"], a["norm"])[0] > 0)
        dx, scale = (
            (reference.conv2d_input_gradient(source, weight, (14, 14), **named) + skip) * passes
            for source, weight, skip in (
                (dy, a["weight"], a["residual"] * a["residual_mask"]),
                (dy_size, np.abs(a["weight"]), np.abs(a["residual"])),
            )
        )
        found = [Expected(dx, scale, k * r * r, int(on_load)), _sums(results[0], a["bn_input"], a["norm"][0])]
        return [*found, Expected(dy, dy_size, 4)] if on_load else found

    precisions = tuple(DTYPES) if not on_load else ("bf16", "f16", "f32")
    return TrainingProblem("conv_dgrad", what, draw, call, oracle, precisions, quick)


def _wgrad(
    what: str, k: int, r: int, geometry: Geometry, on_load: bool = False, quick: bool = True
) -> TrainingProblem:
    named: dict[str, Any] = dict(zip(NAMES, (pair[0] for pair in geometry), strict=True))

    def draw(of: Draw) -> Tensors:
        tensors = {"x": of.image(), "dy": of.image(k)}
        return tensors | {"norm": of.norm()} if on_load else tensors

    def call(t: Tensors, tf32: bool) -> list[Tensor]:
        return [run("conv_wgrad", t["dy"], t["x"], t.get("norm"), [r, r], *geometry, tf32)]

    def oracle(a: Arrays, results: list[Array]) -> list[Expected]:
        source, size = _activated(a)
        dw = reference.conv2d_weight_gradient(a["dy"], source, r, **named)
        scale = reference.conv2d_weight_gradient(np.abs(a["dy"]), size, r, **named)
        return [Expected(dw, scale, a["dy"][:, 0].size, int(on_load))]

    precisions = tuple(DTYPES) if not on_load else ("bf16", "f16", "f32")
    return TrainingProblem("conv_wgrad", what, draw, call, oracle, precisions, quick)


# BatchNorm


def _finalize() -> TrainingProblem:
    def draw(of: Draw) -> Tensors:
        vectors = {name: of.normal(64) for name in ("gamma", "beta", "running_mean")}
        moments = torch.stack((of.normal(64), 300 + 50 * of.normal(64).abs()))
        return {"moments": moments, "running_var": 1 + of.normal(64).abs(), **vectors}

    def call(t: Tensors, tf32: bool) -> list[Tensor]:
        running = t["running_mean"], t["running_var"], 0.1
        return list(run("bn_finalize", t["moments"], t["gamma"], t["beta"], 392.0, 1e-5, *running))

    def oracle(a: Arrays, results: list[Array]) -> list[Expected]:
        mean, m2 = a["moments"]
        rstd = 1 / np.sqrt(m2 / 392 + 1e-5)
        wanted = (
            np.stack((mean, a["gamma"] * rstd, a["beta"], rstd)),
            0.9 * a["running_mean"] + 0.1 * mean,
            0.9 * a["running_var"] + 0.1 * m2 / 391,
        )
        return [Expected(want, np.abs(want) + 1, 4) for want in wanted]

    return TrainingProblem("bn_finalize", "running statistics too", draw, call, oracle, ("f32",))


def _backward_finalize() -> TrainingProblem:
    def draw(of: Draw) -> Tensors:
        return {"norm": of.norm(), "sums": 10 * of.normal(2, 64), "local": 10 * of.normal(2, 64)}

    def call(t: Tensors, tf32: bool) -> list[Tensor]:
        return list(run("bn_backward_finalize", t["norm"], t["sums"], t["local"], 392.0, True))

    def oracle(a: Arrays, results: list[Array]) -> list[Expected]:
        mean, scale, _, rstd = a["norm"]
        offset, projection = a["sums"] / 392
        coefficients = np.stack((scale, offset, mean, projection * rstd**2))
        wanted = coefficients, a["local"][1] * rstd, a["local"][0]
        return [Expected(want, np.abs(want), 4) for want in wanted]

    return TrainingProblem("bn_backward_finalize", "batch statistics", draw, call, oracle, ("f32",))


def _normalise(what: str, second_norm: bool) -> TrainingProblem:
    def draw(of: Draw) -> Tensors:
        tensors = {"x": of.image(), "norm": of.norm(), "residual": of.image()}
        return tensors | {"residual_norm": of.norm()} if second_norm else tensors

    def call(t: Tensors, tf32: bool) -> list[Tensor]:
        skip = t["residual"], t.get("residual_norm")
        y, mask = run("bn_normalise", t["x"], t["norm"], *skip, True, True)
        return [y, compositions.unpack_mask(mask, 64)]

    def oracle(a: Arrays, results: list[Array]) -> list[Expected]:
        y, scale = _normalised(a["x"], a["norm"])
        skip, size = a["residual"], np.abs(a["residual"])
        if second_norm:
            skip, size = _normalised(a["residual"], a["residual_norm"])
        passes = (results[0] > 0).astype(float)
        return [Expected(reference.relu(y + skip), scale + size, 4), Expected(passes, 0 * passes)]

    return TrainingProblem("bn_normalise", what, draw, call, oracle)


def _reduce() -> TrainingProblem:
    def draw(of: Draw) -> Tensors:
        images = {name: of.image() for name in ("g", "x", "other_x")}
        return {**images, "mask": of.mask(), "norm": of.norm(), "other_norm": of.norm()}

    def call(t: Tensors, tf32: bool) -> list[Tensor]:
        other = t["other_x"], t["other_norm"]
        return list(run("bn_backward_reduce", t["g"], t["mask"], t["x"], t["norm"], *other, True))

    def oracle(a: Arrays, results: list[Array]) -> list[Expected]:
        h = a["g"] * a["mask"]
        sums = _sums(h, a["x"], a["norm"][0]), _sums(h, a["other_x"], a["other_norm"][0])
        return [Expected(h, 0 * h), *sums]

    return TrainingProblem("bn_backward_reduce", "for two BatchNorms", draw, call, oracle)


def _apply() -> TrainingProblem:
    def draw(of: Draw) -> Tensors:
        images = {"g": of.image(), "y": of.image()}
        return {**images, "g_mask": of.mask(), "coefficients": of.coefficients()}

    def call(t: Tensors, tf32: bool) -> list[Tensor]:
        return [run("bn_backward_apply", t["g"], t["g_mask"], t["y"], t["coefficients"])]

    def oracle(a: Arrays, results: list[Array]) -> list[Expected]:
        return [Expected(*_gradient(a), 4)]

    return TrainingProblem("bn_backward_apply", "batch statistics, masked", draw, call, oracle)


# Pooling

WINDOW = [3, 3], [2, 2], [1, 1]


def _pool(operator: str, backward: bool) -> TrainingProblem:
    def draw(of: Draw) -> Tensors:
        return {"x": of.image(64, 27), "dy": of.image(64, 14)}

    def call(t: Tensors, tf32: bool) -> list[Tensor]:
        y, indices = run("max_pool_indices", t["x"], *WINDOW)
        return [run("max_pool_backward", t["dy"], indices, [27, 27], *WINDOW) if backward else y]

    def oracle(a: Arrays, results: list[Array]) -> list[Expected]:
        if not backward:
            y = reference.max_pool(a["x"], 3, 2, 1)
            return [Expected(y, 0 * y)]
        dx, scale = (reference.max_pool_gradient(dy, a["x"], 3, 2, 1) for dy in (a["dy"], np.abs(a["dy"])))
        return [Expected(dx, scale, 9)]

    return TrainingProblem(operator, "3x3, stride 2", draw, call, oracle)


def _average() -> TrainingProblem:
    def call(t: Tensors, tf32: bool) -> list[Tensor]:
        return [run("global_avg_pool_backward", t["g"], [7, 7])]

    def oracle(a: Arrays, results: list[Array]) -> list[Expected]:
        dx = np.broadcast_to(a["g"][:, :, None, None] / 49, (2, 512, 7, 7))
        return [Expected(dx, np.abs(dx))]

    def draw(of: Draw) -> Tensors:
        return {"g": of.normal(2, 512).to(of.dtype)}

    return TrainingProblem("global_avg_pool_backward", "7x7", draw, call, oracle)


PROBLEMS = (
    _fprop("3x3", 64, 3, SAME),
    _fprop("3x3, stride 2, of BatchNorm", 128, 3, HALVED, ("norm",), quick=False),
    _fprop("1x1 of BatchNorm", 128, 1, POINT, ("norm",)),
    _fprop("1x1 of BatchNorm + shortcut", 64, 1, POINT, ("norm", "residual")),
    _dgrad("3x3, with shortcut and masks", 64, 3, SAME),
    _dgrad("3x3, stride 2", 128, 3, HALVED, quick=False),
    _dgrad("1x1 of BatchNorm's gradient", 128, 1, POINT, on_load=True),
    _wgrad("3x3", 64, 3, SAME),
    _wgrad("3x3 of BatchNorm", 64, 3, SAME, on_load=True),
    _wgrad("1x1 of BatchNorm", 128, 1, POINT, on_load=True, quick=False),
    _finalize(),
    _normalise("+ shortcut", second_norm=False),
    _normalise("+ BatchNorm of the shortcut", second_norm=True),
    _reduce(),
    _backward_finalize(),
    _apply(),
    _pool("max_pool_indices", backward=False),
    _pool("max_pool_backward", backward=True),
    _average(),
)
