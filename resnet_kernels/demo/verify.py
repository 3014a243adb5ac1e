"""Every operator, in every dtype, on every machine there is, each judged by `judgement`.

Those of inference are here, those of training in `verify_training`.
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
from . import judgement, verify_training
from .judgement import DTYPES, SEED, Expected, Result, judge
from .networks import to_numpy


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

    def dtypes(self, machine: Machine) -> tuple[str, ...]:
        """TF32 where something is multiplied, and not on aten."""
        return tuple(dtype for dtype in DTYPES if dtype != "tf32" or (self.k and machine.ours))

    def check(self, dtype: str, machine: Machine) -> Result:
        """Run it on one machine and judge it."""
        tensors = _draw(self, dtype)
        expected = _oracle(self, tensors, dtype)
        on_device = {name: value.to(machine.device) for name, value in tensors.items()}
        with float32_products(tf32=dtype == "tf32"), backend(machine.backend):
            y = _call(self, on_device)
        peer_operands = {name: _rounded(name, value, dtype) for name, value in on_device.items()}
        with float32_products(tf32=False), backend("aten"):
            peer = _call(self, peer_operands)
        return judge(self, dtype, machine, [y], [peer], [expected])


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


def cases(quick: bool, machine: Machine) -> list[tuple[judgement.Problem, str]]:
    """What `run` computes on a machine."""
    return [
        (problem, dtype)
        for problem in (*PROBLEMS, *verify_training.PROBLEMS)
        for dtype in problem.dtypes(machine)
        if problem.quick or not quick
    ]


def run(machines: list[Machine], quick: bool, advance: Callable[[str], None]) -> Iterator[Result]:
    """Compute every case on every machine; `advance` hears what is next."""
    for machine in machines:
        for problem, dtype in cases(quick, machine):
            advance(f"{problem.operator} {problem.what}, {dtype}, {machine.backend}")
            try:
                with torch.no_grad():
                    yield problem.check(dtype, machine)
            except (RuntimeError, ValueError, TypeError, ImportError, NotImplementedError) as error:
                text = (str(error).strip().splitlines() or [type(error).__name__])[0]
                yield Result(problem, dtype, machine.backend, failure=text)


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
    """A factor of the products as the hardware sees it."""
    return judgement.rounded(value, dtype) if name in ("x", "weight") else value


def _oracle(problem: Problem, tensors: dict[str, torch.Tensor], dtype: str) -> Expected:
    """What float64 says."""
    a = {name: to_numpy(_rounded(name, value, dtype)) for name, value in tensors.items()}
    x = a["x"]
    if problem.operator == "max_pool":
        y = reference.max_pool(x, problem.kernel, problem.stride, problem.padding)
        return Expected(y, np.zeros_like(y))
    if problem.operator == "global_avg_pool":
        means = (reference.global_avg_pool(values) for values in (x, np.abs(x)))
        return Expected(*means, x.shape[2] * x.shape[3])
    if problem.operator == "linear":
        operands = a["x"], a["weight"], a["bias"]
        scale = reference.linear_error_scale(*operands)
        return Expected(reference.linear(*operands), scale, x.shape[1])

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
    return Expected(y, t, terms)
