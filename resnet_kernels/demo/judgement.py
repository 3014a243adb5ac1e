"""Whether an operator's results are right: their error beside the budget and beside PyTorch's own.

    |y - ref| <= u |ref| + (2^-22 sqrt(K) + n u') T     every element; u, K, n, u', T: see reference/error.py
    RMS(y - ref) <= 2 RMS(PyTorch - ref)                from 4,096 elements on

ref is the float64 oracle on exactly the operands the operator saw, for TF32 rounded to TF32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from .. import reference
from ..machine import Machine

DTYPES = {
    "bf16": torch.bfloat16,
    "f16": torch.float16,
    "f32": torch.float32,
    "tf32": torch.float32,
}
NAMES = {torch.bfloat16: "bf16", torch.float16: "f16", torch.float32: "f32"}
HALF_SUBNORMAL = {"bf16": 2.0**-134, "f16": 2.0**-25, "f32": 2.0**-150}
RMS_FROM, RMS_LIMIT = 4096, 2.0
ATEN_ROUNDINGS = 2  # in PyTorch's composition: after the convolution, and of the bias or after BatchNorm
SEED = 2015


class Problem(Protocol):
    """One call of an operator, in any dtype."""

    @property
    def operator(self) -> str: ...
    @property
    def what(self) -> str: ...
    @property
    def quick(self) -> bool: ...
    def dtypes(self, machine: Machine) -> tuple[str, ...]: ...
    def check(self, dtype: str, machine: Machine) -> Result: ...


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


@dataclass(frozen=True)
class Expected:
    """What one result of an operator should be.

    Attributes:
        ref, scale, terms: the oracle's value, and T and K of its error.
        intermediates: how many values were rounded to the operands' format on the way.
    """

    ref: np.ndarray
    scale: np.ndarray
    terms: int = 1
    intermediates: int = 0


def judge(
    problem: Problem,
    dtype: str,
    machine: Machine,
    results: list[torch.Tensor],
    peers: list[torch.Tensor],
    expected: list[Expected],
) -> Result:
    """The worst of the results; RMS errors of the first, beside PyTorch's."""
    share, rms = 0.0, (None, None)
    operands = reference.UNIT_ROUNDOFF["f32" if dtype == "tf32" else dtype]
    for i, (result, peer, want) in enumerate(zip(results, peers, expected, strict=True)):
        y = result.detach().to("cpu", torch.float64).numpy()
        if y.shape != want.ref.shape:
            return Result(problem, dtype, machine.backend, failure=f"shape {y.shape}, not {want.ref.shape}")
        if not np.isfinite(y).all():
            return Result(problem, dtype, machine.backend, failure="NaN or infinity in the result")
        name = NAMES.get(result.dtype, "f32")  # masks and indices have no error at all
        allowed = reference.allowed_error(
            want.ref,
            want.scale,
            want.terms,
            u_out=reference.UNIT_ROUNDOFF[name],
            intermediates=want.intermediates + (0 if machine.ours else ATEN_ROUNDINGS),
            u_intermediate=operands,
        )
        error = np.abs(y - want.ref)
        share = max(share, float((error / (allowed + HALF_SUBNORMAL[name])).max()))
        if i == 0 and want.ref.size >= RMS_FROM:
            theirs = peer.detach().to("cpu", torch.float64).numpy()
            rms = reference.rms(error), reference.rms(theirs - want.ref)
    return Result(problem, dtype, machine.backend, share, *rms)


def rounded(value: torch.Tensor, dtype: str) -> torch.Tensor:
    """A factor of products as TF32 hardware sees it, so that PyTorch's float32 has the same sum."""
    if dtype != "tf32":
        return value
    exact = torch.from_numpy(reference.round_tf32(value.cpu().contiguous().numpy())).to(value.device)
    return exact.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else exact
