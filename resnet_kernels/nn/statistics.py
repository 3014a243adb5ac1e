"""BatchNorm's running statistics: whose batches they are of, and how a training step moves them.

Buffers change as `torch.nn.BatchNorm2d` changes them.  A forward that runs inside a backward pass computes
again what was computed before (activation checkpointing): there the first forward has updated the running
statistics and ``num_batches_tracked``, and they are left alone.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def group_of(norm: Any) -> Any:
    """The processes that share the statistics of a synchronised BatchNorm in training; None: this one alone.

    As in `torch.nn.SyncBatchNorm`, without torch.distributed initialised there is nothing to share.
    """
    if not hasattr(norm, "process_group") or not (dist.is_available() and dist.is_initialized()):
        return None
    group = norm.process_group or dist.group.WORLD
    return group if dist.get_world_size(group) > 1 else None


def recomputing() -> bool:
    """Whether this forward runs inside a backward pass."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def count_batch(norm: Any) -> float:
    """Count a batch; its share in the running statistics, with momentum=None that of a cumulative average.

    momentum=None waits for the device, as in PyTorch, and so cannot be captured in a graph.
    """
    if norm.num_batches_tracked is not None and not recomputing():
        norm.num_batches_tracked.add_(1)
    if norm.momentum is not None:
        return norm.momentum
    return 0.0 if norm.num_batches_tracked is None else 1.0 / float(norm.num_batches_tracked)


def update(norms: list[Any], running: list[tuple[Tensor, Tensor] | None]) -> None:
    """Copy new running statistics into the BatchNorms they belong to."""
    if recomputing():
        return
    old: list[Tensor] = []
    new: list[Tensor] = []
    for norm, fresh in zip(norms, running, strict=True):
        if fresh is not None:
            old += [norm.running_mean, norm.running_var]
            new += fresh
    if old:
        with torch.no_grad():
            torch._foreach_copy_(old, new)
