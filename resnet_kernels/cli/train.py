"""resnet-kernels train."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import terminal
from .application import PROGRAM, app

if TYPE_CHECKING:
    from rich.console import Console

    from ..train import Recipe, Row

SIGNALLED = 128  # a shell's exit code of a process that a signal stopped is that of the signal and this
RUNS = Path("runs")


@app.command()
def train(
    recipe: Annotated[
        str, typer.Option(help="digits, cifar10, cifar10-resnet110, imagenet, or a TOML file.")
    ] = "digits",
    data: Annotated[Path | None, typer.Option(help="Where the images lie; digits need none.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch CIFAR-10 into --data.")] = False,
    output: Annotated[
        Path | None, typer.Option(help="The run's directory.", show_default="runs/RECIPE-MODEL")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the run in this directory, by the recipe it began with.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The network (`resnet-kernels models`).")] = None,
    iterations: Annotated[int | None, typer.Option(help="Batches in all.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images an iteration, over all processes.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", "--lr")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, or mixed precision in bfloat16 or float16.")
    ] = None,
    backend: Annotated[str | None, typer.Option(help="auto, cuda, simulator or aten.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and augmentation.")] = None,
    synchronised_batchnorm: Annotated[
        bool | None, typer.Option("--sync-bn/--no-sync-bn", help="One BatchNorm over all processes.")
    ] = None,
    compile: Annotated[bool | None, typer.Option(help="torch.compile the network.")] = None,
    cuda_graph: Annotated[
        bool | None, typer.Option(help="Replay forward and backward as a CUDA graph.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that prepare images; 0: this one.",
            min=0,
            show_default="up to 8 beside a GPU, 0 on a CPU",
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda.", show_default="a GPU if any")] = None,
    tensorboard: Annotated[bool, typer.Option(help="Write TensorBoard's log beside log.csv.")] = True,
) -> None:
    """Train a network by a recipe: the paper's for ImageNet and CIFAR-10, or a quick one on digits.

    Ctrl-C stops after the iteration in progress and saves; --resume DIR goes on, bit for bit.

    On several GPUs: torchrun --nproc-per-node 8 -m resnet_kernels.cli train --recipe imagenet --data DIR
    """
    from .. import train as training
    from ..errors import UserError

    changes = {
        "model": model,
        "batch": batch,
        "learning_rate": learning_rate,
        "dtype": dtype,
        "backend": backend,
        "seed": seed,
        "synchronised_batchnorm": synchronised_batchnorm,
        "compile": compile,
        "cuda_graph": cuda_graph,
    }
    changes = {key: value for key, value in changes.items() if value is not None}
    console = terminal.console()
    machine: dict[str, Any] = {"workers": workers, "device": device, "tensorboard": tensorboard}
    if resume is not None:
        given = [f"--{key.replace('_', '-')}" for key in changes] + ["--output"] * (output is not None)
        given += ["--download"] * download
        if given:
            raise UserError(
                f"--resume goes on with the recipe that {resume} began with: leave out {', '.join(given)} "
                "(--iterations, --data, --workers and --device may change)"
            )
        with _Shown(console) as shown:
            result = training.resume(resume, iterations=iterations, directory=data, watcher=shown, **machine)
    else:
        if iterations is not None:
            changes["iterations"] = iterations
        chosen = training.Recipe.load(recipe).replaced(**changes)
        output = output or RUNS / f"{Path(recipe).stem}-{chosen.model}"
        with _Shown(console) as shown:
            result = training.run(chosen, output, data, download=download, watcher=shown, **machine)
    if not shown.first:
        raise typer.Exit(SIGNALLED + result.signal if result.signal else 0)
    _finish(console, result)


class _Shown:
    """Shows a run: a bar in a terminal, elsewhere a line for each row of the log."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.first = False  # whether this is the process that shows the run
        self._tested = ""  # the last test error
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[row]}"),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> _Shown:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def began(self, recipe: Recipe, iteration: int) -> None:
        self.first = True
        self._console.print(
            f"{recipe.model} on {recipe.data}: iterations {iteration} to {recipe.iterations} of "
            f"{recipe.batch} images, {recipe.dtype}"
        )
        self._task = self._bars.add_task(recipe.model, total=recipe.iterations, completed=iteration, row="")
        self._bars.start()

    def noted(self, text: str) -> None:
        self._console.print(f"note: {text}", markup=False)

    def iterated(self, iteration: int) -> None:
        self._bars.update(self._task, completed=iteration)

    def logged(self, row: Row) -> None:
        text = f"loss {row.train_loss:.3f}, error {row.train_error:.2%}"
        tested = "" if row.test_error is None else f", test {row.test_error:.2%}"
        speed = f", {row.images_per_second:,.0f} img/s"
        if self._console.is_terminal:
            self._tested = tested or self._tested
            self._bars.update(self._task, row=text + self._tested + speed)
        else:
            self._console.print(f"{row.iteration:>8}  lr {row.learning_rate:g}, {text}{speed}{tested}")


def _finish(console: Console, result: Any) -> None:
    """Draw the curves, and say what there is and how to go on."""
    from ..analysis import curves
    from ..errors import UserError
    from ..train import checkpoint

    directory = result.directory
    if result.signal:
        again = shlex.join([PROGRAM, "train", "--resume", str(directory)])
        console.print(
            f"stopped after iteration {result.iteration}; everything is in {directory / checkpoint.FILE}. "
            f"Go on with: {again}",
            markup=False,
            soft_wrap=True,
        )
        raise typer.Exit(SIGNALLED + result.signal)
    picture = directory / "curves.png"
    try:
        curves.write([directory], picture)
    except UserError as error:
        console.print(f"note: no curves: {error}", markup=False)
    if result.tested is not None:
        console.print(
            f"test error {result.tested.test_error:.2%} after {result.iteration} iterations "
            f"and {result.tested.seconds:.0f} s"
        )
    console.print(f"{directory}: {checkpoint.FILE}, log.csv, {picture.name}", markup=False, soft_wrap=True)
