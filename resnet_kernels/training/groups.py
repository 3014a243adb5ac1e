"""BatchNorm's sums over the processes of a group (synchronised BatchNorm).

Forward: every process gives the moments of its own values and how many they are; all gather all of them and
merge them alike, after Chan, Golub and LeVeque 1983 (sums of squared deviations, never of squares), so every
process holds the same bits.  Backward: the two sums of the gradient are added up.

Everything stays on the tensors' device and nothing waits for it: a training step can be captured in a graph.
Counts travel as float32 (float64), which holds 2^24 values per channel and process exactly.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def shared_group(op: str, group: Any) -> Any:
    """``group`` if it has other members, None if it is None or this process alone.

    Raises:
        ValueError: this process is no member.
    """
    if group is None:
        return None
    size = dist.get_world_size(group)
    if size < 1:
        raise ValueError(f"{op}: process_group must hold this process (rank {dist.get_rank()}), it does not")
    return group if size > 1 else None


def merge_moments(moments: Tensor, count: int, group: Any) -> tuple[Tensor, Tensor]:
    """([2, C] of all values of the group, how many they are as a tensor []) from those of each process.

    A process without values gives ``count`` 0 and any finite moments; one process at least must have some.
    """
    own = torch.cat((moments.flatten(), moments.new_full((1,), count)))
    rows = own.new_empty(dist.get_world_size(group) * own.shape[0])
    dist.all_gather_into_tensor(rows, own, group=group)
    mean, m2, counts = rows.view(-1, own.shape[0]).split((moments.shape[1], moments.shape[1], 1), dim=1)
    total = counts.sum()
    share = counts / total
    # Twice, the second time for what is left: the weighted sum of large means alone would lose the digits.
    merged = (share * mean).sum(0)
    merged = merged + (share * (mean - merged)).sum(0)
    return torch.stack((merged, (m2 + counts * (mean - merged).square()).sum(0))), total


def add_up(sums: Tensor, group: Any) -> Tensor:
    """The sum over the processes."""
    total = sums.clone()
    dist.all_reduce(total, group=group)
    return total
