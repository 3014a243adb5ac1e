"""Measures one case: every implementation's results judged, then all of them timed interleaved.

A round times a burst of runs of each implementation; rounds follow each other until there are enough, each
beginning with another implementation.  So a change of clocks or heat falls on all, and the ratio of two
implementations can be taken round by round.  An implementation that fails costs its own row and nothing else.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from ..backend import backend
from .case import Case, Implementation, Outputs, Thunk
from .clock import Clock, CpuClock, CudaClock
from .environment import clocks
from .inputs import Rotation, rotation
from .match import Verdict
from .memory import peak_bytes
from .precision import float32_products
from .record import Row
from .roofline import Ceilings
from .statistics import median, quartiles, ratio


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    rounds: of each implementation, at least 6 for an interval; seconds: for one implementation's rounds
    together; most: runs in a burst; warm_up: seconds before the first round.
    """

    rounds: int = 12
    seconds: float = 0.3
    most: int = 40
    warm_up: float = 0.05


QUICK = Effort(rounds=6, seconds=0.12, most=10, warm_up=0.02)


@dataclass
class _Contender:
    """An implementation that runs: its calls, one for each input set, and its times."""

    implementation: Implementation
    calls: list[Thunk]
    clock: Clock
    verdict: Verdict | None = None
    peak: int | None = None
    burst: int = 1
    next: int = 0
    times: list[float] = field(default_factory=list)
    rounds: list[float] = field(default_factory=list)

    def turn(self, count: int) -> list[Thunk]:
        """The next `count` calls, over the sets in turn."""
        chosen = [self.calls[(self.next + i) % len(self.calls)] for i in range(count)]
        self.next = (self.next + count) % len(self.calls)
        return chosen


