"""What commands print to: one console, and one kind of progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def console() -> Console:
    """stdout; 120 columns where it is no terminal, so that a table in a log is whole."""
    from rich.console import Console

    shown = Console(highlight=False)
    return shown if shown.is_terminal else Console(highlight=False, width=120)


@contextmanager
def progress(console: Console) -> Iterator[Callable[[str, int], Callable[[str], None]]]:
    """Yields begin(title, steps) -> step(name): one bar a phase, the step in progress beside it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[step]}"),
    )
    with Progress(*columns, console=console) as bars:
        tasks: list[Any] = []

        def finish() -> None:
            if tasks:
                bars.update(tasks[-1], completed=bars.tasks[-1].total, step="")

        def begin(title: str, steps: int) -> Callable[[str], None]:
            finish()
            task = bars.add_task(title, total=steps, step="")
            tasks.append(task)
            begun: list[str] = []

            def step(name: str) -> None:
                bars.update(task, completed=len(begun), step=name)
                begun.append(name)

            return step

        yield begin
        finish()
