"""A row of blocks that train as one function, so that what lies between two blocks is made while it is read.

`rk.nn.Stage` is an ``nn.Sequential`` with the same keys.  Where the kernels train, neighbouring blocks are
one call of `training.stage_train`: a block's last normalisation, add and ReLU happen in the next block's
first convolution, and that one's input gradient already sums for the BatchNorm before it.  A block that has
hooks, or does more than its chain says, is called by itself, and so is everything that is no block.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from resnet_kernels import training

from . import chain, train
from .statistics import update


class Call(NamedTuple):
    """What a stage calls at once: names of children, and why a block stands alone (None: it does not)."""

    names: tuple[str, ...]
    reason: str | None


def calls(stage: chain.StageBase) -> list[Call]:
    """The stage's children, grouped into calls as the next training step makes them."""
    found: list[Call] = []
    joined: list[str] = []
    memory = None
    for name, module in stage._modules.items():
        reason = reason_alone(module)
        if joined and (reason is not None or module._rk_memory != memory):  # type: ignore[union-attr]
            found.append(Call(tuple(joined), None))
            joined = []
        if reason is None:
            joined.append(name)
            memory = module._rk_memory  # type: ignore[union-attr]
        else:
            found.append(Call((name,), reason))
    return [*found, Call(tuple(joined), None)] if joined else found


def reason_alone(module: Any) -> str | None:
    """Why a stage calls this child by itself, or None."""
    if not isinstance(module, chain.Block):
        return "it is no fused block"
    if type(module).forward is not module.rk_forward():
        return "its class has a forward of its own"
    if not chain.untouched(module):
        return "it has hooks, or its forward was replaced"
    if train.joined(module) is None:
        return "a part of it is not fused in training"
    return None


def run(stage: chain.StageBase, x: Tensor) -> Tensor:
    """The stage on x: [N, C, H, W]."""
    if not (stage.training or _wants_gradients(stage, x)):
        return chain.run(stage, tuple(stage._modules), x)
    for call in calls(stage):
        blocks: list[Any] = [stage._modules[name] for name in call.names]
        if call.reason is not None:
            x = blocks[0](x)
            continue
        parts = [train.joined(block) for block in blocks]
        layers = [part.layers() for part in parts if part is not None]
        x, running = training.stage_train(x, layers, memory=blocks[0]._rk_memory)
        for part, fresh in zip(parts, running, strict=True):
            assert part is not None
            update(part.norms(), fresh)
    return x


def _wants_gradients(stage: nn.Module, x: Tensor) -> bool:
    """Whether an evaluation is to be differentiated where kernels run."""
    if not torch.is_grad_enabled():
        return False
    wanted = x.requires_grad or any(parameter.requires_grad for parameter in stage.parameters())
    return wanted and training.runs_kernels(x)


class Stage(chain.StageBase, nn.Sequential):
    """Blocks one after the other, as `nn.Sequential`; in training one function where the kernels run.

    [N, C, H, W] -> what the last block gives.  Any modules are allowed; those that are no fused blocks are
    called by themselves.
    """

    def rk_chains(self) -> tuple[tuple[str, ...], ...]:
        return (tuple(self._modules),)

    def forward(self, input: Tensor) -> Tensor:
        if chain.stays_pytorch(self, input):
            return super().forward(input)
        return run(self, input)
