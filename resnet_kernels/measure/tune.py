"""Measures every configuration that can compute a convolution and keeps the fastest: a table for `tuning`.

Rounds go over the configurations in turn, each beginning with another one, so that a change of clocks falls
on all; operands come from memory.  The least median of the rounds' medians wins.  One epilogue stands for all
of an operation, because a table's key has none: forward with BatchNorm's statistics, the gradient of the
input with mask and sums, that of the weight as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from .. import tuning
from ..backend import backend
from ..tuning import Entry, Task
from . import convolutions, problems
from .case import Case, Ours
from .clock import Clock
from .inputs import rotation
from .peers import Choice
from .precision import float32_products
from .problems import Conv
from .statistics import median

EPILOGUES = {"fprop": "stats", "dgrad": "mask_sums", "wgrad": "none"}
ROUNDS, RUNS = 7, 10  # of each configuration, and in a round


@dataclass(frozen=True)
class Problem:
    """One convolution at one batch, and which of its three products."""

    conv: Conv
    batch: int
    dtype: str
    operation: str

    def task(self, multiprocessors: int) -> Task:
        conv = self.conv
        x, weight = (self.batch, conv.c, conv.h, conv.w), (conv.k, conv.c, conv.kernel, conv.kernel)
        return Task.of(
            self.operation, self.dtype, x, weight, conv.stride, conv.padding, multiprocessors=multiprocessors
        )

    def case(self, device: torch.device, machine: str) -> Case:
        choice, ours = Choice(device), Ours(machine, "resnet_kernels")
        epilogue = EPILOGUES[self.operation]
        return convolutions.case(self.conv, self.batch, self.dtype, self.operation, epilogue, choice, ours)


def plan(
    networks: Sequence[str],
    batches: Sequence[int],
    dtypes: Sequence[str],
    operations: Sequence[str] = tuning.OPERATIONS,
    most: int | None = None,
) -> list[Problem]:
    """Every distinct convolution of the networks, the first `most` or all; images need no gradient.

    Raises ValueError for an unknown network.
    """
    convs = problems.convolutions(networks)[:most]
    return [
        Problem(conv, batch, dtype, operation)
        for dtype in dtypes
        for batch in batches
        for conv in convs
        for operation in operations
        if operation != "dgrad" or conv.c > 3
    ]


def tune(
    wanted: Sequence[Problem],
    device: torch.device,
    machine: str,
    multiprocessors: int,
    clock: Clock,
    *,
    cache: str = "cold",
    rounds: int = ROUNDS,
    runs: int = RUNS,
    advance: Callable[[str], None] = lambda name: None,
) -> Iterator[Entry]:
    """An entry for each problem, as soon as it is measured.

    machine: "cuda" or "simulator", with so many multiprocessors; cache: see `inputs`.
    """
    for problem in wanted:
        advance(f"{problem.conv.name} {problem.operation}, {problem.dtype}, batch {problem.batch}")
        task = problem.task(multiprocessors)
        names = [c.configuration for c in tuning.choices(task, machine=machine) if not c.refused]
        tf32 = problem.dtype == "tf32"
        with torch.no_grad(), backend(machine), float32_products(tf32=tf32):
            seconds = _measure(problem.case(device, machine), names, device, clock, cache, rounds, runs)
        yield Entry(task, min(seconds, key=lambda name: seconds[name]), seconds)


def _measure(
    case: Case, names: Sequence[str], device: torch.device, clock: Clock, cache: str, rounds: int, runs: int
) -> dict[str, float]:
    """Configuration -> seconds of one run."""
    (ours,) = (way for way in case.implementations() if way.ours)
    assert ours.bind is not None
    turns = rotation(case.make, cache, device, idle=case.idle)
    calls = [ours.bind(inputs) for inputs in turns.sets]
    at = 0
    times: dict[str, list[float]] = {name: [] for name in names}
    for i in range(-1, rounds):  # the first warms up
        for j in range(len(names)):
            name = names[(i + j) % len(names)]
            burst = [calls[(at + run) % len(calls)] for run in range(runs)]
            at = (at + runs) % len(calls)
            with tuning.forced(name):
                found = median(clock.burst(burst, turns.flush))
            if i >= 0:
                times[name].append(found)
    return {name: median(each) for name, each in times.items()}
