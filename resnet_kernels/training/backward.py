"""Backward of a stage, from the last unit to the first.

A unit's input gradient comes out of one convolution: on load it takes BatchNorm's gradient of what arrives
(in a 1x1 convolution; elsewhere an elementwise pass does), its epilogue applies the ReLU before it, found
again from that BatchNorm's input, and sums what that BatchNorm's backward needs.  At a block's first unit it
adds the skip's gradient; in a stage it also applies the mask of the block before and sums for its last
BatchNorm.  So only a stage's end needs a reducing pass of its own.  Weight gradients make their activation on
load, or where that costs more (3x3 on sm_90) an elementwise pass makes it for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .groups import add_up
from .operators import run
from .stage import PER_UNIT, Block, KeptBlock, KeptUnit, Pending, Stage, Unit, multiplies_on_load, pixels
from .weights import as_computed

FIRST = 3  # the function's arguments before the units' tensors: stage, x, residual


class _Arriving(NamedTuple):
    """mask . g, the gradient of a unit's BatchNorm, and its sums over the pixels [2, K]."""

    g: Tensor
    mask: Tensor | None
    sums: Tensor


class Backward:
    """One backward pass; ``needs`` says of every argument of the function whether its gradient is wanted."""

    def __init__(self, stage: Stage, kept: list[KeptBlock], needs: tuple[bool, ...]) -> None:
        self.stage, self.kept, self.needs = stage, kept, needs
        self.gradients: list[Tensor | None] = [None] * len(needs)
        self.first = [FIRST]  # of each block's units, the first tensor among the arguments
        for block in stage.blocks:
            self.first.append(self.first[-1] + PER_UNIT * len(block.units))

    def run(self, g: Tensor) -> list[Tensor | None]:
        """Gradients of the function's arguments from that of its result."""
        g = g.contiguous(memory_format=torch.channels_last)
        arriving: Tensor | _Arriving = g
        for i in range(len(self.stage.blocks) - 1, -1, -1):
            self.compute_again(i)
            if i > 0:
                self.compute_again(i - 1)
            following = self.block(i, arriving)
            self.kept[i] = self.kept[i]._replace(units=())  # what was computed again is free
            if following is None:
                break
            arriving = following
        return self.gradients

    # What is wanted

    def wanted(self, b: int, u: int) -> tuple[bool, ...]:
        """Which of a unit's weight, gamma and beta want a gradient."""
        first = self.first[b] + PER_UNIT * u
        return self.needs[first : first + 3]

    def wanted_before(self, b: int, u: int) -> bool:
        """Whether anything that stands before unit u of block b wants a gradient."""
        return self.needs[1] or any(self.needs[FIRST : self.first[b] + PER_UNIT * u])

    # One block

    def block(self, b: int, arriving: Tensor | _Arriving) -> _Arriving | None:
        """Write the gradients of a block's arguments; what arrives at the block before, None for nothing."""
        block, kept = self.stage.blocks[b], self.kept[b]
        projection = kept.units[block.body] if block.skip == "projection" else None
        end, projected = self.sums(block, kept, arriving, projection)
        if block.skip == "tensor" and self.needs[2]:
            self.gradients[2] = end.g
        at: _Arriving | None = end
        for u in range(block.body - 1, 0, -1):
            assert at is not None
            at = self.inner(b, u, at)
            if at is None:
                break
        skip, skip_mask = self.skip(b, end, projected)
        return None if at is None else self.entry(b, at, skip, skip_mask)

    def sums(
        self, block: Block, kept: KeptBlock, arriving: Tensor | _Arriving, projection: KeptUnit | None
    ) -> tuple[_Arriving, Tensor | None]:
        """What arrives at the block's end with its sums, and the sums for the projection's BatchNorm."""
        last = kept.units[block.body - 1]
        other = (None, None) if projection is None else (projection.y, projection.norm)
        if isinstance(arriving, _Arriving):
            if projection is None:
                return arriving, None
            _, projected, _ = run("bn_backward_reduce", arriving.g, arriving.mask, *other, None, None, False)
            return arriving, projected
        # The masked gradient itself is needed only where it leaves this function.
        keep = kept.mask is not None and block.skip == "tensor"
        h, sums, projected = run("bn_backward_reduce", arriving, kept.mask, last.y, last.norm, *other, keep)
        end = _Arriving(h, None, sums) if keep else _Arriving(arriving, kept.mask, sums)
        return end, None if projection is None else projected

    def inner(self, b: int, u: int, at: _Arriving) -> _Arriving | None:
        """Unit u > 0 of a block: its parameters' gradients, and what arrives at the unit before."""
        block, kept = self.stage.blocks[b], self.kept[b]
        before, relu = kept.units[u - 1], block.units[u - 1].relu
        assert before.y is not None
        source = self.source(block, kept.units, u)
        if not self.wanted_before(b, u):
            self.weight(b, u, source, self.own(b, u, at))
            return None
        epilogue = None, None, None, before.y, before.norm, relu
        dx, sums, dy = self.dgrad(b, u, at, before.y.shape, *epilogue)
        self.weight(b, u, source, dy)
        return _Arriving(dx, None, sums)

    def entry(self, b: int, at: _Arriving, skip: Tensor | None, skip_mask: Tensor | None) -> _Arriving | None:
        """Unit 0 of a block, whose input gradient takes the skip's; what arrives at the block before."""
        kept = self.kept[b]
        if not self.wanted_before(b, 0):
            self.weight(b, 0, kept.x, self.own(b, 0, at))
            return None
        epilogue: tuple[Tensor | bool | None, ...] = skip, skip_mask, None, None, None, False
        if b > 0:
            before = self.kept[b - 1]
            last = before.units[self.stage.blocks[b - 1].body - 1]
            epilogue = skip, skip_mask, before.mask, last.y, last.norm, False
        stride = self.stage.blocks[b].skip_stride
        dx, sums, dy = self.dgrad(b, 0, at, kept.x.shape, *epilogue, skip_stride=stride)
        self.weight(b, 0, kept.x, dy)
        if b == 0:
            self.gradients[1] = dx
            return None
        return _Arriving(dx, None, sums)

    def skip(self, b: int, end: _Arriving, projected: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """(the skip's share of the input's gradient, a mask to apply to it)."""
        block, x = self.stage.blocks[b], self.kept[b].x
        wanted = self.wanted_before(b, 0)
        if block.skip in ("input", "zero_pad"):
            return end.g, end.mask
        if projected is not None and (wanted or any(self.wanted(b, block.body))):
            at = _Arriving(end.g, end.mask, projected)
            if not wanted:
                self.weight(b, block.body, x, self.own(b, block.body, at))
                return None, None
            dx, _, dy = self.dgrad(b, block.body, at, x.shape, None, None, None, None, None, False)
            self.weight(b, block.body, x, dy)
            return dx, None
        return None, None

    # One unit

    def coefficients(self, b: int, u: int, sums: Tensor) -> Tensor:
        """[4, K] of BatchNorm's gradient; writes the gradients of gamma and beta."""
        unit, kept = self.stage.blocks[b].units[u], self.kept[b].units[u]
        assert kept.y is not None
        if kept.values is not None:
            scaled = add_up(sums, unit.group) / kept.values, sums, 1.0
        elif torch.compiler.is_compiling():  # as in `forward.finalize`
            scaled = sums / pixels(kept.y), sums, 1.0
        else:
            scaled = sums, sums, float(pixels(kept.y))
        result, dgamma, dbeta = run("bn_backward_finalize", kept.norm, *scaled, unit.batch_stats)
        first = self.first[b] + PER_UNIT * u
        wants = self.wanted(b, u)
        self.gradients[first + 1 : first + 3] = [dgamma if wants[1] else None, dbeta if wants[2] else None]
        return result

    def gradient_of_y(self, b: int, u: int, at: _Arriving) -> tuple[Tensor | None, ...]:
        """(mask, BatchNorm's input if its statistics were the batch's, coefficients) beside ``at.g``."""
        unit, kept = self.stage.blocks[b].units[u], self.kept[b].units[u]
        return at.mask, kept.y if unit.batch_stats else None, self.coefficients(b, u, at.sums)

    def own(self, b: int, u: int, at: _Arriving) -> Tensor:
        """The gradient of a unit's convolution by the elementwise pass."""
        return run("bn_backward_apply", at.g, *self.gradient_of_y(b, u, at))

    def dgrad(
        self,
        b: int,
        u: int,
        at: _Arriving,
        size: torch.Size,
        *epilogue: Tensor | bool | None,
        skip_stride: tuple[int, int] = (1, 1),
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(gradient of a unit's input, its sums, gradient of the convolution's output).

        epilogue: residual, residual_mask, mask, bn_input, norm, bn_relu.
        """
        unit, kept = self.stage.blocks[b].units[u], self.kept[b].units[u]
        weight = as_computed(kept.weight, at.g)
        args = list(size[2:]), *unit.geometry, self.stage.tf32, list(skip_stride)
        if self.stage.on_load:
            return run("conv_dgrad", at.g, *self.gradient_of_y(b, u, at), weight, *epilogue, *args)
        dy = self.own(b, u, at)
        dx, sums, _ = run("conv_dgrad", dy, None, None, None, weight, *epilogue, *args)
        return dx, sums, dy

    def weight(self, b: int, u: int, source: Tensor | Pending, dy: Tensor) -> None:
        """Write the gradient of a unit's weight."""
        if not self.wanted(b, u)[0]:
            return
        unit, kept = self.stage.blocks[b].units[u], self.kept[b].units[u]
        x, norm = (source.y, source.norm) if isinstance(source, Pending) else (source, None)
        kernel = list(kept.weight.shape[2:])
        dw = run("conv_wgrad", dy, x, norm, kernel, *unit.geometry, self.stage.tf32)
        self.gradients[self.first[b] + PER_UNIT * u] = dw.to(unit.weight_dtype)

    # What was not kept

    def compute_again(self, b: int) -> None:
        """The outputs of a block's last convolution and of its projection, if they were not kept."""
        block, kept = self.stage.blocks[b], self.kept[b]
        units = list(kept.units)
        for u in range(block.body - 1, len(units)):
            if units[u].y is None:
                source: Tensor | Pending = kept.x
                if 0 < u < block.body:
                    source = self.source(block, units, u)
                units[u] = units[u]._replace(y=self.output(block.units[u], units[u], source))
        self.kept[b] = kept._replace(units=tuple(units))

    def source(self, block: Block, units: Sequence[KeptUnit], u: int) -> Tensor | Pending:
        """The input of unit u > 0 of a block's body."""
        before = units[u - 1]
        assert before.y is not None
        pending = Pending(before.y, before.norm)
        return pending if block.units[u - 1].relu else pending.made(relu=False)

    def output(self, unit: Unit, kept: KeptUnit, source: Tensor | Pending) -> Tensor:
        """A unit's convolution of its input."""
        if isinstance(source, Pending) and not multiplies_on_load(unit, kept.weight):
            source = source.made()
        x, norm = (source.y, source.norm) if isinstance(source, Pending) else (source, None)
        weight = as_computed(kept.weight, x)
        return run("conv_fprop_stats", x, norm, None, weight, *unit.geometry, False, self.stage.tf32)[0]
