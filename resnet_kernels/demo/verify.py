"""Every operator, in every dtype, on every machine there is: its error beside PyTorch's own and the budget.

    |y - ref| <= u |ref| + 2^-22 sqrt(K) T       every element; u, K, T: see reference/error.py
    RMS(y - ref) <= 2 RMS(PyTorch - ref)         from 4,096 elements on

ref is the float64 oracle on exactly the operands the operator saw, for TF32 rounded to TF32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .. import backend, ops, reference
from ..machine import Machine
from ..measure.precision import float32_products
from .networks import to_numpy

DTYPES = {
    "bf16": torch.bfloat16,
    "f16": torch.float16,
    "f32": torch.float32,
    "tf32": torch.float32,
}
HALF_SUBNORMAL = {"bf16": 2.0**-134, "f16": 2.0**-25, "f32": 2.0**-150, "tf32": 2.0**-150}
RMS_FROM, RMS_LIMIT = 4096, 2.0
SEED = 2015
ATEN_ROUNDINGS = 2  # in PyTorch's composition: after the convolution, and of the bias or after BatchNorm


@dataclass(frozen=True)
class Problem:
    """Shapes of one call. x [n, c, h, w]; k 0: the operator has no weight."""

    operator: str
    what: str
    x: tuple[int, int, int, int]
    k: int = 0
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    residual: bool = False
    bn: bool = True
    quick: bool = True


PROBLEMS = (
    Problem("conv_bn_act", "1x1", (2, 64, 14, 14), 128),
    Problem("conv_bn_act", "1x1, stride 2", (1, 96, 15, 13), 64, stride=2, quick=False),
    Problem("conv_bn_act", "3x3", (2, 64, 14, 14), 64, 3, padding=1),
    Problem("conv_bn_act", "3x3, stride 2", (1, 64, 28, 28), 128, 3, stride=2, padding=1, quick=False),
    Problem("conv_bn_act", "3x3, + shortcut", (1, 64, 14, 14), 64, 3, padding=1, residual=True),
    Problem("conv_bn_act", "1x1, + shortcut", (2, 64, 14, 14), 256, residual=True, quick=False),
    Problem("conv_bn_act", "3x3, dilation 2", (1, 24, 17, 11), 40, 3, padding=2, dilation=2, quick=False),
    Problem("conv_bn_act", "5x5, odd channels", (1, 5, 19, 23), 65, 5, stride=3, padding=1, quick=False),
    Problem("conv_bn_act", "without BatchNorm", (1, 64, 14, 14), 64, 3, padding=1, bn=False, quick=False),
    Problem("conv_bn_relu_maxpool", "the stem, 7x7", (1, 3, 64, 64), 64, 7, stride=2, padding=3),
    Problem("bn_act", "+ shortcut", (2, 64, 14, 14), residual=True),
    Problem("max_pool", "3x3, stride 2", (2, 64, 27, 27), 0, 3, stride=2, padding=1),
    Problem("global_avg_pool", "7x7", (8, 512, 7, 7)),
    Problem("linear", "512 to 1000", (8, 512, 1, 1), 1000),
)


@dataclass(frozen=True)
class Result:
    """One operator in one dtype on one machine: `share` is the largest error over what is allowed, element by
    element; rms values are None below `RMS_FROM` elements; `failure` is an exception's text."""

    problem: Problem
    dtype: str
    machine: str
    share: float = 0.0
    rms: float | None = None
    peer_rms: float | None = None
    failure: str | None = None

    @property
    def ratio(self) -> float | None:
        if self.rms is None or self.peer_rms is None:
            return None
        return self.rms / self.peer_rms if self.peer_rms else float(self.rms > 0)

    @property
    def passed(self) -> bool:
        return self.failure is None and self.share <= 1 and (self.ratio is None or self.ratio <= RMS_LIMIT)


def cases(quick: bool, machine: Machine) -> list[tuple[Problem, str]]:
    """What `run` computes on a machine; TF32 where something is multiplied, and not on aten."""
    return [
        (problem, dtype)
        for problem in PROBLEMS
        for dtype in DTYPES
        if (problem.quick or not quick) and (dtype != "tf32" or (problem.k and machine.ours))
    ]


def run(machines: list[Machine], quick: bool, advance: Callable[[str], None]) -> Iterator[Result]:
    """Compute every case on every machine; `advance` hears what is next."""
    for machine in machines:
        for problem, dtype in cases(quick, machine):
            advance(f"{problem.operator} {problem.what}, {dtype}, {machine.backend}")
            try:
                yield check(problem, dtype, machine)
            except (RuntimeError, ValueError, TypeError, ImportError, NotImplementedError) as error:
                text = (str(error).strip().splitlines() or [type(error).__name__])[0]
                yield Result(problem, dtype, machine.backend, failure=text)