class Engine:
    """Measures cases on one device.

    Args:
        device: where the inputs are made.
        choice: the backend of this package's operators, as `rk.backend` takes it.
        ceilings: for floors; None: none are stated.
        cache: replaces the cases' own state of the cache where that is "cold".
    """

    def __init__(
        self,
        device: torch.device,
        choice: str,
        ceilings: Ceilings | None,
        effort: Effort,
        cache: str = "cold",
    ) -> None:
        self.device, self.choice, self.ceilings = device, choice, ceilings
        self.effort, self.cache = effort, cache

    def measure(self, case: Case) -> list[Row]:
        """One row an implementation, in the case's order."""
        with self._settings(case):
            state = self.cache if case.cache == "cold" else case.cache
            turns = rotation(case.make, state, self.device, idle=case.idle)
            contenders: dict[str, _Contender] = {}
            failures: dict[str, str] = {}
            results: dict[str, tuple[Implementation, Outputs]] = {}
            implementations = case.implementations()
            for implementation in implementations:
                if implementation.absent is None:
                    try:
                        contender, outputs = self._prepare(case, implementation, turns)
                        contenders[implementation.name] = contender
                        results[implementation.name] = (implementation, outputs)
                    except Exception as error:  # whatever a peer raises is its own row's reason
                        failures[implementation.name] = _first_line(error)
                        self._still_alive(error)
            if case.judge is not None and results:
                for name, verdict in case.judge(turns.sets[0], results).items():
                    contenders[name].verdict = verdict
            results.clear()
            failures |= self._time(contenders, turns)
            rates = clocks(self.device)
        rows = [
            self._row(case, i, contenders.get(i.name), failures.get(i.name), turns, rates)
            for i in implementations
        ]
        _compare(rows)
        return rows

    @contextmanager
    def _settings(self, case: Case) -> Iterator[None]:
        """What holds while a case runs: no gradients by default, the dtype's products, cuDNN's own search."""
        searched = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = True
        try:
            with torch.no_grad(), float32_products(tf32=case.dtype == "tf32"), backend(self.choice):
                yield
        finally:
            torch.backends.cudnn.benchmark = searched

    def _prepare(
        self, case: Case, implementation: Implementation, turns: Rotation
    ) -> tuple[_Contender, Outputs]:
        """Bind to every set, run the first once for its results, once for its memory."""
        assert implementation.bind is not None
        calls = [implementation.bind(inputs) for inputs in turns.sets]
        clock = implementation.clock or self._clock(case)
        finish = implementation.finish or tuple
        results = tuple(result.clone() for result in finish(calls[0]()))
        clock.synchronize()
        contender = _Contender(implementation, calls, clock)
        if implementation.memory:
            contender.peak = peak_bytes(calls[0], self.device)
        return contender, results

    def _clock(self, case: Case) -> Clock:
        return CudaClock(case.hidden) if self.device.type == "cuda" else CpuClock()

    def _time(self, contenders: dict[str, _Contender], turns: Rotation) -> dict[str, str]:
        """Fill in the times; what fails on the way is taken out, and its reason returned."""
        failures: dict[str, str] = {}

        def attempt(name: str, step: Callable[[_Contender, Rotation], None]) -> None:
            try:
                step(contenders[name], turns)
            except Exception as error:
                failures[name] = _first_line(error)
                del contenders[name]
                self._still_alive(error)

        for name in list(contenders):
            attempt(name, self._warm_up)
        for i in range(self.effort.rounds):
            names = list(contenders)
            for j in range(len(names)):
                attempt(names[(i + j) % len(names)], self._round)
        return failures

    def _round(self, contender: _Contender, turns: Rotation) -> None:
        times = contender.clock.burst(contender.turn(contender.burst), turns.flush)
        contender.times += times
        contender.rounds.append(median(times))

    def _warm_up(self, contender: _Contender, turns: Rotation) -> None:
        """Run for a while, and choose how many runs a burst takes from how long they were."""
        began = time.perf_counter()
        times: list[float] = []
        while len(times) < 2 or time.perf_counter() - began < self.effort.warm_up:
            times += contender.clock.burst(contender.turn(1), turns.flush)
        each = (time.perf_counter() - began) / len(times)  # with what happens between two runs
        wanted = self.effort.seconds / self.effort.rounds / each
        contender.burst = max(1, min(self.effort.most, math.ceil(wanted)))

    def _still_alive(self, error: Exception) -> None:
        """After some errors a GPU answers nothing any more: then no further time means anything."""
        if self.device.type == "cuda":
            try:
                torch.cuda.synchronize()
            except RuntimeError:
                raise RuntimeError(f"the GPU does not answer any more after: {_first_line(error)}") from error

    def _row(
        self,
        case: Case,
        implementation: Implementation,
        contender: _Contender | None,
        failure: str | None,
        turns: Rotation,
        rates: dict[str, Any],
    ) -> Row:
        row = Row(
            key=f"{case.key}/{implementation.name}",
            case=case.key,
            suite=case.suite,
            name=case.name,
            problem=case.problem,
            networks=case.networks,
            count=case.count,
            dtype=case.dtype,
            batch=case.batch,
            direction=case.direction,
            epilogue=case.epilogue,
            implementation=implementation.name,
            label=implementation.label,
            ours=implementation.ours,
            backend=self._backend() if implementation.ours else None,
            cache=turns.cache,
            sets=len(turns.sets),
            flush_bytes=turns.flush_bytes,
            flops=case.flops,
            bytes=case.bytes,
            match_note=case.match_note,
            clocks=rates,
        )
        if contender is None:
            row.status = "absent" if implementation.absent is not None else "failed"
            row.reason = implementation.absent or failure
            return row
        self._enter_times(row, case, contender)
        if contender.verdict is not None:
            verdict = contender.verdict
            row.error, row.share, row.match = verdict.error, verdict.share, verdict.match
            row.match_note = verdict.note
        row.peak_bytes = contender.peak
        return row

    def _enter_times(self, row: Row, case: Case, contender: _Contender) -> None:
        times = quartiles(contender.times)
        row.runs, row.rounds = len(contender.times), contender.rounds
        row.seconds, row.q1, row.q3, row.iqr = times.median, times.q1, times.q3, times.iqr
        row.min, row.max = times.min, times.max
        if case.flops:
            row.tflops = case.flops / times.median / 1e12
        if case.bytes:
            row.gbs = case.bytes / times.median / 1e9
        if self.ceilings is not None and (case.flops or case.bytes):
            parts = case.parts or ((case.flops, case.bytes),)
            row.floor, row.bound = self.ceilings.floor(parts, case.dtype)
            row.floor_share = row.floor / times.median
        if case.images:
            row.images_per_second = case.batch / times.median

    def _backend(self) -> str:
        """What "auto" means here."""
        if self.choice != "auto":
            return self.choice
        return "cuda" if self.device.type == "cuda" else "aten"


def _compare(rows: list[Row]) -> None:
    """Enter the ratios of every row of ours, and who the best peer is."""
    peers = [row for row in rows if not row.ours and row.status == "measured"]
    right = [row for row in peers if row.match is not False]
    best = min(right, key=lambda row: row.seconds or math.inf, default=None)
    for row in rows:
        if not row.ours or row.status != "measured":
            continue
        row.best_peer = None if best is None else best.implementation
        for peer in peers:
            found = ratio(peer.rounds, row.rounds, paired=True)
            row.ratios[peer.implementation] = {
                "ratio": found.ratio,
                "low": found.low,
                "high": found.high,
                "verdict": found.verdict,
            }


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
