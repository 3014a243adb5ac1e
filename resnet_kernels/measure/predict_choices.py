"""Which configuration the cost model chooses for every convolution of a network, and what it makes of it.

The model is the one that dispatch chooses by (csrc/dispatch/cost_model.h), asked through `tuning`; every time
in here is predicted, not measured.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from .. import tuning
from ..errors import UserError
from ..page.terminal import table
from ..tuning import H200, Choice
from . import report_data as data
from .predict import LABEL
from .report_plots import pretty
from .tune import plan

BATCHES = (1, 32, 256)
HEADS = ("layer", "times", "configuration", "tiles", "waves", "efficiency", "µs", "bound")
NOTE = "max(memory, L2 feed, math / wave efficiency) + launches, from assumed rates of an H200"


@dataclass(frozen=True)
class Chosen:
    """One convolution at one batch, `times` in the network, and the configuration chosen for it."""

    layer: str
    times: int
    operation: str
    batch: int
    choice: Choice

    def cells(self) -> tuple[str, ...]:
        """As HEADS."""
        c = self.choice
        grid = str(c.tiles), f"{c.waves:.2f}", f"{c.efficiency:.2f}", f"{1e6 * c.seconds:.1f}"
        return self.layer, str(self.times), c.configuration, *grid, c.bound


def choices(
    network: str,
    batches: Sequence[int] = BATCHES,
    dtype: str = "bfloat16",
    capability: int | None = None,
    most: int | None = None,
) -> list[Chosen]:
    """By operation, batch and layer; the first `most` layers, or all.

    capability: of the GPU, 80 or 90, as if every kernel for it were there; None: with the kernels that are.
    Raises ValueError for an unknown network, UserError where nothing is compiled.
    """
    problems = plan([network], batches, [dtype], most=most)
    problems.sort(key=lambda problem: tuning.OPERATIONS.index(problem.operation))
    found = []
    for problem in problems:
        (choice,) = (c for c in tuning.choices(problem.task(H200), capability) if c.chosen)
        name = problem.conv.name.removeprefix("conv ")
        found.append(Chosen(name, problem.conv.count[network], problem.operation, problem.batch, choice))
    return found


def groups(rows: Sequence[Chosen]) -> dict[tuple[str, int], list[Chosen]]:
    """(operation, batch) -> its rows."""
    found: dict[tuple[str, int], list[Chosen]] = {}
    for row in rows:
        found.setdefault((row.operation, row.batch), []).append(row)
    return found


def total(rows: Sequence[Chosen]) -> float:
    """Seconds of all convolutions, each as often as it occurs."""
    return sum(row.times * row.choice.seconds for row in rows)


def _title(operation: str, batch: int, rows: Sequence[Chosen]) -> str:
    return f"{operation}, batch {batch}: {data.seconds(total(rows))} together, {LABEL}"


def show(rows: Sequence[Chosen], network: str, console: Console) -> None:
    """Print a table for each operation and batch."""
    for (operation, batch), chosen in groups(rows).items():
        heads = [head if head in ("layer", "configuration", "bound") else f"#{head}" for head in HEADS]
        caption = f"{pretty(network)} on {H200} multiprocessors: {NOTE}"
        shown = table(_title(operation, batch, chosen), *heads, caption=caption)
        for row in chosen:
            shown.add_row(*row.cells())
        console.print(shown)


def write(rows: Sequence[Chosen], network: str, directory: Path) -> list[Path]:
    """Write choices.md and choices.csv; UserError if that cannot be."""
    page, sheet = directory / "choices.md", directory / "choices.csv"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        page.write_text(markdown(rows, network))
        with sheet.open("w", newline="") as file:
            file.write(f"# {LABEL}: {NOTE}\n")
            writer = csv.writer(file)
            terms = ("memory_seconds", "feed_seconds", "math_seconds", "launch_seconds", "predicted_seconds")
            writer.writerow(["operation", "batch", *HEADS[:6], *terms, "bound"])
            for row in rows:
                c = row.choice
                what = [row.operation, row.batch, row.layer, row.times, c.configuration, c.tiles, c.waves]
                times = [c.memory, c.feed, c.math, c.launches, c.seconds]
                writer.writerow([*what, c.efficiency, *times, c.bound])
    except OSError as error:
        raise UserError(f"cannot write to {directory}: {error.strerror or error}") from error
    return [page, sheet]


def markdown(rows: Sequence[Chosen], network: str) -> str:
    """The tables as text."""
    lines = [f"# {pretty(network)}'s configurations: {LABEL}", "", f"{NOTE}."]
    for (operation, batch), chosen in groups(rows).items():
        lines += ["", f"## {_title(operation, batch, chosen)}", ""]
        lines += ["| " + " | ".join(HEADS) + " |", "|" + "---|" * len(HEADS)]
        lines += ["| " + " | ".join(row.cells()) + " |" for row in chosen]
    return "\n".join(lines) + "\n"
