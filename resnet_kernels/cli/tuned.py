"""resnet-kernels bench tune: a table of the configurations that are fastest here."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from . import terminal
from .application import PROGRAM
from .bench import DIRECTORY, bench


@bench.command()
def tune(
    model: Annotated[str, typer.Option(help="Networks, as in resnet50,cifar_resnet20.")] = "resnet50",
    batch: Annotated[str, typer.Option(help="Batch sizes, as in 1,32,256.")] = "1,32,256",
    dtype: Annotated[str, typer.Option(help="bfloat16, float16, tf32, float32.")] = "bfloat16",
    operation: Annotated[str, typer.Option(help="fprop, dgrad, wgrad.")] = "fprop,dgrad,wgrad",
    quick: Annotated[bool, typer.Option("--quick", help="The first five layers only.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="The table.")] = DIRECTORY / "tuned.json",
) -> None:
    """Measure every configuration of every convolution on the GPU; write the table of the fastest."""
    import torch

    from .. import machine, tuning
    from ..errors import UserError
    from ..measure import tune as tuner
    from ..measure.clock import CudaClock
    from ..measure.problems import NETWORKS
    from ..measure.tune_report import show

    def several(option: str, text: str, known: tuple[str, ...]) -> list[str]:
        found = [part.strip() for part in text.split(",") if part.strip()]
        for value in found:
            if value not in known:
                raise UserError(f"{option}: no {value!r}; choose among {', '.join(known)}")
        if not found:
            raise UserError(f"{option} is empty; choose among {', '.join(known)}")
        return found

    networks = several("--model", model, NETWORKS)
    dtypes = several("--dtype", dtype, tuning.DTYPES)
    operations = several("--operation", operation, tuning.OPERATIONS)
    try:
        batches = [int(size) for size in batch.split(",")]
    except ValueError as error:
        raise UserError(f"--batch must be integers as in 1,32,256, got {batch!r}") from error
    if min(batches) < 1:
        raise UserError(f"--batch must be at least 1, got {min(batches)}")
    absent = machine.why_no_gpu()
    if absent is not None:
        raise UserError(f"bench tune measures on a GPU: {absent}")

    here = machine.choose("cuda")
    multiprocessors = torch.cuda.get_device_properties(here.device).multi_processor_count
    wanted = tuner.plan(networks, batches, dtypes, operations, most=5 if quick else None)
    output.parent.mkdir(parents=True, exist_ok=True)
    command = shlex.join([PROGRAM, *sys.argv[1:]])
    console = terminal.console()
    entries: list[tuning.Entry] = []
    with terminal.progress(console) as begin:
        step = begin(f"measuring on {here.name}", len(wanted))
        for entry in tuner.tune(
            wanted, here.device, "cuda", multiprocessors, CudaClock(hide_launches=True), advance=step
        ):
            entries.append(entry)
            tuning.save(output, device=here.name, command=command, only=entries)
    show(entries, here.name, console)
    console.print(f"written: {output}; load it by rk.tuning.load", markup=False, soft_wrap=True)
