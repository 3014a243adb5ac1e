"""resnet-kernels models | flops: the paper's networks, what they cost, and the paper's own figures."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Annotated

import typer

from . import terminal
from .application import app

if TYPE_CHECKING:
    from rich.table import Table

    from ..flops import Count


@app.command()
def models() -> None:
    """Every network of the paper: depth, parameters, multiply-adds, and the paper's own figures."""
    from .. import flops
    from ..demo.show import table

    shown = table(
        "The paper's networks",
        "network",
        "#depth",
        "shortcut",
        "#input",
        "#M parameters",
        "#paper",
        "#GMACs",
        "#paper",
        caption="1 MAC = 2 FLOPs; the paper writes FLOPs, counts MACs, and prints one figure a depth. A "
        "bottleneck's stride is in the first 1x1 in resnet50_v1 ..., as in the paper, and in the 3x3 in "
        "resnet50 ..., as in torchvision. rk.models.create(name) makes a network.",
    )
    family = ""
    for name, network in flops.ARCHITECTURES.items():
        count = flops.count(name)
        last, family = family, "".join(takewhile(str.isalpha, name.replace("cifar_", "cifar")))
        if last not in ("", family):
            shown.add_section()
        shown.add_row(
            name,
            str(network.depth),
            network.shortcut or "none",
            f"{network.size}x{network.size}",
            f"{count.params / 1e6:.2f}",
            f"{count.paper_mparams:g}" if count.paper_mparams else "",
            f"{count.macs / 1e9:.3f}",
            f"{count.paper_gmacs:g}" if count.paper_gmacs else "",
        )
    terminal.console().print(shown)


@app.command()
def flops(
    model: Annotated[
        str | None, typer.Argument(help="A name that `models` prints. Default: every figure of the paper.")
    ] = None,
    input: Annotated[str | None, typer.Option(help="N,C,H,W of the input. Default: the paper's.")] = None,
    per_layer: Annotated[bool, typer.Option("--per-layer", help="One row a layer.")] = False,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16: for the bytes.")] = "bfloat16",
    stride_in: Annotated[
        str | None, typer.Option(help="A bottleneck's stride: 3x3 or 1x1. Default: what the name says.")
    ] = None,
    shortcut: Annotated[str | None, typer.Option(help="A, B or C. Default: what the name says.")] = None,
) -> None:
    """Multiply-adds, FLOPs, parameters and bytes of a network, or every cost in the paper beside ours."""
    from .. import flops as counts
    from ..errors import UserError

    if model is None:
        if input or per_layer or stride_in or shortcut:
            raise UserError("name a network: without one, flops prints every figure of the paper beside ours")
        terminal.console().print(_comparison())
        return
    try:
        shape = None if input is None else tuple(int(size) for size in input.split(","))
    except ValueError as error:
        raise UserError(f"--input must be four integers N,C,H,W as in 1,3,224,224, got {input!r}") from error
    try:
        count = counts.count(model, shape, dtype=dtype, stride_in=stride_in, shortcut=shortcut)
    except ValueError as error:
        raise UserError(str(error).removeprefix("count: ").replace("input_shape", "--input")) from error
    terminal.console().print(_by_layer(count) if per_layer else _by_stage(count))


def _comparison() -> Table:
    from .. import flops as counts
    from ..demo.show import table

    shown = table(
        "Every cost the paper prints, beside ours",
        "network",
        "where",
        "of what",
        "#paper",
        "#ours",
        "#difference",
        "ours, to the paper's digits",
        caption="GMACs: 10^9 multiply-adds, the paper's FLOPs. Its figures are rounded or cut off.",
    )
    source = None
    for row in counts.compare():
        if source is not None and row.source != source:
            shown.add_section()
        source = row.source
        shown.add_row(
            row.network,
            row.source,
            row.unit,
            row.paper,
            f"{row.ours:.3f}",
            f"{row.difference:+.1%}",
            f"the same, {row.agrees}" if row.agrees else row.note,
        )
    return shown


def _by_stage(count: Count) -> Table:
    from ..demo.show import table

    heads = ("stage", "#layers", "#GMACs", "#GFLOPs", "#M parameters", "#MB moved")
    shown = table(_title(count), *heads, caption=_convention(count))
    names = list(dict.fromkeys(layer.stage for layer in count.layers))
    for name in [*names, "all"]:
        layers = [layer for layer in count.layers if name in (layer.stage, "all")]
        macs, moved = sum(layer.macs for layer in layers), sum(layer.bytes for layer in layers)
        params = sum(layer.params for layer in layers)
        if name == "all":
            shown.add_section()
        shown.add_row(
            name,
            str(len(layers)),
            f"{macs / 1e9:.3f}",
            f"{2 * macs / 1e9:.3f}",
            f"{params / 1e6:.2f}",
            f"{moved / 1e6:.1f}",
            style="bold" if name == "all" else None,
        )
    return shown


def _by_layer(count: Count) -> Table:
    from ..demo.show import table

    heads = ("layer", "computes", "input", "weight", "output", "#MMACs", "#params", "#KiB")
    shown = table(_title(count), *heads, caption=_convention(count))
    for layer in count.layers:
        shown.add_row(
            layer.name,
            layer.kind,
            "x".join(map(str, layer.input[1:])),
            "x".join(map(str, layer.weight)) if layer.weight else "",
            "x".join(map(str, layer.output[1:])),
            f"{layer.macs / 1e6:.2f}",
            f"{layer.params}",
            f"{layer.bytes / 1024:.1f}",
        )
    return shown


def _title(count: Count) -> str:
    return f"{count.name}, {' x '.join(map(str, count.input))}, {count.dtype}"


def _convention(count: Count) -> str:
    total = f"{count.macs / 1e9:.3f} GMACs = {count.flops / 1e9:.3f} GFLOPs"
    papers = []
    if count.paper_gmacs:
        papers.append(f"{count.paper_gmacs:g} GMACs")
    if count.paper_mparams:
        papers.append(f"{count.paper_mparams:g} M parameters")
    beside = f" The paper prints {' and '.join(papers)}." if papers else ""
    return f"{total}; convolutions and classifier only.{beside}"
