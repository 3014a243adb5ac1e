"""The processes of a run: one, or those that torchrun has started, and what they tell each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from resnet_kernels.errors import UserError


@dataclass(frozen=True)
class Ranks:
    """This process among `world`, the `local`-th of its machine, and the device it computes on."""

    rank: int
    world: int
    local: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and shows progress."""
        return self.rank == 0

    def summed(self, values: Tensor) -> Tensor:
        """The sum of `values` over all processes, on the CPU."""
        values = values.detach().to("cpu", copy=True)
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set in some process."""
        return flag if self.world == 1 else bool(self.summed(torch.tensor([int(flag)])).item())

    def gathered(self, value: Any) -> list[Any]:
        """Every process's `value`, in the first process; elsewhere nothing."""
        if self.world == 1:
            return [value]
        values = [None] * self.world if self.first else None
        dist.gather_object(value, values)
        return values or []

    def from_first(self, value: Any) -> Any:
        """The first process's `value`, in all."""
        if self.world == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def workers(self, wanted: int | None) -> int:
        """How many processes prepare images for this one: `wanted`, or beside a GPU its cores, at most 8.

        On a CPU none: the network needs the cores itself.
        """
        if wanted is not None:
            return wanted
        if self.device.type == "cpu":
            return 0
        beside = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(8, cores // beside)

    def wait(self) -> None:
        """Until every process has come here."""
        if self.world > 1:
            dist.barrier()

    def share_buffers(self, network: nn.Module) -> None:
        """Give every process the first one's running statistics."""
        if self.world > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, 0)


@contextmanager
def joined(device: str | None = None) -> Iterator[Ranks]:
    """The processes that torchrun started (it says so in the environment), or this one alone.

    If torch.distributed is initialised already, its processes are taken and left as they are.

    Args:
        device: "cpu" or "cuda"; None for a GPU if there is one.

    Raises:
        UserError: there is no such device here, or fewer GPUs than processes.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind not in ("cpu", "cuda"):
        raise UserError(f"--device {kind}: wanted cpu or cuda")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch finds no CUDA GPU here")
    local, world = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if kind == "cuda" and local >= torch.cuda.device_count():
        raise UserError(
            f"process {local} of this machine has no GPU of its own: start at most "
            f"{torch.cuda.device_count()} with torchrun --nproc-per-node"
        )
    here = torch.device("cuda", local) if kind == "cuda" else torch.device("cpu")
    if kind == "cuda":
        torch.cuda.set_device(here)
    if world == 1:
        yield Ranks(0, 1, 0, here)
        return
    begun = not dist.is_initialized()
    if begun:
        dist.init_process_group("cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), world, local, here)
    finally:
        if begun:
            dist.destroy_process_group()
