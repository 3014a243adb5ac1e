"""resnet-kernels verify | demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import terminal
from .application import FAILED, app


@app.command()
def verify(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer shapes.")] = False,
    backend: Annotated[
        str, typer.Option(help="auto (every machine there is), simulator, cuda or aten.")
    ] = "auto",
) -> None:
    """The error of every operator and dtype beside PyTorch's own and the budget; exit 1 on failure."""
    from ..demo import show
    from ..demo import verify as checks

    console = terminal.console()
    machines = _machines(backend)
    for machine in machines:
        console.print(f"{machine.backend}: {machine.name}")
    with terminal.progress(console) as begin:
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
    from ..demo import report, run, show
    from ..errors import UserError

    if output.is_dir() or not output.absolute().parent.is_dir():
        reason = "it is a directory" if output.is_dir() else "its directory does not exist"
        raise UserError(f"cannot write the report {output}: {reason}")
    console = terminal.console()
    options = run.Options(tuple(image or ()), model, weights, backend, dtype, size)
    with terminal.progress(console) as begin:
        shown = run.demonstrate(options, begin)
    report.write(shown, output)
    show.demonstration(shown, console)
    console.print(f"\nreport: {output.absolute()}", markup=False, soft_wrap=True)
    if not shown.passed:
        raise typer.Exit(FAILED)


def _machines(backend: str) -> list[Any]:
    """The machines `verify` judges; "auto": all that run our kernels, aten if there is none."""
    from .. import _native, machine

    if backend != "auto":
        return [machine.choose(backend)]
    found = [machine.choose("cuda")] if machine.why_no_gpu() is None else []
    if _native.simulator_built():
        found.append(machine.choose("simulator"))
    return found or [machine.choose("aten")]
