"""The benchmark report's plots: roofline, ratios layer by layer, rates by batch, training, history."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..page.svg import BAD, GOOD, GRID, INK, MUTED, OURS, PAGE, PEER, SERIES, figure, save, styled, svg
from . import report_data as data
from .report_data import Comparison, Row


@styled
def roofline(found: Sequence[Comparison], bandwidth: float, peak: float, name: str) -> str:
    """TFLOP/s reached over FLOP per byte: ours and the best peer's, joined, under the device's roof."""
    drawn, axes = figure(10.4, 4.6)
    intensities = [c.ours["flops"] / c.ours["bytes"] for c in found]
    ridge = peak / bandwidth
    low, high = min(*intensities, ridge) / 2, max(*intensities, ridge) * 2
    line = np.geomspace(low, high, 200)
    axes.plot(line, np.minimum(line * bandwidth, peak) / 1e12, color=INK, lw=1.8)
    for x, c in zip(intensities, found, strict=True):
        axes.plot(
            [x, x], [c.peer["tflops"], c.ours["tflops"]], color=GRID, lw=4, zorder=1, solid_capstyle="round"
        )
    axes.scatter(
        intensities,
        [c.peer["tflops"] for c in found],
        s=46,
        facecolor=PAGE,
        edgecolor=PEER,
        lw=1.8,
        label="best peer",
        zorder=2,
    )
    axes.scatter(
        intensities,
        [c.ours["tflops"] for c in found],
        s=34,
        color=OURS,
        label=found[0].ours["label"],
        zorder=3,
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    top = peak / 1e12
    reached = [row["tflops"] for c in found for row in (c.ours, c.peer)]
    axes.set_ylim(min(reached) / 2, 1.6 * max(top, *reached))
    _plain_log(axes.xaxis)
    _plain_log(axes.yaxis)
    axes.axvline(ridge, color=MUTED, lw=0.8, ls=(0, (4, 3)), zorder=0)
    axes.annotate(
        f"{data.number(top)} TFLOP/s",
        (high, top),
        xytext=(-4, 5),
        textcoords="offset points",
        ha="right",
        color=MUTED,
        fontsize=9.5,
    )
    slope = ridge / 4
    axes.annotate(
        f"{data.number(bandwidth / 1e9)} GB/s",
        (slope, slope * bandwidth / 1e12),
        xytext=(8, -12),
        textcoords="offset points",
        color=MUTED,
        fontsize=9.5,
    )
    axes.set_xlabel("FLOP per byte that has to move")
    axes.set_ylabel("TFLOP/s")
    axes.grid(color=GRID, which="major")
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=2)
    return svg(drawn, name, "Roofline: TFLOP/s reached over FLOP per byte")


@styled
def ratios(found: Sequence[Comparison], name: str) -> str:
    """Two panels, a line a layer: speed beside the best peer's, and share of the physical limit."""
    title = "Each layer: speed relative to the best peer, and share of the physical limit"
    return svg(_ratios(found), name, title)


@styled
def ratios_picture(found: Sequence[Comparison], path: Path, title: str) -> None:
    """The same as a PNG file."""
    save(_ratios(found), path, title)


def _ratios(found: Sequence[Comparison]) -> Any:
    height = 1.3 + 0.27 * len(found)
    drawn, (left, right) = figure(10.4, height, 1, 2, sharey=True, width_ratios=(1.35, 1))
    at = np.arange(len(found))
    values = np.array([c.ratio for c in found])
    colors = [GOOD if c.verdict == "faster" else BAD if c.verdict == "slower" else MUTED for c in found]
    left.barh(at, values - 1, 0.62, left=1, color=colors, alpha=0.9)
    spread = np.array([[c.ratio - c.low, c.high - c.ratio] for c in found]).clip(0).T
    left.errorbar(values, at, xerr=spread, fmt="none", ecolor=INK, elinewidth=1, capsize=2)
    left.axvline(1, color=INK, lw=1)
    left.set_xscale("log", base=2)
    left.set_xlim(0.95 * min(0.95, *(c.low for c in found)), 1.05 * max(1.1, *(c.high for c in found)))
    left.xaxis.set_major_locator(_ratio_ticks(*left.get_xlim()))
    left.xaxis.set_minor_locator(_no_ticks())
    left.xaxis.set_major_formatter(lambda value, _: f"{value:g} ×")
    left.set_yticks(at, [layer_name(c.ours) for c in found], fontsize=9)
    left.invert_yaxis()
    left.set_ylim(len(found) - 0.4, -0.6)
    left.set_title(
        "speed beside the best peer’s",
        fontsize=10.5,
        color=MUTED,
        loc="left",
    )
    left.grid(axis="x", color=GRID)
    left.tick_params(axis="y", length=0)
    for y, c in zip(at, found, strict=True):
        ours, peer = (100 * (row["floor_share"] or 0) for row in (c.ours, c.peer))
        right.plot([ours, peer], [y, y], color=GRID, lw=4, zorder=1, solid_capstyle="round")
        right.scatter([peer], [y], s=38, facecolor=PAGE, edgecolor=PEER, lw=1.6, zorder=2)
        right.scatter([ours], [y], s=30, color=OURS, zorder=3)
    right.scatter([], [], s=30, color=OURS, label=found[0].ours["label"])
    right.scatter([], [], s=38, facecolor=PAGE, edgecolor=PEER, lw=1.6, label="best peer")
    shares = [100 * (row["floor_share"] or 0) for c in found for row in (c.ours, c.peer)]
    right.set_xlim(0, max(100, 1.05 * max(shares)))
    right.axvline(100, color=INK, lw=1)
    right.xaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    right.set_title("share of the physical limit", fontsize=10.5, color=MUTED, loc="left")
    right.grid(axis="x", color=GRID)
    right.tick_params(axis="y", length=0)
    right.spines["left"].set_visible(False)
    drawn.legend(*right.get_legend_handles_labels(), loc="outside lower right", ncols=2, fontsize=9.5)
    return drawn


