"""Training and test error over iterations, from the logs of training runs (figures 1, 4 and 6).

Thin lines are the training error (on augmented images, over the iterations between two rows of the log), bold
ones the test error.  Where the runs are of plain and of residual networks, each kind has its panel and equal
depths have equal colours.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..train import log
from . import plots

TITLES = {"plain": "plain networks", "residual": "residual networks", None: ""}
SETTLED = 0.2  # of a run, after which its errors decide how high the picture reaches


@dataclass(frozen=True)
class Curve:
    """(iteration, error) points of one run; errors are fractions 0 .. 1."""

    name: str
    train: tuple[tuple[int, float], ...]
    test: tuple[tuple[int, float], ...]


def read(path: Path, name: str | None = None) -> Curve:
    """The curve in the log of a run: its directory, or a CSV file with the trainer's columns.

    Args:
        name: of the curve; by default the network that the directory's recipe names, otherwise the
            directory's own name.

    Raises:
        UserError: there is no log, it is no log of the trainer, or it has no rows yet.
    """
    file = path / log.FILE if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"no log {file}: give a directory that `train` wrote, or its {log.FILE}")
    wanted = ("iteration", "train_error", "test_error")
    try:
        with file.open(newline="") as opened:
            reader = csv.DictReader(opened)
            if not set(wanted) <= set(reader.fieldnames or ()):
                raise UserError(f"{file} is no log of `train`: its first line must name {', '.join(wanted)}")
            rows = [{key: row[key] for key in wanted} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read the log {file}: {error}") from error
    points: dict[str, list[tuple[int, float]]] = {"train_error": [], "test_error": []}
    for number, row in enumerate(rows, start=2):
        try:
            for key, found in points.items():
                if row[key]:
                    found.append((int(row["iteration"]), float(row[key])))
        except (TypeError, ValueError) as error:
            raise UserError(f"{file}, line {number}: {error}") from error
    if not points["train_error"] and not points["test_error"]:
        raise UserError(f"{file} has no rows yet: wait for the run's first")
    return Curve(name or _name(file), tuple(points["train_error"]), tuple(points["test_error"]))


def _name(file: Path) -> str:
    """The network of the run, or its directory's name."""
    from ..train import Recipe

    try:
        return Recipe.load(file.parent / "recipe.toml").model
    except UserError:
        return file.absolute().parent.name if file.name == log.FILE else file.stem


def write(paths: Sequence[Path], picture: Path, title: str = "", names: Sequence[str] = ()) -> list[Curve]:
    """Draw the curves of runs (`read`) to the PNG `picture` and return them.

    Args:
        names: of the curves, in the order of `paths`; none to name them after their networks.

    Raises:
        UserError: a log cannot be read, the picture cannot be written, or the names are not as many.
    """
    if names and len(names) != len(paths):
        raise UserError(f"{len(names)} names for {len(paths)} runs: give one for each, or none")
    found = [read(path, names[i] if names else None) for i, path in enumerate(paths)]
    called = plots.distinct(curve.name for curve in found)
    curves = [replace(curve, name=name) for curve, name in zip(found, called, strict=True)]
    draw(curves, picture, title)
    return curves


def draw(curves: Sequence[Curve], picture: Path, title: str = "") -> None:
    """Draw `curves` to the PNG `picture`: a panel each for plain and residual networks, if both are there.

    Raises:
        UserError: `picture` cannot be written.
    """
    families = {plots.family_of(curve.name) for curve in curves}
    panels = ["plain", "residual"] if families == {"plain", "residual"} else [None]
    keys = legend_keys(curves, len(panels))
    shade = plots.shades(keys[curve.name] for curve in _by_depth(curves))
    last = max(iteration for curve in curves for iteration, _ in (*curve.train, *curve.test))
    width = 4.8 * len(panels) + 2.4
    with plots.figure(picture, title or _title(curves), width, 4.6, ncols=len(panels), sharey=True) as grid:
        for axes, panel in zip(grid[0], panels, strict=True):
            for curve in curves:
                if panel in (None, plots.family_of(curve.name)):
                    _line(axes, curve, shade(keys[curve.name]))
            axes.set(title=TITLES[panel], xlabel="iteration", xlim=(0, last), ylim=(0, _height(curves, last)))
            plots.whole_numbers(axes.xaxis)
            plots.per_cent(axes.yaxis)
        grid[0][0].set_ylabel("error (%)")
        entries = dict.fromkeys(keys[curve.name] for curve in _by_depth(curves))
        lines = {key: axes.plot([], [], color=shade(key), lw=2.4)[0] for key in entries}
        grid[0][-1].legend(
            lines.values(),
            lines.keys(),
            loc="upper left",
            bbox_to_anchor=(1.0, 1.0),
            title="bold: test, thin: training",
            title_fontsize=9,
            alignment="left",
        )


def legend_keys(curves: Sequence[Curve], panels: int) -> dict[str, str]:
    """Name of a curve -> what the legend calls it: its depth, if every panel has every depth once."""
    depths = {curve.name: plots.depth_of(curve.name) for curve in curves}
    if panels > 1 and None not in depths.values() and len(set(depths.values())) * panels == len(curves):
        return {name: f"{depth} layers" for name, depth in depths.items()}
    return {name: name for name in depths}


def _by_depth(curves: Sequence[Curve]) -> list[Curve]:
    return sorted(curves, key=lambda curve: plots.depth_of(curve.name) or 0)


def _line(axes: Any, curve: Curve, colour: Any) -> None:
    if curve.train:
        axes.plot(*zip(*curve.train, strict=True), color=colour, lw=0.9, alpha=0.75)
    if curve.test:
        marker = "o" if len(curve.test) == 1 else None
        axes.plot(*zip(*curve.test, strict=True), color=colour, lw=2.4, marker=marker)


def _title(curves: Sequence[Curve]) -> str:
    return "Training and test error" + (f" of {curves[0].name}" if len(curves) == 1 else "")


def _height(curves: Sequence[Curve], last: int) -> float:
    """What the error axis must reach to show every curve once it has settled, in `last` iterations."""
    settled = [
        error
        for curve in curves
        for points in (curve.train, curve.test)
        for iteration, error in points
        if iteration >= SETTLED * last
    ]
    return min(1.0, max(0.02, 1.25 * max(settled, default=1.0)))


def table(curves: Sequence[Curve]) -> tuple[list[str], list[list[Any]]]:
    """Head and rows of a CSV file: a row each point, of training or test."""
    rows = [
        [curve.name, part, iteration, f"{error:.6g}"]
        for curve in curves
        for part, points in (("train", curve.train), ("test", curve.test))
        for iteration, error in points
    ]
    return ["run", "part", "iteration", "error"], rows
