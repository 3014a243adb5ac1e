"""resnet-kernels models | flops."""

from __future__ import annotations

from typing import Annotated

import typer

from . import terminal
from .application import app


@app.command()
def models() -> None:
    """The paper's networks: depth, parameters, multiply-adds, and the paper's own figure."""
    from ..demo.show import costs

    terminal.console().print(costs())


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
    from .. import flops as counts
    from ..demo import show
    from ..errors import UserError

    try:
        shape = tuple(int(size) for size in input.split(","))
    except ValueError as error:
        raise UserError(f"--input must be four integers N,C,H,W as in 1,3,224,224, got {input!r}") from error
    try:
        count = counts.count(model, shape, dtype=dtype, stride_in=stride_in)
    except ValueError as error:
        raise UserError(str(error).removeprefix("count: ").replace("input_shape", "--input")) from error
    terminal.console().print(show.layers(count, stride_in) if per_layer else show.stages(count, stride_in))
