"""Forward of a stage: what is computed, in which kernel, and what is kept.

A unit is one convolution with BatchNorm's statistics in its epilogue, and the statistics' merge.  Its
normalisation and ReLU, and the block's add, happen where the activation is read: a 1x1 convolution makes its
input on load, the next block's first one also writes it and ReLU's mask, because the next block's skip and
weight gradient read it.  Before other convolutions, and behind the last block, an elementwise pass makes it.

Kept for backward of a block: x, the raw y_i, four vectors a unit, one bit an element of ReLU's mask behind
the add, and the weights as computed with.  The activations inside are not kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import compositions
from .groups import merge_moments
from .operators import run
from .stage import Block, KeptBlock, KeptUnit, Pending, Stage, Unit, multiplies_on_load, pixels
from .weights import as_computed, kept_as_computed

Tensors = tuple[Tensor | None, ...]


def finalize(
    moments: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    count: int | Tensor,
    eps: float,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
) -> tuple[Tensor, ...]:
    """(norm [4, C], new running mean, new running variance), the last two if there are old ones."""
    rest = eps, running_mean, running_var, momentum
    if isinstance(count, Tensor) or torch.compiler.is_compiling():
        # An operator's float makes a dynamic batch a constant of the compiled program (which fuses these
        # anyway), and a group's count would have to come from the device.
        norm, *running = compositions.bn_finalize(moments, gamma, beta, count, *rest)
    else:
        norm, *running = run("bn_finalize", moments, gamma, beta, float(count), *rest)
    return (norm,) if running_mean is None else (norm, *running)


class Forward:
    """One forward pass."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.kept: list[KeptBlock] = []
        self.running: list[Tensor] = []  # new running statistics, in the units' order

    def run(self, x: Tensor, residual: Tensor | None, tensors: Tensors) -> Tensor:
        """The stage's output; fills `kept` and `running`."""
        out: Tensor | Pending = x
        each = self.stage.split(tensors)
        for i, block in enumerate(self.stage.blocks):
            out = self.block(block, out, residual, each[i], last=i == len(self.stage.blocks) - 1)
        assert isinstance(out, Tensor)
        return out

    def block(
        self, block: Block, source: Tensor | Pending, residual: Tensor | None, each: list[Tensors], last: bool
    ) -> Tensor | Pending:
        """The block's output; pending if the next block can make it on load."""
        units: list[KeptUnit] = []
        x = source
        a: Tensor | Pending = source
        for i in range(block.body):
            if i > 0 and isinstance(a, Pending) and not block.units[i - 1].relu:
                a = a.made(relu=False)
            unit, made, mask = self.unit(block.units[i], a, each[i], keep=i == 0)
            if i == 0 and isinstance(source, Pending):
                x = made
                self.kept[-1] = self.kept[-1]._replace(mask=mask)
            units.append(unit)
            assert unit.y is not None
            a = Pending(unit.y, unit.norm)
        assert isinstance(a, Pending) and isinstance(x, Tensor)

        skip, skip_norm = None, None
        if block.skip == "tensor":
            skip = residual
        elif block.skip in ("input", "zero_pad"):
            skip = x
        elif block.skip == "projection":
            unit, _, _ = self.unit(block.units[block.body], x, each[block.body], keep=False)
            units.append(unit)
            skip, skip_norm = unit.y, unit.norm
        relu = block.units[block.body - 1].relu
        out, out_mask = None, None
        if last or not relu or block.skip in ("projection", "zero_pad"):
            out, out_mask = run(
                "bn_normalise", a.y, a.norm, skip, skip_norm, relu, relu, list(block.skip_stride)
            )
        if self.stage.recompute:
            forgotten = range(block.body - 1, len(units))
            units = [
                unit._replace(weight=each[i][0], y=None if i in forgotten else unit.y)  # type: ignore[arg-type]
                for i, unit in enumerate(units)
            ]
        self.kept.append(KeptBlock(x, out_mask if relu else None, tuple(units)))
        return a._replace(residual=skip) if out is None else out

    def unit(
        self, unit: Unit, source: Tensor | Pending, tensors: Tensors, keep: bool
    ) -> tuple[KeptUnit, Tensor, Tensor]:
        """(what is kept, the input if it was made and ``keep``, its ReLU's mask likewise)."""
        weight, gamma, beta, running_mean, running_var = tensors
        assert weight is not None
        apart = None
        if isinstance(source, Pending):
            if keep and not self.stage.on_load:
                apart = source.made_with_mask()
                source = apart[0]
            elif not keep and not (self.stage.on_load and multiplies_on_load(unit, weight)):
                source = source.made()
        x, source_norm, residual = source if isinstance(source, Pending) else (source, None, None)
        weight = as_computed(weight, x) if self.stage.recompute else kept_as_computed(weight, x)
        keep = keep and source_norm is not None
        y, moments, made, mask = run(
            "conv_fprop_stats", x, source_norm, residual, weight, *unit.geometry, keep, self.stage.tf32
        )
        values = None
        if unit.batch_stats:
            if unit.group is not None:
                moments, values = merge_moments(moments, pixels(y), unit.group)
            count = pixels(y) if values is None else values
            norm, *running = finalize(
                moments, gamma, beta, count, unit.eps, running_mean, running_var, unit.momentum
            )
            self.running += running
        else:
            assert running_mean is not None and running_var is not None
            constant = torch.stack((running_mean, running_var))
            norm, *_ = finalize(constant, gamma, beta, 1, unit.eps, None, None, 0.0)
        return KeptUnit(weight, y, norm, values), *(apart or (made, mask))
