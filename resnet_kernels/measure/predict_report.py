"""Predictions for people: tables, JSON, CSV and an HTML page, all headed "predicted, not measured"."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Console

from .. import __version__, flops
from ..errors import UserError
from ..page import html
from ..page.svg import GRID, INK, MUTED, OURS, PEER, figure, styled, svg
from ..page.terminal import table
from . import report_data as data
from .predict import BANDWIDTH, LABEL, PEAK, eager, fused
from .predict_layers import Predicted
from .report_plots import pretty

MODEL = f"{BANDWIDTH / 1e12:.1f} TB/s, {PEAK / 1e12:.0f} TFLOP/s"
RATIOS = {
    "touched": "bytes touched / least",
    "requested": "requested / useful",
    "wavefronts": "shared waves / ideal",
    "macs": "MACs issued / needed",
}


def total(rows: Sequence[Predicted], network: str) -> tuple[float, float]:
    """(floor, predicted) in seconds over the network's convolutions, each as often as it occurs."""
    floors = sum(row.count.get(network, 0) * row.floor for row in rows)
    return floors, sum(row.count.get(network, 0) * row.seconds for row in rows)


def ways(rows: Sequence[Predicted]) -> dict[str, list[Predicted]]:
    """ "fprop, inference", "fprop, stats", "dgrad", "wgrad" -> its rows."""
    found: dict[str, list[Predicted]] = {}
    for row in rows:
        name = row.direction
        if row.direction == "fprop":
            name += ", training" if row.epilogue == "stats" else ", inference"
        found.setdefault(name, []).append(row)
    return found


def show(rows: Sequence[Predicted], network: str, console: Console) -> None:
    """Print a table for each direction."""
    for way, chosen in ways(rows).items():
        floor, seconds = total(chosen, network)
        first = chosen[0]
        shown = table(
            f"{way}, {first.dtype}, batch {first.batch}, on a model of an H200: {LABEL}",
            *("layer", "fused", "#times", "#least", "bound", "#predicted", "#bytes", "#requested", "#waves"),
            "#MACs",
            caption=f"roofline at {MODEL}; {pretty(network)}, each shape with its largest epilogue: "
            f"least time {data.seconds(floor)}, with what the kernels do {data.seconds(seconds)}. "
            "The last four: done over needed.",
        )
        for row in chosen:
            shown.add_row(
                row.name.removeprefix("conv "),
                row.epilogue.replace("_", "+"),
                str(row.count.get(network, 0)),
                data.seconds(row.floor),
                row.bound,
                data.seconds(row.seconds),
                *(_ratio(value) for value in row.ratios().values()),
            )
        console.print(shown)


def write(rows: Sequence[Predicted], network: str, directory: Path) -> list[Path]:
    """Write predicted.json, predicted.csv and predicted.html; UserError if that cannot be."""
    head = {"label": LABEL, "bandwidth": BANDWIDTH, "peak": PEAK, "network": network, "version": __version__}
    paths = [directory / f"predicted.{kind}" for kind in ("json", "csv", "html")]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        paths[0].write_text(json.dumps({**head, "rows": [row.as_json() for row in rows]}, indent=1) + "\n")
        with paths[1].open("w", newline="") as file:
            file.write(f"# {LABEL}: a roofline at {MODEL}, and the simulator's counters\n")
            writer = csv.writer(file)
            heads = ("layer", "direction", "epilogue", "dtype", "batch", "times", "bytes", "flops")
            times = ("floor_seconds", "predicted_seconds", "bound")
            writer.writerow([*heads, *times, *RATIOS, "kernels"])
            for row in rows:
                what = [row.name, row.direction, row.epilogue, row.dtype, row.batch]
                least = [row.count.get(network, 0), row.bytes, row.flops, row.floor]
                found = [row.seconds, row.bound, *row.ratios().values()]
                writer.writerow([*what, *least, *found, " + ".join(row.kernels)])
    except OSError as error:
        raise UserError(f"cannot write to {directory}: {error.strerror or error}") from error
    html.write(page(rows, network), paths[2])
    return paths


