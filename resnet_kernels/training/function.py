"""The autograd function of a stage: one node in the graph, for a layer, a block or a row of blocks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..backend import backend
from .backward import Backward
from .forward import Forward
from .stage import KeptBlock, KeptUnit, Stage


def below_autograd() -> contextlib.AbstractContextManager[Any]:
    """Past the autograd layer: its Python functions cost more than the calls and have nothing to record."""
    if torch.compiler.is_compiling():
        return contextlib.nullcontext()
    return torch._C._AutoDispatchBelowAutograd()


@contextlib.contextmanager
def _switched(name: str) -> Iterator[None]:
    with backend(name):
        yield


def obeying(name: str) -> contextlib.AbstractContextManager[Any]:
    """The backend that forward ran on; a compiled program's operators obey the one chosen at run time."""
    if torch.compiler.is_compiling() or backend.current() == name:
        return contextlib.nullcontext()
    return _switched(name)


class _OnlyOnce(torch.autograd.Function):
    """Hands gradients through; being differentiated raises."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor | None) -> tuple[Tensor | None, ...]:
        return tuple(None if t is None else t.view_as(t) for t in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        raise RuntimeError(
            "resnet_kernels: the fused training layers are differentiable once; for gradients of gradients "
            "choose rk.backend('aten') on a CPU or unfuse the model"
        )


def _row(kept: list[KeptBlock]) -> list[Tensor | None]:
    """What blocks keep, as one row for autograd."""
    row: list[Tensor | None] = []
    for block in kept:
        row += [block.x, block.mask]
        for unit in block.units:
            row += list(unit)
    return row


def _blocks(stage: Stage, row: tuple[Tensor | None, ...]) -> list[KeptBlock]:
    """The inverse of `_row`."""
    left = iter(row)

    def take(count: int) -> Any:
        return [next(left) for _ in range(count)]

    kept = []
    for block in stage.blocks:
        x, mask = take(2)
        kept.append(KeptBlock(x, mask, tuple(KeptUnit(*take(len(KeptUnit._fields))) for _ in block.units)))
    return kept


class StageFunction(torch.autograd.Function):
    """(out, new running statistics ...) of (stage, x, residual, tensors of the units ...).

    Not differentiable twice.
    """

    @staticmethod
    def forward(
        ctx: Any, stage: Stage, x: Tensor, residual: Tensor | None, *tensors: Tensor | None
    ) -> tuple[Tensor, ...]:
        forward = Forward(stage)
        with below_autograd():
            out = forward.run(x, residual, tensors)
        ctx.save_for_backward(*_row(forward.kept))
        ctx.stage = stage
        ctx.mark_non_differentiable(*forward.running)
        ctx.set_materialize_grads(False)
        return out, *forward.running

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        stage, saved = ctx.stage, ctx.saved_tensors
        if g is None:
            return (None,) * len(ctx.needs_input_grad)
        with torch.no_grad(), below_autograd(), obeying(stage.backend):
            gradients = Backward(stage, _blocks(stage, saved), ctx.needs_input_grad).run(g)
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return _OnlyOnce.apply(len(gradients), *gradients, g, *saved)
        return tuple(gradients)
