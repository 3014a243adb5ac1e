"""The command line: resnet-kernels demo | info | models | flops | verify.

What a user can put right (a file, a model's name, a shape) is one line on stderr and exit code 2;
a failed check is exit code 1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from . import __version__

if TYPE_CHECKING:
    from rich.console import Console

PROGRAM = "resnet-kernels"
BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130


class _OneLineErrors(TyperGroup):
    """Prints what a user can put right as one line, instead of a usage text in a box or a traceback."""

    def main(self, *args: Any, **options: Any) -> Any:
        from .demo.errors import UserError

        options["standalone_mode"] = False
        try:
            code = super().main(*args, **options)
        except UserError as error:
            message = str(error)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except Exception as error:
            if not hasattr(error, "format_message"):  # typer's own: an unknown option, a missing argument
                if type(error).__name__ == "Abort":
                    sys.exit(INTERRUPTED)
                raise
            message = " ".join(error.format_message().split())
        else:
            sys.exit(code if isinstance(code, int) else 0)
        print(f"{PROGRAM}: {message}", file=sys.stderr)
        sys.exit(BAD_INPUT)


app = typer.Typer(
    cls=_OneLineErrors,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Fused CUDA kernels for residual networks, and the instruments that prove them.",
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(f"{PROGRAM} {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit


@app.command()
def info() -> None:
    """What is installed and built, and which machine runs the kernels here."""
    import platform

    import torch

    from . import _native
    from .demo import machine
    from .demo.show import table

    shown = table(f"resnet_kernels {__version__}", "", "")
    shown.show_header = False
    for name, built, what in (
        ("_C", _built("_C"), "kernels for GPUs"),
        ("_sim", _native.simulator_built(), "simulator"),
        ("_sim_checked", _native.simulator_built(checked=True), "simulator with checks and counters"),
    ):
        shown.add_row(
            name, f"{what}: " + ("built" if built else "[yellow]not built[/] (`make build` makes it)")
        )
    shown.add_row("architectures", _architectures())
    absent = machine.why_no_gpu()
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        shown.add_row("GPU", f"{torch.cuda.get_device_name()}, compute capability {major}.{minor}")
    else:
        shown.add_row("GPU", "none")
    shown.add_row("kernels on the GPU", "ready" if absent is None else absent)
    shown.add_row("CPU", machine.processor())
    backends = ["aten"] + ["simulator"] * _native.simulator_built() + ["cuda"] * (absent is None)
    shown.add_row("backends", ", ".join(backends))
    cuda = torch.version.cuda
    shown.add_row("PyTorch", f"{torch.__version__} ({'for CUDA ' + cuda if cuda else 'CPU only'})")
    shown.add_row("Python", platform.python_version())
    _console().print(shown)


@app.command()
def models() -> None:
    """The paper's networks: depth, parameters, multiply-adds, and the paper's own figure."""
    from .demo.show import costs

    _console().print(costs())


@app.command()
def flops(
    model: Annotated[str, typer.Argument(help="resnet18, resnet34, resnet50, resnet101 or resnet152.")],
    input: Annotated[str, typer.Option(help="N,C,H,W of the input.")] = "1,3,224,224",
    per_layer: Annotated[bool, typer.Option("--per-layer", help="One row a layer.")] = False,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16: for the bytes.")] = "bfloat16",
    stride_in: Annotated[
        str, typer.Option(help="A bottleneck's stride: 3x3 (torchvision's) or 1x1 (the paper's).")
    ] = "3x3",
) -> None:
    """Multiply-adds, FLOPs, parameters and bytes of a network, by stage or by layer."""
    from . import flops as counts
    from .demo import show
    from .demo.errors import UserError

    try:
        shape = tuple(int(size) for size in input.split(","))
    except ValueError as error:
        raise UserError(f"--input must be four integers N,C,H,W as in 1,3,224,224, got {input!r}") from error
    try:
        count = counts.count(model, shape, dtype=dtype, stride_in=stride_in)
    except ValueError as error:
        raise UserError(str(error).removeprefix("count: ").replace("input_shape", "--input")) from error
    _console().print(show.layers(count, stride_in) if per_layer else show.stages(count, stride_in))


@app.command()
def verify(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer shapes.")] = False,
    backend: Annotated[
        str, typer.Option(help="auto (every machine there is), simulator, cuda or aten.")
    ] = "auto",
) -> None:
    """The error of every operator and dtype beside PyTorch's own and the budget; exit 1 on failure."""
    from .demo import show
    from .demo import verify as checks

    console = _console()
    machines = _machines(backend)
    for machine in machines:
        console.print(f"{machine.backend}: {machine.name}")
    with _progress(console) as begin:
        advance = begin("verify", sum(len(checks.cases(quick, machine)) for machine in machines))
        results = list(checks.run(machines, quick, advance))
    show.verification(results, console)
    if not all(result.passed for result in results):
        raise typer.Exit(FAILED)