def page(rows: Sequence[Predicted], network: str) -> str:
    """The prediction as HTML."""
    batch, dtype = rows[0].batch, rows[0].dtype
    header = html.hero(
        f"What an H200 could do: {LABEL}",
        [
            "A roofline over what the kernels touch and multiply, counted by the simulator. No GPU was at "
            "hand: there is no time in here that a clock has seen."
        ],
        [pretty(network), dtype, f"batch {batch}", MODEL, f"resnet_kernels {__version__}"],
    )
    found = ways(rows)
    parts = [_cards(found, network, batch)]
    parts += [_way(way, chosen, network, i) for i, (way, chosen) in enumerate(found.items())]
    parts.append(_model())
    return html.document(f"Predictions: {pretty(network)}", header, "\n".join(parts))


def _cards(found: dict[str, list[Predicted]], network: str, batch: int) -> str:
    size = flops.count(network).input[-1]
    text = "are the ceiling of inference with one kernel a convolution"
    if network.startswith("resnet"):  # torchvision has it, layer by layer
        apart = eager(network, batch, size).images_per_second
        text += f"; {data.number(apart)} with every layer apart"
    ceiling = data.number(fused(network, batch, size).images_per_second)
    figures = [(f"{ceiling} <small>img/s</small>", text)]
    for way, chosen in list(found.items())[:3]:
        floor, seconds = total(chosen, network)
        text = f"of what decides the kernels’ time in the roofline is needed: {way}, all convolutions"
        figures.append((f"{100 * floor / seconds:.0f} <small>%</small>", text))
    return html.cards(figures)


def _way(way: str, rows: list[Predicted], network: str, index: int) -> str:
    floor, seconds = total(rows, network)
    lines = [
        (
            escape(row.name.removeprefix("conv ")),
            escape(row.epilogue.replace("_", " + ")),
            str(row.count.get(network, 0)),
            data.seconds(row.floor),
            data.seconds(row.seconds),
            row.bound,
            *(_ratio(value) for value in row.ratios().values()),
        )
        for row in rows
    ]
    heads = ("layer", "fused", "#times", "#least", "#predicted", "bound by")
    body = f"<p>All convolutions of {pretty(network)}, each shape with its largest epilogue: least time "
    body += (
        f"{data.seconds(floor)}; with the bytes and multiply-adds of the kernels {data.seconds(seconds)}.</p>"
    )
    body += f'<div class="wide">{bars(rows, f"way-{index}")}</div>'
    body += html.folded("All layers, with the counters", html.table((*heads, *_heads()), lines))
    return html.section(escape(way) + html.tag(LABEL), body)


def _heads() -> list[str]:
    return [f"#{title.replace(' / ', ' /<br>')}" for title in RATIOS.values()]


def _model() -> str:
    return html.section(
        "What this is, and is not",
        "<p>The least time of a layer is max(bytes / bandwidth, FLOPs / peak), every operand crossing memory "
        "once; a shape that occurs with several epilogues counts with the largest. The predicted time takes "
        "the bytes that the kernels touch and the multiply-adds that they issue instead, as the simulator’s "
        "checked build counts them on crops, extrapolated to the batch. Latency, occupancy, caches, bank "
        "conflicts and launches are not in it: hardware will be slower, and only hardware says by how much."
        "</p>",
    )


@styled
def bars(rows: Sequence[Predicted], name: str) -> str:
    """The least time of each layer, and what the kernels add to it."""
    import numpy as np

    drawn, axes = figure(10.4, 1.2 + 0.25 * len(rows))
    at = np.arange(len(rows))
    floors = [1e6 * row.floor for row in rows]
    more = [1e6 * (row.seconds - row.floor) for row in rows]
    colors = [OURS if row.bound == "math" else PEER for row in rows]
    axes.barh(at, floors, 0.66, color=colors)
    axes.barh(at, more, 0.66, left=floors, color=colors, alpha=0.35)
    for color, label in ((PEER, "memory bound"), (OURS, "bound by arithmetic")):
        axes.barh([0], [0], color=color, label=label)
    axes.barh([0], [0], color=MUTED, alpha=0.4, label="pale: beyond the least")
    for y, row in enumerate(rows):
        excess = row.seconds / row.floor
        if excess >= 1.01:
            axes.annotate(
                f"+{100 * (excess - 1):.0f} %",
                (1e6 * row.seconds, y),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
                color=MUTED,
            )
    axes.set_yticks(at, [row.name.removeprefix("conv ") for row in rows], fontsize=9, color=INK)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.08)
    axes.set_xlabel("µs: predicted, not measured")
    axes.grid(axis="x", color=GRID)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=3, fontsize=9.5)
    return svg(drawn, name, f"Least and predicted time of every layer: {LABEL}")


def _ratio(value: Any) -> str:
    return f"{value:.3f}" if value else "–"
