"""The report's plots, each an SVG fragment (or a PNG as a data URI) to stand inside a page.

Text stays text: the browser's own font, searchable, sharp in print.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from .. import flops
from ..measure.predict import BANDWIDTH, PEAK, Prediction
from ..page.svg import GRID, INK, MUTED, OURS, PAGE, PAPER, PEER, figure, png, styled, svg
from .compare import Unit

STAGES = {
    "conv1": "#f59f00",
    "layer1": "#e8590c",
    "layer2": "#c2255c",
    "layer3": "#7048e8",
    "layer4": "#1c7ed6",
    "head": "#2f9e44",
}
UNIT_ROUNDOFF = {
    torch.bfloat16: (2.0**-8, "2⁻⁸"),
    torch.float16: (2.0**-11, "2⁻¹¹"),
    torch.float32: (2.0**-24, "2⁻²⁴"),
}


@styled
def errors_by_unit(units: Sequence[Unit], dtype: torch.dtype, ours: str) -> str:
    """Relative error of every unit, ours and PyTorch's, on a log scale; `ours` names our machine."""
    from matplotlib.ticker import LogLocator, NullLocator

    drawn, axes = figure(10.4, 3.9)
    positions = np.arange(len(units))
    for position, unit in zip(positions, units, strict=True):
        axes.plot(
            [position, position], [max(unit.ours, 1e-12), max(unit.peer, 1e-12)], color=GRID, lw=5, zorder=1
        )
    axes.scatter(
        positions,
        [unit.peer for unit in units],
        s=70,
        facecolor=PAGE,
        edgecolor=PEER,
        lw=1.8,
        label="PyTorch",
        zorder=2,
    )
    axes.scatter(
        positions, [unit.ours for unit in units], s=30, color=OURS, label=f"our kernels, {ours}", zorder=3
    )
    roundoff, power = UNIT_ROUNDOFF[dtype]
    label = f"unit roundoff of {str(dtype).removeprefix('torch.')}, {power}"
    axes.axhline(roundoff, color=MUTED, lw=1, ls=(0, (4, 3)), label=label, zorder=0)
    finite = [e for unit in units for e in (unit.ours, unit.peer) if e > 0] + [roundoff]
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(finite) < 30 * min(finite) else (1,)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}" if value >= 1e-4 else f"{value:.0e}")
    axes.set_ylim(min(finite) / 2, max(finite) * 2)
    axes.set_xlim(-0.6, len(units) - 0.4)
    axes.set_xticks(
        positions, [unit.name.removeprefix("layer") for unit in units], rotation=45 if len(units) > 12 else 0
    )
    if len(units) > 26:
        axes.tick_params(axis="x", labelsize=7, rotation=90)
    axes.set_ylabel("relative L2 error")
    axes.set_xlabel("unit: stem, residual blocks (stage.block), head")
    axes.grid(axis="y", color=GRID, which="major")
    axes.legend(loc="lower left", ncols=3, bbox_to_anchor=(-0.01, 1.0))
    return svg(drawn, "errors", "Relative error against float64 of each unit, ours and PyTorch's")


@styled
def flops_by_stage(model: flops.Count, paper: flops.Count) -> str:
    """Giga multiply-adds of each stage: this network beside the paper's stride placement."""
    drawn, axes = figure(6.6, 3.5)
    stages = list(model.by_stage())
    positions, width = np.arange(len(stages)), 0.38
    for offset, count, color, label in (
        (-width / 2, paper, PAPER, "the paper's (stride in the first 1x1)"),
        (width / 2, model, OURS, "this network (stride in the 3x3)"),
    ):
        values = [count.by_stage()[stage] / 1e9 for stage in stages]
        if paper.macs == model.macs:
            label, offset, color = "this network, and the paper's", 0.0, OURS
        bars = axes.bar(positions + offset, values, width, color=color, label=label)
        axes.bar_label(
            bars,
            [f"{v:.2f}" if v >= 0.1 else f"{v:.3f}" for v in values],
            fontsize=8.5,
            color=MUTED,
            padding=2,
        )
        if paper.macs == model.macs:
            break
    axes.set_xticks(positions, stages)
    axes.set_ylabel("GMACs an image")
    axes.grid(axis="y", color=GRID)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=2,
        fontsize=9.5,
        handlelength=1.2,
        columnspacing=1.2,
    )
    axes.tick_params(length=0)
    return svg(drawn, "stages", "Multiply-adds of each stage")


