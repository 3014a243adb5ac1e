"""A stage on an empty batch, by PyTorch: shapes and zero gradients, and running statistics as they were."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .. import _aten
from .stage import Block, Stage, Unit

Tensors = tuple[Tensor | None, ...]


def run(stage: Stage, x: Tensor, residual: Tensor | None, tensors: Tensors) -> tuple[Tensor, list[Tensor]]:
    """(out, running statistics ...), as `StageFunction.apply`."""
    statistics: list[Tensor] = []
    for block, each in zip(stage.blocks, stage.split(tensors), strict=True):
        x = _block(block, x, residual, each)
        for unit, (_, _, _, mean, var) in zip(block.units, each, strict=True):
            if unit.batch_stats and mean is not None and var is not None:
                statistics += mean.clone(), var.clone()
    return x, statistics


def _block(block: Block, x: Tensor, residual: Tensor | None, each: list[Tensors]) -> Tensor:
    y = x
    for i in range(block.body):
        y = _unit(block.units[i], y, each[i])
        if i == block.body - 1 and block.skip == "projection":
            y = y + _unit(block.units[block.body], x, each[block.body])
        elif i == block.body - 1 and block.skip in ("input", "zero_pad"):
            y = y + _aten.shortcut(x, block.skip_stride, y.shape[1])
        elif i == block.body - 1 and block.skip == "tensor":
            assert residual is not None
            y = y + residual
        if block.units[i].relu:
            y = y.relu()
    return y


def _unit(unit: Unit, x: Tensor, tensors: Tensors) -> Tensor:
    weight, gamma, beta, mean, var = tensors
    assert weight is not None
    with _aten.without_autocast(x):
        y = _aten.convolve(x, weight.to(x.dtype), unit.stride, unit.padding, unit.dilation)
        if unit.batch_stats:
            return F.batch_norm(y, None, None, gamma, beta, True, 0.0, unit.eps)
        return F.batch_norm(y, mean, var, gamma, beta, False, 0.0, unit.eps)
