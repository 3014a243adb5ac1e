"""resnet-kernels bench layers | networks | training | primitives | all | compare."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from . import terminal
from .application import FAILED, app

bench = typer.Typer(
    help="Measure operators and networks against PyTorch, cuDNN and the device's own ceilings.",
    no_args_is_help=True,
)
app.add_typer(bench, name="bench")

Output = Annotated[Path, typer.Option("--output", "-o", help="Directory of the records and the report.")]
Quick = Annotated[
    bool, typer.Option("--quick", help="A few minutes: some cases, fewer runs, nothing compiled.")
]
Batch = Annotated[str, typer.Option(help="Batch sizes, as in 1,8,256. Default: the suite's.")]
Dtype = Annotated[str, typer.Option(help="bfloat16, float16, tf32, float32; several with commas.")]
Model = Annotated[str, typer.Option(help="Networks, as in resnet50,cifar_resnet20. Default: all.")]
Peers = Annotated[str, typer.Option(help="Peers, as in eager_nhwc,jax. Default: the suite's.")]
Cache = Annotated[str, typer.Option(help="Layers: cold (operands come from memory) or warm.")]
Backend = Annotated[str, typer.Option(help="Of our operators: auto, cuda, aten or simulator.")]
Limit = Annotated[float | None, typer.Option(help="Seconds after which no case begins; run again to go on.")]
DIRECTORY = Path("runs/bench")


@bench.command()
def layers(
    quick: Quick = False,
    output: Output = DIRECTORY,
    batch: Batch = "",
    dtype: Dtype = "",
    model: Model = "",
    peers: Peers = "",
    cache: Cache = "cold",
    backend: Backend = "auto",
    time_limit: Limit = None,
) -> None:
    """Every distinct convolution, forward and backward, with every epilogue; and what runs between them."""
    _run(("layers",), quick, output, batch, dtype, model, peers, cache, backend, time_limit)


@bench.command()
def networks(
    quick: Quick = False,
    output: Output = DIRECTORY,
    batch: Batch = "",
    dtype: Dtype = "",
    model: Model = "",
    peers: Peers = "",
    backend: Backend = "auto",
    time_limit: Limit = None,
) -> None:
    """Inference with whole networks: images a second and latency, by batch."""
    _run(("networks",), quick, output, batch, dtype, model, peers, "cold", backend, time_limit)


@bench.command()
def training(
    quick: Quick = False,
    output: Output = DIRECTORY,
    batch: Batch = "",
    dtype: Dtype = "",
    model: Model = "",
    peers: Peers = "",
    backend: Backend = "auto",
    time_limit: Limit = None,
) -> None:
    """The whole training step: images a second and memory; from 20 to 1202 layers."""
    _run(("training",), quick, output, batch, dtype, model, peers, "cold", backend, time_limit)


@bench.command()
def primitives(
    quick: Quick = False, output: Output = DIRECTORY, dtype: Dtype = "", time_limit: Limit = None
) -> None:
    """What the device can do: memory bandwidth, L2 to shared memory, matrix products, launches."""
    _run(("primitives",), quick, output, "", dtype, "", "", "cold", "auto", time_limit)


@bench.command(name="all")
def every(
    quick: Quick = False,
    output: Output = DIRECTORY,
    batch: Batch = "",
    dtype: Dtype = "",
    model: Model = "",
    peers: Peers = "",
    cache: Cache = "cold",
    backend: Backend = "auto",
    time_limit: Limit = None,
) -> None:
    """All four suites, the ceilings first."""
    suites = ("primitives", "layers", "networks", "training")
    _run(suites, quick, output, batch, dtype, model, peers, cache, backend, time_limit)


@bench.command()
def compare(
    old: Annotated[Path, typer.Argument(help="A record of `bench`, as in before/layers.json.")],
    new: Annotated[Path, typer.Argument(help="A later one of the same suite.")],
    tolerance: Annotated[float, typer.Option(help="Differences up to this share are no difference.")] = 0.03,
) -> None:
    """Say of every row: faster, slower, the same or unclear; exit 1 if one is slower."""
    from ..errors import UserError
    from ..measure import compare as comparison
    from ..measure import record, report

    if not 0 <= tolerance < 1:
        raise UserError(f"--tolerance must be at least 0 and below 1, got {tolerance:g}")
    before, now = record.load(old), record.load(new)
    changes = comparison.compare(before, now, tolerance)
    console = terminal.console()
    for difference in comparison.differences(before, now):
        console.print(f"[yellow]not the same {difference}[/]")
    report.show_changes(changes, console)
    if any(change.verdict == "slower" for change in changes):
        raise typer.Exit(FAILED)


def _run(
    suites: tuple[str, ...],
    quick: bool,
    output: Path,
    batch: str,
    dtype: str,
    model: str,
    peers: str,
    cache: str,
    backend: str,
    time_limit: float | None,
) -> None:
    """Measure, show, write; exit 1 if something of ours failed or computed something else."""
    from ..errors import UserError
    from ..measure import report, runner
    from ..measure.suites import Options

    try:
        batches = tuple(int(size) for size in _list(batch))
    except ValueError as error:
        raise UserError(f"--batch must be integers as in 1,8,256, got {batch!r}") from error
    options = Options(quick, _list(dtype), batches, _list(model), _list(peers), cache, backend, time_limit)
    runner.check(options)
    console = terminal.console()
    console.print(f"ours: {runner.who(options)[2]}")
    deadline = float("inf") if time_limit is None else time.monotonic() + time_limit
    books = []
    with terminal.progress(console) as begin:
        for suite in suites:
            books.append(runner.run(suite, options, output, deadline, _follow(suite, begin)))
    report.show(books, console)
    written = [book.path for book in books if book.path is not None]
    for path in [*written, *report.write(books, output)]:
        console.print(f"written: {path}", markup=False, soft_wrap=True)
    for book in books:
        if not book.complete:
            console.print(f"{book.suite}: out of time; the same command goes on where this one stopped")
    wrong = [row for book in books for row in runner.wrong(book)]
    for row in wrong:
        reason = row["reason"] or f"not a match: {row['share']} times the error that is allowed"
        console.print(f"[red]{row['key']}: {reason}[/]")
    if wrong:
        raise typer.Exit(FAILED)


def _list(text: str) -> tuple[str, ...]:
    """ "a, b" -> ("a", "b")."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _follow(suite: str, begin: Any) -> Any:
    """The bar of a suite: what `runner.run` calls before each case."""
    bars: list[Any] = []

    def advance(case: str, done: int, total: int) -> None:
        if not bars:
            bars.append(begin(suite, total - done))
        bars[0](case.removeprefix(f"{suite}/"))

    return advance
