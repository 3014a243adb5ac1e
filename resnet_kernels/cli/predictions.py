"""resnet-kernels bench predict | report: what needs no clock."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import terminal
from .bench import DIRECTORY, bench


@bench.command()
def predict(
    model: Annotated[str, typer.Option(help="One of the paper's networks.")] = "resnet50",
    batch: Annotated[int, typer.Option(help="Images.", min=1)] = 256,
    dtype: Annotated[str, typer.Option(help="bfloat16 or float16.")] = "bfloat16",
    capability: Annotated[
        int | None,
        typer.Option(help="80 or 90: choose as if every kernel for it were there. Default: those that are."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="The first five layers only.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of the tables.")] = DIRECTORY,
) -> None:
    """Predict every convolution: the counters of the simulator under a roofline, the cost model's choices.

    The choices are those for batches 1, 32, 256 and the one asked for. Nothing is measured.
    """
    from .. import simulator
    from ..errors import UserError
    from ..measure import predict_choices, predict_layers, predict_report
    from ..measure.problems import NETWORKS

    if model not in NETWORKS:
        raise UserError(f"--model: no {model!r}; choose among {', '.join(NETWORKS)}")
    if dtype not in predict_layers.DTYPES:
        raise UserError(f"--dtype must be one of {', '.join(predict_layers.DTYPES)}, got {dtype!r}")
    if not simulator.built(checked=True):
        raise UserError("the simulator's checked build is not there: `make build` makes it")
    if capability not in (None, 80, 90):
        raise UserError(f"--capability must be 80 or 90, got {capability}")
    console = terminal.console()
    most = 5 if quick else None
    with terminal.progress(console) as begin:
        bars = []

        def advance(name: str, layers: int) -> None:
            if not bars:
                bars.append(begin("counting, in the checked simulator", layers))
            bars[0](name)

        rows = predict_layers.layers(model, batch, dtype, most=most, advance=advance)
    batches = sorted({*predict_choices.BATCHES, batch})
    choices = predict_choices.choices(model, batches, dtype, capability, most)
    predict_report.show(rows, model, console)
    predict_choices.show(choices, model, console)
    written = predict_report.write(rows, model, output) + predict_choices.write(choices, model, output)
    for path in written:
        console.print(f"written: {path}", markup=False, soft_wrap=True)


@bench.command()
def report(
    records: Annotated[
        list[Path], typer.Argument(help="Records of one device, as in runs/bench/layers.json.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of the report.")] = DIRECTORY,
) -> None:
    """Draw the report of records that were measured before."""
    from ..errors import UserError
    from ..measure import record
    from ..measure import report as reports

    runs = [record.load(path) for path in records]
    if len({run.suite for run in runs}) < len(runs):
        raise UserError("two of the records are of the same suite: name one of each")
    if len({run.header["device"]["name"] for run in runs}) > 1:
        raise UserError("the records are of different devices: name those of one")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the directory {output}: {error.strerror or error}") from error
    console = terminal.console()
    reports.show(runs, console)
    for path in reports.write(runs, output):
        console.print(f"written: {path}", markup=False, soft_wrap=True)