@app.command()
def demo(
    image: Annotated[
        list[Path] | None,
        typer.Option(help="A photograph; may be given several times. Default: scikit-learn's."),
    ] = None,
    model: Annotated[
        str, typer.Option(help="resnet18, resnet34, resnet50, resnet101 or resnet152.")
    ] = "resnet50",
    weights: Annotated[
        Path | None, typer.Option(help="torchvision's .pth, or safetensors. Default: random.")
    ] = None,
    backend: Annotated[str, typer.Option(help="auto, simulator, aten or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
    size: Annotated[int, typer.Option(help="Pixels a side of the crop the network sees.")] = 224,
    output: Annotated[Path, typer.Option(help="The report.")] = Path("report.html"),
) -> None:
    """Run ResNet on a photograph, compare every block with float64 and PyTorch, and write an HTML report."""
    from .demo import report, run, show
    from .demo.errors import UserError

    if output.is_dir() or not output.absolute().parent.is_dir():
        reason = "it is a directory" if output.is_dir() else "its directory does not exist"
        raise UserError(f"cannot write the report {output}: {reason}")
    console = _console()
    options = run.Options(tuple(image or ()), model, weights, backend, dtype, size)
    with _progress(console) as begin:
        shown = run.demonstrate(options, begin)
    report.write(shown, output)
    show.demonstration(shown, console)
    console.print(f"\nreport: {output.absolute()}", markup=False, soft_wrap=True)
    if not shown.passed:
        raise typer.Exit(FAILED)


def main() -> None:
    """Entry point."""
    app(prog_name=PROGRAM)


def _console() -> Console:
    """stdout; 120 columns where it is no terminal, so that a table in a log is whole."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=120)


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str, int], Callable[[str], None]]]:
    """Yields begin(title, steps) -> step(name): one bar a phase, the step in progress beside it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[step]}"),
    )
    with Progress(*columns, console=console) as progress:
        tasks: list[Any] = []

        def finish() -> None:
            if tasks:
                progress.update(tasks[-1], completed=progress.tasks[-1].total, step="")

        def begin(title: str, steps: int) -> Callable[[str], None]:
            finish()
            task = progress.add_task(title, total=steps, step="")
            tasks.append(task)
            begun: list[str] = []

            def step(name: str) -> None:
                progress.update(task, completed=len(begun), step=name)
                begun.append(name)

            return step

        yield begin
        finish()


def _machines(backend: str) -> list[Any]:
    """The machines `verify` judges; "auto": all that run our kernels, aten if there is none."""
    from . import _native
    from .demo import machine

    if backend != "auto":
        return [machine.choose(backend)]
    found = [machine.choose("cuda")] if machine.why_no_gpu() is None else []
    if _native.simulator_built():
        found.append(machine.choose("simulator"))
    return found or [machine.choose("aten")]


def _built(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(f"{__package__}.{name}") is not None


def _architectures() -> str:
    """The GPU code inside _C, by the names that stand in the file."""
    import importlib.util
    import re

    spec = importlib.util.find_spec(f"{__package__}._C")
    if spec is None or spec.origin is None:
        return "none: _C is not built"
    code = Path(spec.origin).read_bytes()
    found = sorted({match.decode() for match in re.findall(rb"\b(?:sm|compute)_\d{2,3}[a-z]?\b", code)})
    return ", ".join(found) or "unknown"


if __name__ == "__main__":
    main()
