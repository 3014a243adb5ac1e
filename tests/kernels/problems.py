"""Problems whose answers are exact: small integers and powers of two, drawn from a seed, and float64 answers.

Every product and sum is an integer that float32 holds, so a right kernel gives the oracle's answer bit for
bit, rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import resnet_kernels as rk

DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32, "tf32": torch.float32}
PIXELS = (0, 2, 3)
Answer = Sequence[tuple[Tensor, Tensor]]  # (got, wanted in float64)


def operators():
    """The operators of the simulator's build in use, below the router."""
    name = "resnet_kernels_sim_checked" if rk.simulator.checked_enabled else "resnet_kernels_sim"
    return getattr(torch.ops, name)


@dataclass(frozen=True)
class Shape:
    """The forward convolution [n, c, h, w] x [k, c, r, s]."""

    n: int
    c: int
    h: int
    w: int
    k: int
    r: int
    s: int
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    @property
    def geometry(self) -> tuple[list[int], list[int], list[int]]:
        return list(self.stride), list(self.padding), list(self.dilation)

    @property
    def x(self) -> tuple[int, int, int, int]:
        return self.n, self.c, self.h, self.w

    @property
    def weight(self) -> tuple[int, int, int, int]:
        return self.k, self.c, self.r, self.s

    @property
    def y(self) -> tuple[int, ...]:
        weight = torch.empty(self.weight, device="meta")
        return tuple(F.conv2d(torch.empty(self.x, device="meta"), weight, None, *self.geometry).shape)


class Draw:
    """Small integers from a seed."""

    def __init__(self, seed: int, dtype: torch.dtype) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype = dtype

    def integers(self, *shape: int, low: int = -2, high: int = 2) -> Tensor:
        return torch.randint(low, high + 1, shape, generator=self.generator)

    def image(self, *shape: int) -> Tensor:
        return self.integers(*shape).to(self.dtype).contiguous(memory_format=torch.channels_last)

    def vector(self, size: int, low: int = -2, high: int = 2) -> Tensor:
        return self.integers(size, low=low, high=high).float()

    def power(self, size: int, low: int = -1, high: int = 1) -> Tensor:
        """Powers of two with a sign."""
        sign = 2 * self.integers(size, low=0, high=1) - 1
        return sign.float() * torch.exp2(self.vector(size, low, high))

    def norm(self, channels: int, lift: int = 0) -> Tensor:
        """A BatchNorm [4, C] that maps integers to integers; ``lift`` is added to every other shift, so that
        a zero of the padding that is normalised by mistake cannot be missed."""
        shift = self.vector(channels) + lift * self.integers(channels, low=0, high=1)
        return torch.stack((self.vector(channels), self.power(channels, 0), shift, torch.ones(channels)))

    def coefficients(self, channels: int) -> Tensor:
        """[4, C] of a gradient that maps integers to integers: slope, offset, mean, tilt."""
        rest = self.vector(channels), self.vector(channels), self.vector(channels, -1, 1)
        return torch.stack((self.power(channels, 0), *rest))

    def mask(self, n: int, c: int, h: int, w: int) -> tuple[Tensor, Tensor]:
        """Random bits as bool [N, C, H, W] and packed as kernels read them, int32 [N, H, W, ceil(C / 32)]."""
        bits = torch.rand((n, h, w, c), generator=self.generator) < 0.5
        return bits.permute(0, 3, 1, 2), pack(bits)


def pack(bits: Tensor) -> Tensor:
    """bool [N, H, W, C] -> int32 [N, H, W, ceil(C / 32)], bit = channel."""
    words = F.pad(bits, (0, -bits.shape[-1] % 32)).unflatten(-1, (-1, 32)).long()
    words = (words << torch.arange(32)).sum(-1)
    return torch.where(words >= 2**31, words - 2**32, words).int()


def packed(passes: Tensor) -> Tensor:
    """bool [N, C, H, W] as `pack` packs it, in float64."""
    return pack(passes.permute(0, 2, 3, 1)).double()


def channel(vector: Tensor) -> Tensor:
    return vector.double().view(1, -1, 1, 1)


def normalised(x: Tensor, norm: Tensor) -> Tensor:
    """norm(x) in float64."""
    mean, scale, shift, _ = map(channel, norm)
    return (x.double() - mean) * scale + shift


def bn_gradient(g: Tensor, x: Tensor | None, coefficients: Tensor) -> Tensor:
    """slope (g - offset - (x - mean) tilt), slope g without x, in float64."""
    slope, offset, mean, tilt = map(channel, coefficients)
    return slope * (g.double() if x is None else g.double() - offset - (x.double() - mean) * tilt)


def shortcut_a(x: Tensor, stride: int, channels: int) -> Tensor:
    """Every stride-th pixel and zeros for new channels, in float64 (He et al. 2015, section 3.3)."""
    x = x.double()[:, :, ::stride, ::stride]
    return F.pad(x, (0, 0, 0, 0, 0, channels - x.shape[1]))


def gradient_sums(h: Tensor, x: Tensor, mean: Tensor) -> Tensor:
    """[2, C]: sum h and sum h (x - mean), in float64."""
    h, centred = h.double(), x.double() - channel(mean)
    return torch.stack((h.sum(PIXELS), (h * centred).sum(PIXELS)))


def moments_are_right(y: Tensor, moments: Tensor) -> tuple[Tensor, Tensor]:
    """An answer by channel: whether moments [2, K] are mean and M2 of ``y`` to float32's last digits.

    A thread's pivot is its first value, which may be the outlier among its 32: their M2 then loses five bits.
    """
    y = y.double()
    mean = y.mean(PIXELS)
    m2 = (y - channel(mean)).square().sum(PIXELS)
    right = (moments[0] - mean).abs() <= 1e-6 * y.abs().amax(PIXELS)
    right &= (moments[1] - m2).abs() <= 32 * 2.0**-23 * m2
    return right.double(), torch.ones(y.shape[1], dtype=torch.float64)