@styled
def roofline(fused: Prediction) -> str:
    """Attainable TFLOP/s over arithmetic intensity, one dot a layer of our schedule, sized by its least
    time.
    """
    drawn, axes = figure(6.6, 3.9)
    intensity = np.logspace(-0.5, 4, 200)
    axes.plot(intensity, np.minimum(intensity * BANDWIDTH, PEAK) / 1e12, color=INK, lw=1.6)
    ridge = PEAK / BANDWIDTH
    axes.axvline(ridge, color=MUTED, lw=0.8, ls=(0, (4, 3)))
    axes.text(ridge * 1.08, 2.2, f"ridge: {ridge:.0f} FLOP/B", color=MUTED, fontsize=9)
    longest = max(floor.seconds for floor in fused.floors)
    for stage, color in STAGES.items():
        floors = [floor for floor in fused.floors if floor.layer.stage == stage and floor.layer.macs]
        x = [2 * floor.layer.macs / floor.layer.bytes for floor in floors]
        y = [2 * floor.layer.macs / floor.seconds / 1e12 for floor in floors]
        sizes = [20 + 160 * floor.seconds / longest for floor in floors]
        axes.scatter(x, y, s=sizes, color=color, alpha=0.65, edgecolor=PAGE, lw=0.8, label=stage, zorder=3)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(10, 3000)
    axes.set_ylim(1.8, 1500)
    axes.set_xlabel("FLOP per byte moved")
    axes.set_ylabel("TFLOP/s at most")
    axes.grid(color=GRID)
    legend = axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=6,
        fontsize=9,
        handletextpad=0.1,
        columnspacing=0.9,
    )
    for handle in legend.legend_handles:
        handle.set_sizes([40])
    return svg(drawn, "roofline", f"Roofline at batch {fused.batch}: predicted, not measured")


@styled
def floors(prediction: Prediction) -> str:
    """The least time of every layer in order, coloured by what bounds it."""
    drawn, axes = figure(10.4, 2.9)
    values = [floor.seconds * 1e6 for floor in prediction.floors]
    colors = [OURS if floor.bound == "math" else PEER for floor in prediction.floors]
    axes.bar(np.arange(len(values)), values, 0.78, color=colors)
    names = [floor.layer.name for floor in prediction.floors]
    stages = [floor.layer.stage for floor in prediction.floors]
    for stage in dict.fromkeys(stages):
        begin, end = stages.index(stage), stages.index(stage) + stages.count(stage)
        axes.axvline(begin - 0.5, color=GRID, lw=1, zorder=0)
        if end - begin > 3:
            middle = (begin + end - 1) / 2
            axes.text(middle, -0.03 * max(values), stage, color=MUTED, ha="center", va="top")
    axes.set_xlim(-0.7, len(names) - 0.3)
    axes.set_ylim(0, max(values) * 1.05)
    axes.set_xticks([])
    axes.set_ylabel("µs at least")
    axes.grid(axis="y", color=GRID)
    handles = [
        axes.bar([0], [0], color=color, label=label)
        for color, label in ((PEER, "memory bound"), (OURS, "bound by arithmetic"))
    ]
    axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, fontsize=9.5)
    return svg(
        drawn, "floors", f"Least time of every layer, batch {prediction.batch}: predicted, not measured"
    )


def activity(values: np.ndarray | None) -> str:
    """A map [P, Q] as a PNG data URI, one pixel a position, dark to bright between its 2nd and 98th
    percentile.
    """
    from matplotlib import colormaps

    if values is None:
        raise ValueError("activity: there is no map to draw")
    low, high = np.percentile(values, (2, 98))
    scaled = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return png((colormaps["inferno"](scaled)[..., :3] * 255).round().astype(np.uint8))
