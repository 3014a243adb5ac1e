"""resnet-kernels analyze responses | curves | degradation."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated, Any

import typer

from . import terminal
from .application import app

analyze = typer.Typer(
    help="Analyses of the paper, each drawn as PNG and written as CSV.", no_args_is_help=True
)
app.add_typer(analyze, name="analyze")


@analyze.command()
def responses(
    checkpoints: Annotated[
        list[Path], typer.Argument(help="Run directories or checkpoints of `train`; one line each.")
    ],
    data: Annotated[
        Path | None, typer.Option(help="Where the images lie. Default: where they lay in the training.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="imagenet, cifar10, digits or synthetic. Default: the training's.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The files hold weights alone (torchvision's), of this network.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Test images, evenly spaced over all.")] = 1000,
    batch: Annotated[int, typer.Option(help="Images at once.")] = 100,
    output: Annotated[Path, typer.Option(help="The picture; the CSV file lies beside it.")] = Path(
        "responses.png"
    ),
) -> None:
    """Standard deviation of every 3x3 layer's response, in order and ranked (figure 7)."""
    from ..analysis import plots
    from ..analysis import responses as analysis
    from .trained import Loader

    plots.writable(output)
    loader = Loader(model, dataset, data)
    members = [loader.load(path) for path in checkpoints]
    console = terminal.console()
    with terminal.progress(console) as begin:
        found = [_responses(member, limit, batch, begin) for member in members]
    names = plots.distinct(member.name for member in members)
    series = dict(zip(names, found, strict=True))
    images = f"{min(limit, len(members[0].dataset.test)):,} test images of {members[0].dataset.name}"
    analysis.draw(series, output, images)
    console.print(_strengths(series))
    _write(output, analysis.table(series), console)


@analyze.command()
def curves(
    runs: Annotated[list[Path], typer.Argument(help="Run directories of `train`, or their log.csv.")],
    name: Annotated[
        list[str] | None, typer.Option(help="A curve's name, once for each run. Default: its network.")
    ] = None,
    title: Annotated[str, typer.Option(help="Of the picture.")] = "",
    output: Annotated[Path, typer.Option(help="The picture; the CSV file lies beside it.")] = Path(
        "curves.png"
    ),
) -> None:
    """Training and test error over iterations, from the logs of runs (figures 1, 4 and 6)."""
    from ..analysis import curves as analysis

    drawn = analysis.write(runs, output, title, name or ())
    _write(output, analysis.table(drawn), terminal.console())


@analyze.command()
def degradation(
    output: Annotated[
        Path, typer.Option(help="Directory of the runs and the results; the same again goes on.")
    ] = Path("degradation"),
    dataset: Annotated[str, typer.Option(help="digits, offline, or cifar10.")] = "digits",
    data: Annotated[Path | None, typer.Option(help="Where cifar10 lies.")] = None,
    depths: Annotated[str, typer.Option(help="Layers of the networks, 6n+2.")] = "20,32,44,56",
    seeds: Annotated[str, typer.Option(help="One run of each network for each.")] = "0",
    iterations: Annotated[
        int | None, typer.Option(help="Of each run, its schedule in proportion. Default: the recipe's.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that prepare images; 0: this one.")] = 0,
) -> None:
    """Train plain and residual networks of growing depth alike, and compare their errors (figure 6)."""
    from ..analysis import curves as logs
    from ..analysis import degradation as analysis

    console = terminal.console()
    options: dict[str, Any] = {"depths": _integers("--depths", depths), "seeds": _integers("--seeds", seeds)}
    options |= {"dataset": dataset, "directory": data, "iterations": iterations, "workers": workers}
    try:
        with terminal.progress(console) as begin:
            outcomes = analysis.experiment(output, begin=begin, **options)
    except KeyboardInterrupt:
        console.print("stopped and saved: the same command goes on from here")
        raise
    analysis.draw(outcomes, output / "degradation.png", dataset)
    console.print(_degradation(outcomes, dataset))
    _write(output / "degradation.png", analysis.table(outcomes), console)
    first = [output / f"{outcome.model}-seed{outcome.seed}" for outcome in outcomes]
    first = first[: len(outcomes) // len({outcome.seed for outcome in outcomes})]
    drawn = logs.write(first, output / "curves.png", f"Training and test error on {dataset}")
    _write(output / "curves.png", logs.table(drawn), console)


def _integers(option: str, text: str) -> list[int]:
    """Distinct integers from "20,32,44"; UserError names the option."""
    from ..errors import UserError

    try:
        values = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"{option} {text}: wanted integers as in 0,1,2") from error
    if min(values) < 0 or len(set(values)) < len(values):
        raise UserError(f"{option} {text}: wanted integers that are not negative, each once")
    return values


def _responses(member: Any, limit: int, batch: int, begin: Any) -> Any:
    """The layer responses of one network to test images, with a bar."""
    import torch

    from .. import data
    from ..analysis import responses as analysis
    from ..errors import UserError
    from .trained import some

    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = some(member.dataset.test, limit)
    batches = data.batches(images, data.test_view(member.dataset, member.normalisation), batch=batch)
    step = begin(member.name, len(batches))

    def counted() -> Any:
        for i, (inputs, _) in enumerate(batches):
            step(f"{i * batch} of {len(images)} images")
            yield inputs.to(device)

    try:
        return analysis.responses(member.model.to(device), counted())
    except ValueError as error:
        raise UserError(f"{member.path}: {error}") from error


def _write(picture: Path, table: tuple[list[str], list[list[Any]]], console: Any) -> None:
    """Write `table` as CSV beside `picture`, and say where both are."""
    from ..analysis import plots

    file = picture.with_suffix(".csv")
    plots.writable(file)
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerows([table[0], *table[1]])
    console.print(f"picture: {picture}\ntable: {file}", markup=False, soft_wrap=True)


def _strengths(series: Any) -> Any:
    """One row a network: how strong its layers respond."""
    import numpy as np

    from ..demo.show import table

    shown = table(
        "Standard deviation of layer responses",
        *("network", "#3x3 layers", "#mean", "#median", "#least", "#most", "strongest layer"),
    )
    for name, found in series.items():
        stds = [response.std for response in found]
        shown.add_row(
            name,
            str(len(stds)),
            *(f"{of(stds):.3f}" for of in (np.mean, np.median, np.min, np.max)),
            max(found, key=lambda response: response.std).layer,
        )
    return shown


def _degradation(outcomes: Any, dataset: str) -> Any:
    """One row a depth: the mean errors of both kinds, and how many more the plain one makes."""
    from statistics import mean

    from ..demo.show import table

    shown = table(
        f"Final error on {dataset}, {outcomes[0].iterations:,} iterations, mean over seeds",
        "#depth",
        *("#plain: training %", "#test %", "#residual: training %", "#test %", "#plain - residual, test"),
        caption="training: all training images, not augmented.",
    )
    for depth in sorted({outcome.depth for outcome in outcomes}):
        errors = {
            (family, part): mean(
                100 * getattr(o, part).top1 for o in outcomes if (o.depth, o.family) == (depth, family)
            )
            for family in ("plain", "residual")
            for part in ("train", "test")
        }
        difference = errors["plain", "test"] - errors["residual", "test"]
        shown.add_row(str(depth), *(f"{error:.2f}" for error in errors.values()), f"{difference:+.2f}")
    return shown