@torch.no_grad()
def check(problem: Problem, dtype: str, machine: Machine) -> Result:
    """Run one problem on one machine and judge it."""
    tensors = _draw(problem, dtype)
    ref, scale, terms = _oracle(problem, tensors, dtype)
    on_device = {name: value.to(machine.device) for name, value in tensors.items()}
    with float32_products(tf32=dtype == "tf32"), backend(machine.backend):
        y = to_numpy(_call(problem, on_device))
    peer_operands = {name: _rounded(name, value, dtype) for name, value in on_device.items()}
    with float32_products(tf32=False), backend("aten"):
        peer = to_numpy(_call(problem, peer_operands))
    u = reference.UNIT_ROUNDOFF["f32" if dtype == "tf32" else dtype]
    rounded = 0 if machine.ours else ATEN_ROUNDINGS
    allowed = reference.allowed_error(ref, scale, terms, u_out=u, intermediates=rounded, u_intermediate=u)
    allowed += HALF_SUBNORMAL[dtype]
    if y.shape != ref.shape:
        return Result(problem, dtype, machine.backend, failure=f"shape {y.shape}, not {ref.shape}")
    if not np.isfinite(y).all():
        return Result(problem, dtype, machine.backend, failure="NaN or infinity in the result")
    error = np.abs(y - ref)
    enough = ref.size >= RMS_FROM
    return Result(
        problem=problem,
        dtype=dtype,
        machine=machine.backend,
        share=float((error / allowed).max()),
        rms=reference.rms(error) if enough else None,
        peer_rms=reference.rms(peer - ref) if enough else None,
    )


def _draw(problem: Problem, dtype: str) -> dict[str, torch.Tensor]:
    """Random operands: x and weight in the dtype, weights scaled so that outputs are of order 1."""
    generator = torch.Generator().manual_seed(SEED)
    kind = DTYPES[dtype]

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    n, c, h, w = problem.x
    if problem.operator == "linear":
        weight = normal(problem.k, c) / c**0.5
        return {"x": normal(n, c).to(kind), "weight": weight.to(kind), "bias": normal(problem.k)}
    tensors = {"x": normal(n, c, h, w).to(kind).contiguous(memory_format=torch.channels_last)}
    channels = problem.k or c
    if problem.k:
        fan_in = c * problem.kernel**2
        weight = normal(problem.k, c, problem.kernel, problem.kernel) * (2 / fan_in) ** 0.5
        tensors["weight"] = weight.to(kind).contiguous(memory_format=torch.channels_last)
    if problem.operator in ("conv_bn_act", "conv_bn_relu_maxpool", "bn_act"):
        tensors["scale"] = 1 + 0.2 * normal(channels)
        tensors["shift"] = 0.2 * normal(channels)
        if problem.bn:
            tensors["mean"] = 0.2 * normal(channels)
            tensors["var"] = 0.5 + torch.rand(channels, generator=generator)
    if problem.residual:
        size = _output(problem)
        tensors["residual"] = (
            normal(n, channels, *size).to(kind).contiguous(memory_format=torch.channels_last)
        )
    return tensors


def _output(problem: Problem) -> tuple[int, ...]:
    return tuple(
        reference.output_size(size, problem.kernel, problem.stride, problem.padding, problem.dilation)
        for size in problem.x[2:]
    )


def _call(problem: Problem, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """The operator's public function."""
    t: dict[str, Any] = dict(tensors)
    window = {"stride": problem.stride, "padding": problem.padding}
    if problem.operator in ("conv_bn_act", "conv_bn_relu_maxpool"):
        return getattr(ops, problem.operator)(**t, **window, dilation=problem.dilation)
    if problem.operator == "bn_act":
        return ops.bn_act(**t)
    if problem.operator == "max_pool":
        return ops.max_pool(t["x"], problem.kernel, **window)
    if problem.operator == "global_avg_pool":
        return ops.global_avg_pool(t["x"])
    return ops.linear(t["x"], t["weight"], t["bias"])


def _rounded(name: str, value: torch.Tensor, dtype: str) -> torch.Tensor:
    """A factor of the products as TF32 hardware sees it, so that PyTorch's float32 has the same sum."""
    if dtype != "tf32" or name not in ("x", "weight"):
        return value
    rounded = torch.from_numpy(reference.round_tf32(value.cpu().contiguous().numpy())).to(value.device)
    return rounded.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else rounded


def _oracle(
    problem: Problem, tensors: dict[str, torch.Tensor], dtype: str
) -> tuple[np.ndarray, np.ndarray, int]:
    """(ref, T, K) of the problem."""
    a = {name: to_numpy(_rounded(name, value, dtype)) for name, value in tensors.items()}
    x = a["x"]
    if problem.operator == "max_pool":
        y = reference.max_pool(x, problem.kernel, problem.stride, problem.padding)
        return y, np.zeros_like(y), 1
    if problem.operator == "global_avg_pool":
        return reference.global_avg_pool(x), reference.global_avg_pool(np.abs(x)), x.shape[2] * x.shape[3]
    if problem.operator == "linear":
        operands = a["x"], a["weight"], a["bias"]
        return reference.linear(*operands), reference.linear_error_scale(*operands), x.shape[1]

    y, terms, t = x, 1, np.abs(x)
    if problem.k:
        geometry: dict[str, Any] = {
            "stride": problem.stride,
            "padding": problem.padding,
            "dilation": problem.dilation,
        }
        y = reference.conv2d(x, a["weight"], **geometry)
        t = reference.conv2d(np.abs(x), np.abs(a["weight"]), **geometry)
        terms = a["weight"][0].size
    vectors: dict[str, Any] = {"mean": a.get("mean"), "var": a.get("var")}
    scale, shift, residual = a.get("scale"), a.get("shift"), a.get("residual")
    t = reference.affine_error_scale(t, scale, shift, residual, **vectors)
    if problem.bn:
        y = reference.batch_norm(y, a["mean"], a["var"], scale, shift)
    else:
        y = reference.affine(y, scale, shift)
    if residual is not None:
        y = reference.add(y, residual)
    y = reference.relu(y)
    if problem.operator == "conv_bn_relu_maxpool":
        y, t = reference.max_pool(y, 3, 2, 1), reference.max_pool(t, 3, 2, 1)
    return y, t, terms
