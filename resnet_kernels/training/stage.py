"""What a stage is: residual blocks one after the other, and what each keeps for its backward pass.

    a_0 = x;  y_i = conv(a_{i-1}, w_i);  a_i = relu?(bn_i(y_i))        i = 1 ... L
    out = relu?(bn_L(y_L) + skip)                                     the next block's x

A block is a residual block (He et al. 2015, figure 5), or a chain of layers without a skip, or one layer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .operators import run

PER_UNIT = 5  # tensors: weight, gamma, beta, running mean, running variance


class Unit(NamedTuple):
    """What a convolution with its BatchNorm and ReLU computes, beside its tensors."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    eps: float
    momentum: float
    relu: bool
    batch_stats: bool  # normalise with this batch's statistics; otherwise with the running ones
    weight_dtype: torch.dtype  # of the weight as given, and of its gradient; computed with in x's dtype
    group: Any = None  # the processes whose batches are normalised as one; None: this one's alone

    @property
    def geometry(self) -> tuple[tuple[int, int], ...]:
        return self.stride, self.padding, self.dilation


class Block(NamedTuple):
    """Its units, then the skip's convolution if there is one.

    skip: "none"; "tensor", given beside x (in a stage's first block); "input", x itself; "projection", the
    last unit applied to x; "zero_pad", every ``skip_stride``-th pixel of x, and zeros for the channels that
    are new.
    """

    units: tuple[Unit, ...]
    skip: str
    skip_stride: tuple[int, int]

    @property
    def body(self) -> int:
        """How many units stand one after the other."""
        return len(self.units) - (self.skip == "projection")


class Stage(NamedTuple):
    """Blocks, the output of each the input of the next; the units of all of them in one row of tensors."""

    blocks: tuple[Block, ...]
    tf32: bool
    recompute: bool  # keep no output of a block's last convolution, nor of its projection
    backend: str
    on_load: bool = True  # 1x1 convolutions make their input while loading it; else elementwise passes do

    def split(self, tensors: tuple[Tensor | None, ...]) -> list[list[tuple[Tensor | None, ...]]]:
        """The row of all units' tensors, by block and unit."""
        each = [tensors[i : i + PER_UNIT] for i in range(0, len(tensors), PER_UNIT)]
        blocks = []
        for block in self.blocks:
            blocks.append(each[: len(block.units)])
            each = each[len(block.units) :]
        return blocks


class KeptUnit(NamedTuple):
    """A unit's tensors for backward: its activation is made again from y and norm."""

    weight: Tensor
    y: Tensor | None  # None: computed again
    norm: Tensor  # [4, K]
    values: Tensor | None  # how many per channel in the group, [], where the unit is synchronised


class KeptBlock(NamedTuple):
    """A block's tensors for backward."""

    x: Tensor
    mask: Tensor | None  # of the ReLU behind its add
    units: tuple[KeptUnit, ...]


class Pending(NamedTuple):
    """The activation relu(norm(y) + residual), which whoever reads it makes while loading."""

    y: Tensor
    norm: Tensor
    residual: Tensor | None = None

    def made(self, relu: bool = True) -> Tensor:
        """The activation in memory."""
        return self.made_with_mask(relu, False)[0]

    def made_with_mask(self, relu: bool = True, keep_mask: bool = True) -> tuple[Tensor, Tensor]:
        """The activation in memory, and its ReLU's mask."""
        return run("bn_normalise", self.y, self.norm, self.residual, None, relu, keep_mask)


def pixels(y: Tensor) -> int:
    """Values per channel."""
    return y.shape[0] * y.shape[2] * y.shape[3]


def multiplies_on_load(unit: Unit, weight: Tensor) -> bool:
    """Whether the unit's convolution meets every element of its input once, so that making it on load is
    free.  A 3x3 convolution would make it nine times.
    """
    return tuple(weight.shape[2:]) == (1, 1) and unit.stride == (1, 1) and unit.padding == (0, 0)
