"""A tuned table for people: where the measured choice is not the cost model's, and what that is worth."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from .. import tuning
from ..page.terminal import table
from ..tuning import Entry, Task
from . import report_data as data


def name(task: Task) -> str:
    """ "fprop 3x3/2 64>128 56x56, bfloat16, batch 32"."""
    n, c, h, w = task.x
    k, _, r, s = task.weight
    stride = f"/{task.stride[0]}" if task.stride != (1, 1) else ""
    return f"{task.operation} {r}x{s}{stride} {c}>{k} {h}x{w}, {task.dtype}, batch {n}"


def show(entries: Sequence[Entry], device: str, console: Console) -> None:
    """Print the entries that overrule the model, and how many do not."""
    overruled = []
    for entry in entries:
        (model,) = (c.configuration for c in tuning.choices(entry.task) if c.chosen)
        if model != entry.configuration and model in entry.seconds:
            overruled.append((entry, model))
    shown = table(
        f"Where {device} does not agree with the cost model",
        *("convolution", "model", "#measured", "fastest", "#measured", "#gain"),
        caption=f"{len(entries) - len(overruled)} of {len(entries)} are as the model has them",
    )
    for entry, model in overruled:
        before, now = entry.seconds[model], entry.seconds[entry.configuration]
        times = data.seconds(before), data.seconds(now)
        shown.add_row(
            name(entry.task), model, times[0], entry.configuration, times[1], f"{before / now:.2f}x"
        )
    console.print(shown)
