"""Convolutions for the training operators: tensors from a seed, float64 answers, and the error allowed.

|y - ref| <= u_out |ref| + 2^-22 sqrt(K) T, with T the answer on absolute values and K the length of the sum:
the bound of the forward operators, for both gradients of a convolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from resnet_kernels import reference
from resnet_kernels.training import compositions
from resnet_kernels.training.operators import run

Pair = tuple[int, int]
PRECISIONS = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32, "tf32": torch.float32}
ROUNDOFF = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11, torch.float32: 2.0**-24}
# Half the distance between subnormals: what rounding costs below the normal range.
TINY = {torch.bfloat16: 2.0**-134, torch.float16: 2.0**-25, torch.float32: 2.0**-150}


@dataclass(frozen=True)
class Conv:
    """The forward convolution [n, c, h, w] x [k, c, r, s]."""

    n: int
    c: int
    h: int
    w: int
    k: int
    r: int = 3
    s: int = 3
    stride: Pair = (1, 1)
    padding: Pair = (1, 1)
    dilation: Pair = (1, 1)

    @property
    def size(self) -> Pair:
        """(P, Q)."""
        return tuple(
            (extent + 2 * pad - dilation * (window - 1) - 1) // stride + 1
            for extent, window, stride, pad, dilation in zip(
                (self.h, self.w), (self.r, self.s), self.stride, self.padding, self.dilation, strict=True
            )
        )

    @property
    def geometry(self) -> tuple[list[int], ...]:
        return list(self.stride), list(self.padding), list(self.dilation)


def draw(shape, dtype, rng, std: float = 1.0, integers: int | None = None) -> Tensor:
    """Normal numbers, or integers from -integers to integers; channels_last if there are four axes."""
    values = (
        rng.standard_normal(shape) * std if integers is None else rng.integers(-integers, integers + 1, shape)
    )
    tensor = torch.from_numpy(np.asarray(values, dtype=np.float64)).to(dtype)
    return tensor.to(memory_format=torch.channels_last) if len(shape) == 4 else tensor


def exact(tensor: Tensor | None, precision: str = "f32") -> Tensor | None:
    """float64, the operand of a TF32 product rounded to TF32."""
    if tensor is None:
        return None
    if precision == "tf32":
        return torch.from_numpy(reference.round_tf32(tensor.double().numpy()))
    return tensor.double()


def within(y: Tensor, ref: Tensor, terms: int, scale: Tensor, what: str, factor: float = 2.0**-22) -> float:
    """Assert the bound for every element; the largest error as a share of what is allowed."""
    allowed = ROUNDOFF[y.dtype] * ref.abs() + factor * terms**0.5 * scale + TINY[y.dtype]
    error = (y.double() - ref).abs()
    share = float((error / allowed).max()) if error.numel() else 0.0
    assert share <= 1.0, f"{what}: an error {share:.2f} times the bound"
    return share


def random_mask(shape, rng) -> Tensor:
    """A mask for a tensor of ``shape`` [N, C, H, W]."""
    return compositions.pack_mask(torch.from_numpy(rng.random(shape) < 0.6))


class Gradients:
    """The three convolutions of a layer on one problem, on the chosen backend and in float64."""

    def __init__(self, conv: Conv, precision: str, seed: int, integers: bool = False) -> None:
        rng = np.random.default_rng(seed)
        dtype = PRECISIONS[precision]
        self.conv, self.precision, self.tf32 = conv, precision, precision == "tf32"
        p, q = conv.size
        low = 2 if integers else None
        self.x = draw((conv.n, conv.c, conv.h, conv.w), dtype, rng, 1.0, low)
        weight_std = (conv.c * conv.r * conv.s) ** -0.5
        self.weight = draw((conv.k, conv.c, conv.r, conv.s), dtype, rng, weight_std, 1 if integers else None)
        self.dy = draw((conv.n, conv.k, p, q), dtype, rng, 1.0, low)
        self.residual = draw(self.x.shape, dtype, rng, 1.0, low) if seed % 2 else None
        self.mask = random_mask(self.x.shape, rng) if seed % 3 else None
        self.bn_input = draw(self.x.shape, dtype, rng, 2.0, low)
        self.bn_mean = draw((conv.c,), torch.float32, rng, 1.0, low)

    def stats(self):
        return run("conv_fprop_stats", self.x, self.weight, *self.conv.geometry, self.tf32)

    def dgrad(self):
        conv = self.conv
        epilogue = self.residual, self.mask, self.bn_input, self.bn_mean
        size = [conv.h, conv.w]
        return run("conv_dgrad", self.dy, self.weight, *epilogue, size, *conv.geometry, self.tf32)

    def wgrad(self):
        kernel = [self.conv.r, self.conv.s]
        return run("conv_wgrad", self.dy, self.x, kernel, *self.conv.geometry, self.tf32)

    def reference(self, absolute: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """(y, dx, dw) in float64; of absolute values: the bound's T."""
        x, weight, dy = (exact(t, self.precision) for t in (self.x, self.weight, self.dy))
        residual = exact(self.residual)
        if absolute:
            x, weight, dy = x.abs(), weight.abs(), dy.abs()
            residual = None if residual is None else residual.abs()
        conv = self.conv
        y, _ = compositions.conv_fprop_stats(x, weight, *conv.geometry, False)
        size, kernel = [conv.h, conv.w], [conv.r, conv.s]
        epilogue = residual, self.mask, None, None
        dx, _ = compositions.conv_dgrad(dy, weight, *epilogue, size, *conv.geometry, False)
        return y, dx, compositions.conv_wgrad(dy, x, kernel, *conv.geometry, False)

    def check_exact(self) -> None:
        """Integers: what float64 says, rounded once."""
        (y, moments), (dx, sums), dw = self.stats(), self.dgrad(), self.wgrad()
        for name, got, want in zip(("y", "dx", "dw"), (y, dx, dw), self.reference(), strict=True):
            assert torch.equal(got, want.to(got.dtype)), f"{name} of {self.conv} ({self.precision})"
        self.check_moments(y, moments)
        self.check_sums(dx, sums)

    def check_bound(self) -> None:
        """Normal numbers: the bound, element by element."""
        conv = self.conv
        (y, moments), (dx, sums), dw = self.stats(), self.dgrad(), self.wgrad()
        terms = conv.c * conv.r * conv.s, conv.k * conv.r * conv.s, conv.n * conv.size[0] * conv.size[1]
        results = zip(
            ("y", "dx", "dw"), (y, dx, dw), self.reference(), self.reference(True), terms, strict=True
        )
        for name, got, want, scale, length in results:
            within(got, want, length, scale, f"{name} of {conv} ({self.precision})")
        self.check_moments(y, moments)
        self.check_sums(dx, sums)

    def check_moments(self, y: Tensor, moments: Tensor) -> None:
        """Mean and squared deviations of the rounded y."""
        y = y.double()
        mean = y.mean((0, 2, 3))
        m2 = (y - mean.view(1, -1, 1, 1)).square().sum((0, 2, 3))
        spread = y.abs().amax((0, 2, 3)) + 1e-30
        assert ((moments[0] - mean).abs() <= 1e-6 * spread).all(), f"mean of {self.conv}"
        assert ((moments[1] - m2).abs() <= 2e-6 * m2 + 1e-11 * spread.square()).all(), f"M2 of {self.conv}"
        assert (moments[1] >= 0).all()

    def check_sums(self, dx: Tensor, sums: Tensor) -> None:
        """What BatchNorm's backward needs of the rounded dx."""
        deviation = self.bn_input.double() - self.bn_mean.double().view(1, -1, 1, 1)
        for got, terms in zip(sums, (dx.double(), dx.double() * deviation), strict=True):
            bound = 2.0**-20 * terms.abs().sum((0, 2, 3)) + 1e-30
            assert ((got - terms.sum((0, 2, 3))).abs() <= bound).all(), f"sums of {self.conv}"
