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
    """The three convolutions of a layer on one problem, on the chosen backend and in float64.

    The seed also chooses what is made on load and what stands in the epilogues; ``plain``: nothing but
    BatchNorm's sums, so that y, dx and dw are rounded once.
    """

    def __init__(
        self, conv: Conv, precision: str, seed: int, integers: bool = False, plain: bool = False
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.conv, self.dtype, self.integers = conv, PRECISIONS[precision], integers
        self.precision, self.tf32 = precision, precision == "tf32"
        chosen = np.random.default_rng((7, seed)).random(8) < (0.0 if plain else 0.6)
        p, q = conv.size
        self.x, self.g = self._image(conv.n, conv.c, conv.h, conv.w), self._image(conv.n, conv.k, p, q)
        std = (conv.c * conv.r * conv.s) ** -0.5
        low = 1 if integers else None
        self.weight = draw((conv.k, conv.c, conv.r, conv.s), self.dtype, self.rng, std, low)
        self.norm = self._norm(conv.c) if chosen[0] else None
        self.skip = self._image(*self.x.shape) if chosen[0] and chosen[1] else None
        self.coefficients = self._coefficients(conv.k) if chosen[2] else None
        self.bn_y = self._image(*self.g.shape) if chosen[2] and chosen[3] else None
        self.g_mask = random_mask(self.g.shape, self.rng) if chosen[2] and chosen[4] else None
        self.residual = self._image(*self.x.shape) if chosen[5] else None
        self.residual_mask = random_mask(self.x.shape, self.rng) if chosen[5] and chosen[6] else None
        self.mask = random_mask(self.x.shape, self.rng) if chosen[7] else None
        self.bn_input, self.bn_norm = self._image(*self.x.shape), self._norm(conv.c)
        self.bn_relu = bool(chosen[1])

    def _image(self, *shape: int) -> Tensor:
        return draw(shape, self.dtype, self.rng, 1.0, 2 if self.integers else None)

    def _vectors(self, rows: int, channels: int) -> Tensor:
        return draw((rows, channels), torch.float32, self.rng, 1.0, 2 if self.integers else None)

    def _norm(self, channels: int) -> Tensor:
        mean, scale, shift, rstd = self._vectors(4, channels)
        if self.integers:
            scale = torch.where(scale == 0, 1.0, scale)
        return torch.stack((mean, scale, shift, rstd.abs()))

    def _coefficients(self, channels: int) -> Tensor:
        """Of a gradient with every term: slope, offset, mean, tilt."""
        return self._vectors(4, channels)

    # On the chosen backend

    def stats(self) -> tuple[Tensor, ...]:
        """(y, moments, a, its mask)."""
        source = self.x, self.norm, self.skip
        keep = self.norm is not None
        return run("conv_fprop_stats", *source, self.weight, *self.conv.geometry, keep, self.tf32)

    def dgrad(self) -> tuple[Tensor, ...]:
        """(dx, sums, dy)."""
        source = self.g, self.g_mask, self.bn_y, self.coefficients, self.weight
        epilogue = self.residual, self.residual_mask, self.mask, self.bn_input, self.bn_norm, self.bn_relu
        size = [self.conv.h, self.conv.w]
        return run("conv_dgrad", *source, *epilogue, size, *self.conv.geometry, self.tf32)

    def wgrad(self) -> Tensor:
        kernel = [self.conv.r, self.conv.s]
        return run("conv_wgrad", self.g, self.x, self.norm, kernel, *self.conv.geometry, self.tf32)

    # In float64

    def reference(
        self, a: Tensor, dy: Tensor, activation: Tensor, absolute: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(y of a, dx of dy, dw of g and the activation); of absolute values: the bound's T.

        a, dy and activation are what was made on load, rounded as it was; each is judged by itself.
        """
        operands = a, self.weight, dy, activation, self.g
        a, weight, dy, activation, g = (exact(t, self.precision) for t in operands)
        residual = exact(self.residual)
        if absolute:
            a, weight, dy, activation, g = (t.abs() for t in (a, weight, dy, activation, g))
            residual = None if residual is None else residual.abs()
        conv = self.conv
        y, *_ = compositions.conv_fprop_stats(a, None, None, weight, *conv.geometry, False, False)
        size, kernel = [conv.h, conv.w], [conv.r, conv.s]
        epilogue = residual, self.residual_mask, self.mask, None, None, False
        dx, *_ = compositions.conv_dgrad(dy, None, None, None, weight, *epilogue, size, *conv.geometry, False)
        if self.bn_relu:  # as the forward pass decided
            _, passes = run("bn_normalise", self.bn_input, self.bn_norm, None, None, True, True)
            dx = dx.where(compositions.unpack_mask(passes, conv.c), 0.0)
        return y, dx, compositions.conv_wgrad(g, activation, None, kernel, *conv.geometry, False)

    def made(self, a: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(a, dy, wgrad's activation) as multiplied; those made on load are checked."""
        activation = self.x
        if self.norm is None:
            a = self.x
        else:
            activation, _ = run("bn_normalise", self.x, self.norm, None, None, True, False)
            self._check_normalised(activation, None, "wgrad's activation")
            self._check_normalised(a, self.skip, "a")
        if self.coefficients is None:
            return a, self.g, activation
        h = exact(self.g)
        if self.g_mask is not None:
            h = h.where(compositions.unpack_mask(self.g_mask, self.conv.k), 0.0)
        slope, offset, mean, tilt = exact(self.coefficients).view(4, 1, -1, 1, 1)
        inner, size = h, h.abs()
        if self.bn_y is not None:
            centred = exact(self.bn_y) - mean
            inner = h - offset - centred * tilt
            size = size + offset.abs() + (exact(self.bn_y).abs() + mean.abs()) * tilt.abs()
        self._check(dy, slope * inner, slope.abs() * size, 4, "dy")
        return a, dy, activation

    def _check_normalised(self, a: Tensor, skip: Tensor | None, what: str) -> None:
        mean, scale, shift, _ = exact(self.norm).view(4, 1, -1, 1, 1)
        x = exact(self.x)
        want = (x - mean) * scale + shift
        size = (x.abs() + mean.abs()) * scale.abs() + shift.abs()
        if skip is not None:
            want, size = want + exact(skip), size + exact(skip).abs()
        self._check(a, want.relu(), size, 3, what)

    def _check(self, got: Tensor, want: Tensor, size: Tensor, terms: int, what: str) -> None:
        """Integers: what float64 says, rounded once; normal numbers: the bound, element by element."""
        what = f"{what} of {self.conv} ({self.precision})"
        if self.integers:
            assert torch.equal(got, want.to(got.dtype)), what
        else:
            within(got, want, terms, size, what)

    def check(self) -> None:
        """All results of the three operators."""
        conv = self.conv
        (y, moments, a, mask), (dx, sums, dy), dw = self.stats(), self.dgrad(), self.wgrad()
        if self.norm is not None:
            assert torch.equal(compositions.unpack_mask(mask, conv.c), a > 0), f"mask of {conv}"
        operands = self.made(a, dy)
        terms = conv.c * conv.r * conv.s, conv.k * conv.r * conv.s, conv.n * conv.size[0] * conv.size[1]
        sizes = self.reference(*operands, absolute=True)
        results = zip(("y", "dx", "dw"), (y, dx, dw), self.reference(*operands), sizes, terms, strict=True)
        for name, got, want, size, length in results:
            self._check(got, want, size, length, name)
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
        deviation = self.bn_input.double() - self.bn_norm[0].double().view(1, -1, 1, 1)
        for got, terms in zip(sums, (dx.double(), dx.double() * deviation), strict=True):
            bound = 2.0**-20 * terms.abs().sum((0, 2, 3)) + 1e-30
            assert ((got - terms.sum((0, 2, 3))).abs() <= bound).all(), f"sums of {self.conv}"