def layer_name(row: Row) -> str:
    """What a line of a plot is called: the shape, and what is fused behind it."""
    epilogue = row["epilogue"].replace("_", "+")
    return row["name"].removeprefix("conv ") + (f"  {epilogue}" if epilogue not in ("", "none") else "")


@styled
def rates(rows: Sequence[Row], networks: Sequence[str], name: str) -> str:
    """Images a second by batch size, one panel a network, one line an implementation."""
    columns = min(3, len(networks))
    lines = -(-len(networks) // columns)
    drawn, grid = figure(10.4, 3.2 * lines + 0.5, lines, columns, squeeze=False)
    series = _series(rows)
    for panel, network in zip(grid.flat, networks, strict=False):
        mine = [row for row in rows if row["name"] == network]
        batches = sorted({row["batch"] for row in mine})
        for implementation, (label, color, ours) in series.items():
            points = sorted(
                (r["batch"], r["images_per_second"]) for r in mine if r["implementation"] == implementation
            )
            if points:
                panel.plot(
                    [batches.index(batch) for batch, _ in points],
                    [rate for _, rate in points],
                    color=color,
                    lw=2.6 if ours else 1.5,
                    marker="o",
                    ms=5 if ours else 3.5,
                    zorder=3 if ours else 2,
                    label=label,
                )
        limits = {row["batch"]: row["batch"] / row["floor"] for row in mine if row["floor"]}
        if limits:
            limit = [limits.get(batch, np.nan) for batch in batches]
            panel.plot(
                range(len(batches)),
                limit,
                color=MUTED,
                lw=1,
                ls=(0, (4, 3)),
                label="physical limit",
                zorder=1,
            )
        panel.set_yscale("log")
        _plain_log(panel.yaxis)
        panel.set_xticks(range(len(batches)), [str(batch) for batch in batches])
        panel.set_title(pretty(network), fontsize=11, loc="left", color=INK)
        panel.grid(color=GRID, axis="y")
        panel.margins(x=0.08, y=0.12)
    for panel in grid.flat[len(networks) :]:
        panel.set_visible(False)
    for row_of_panels in grid:
        row_of_panels[0].set_ylabel("images a second")
    drawn.supxlabel("batch", fontsize=10.5, color=INK)
    _shared_legend(drawn, grid)
    return svg(drawn, name, "Images a second by batch size")


@styled
def bars(rows: Sequence[Row], values: Sequence[tuple[str, str, float]], name: str) -> str:
    """Horizontal bars, one an implementation, a panel a quantity: `values` are (row's key, title, scale)."""
    rows = sorted(rows, key=lambda row: row["seconds"])
    drawn, grid = figure(10.4, 0.9 + 0.34 * len(rows), 1, len(values), sharey=True, squeeze=False)
    at = np.arange(len(rows))
    for panel, (key, title, scale) in zip(grid[0], values, strict=True):
        sizes = [(row[key] or 0) / scale for row in rows]
        made = panel.barh(at, sizes, 0.66, color=[OURS if row["ours"] else PEER for row in rows])
        labels = [data.number(size) if size else "" for size in sizes]
        panel.bar_label(made, labels, fontsize=9, color=MUTED, padding=3)
        panel.set_title(title, fontsize=10.5, color=MUTED, loc="left")
        panel.set_xlim(0, 1.16 * max([*sizes, 1e-12]))
        panel.set_yticks(at, [row["label"] for row in rows], fontsize=9.5)
        panel.set_ylim(len(rows) - 0.4, -0.6)
        panel.tick_params(axis="y", length=0)
        panel.set_xticks([])
        panel.spines["bottom"].set_visible(False)
    return svg(drawn, name, ", ".join(title for _, title, _ in values))


@styled
def depths(rows: Sequence[Row], name: str) -> str:
    """Milliseconds of a training step by depth of the CIFAR networks, on two logarithmic scales."""
    drawn, axes = figure(10.4, 3.4)
    series = _series(rows)
    for implementation, (label, color, ours) in series.items():
        mine = [row for row in rows if row["implementation"] == implementation]
        points = sorted((depth(row["name"]), 1e3 * row["seconds"]) for row in mine)
        axes.plot(
            *zip(*points, strict=True), color=color, lw=2.6 if ours else 1.5, marker="o", ms=4, label=label
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    every = sorted({depth(row["name"]) for row in rows})
    axes.set_xticks(every, [str(d) for d in every])
    axes.xaxis.set_minor_locator(_no_ticks())
    _plain_log(axes.yaxis)
    axes.set_xlabel("layers")
    axes.set_ylabel("ms a training step")
    axes.grid(color=GRID, axis="y")
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=3, fontsize=9.5)
    return svg(drawn, name, "Milliseconds of a training step by depth")


@styled
def history(lines: dict[str, list[tuple[str, float]]], unit: str, name: str) -> str:
    """A figure over results by date: line -> [(date, value)], dates as ISO."""
    from datetime import datetime

    drawn, axes = figure(5.1, 2.9)
    dates = sorted({date for points in lines.values() for date, _ in points})
    for i, (label, points) in enumerate(lines.items()):
        color = OURS if i == 0 else SERIES[(i - 1) % len(SERIES)]
        places = [dates.index(date) for date, _ in points]
        axes.plot(places, [value for _, value in points], color=color, marker="o", ms=5, lw=2, label=label)
        axes.annotate(
            data.number(points[-1][1]),
            (places[-1], points[-1][1]),
            xytext=(7, -3),
            textcoords="offset points",
            color=color,
            fontsize=9,
        )
    days = [datetime.fromisoformat(date.replace("Z", "+00:00")).strftime("%-d %b") for date in dates]
    shown = range(0, len(dates), max(1, -(-len(dates) // 8)))
    axes.set_xticks(list(shown), [days[i] for i in shown], fontsize=9)
    axes.set_xlim(-0.4, len(dates) - 0.4)
    axes.margins(y=0.25)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.6g}".replace(",", " "))
    axes.set_title(unit, fontsize=10.5, color=MUTED, loc="left")
    axes.grid(color=GRID, axis="y")
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.12), ncols=1, fontsize=9)
    return svg(drawn, name, unit)


def pretty(network: str) -> str:
    """resnet50 as ResNet-50, cifar_resnet20 as CIFAR ResNet-20."""
    return network.replace("cifar_resnet", "CIFAR ResNet-").replace("resnet", "ResNet-")


def depth(network: str) -> int:
    """The layers that the network is named after."""
    return int("".join(character for character in network if character.isdigit()))


def _series(rows: Iterable[Row]) -> dict[str, tuple[str, str, bool]]:
    """Implementation -> (label, colour, whether it is ours), ours first."""
    labels = {row["implementation"]: (row["label"], row["ours"]) for row in rows}
    ordered = sorted(labels.items(), key=lambda item: not item[1][1])
    found, peers, mine = {}, 0, 0
    shades = (OURS, "#f08c00", "#ffb454")
    for implementation, (label, ours) in ordered:
        if ours:
            color, mine = shades[mine % len(shades)], mine + 1
        else:
            color, peers = SERIES[peers % len(SERIES)], peers + 1
        found[implementation] = (label, color, ours)
    return found


def _shared_legend(drawn: Any, grid: Any) -> None:
    handles: dict[str, Any] = {}
    for panel in grid.flat:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    drawn.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=4, fontsize=9.5)


def _plain_log(axis: Any) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5, as plain numbers."""
    from matplotlib.ticker import LogLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(_no_ticks())
    axis.set_major_formatter(lambda value, _: f"{value:,.15g}".replace(",", " "))


def _no_ticks() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def _ratio_ticks(low: float, high: float) -> Any:
    """The roundest ratios of the range that leave their labels room on a logarithmic axis."""
    from matplotlib.ticker import FixedLocator

    room = 0.11 * math.log(high / low)
    chosen: list[float] = []
    for tick in (1, 0.5, 2, 0.25, 4, 0.125, 8, 16, 0.75, 1.5, 1.25, 0.9, 1.1, 3, 6, 12):
        if low <= tick <= high and all(abs(math.log(tick / other)) >= room for other in chosen):
            chosen.append(tick)
    return FixedLocator(sorted(chosen))
