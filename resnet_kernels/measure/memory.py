"""How much memory tensors need at most during a call, beyond what was in use before it.

On a GPU PyTorch's allocator knows.  On a CPU its profiler lists every allocation and release in order, and
the peak is that of their running sum.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


def peak_bytes(call: Callable[[], Any], device: torch.device) -> int:
    """Run `call` once; the peak in bytes, its results included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        result = call()
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device) - before
        del result
        return peak
    activities = [torch.profiler.ProfilerActivity.CPU]
    options: dict[str, Any] = {"activities": activities, "profile_memory": True, "acc_events": True}
    with _without_stderr(), torch.profiler.profile(**options) as profile:
        result = call()
    events: Any = profile.profiler.kineto_results.events()
    del result
    in_use = peak = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        in_use += event.nbytes()
        peak = max(peak, in_use)
    return peak


@contextmanager
def _without_stderr() -> Iterator[None]:
    """The profiler's C++ complains of a GPU that is not there, and of memory that was there before it."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
