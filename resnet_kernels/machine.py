"""Which machine runs our kernels here: a GPU, or the simulator on this CPU, or none of the two."""

from __future__ import annotations

import contextlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import torch

from . import _native
from .backend import MIN_CAPABILITY
from .errors import UserError

CHOICES = ("auto", "simulator", "aten", "cuda")


@dataclass(frozen=True)
class Machine:
    """`backend` is what `rk.backend` takes; `ours` says whether this package's kernels run on it."""

    backend: str
    device: torch.device
    name: str
    ours: bool

    def synchronize(self) -> None:
        """Wait for the device, so that a clock read next means something."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def choose(backend: str = "auto") -> Machine:
    """The machine for `backend`; "auto": a GPU with our kernels, else the simulator, else PyTorch's
    composition.

    Raises:
        UserError: no such backend, or not one that this computer can run.
    """
    if backend not in CHOICES:
        raise UserError(f"no backend {backend!r}: choose one of {', '.join(CHOICES)}")
    gpu = why_no_gpu()
    if backend == "cuda" or (backend == "auto" and gpu is None):
        if gpu is not None:
            raise UserError(f"the backend 'cuda' cannot run here: {gpu}")
        index = torch.cuda.current_device()
        return Machine("cuda", torch.device("cuda", index), torch.cuda.get_device_name(index), ours=True)
    if backend == "simulator" or (backend == "auto" and _native.simulator_built()):
        try:
            _native.simulator()
        except ImportError as error:
            raise UserError(str(error)) from error
        return Machine("simulator", torch.device("cpu"), f"simulator on {processor()}", ours=True)
    return Machine("aten", torch.device("cpu"), f"PyTorch's own operators on {processor()}", ours=False)


def why_no_gpu() -> str | None:
    """Why the CUDA kernels cannot run here, or None if they can."""
    if not torch.cuda.is_available():
        return "PyTorch finds no CUDA GPU"
    capability = torch.cuda.get_device_capability()
    if capability < MIN_CAPABILITY:
        wanted = ".".join(map(str, MIN_CAPABILITY))
        return f"the GPU has compute capability {capability[0]}.{capability[1]}, the kernels need {wanted}"
    try:
        _native.require_cuda()
    except ImportError as error:
        return str(error)
    return None


def processor() -> str:
    """The CPU's name and how many of its cores this process may use."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{name}, {cores} core{'s' * (cores != 1)}"
