"""How one run is timed: CUDA events on a GPU, time.perf_counter on a CPU, and each says which.

A burst is some runs one after the other; between two of them a write over a buffer of several caches' size
may evict what the last one left.  Work of a GPU is queued: a burst of layers starts behind a kernel that
only waits, long enough for the host to queue the whole burst, so that the events see the GPU's time alone,
whatever Python costs.  Where that cost is part of the question (whole networks), the wait is left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

Run = Callable[[], Any]
QUEUE = (
    512  # kernels that may wait in a stream before a launch blocks the host; about half of what CUDA allows
)


class Clock(Protocol):
    """Times bursts of runs on one device."""

    name: str

    def burst(self, runs: Sequence[Run], between: Run | None) -> list[float]:
        """Seconds of each run; `between` is called before each of them, untimed."""

    def synchronize(self) -> None:
        """Wait until everything that was started is done."""


class CpuClock:
    """time.perf_counter around each run."""

    name = "time.perf_counter (CPU)"

    def burst(self, runs: Sequence[Run], between: Run | None) -> list[float]:
        times = []
        for run in runs:
            if between is not None:
                between()
            began = time.perf_counter()
            result = run()
            times.append(time.perf_counter() - began)
            del result  # outside of the time: so it is on a GPU
        return times

    def synchronize(self) -> None:
        pass


class CudaClock:
    """A pair of CUDA events around each run, on the current stream."""

    name = "CUDA events"

    def __init__(self, hide_launches: bool) -> None:
        self.hide_launches = hide_launches
        self._cycles_per_second: float | None = None

    def burst(self, runs: Sequence[Run], between: Run | None) -> list[float]:
        events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in runs]
        if self.hide_launches:
            self._wait(2 * self._host_seconds(runs[0], between) * len(runs))
        for (begin, end), run in zip(events, runs, strict=True):
            if between is not None:
                between()
            begin.record()
            run()
            end.record()
        torch.cuda.synchronize()
        return [begin.elapsed_time(end) / 1e3 for begin, end in events]

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def _host_seconds(self, run: Run, between: Run | None) -> float:
        """How long the host takes to queue one run."""
        torch.cuda.synchronize()
        began = time.perf_counter()
        if between is not None:
            between()
        run()
        seconds = time.perf_counter() - began
        torch.cuda.synchronize()
        return seconds

    def _wait(self, seconds: float) -> None:
        """Queue a kernel that takes `seconds` and touches nothing."""
        if self._cycles_per_second is None:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda._sleep(1_000_000)
            begin.record()
            torch.cuda._sleep(10_000_000)
            end.record()
            torch.cuda.synchronize()
            self._cycles_per_second = 10_000_000 / (begin.elapsed_time(end) / 1e3)
        torch.cuda._sleep(int(seconds * self._cycles_per_second))


class WallClock:
    """The host's clock around a whole burst and its end, the same for each run: for peers with streams of
    their own, which CUDA events on PyTorch's stream do not see.  Nothing can be done between two runs.
    """

    name = "time.perf_counter around a burst"

    def __init__(self, wait_for: Callable[[Any], Any]) -> None:
        self._wait_for = wait_for

    def burst(self, runs: Sequence[Run], between: Run | None) -> list[float]:
        began = time.perf_counter()
        results = [run() for run in runs]
        self._wait_for(results)
        return [(time.perf_counter() - began) / len(runs)] * len(runs)

    def synchronize(self) -> None:
        pass


class Flusher:
    """Evicts the cache: writes a buffer several times its size, another value each time.

    `count` says how often: the tests hold the engine to once before every cold run.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self.buffer = torch.empty(max(1, size // 4), dtype=torch.int32, device=device)
        self.count = 0

    def __call__(self) -> None:
        self.count += 1
        self.buffer.fill_(self.count)
