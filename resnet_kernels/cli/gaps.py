"""resnet-kernels bench gaps: where the most time is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import terminal
from .bench import bench


@bench.command()
def gaps(
    records: Annotated[list[Path], typer.Argument(help="Records of layers, as in runs/bench/layers.json.")],
    most: Annotated[int, typer.Option("--most", "-n", help="Rows in a table.", min=1)] = 10,
    dtype: Annotated[str | None, typer.Option(help="Default: the record's first 16-bit type.")] = None,
    batch: Annotated[int | None, typer.Option(help="Default: the record's largest.")] = None,
    model: Annotated[str | None, typer.Option(help="Whose layers to count. Default: the first.")] = None,
) -> None:
    """List the layers that lose most to cuDNN's best route, and to the roofline's floor."""
    from ..measure import gaps as found
    from ..measure import record

    console = terminal.console()
    for chosen in [found.choose(record.load(path), dtype, batch, model) for path in records]:
        found.show(chosen, console, most)
