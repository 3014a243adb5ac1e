"""Whether an implementation computed the right thing: every element against float64, in the same session.

    |y - ref| <= u |ref| + (2^-22 sqrt(K) + n u + o) T + tiny

The bound of `reference.error` with two terms more: u is the unit roundoff of the result's format, K the
length of the sum, T the oracle on absolute values, n how many intermediates the implementation rounds to
the short format (PyTorch's convolution, BatchNorm and add are three kernels; ours is one), o what rounding
both operands to TF32 may cost, tiny half a subnormal.  `share` is the largest error over this bound: up to
1 passes.

Where no such bound is known (whole networks, chains of gradients) the judge is PyTorch's own error from the
same float64 result: `relative`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .. import reference

_FORMATS = {"bfloat16": "bf16", "float16": "f16", "float32": "f32"}
UNIT_ROUNDOFF = {getattr(torch, long): reference.UNIT_ROUNDOFF[short] for long, short in _FORMATS.items()}
TINY = {torch.bfloat16: 2.0**-134, torch.float16: 2.0**-25, torch.float32: 2.0**-150}
TF32_OPERANDS = 2.0**-9  # two operands, each cut off (not rounded) after 10 bits
RELATIVE_LIMIT = {"float32": 2.0, "tf32": 2.0, "bfloat16": 1.25, "float16": 1.25}  # times PyTorch's error


@dataclass(frozen=True)
class Exact:
    """A part of one result, in float64: value, error scale T (same shape), length of the sum."""

    value: Tensor
    scale: Tensor
    terms: int


@dataclass
class Judge:
    """Gathers one implementation's errors over the parts of its results.

    dtype: what was computed in, "tf32" among others; roundings: n of the bound.
    """

    dtype: str
    roundings: int = 0
    share: float = 0.0
    note: str | None = None
    _square_error: float = field(default=0.0, repr=False)
    _square: float = field(default=0.0, repr=False)

    def see(self, actual: Tensor, exact: Exact) -> None:
        """Enter a part; a wrong shape, a NaN or an infinity fails for good."""
        if actual.shape != exact.value.shape:
            self.share = math.inf
            self.note = f"shape {tuple(actual.shape)}, not {tuple(exact.value.shape)}"
            return
        u = UNIT_ROUNDOFF.get(actual.dtype, 0.0)
        short = UNIT_ROUNDOFF[torch.float32 if self.dtype == "tf32" else getattr(torch, self.dtype)]
        factor = 2.0**-22 * math.sqrt(exact.terms) + self.roundings * short
        factor += TF32_OPERANDS * (self.dtype == "tf32")
        error = (actual.double() - exact.value).abs_()
        if actual.is_floating_point():  # a mask's integers have no distance
            self._square_error += float(error.square().sum())
            self._square += float(exact.value.square().sum())
        if not math.isfinite(self._square_error):
            self.share, self.note = math.inf, "NaN or infinity in the result"
            return
        tiny = TINY.get(actual.dtype, 0.0)
        allowed = exact.value.abs().mul_(u).add_(exact.scale, alpha=factor).add_(tiny)
        if error.numel():
            shares = torch.where(
                error > 0, error / allowed, 0.0
            )  # exact is right even where nothing is allowed
            self.share = max(self.share, float(shares.max()))

    @property
    def error(self) -> float:
        """Relative L2 distance from float64; its own norm where float64 is all zero."""
        return math.sqrt(self._square_error / self._square if self._square else self._square_error)

    @property
    def match(self) -> bool:
        return self.share <= 1


@dataclass(frozen=True)
class Verdict:
    """What stands in a row."""

    error: float | None
    share: float | None
    match: bool | None
    note: str | None = None

    @classmethod
    def of(cls, judge: Judge) -> Verdict:
        return cls(judge.error, judge.share, judge.match, judge.note)


def distance(actual: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """Relative L2 distance of several tensors taken as one; infinity for NaN or a wrong shape."""
    if [t.shape for t in actual] != [t.shape for t in exact]:
        return math.inf
    pairs = list(zip(actual, exact, strict=True))
    wrong = sum(float((a.double() - e.double()).square().sum()) for a, e in pairs)
    whole = sum(float(e.double().square().sum()) for e in exact)
    return math.sqrt(wrong / whole) if math.isfinite(wrong) and whole else math.inf


def relative(error: float, peer: float, dtype: str) -> Verdict:
    """Judge an error by PyTorch's own on the same inputs; `share` is its part of what is allowed."""
    allowed = max(RELATIVE_LIMIT[dtype] * peer, 2.0**-23)
    share = error / allowed
    return Verdict(error, share, share <= 1, f"allowed: {RELATIVE_LIMIT[dtype]:g} x PyTorch's own error")
