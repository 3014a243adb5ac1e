"""Benchmark results for people: tables on the terminal, CSV files, and one HTML page."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from ..errors import UserError
from ..page import html
from ..page.terminal import table, verdict
from . import record
from . import report_data as data
from .record import Run
from .report_data import Row

if TYPE_CHECKING:
    from .compare import Change

COMMITTED = Path(__file__).resolve().parents[2] / "benchmarks/results"
STYLES = {"faster": "bold green", "slower": "bold red", "same": "", "unclear": "dim"}
COLUMNS = (
    *("key", "suite", "name", "networks", "dtype", "batch", "direction", "epilogue", "implementation"),
    *("label", "ours", "backend", "status", "reason", "cache", "runs", "seconds", "q1", "q3", "iqr", "min"),
    *("max", "flops", "bytes", "tflops", "gbs", "floor", "bound", "floor_share", "images_per_second"),
    *("error", "share", "match", "peak_bytes", "best_peer", "ratio", "ratio_low", "ratio_high", "verdict"),
)


def show(runs: Sequence[Run], console: Console) -> None:
    """Print each run as tables, and what is missing from it."""
    for run in runs:
        console.print()
        rows = data.measured(run.rows)
        if run.suite == "primitives":
            console.print(_ceilings(run, rows))
        elif run.suite == "layers":
            for (dtype, batch, direction), chosen in data.groups(run.rows).items():
                console.print(_layers(f"{direction}, {dtype}, batch {batch}, on {data.place(run)}", chosen))
        else:
            console.print(_rates(f"{run.suite}, on {data.place(run)}", rows))
        _missing(run, console)


def write(runs: Sequence[Run], directory: Path, committed: Path = COMMITTED) -> list[Path]:
    """Write a CSV file a suite and report.html into `directory`, and say what was written.

    The page's history is over the records in `committed` (every JSON file below it) and `runs`.

    Raises:
        UserError: the directory cannot be written.
    """
    from . import report_page

    written = []
    for run in runs:
        path = directory / f"{run.suite}.csv"
        _csv(run.rows, path)
        written.append(path)
    page = directory / "report.html"
    known = {(run.suite, run.header["date"]) for run in runs}
    past = [run for run in history(committed) if (run.suite, run.header["date"]) not in known]
    html.write(report_page.page(runs, [*past, *runs]), page)
    return [*written, page]


def history(directory: Path) -> list[Run]:
    """Every record of benchmarks below `directory`, by date; other files are passed over."""
    found = []
    for path in sorted(directory.glob("**/*.json")):
        try:
            found.append(record.load(path))
        except UserError:
            continue
    return sorted(found, key=lambda run: run.header["date"])


def show_changes(changes: Iterable[Change], console: Console) -> None:
    """Print what became faster or slower between two records, and count the rest."""
    shown = table("Change of each row", "row", "#before", "#now", "#speed", "#95 % interval", "")
    counts: dict[str, int] = {}
    for change in changes:
        counts[change.verdict] = counts.get(change.verdict, 0) + 1
        interval = f"{change.low:.3f} – {change.high:.3f}" if change.low and change.high else ""
        shown.add_row(
            change.key,
            data.seconds(change.old),
            data.seconds(change.new),
            f"{change.ratio:.3f} ×" if change.ratio else "",
            interval,
            Text(change.verdict, STYLES.get(change.verdict, "dim")),
        )
    console.print(shown)
    console.print(", ".join(f"{count} {what}" for what, count in counts.items()) or "no rows in common")


def _csv(rows: Sequence[Row], path: Path) -> None:
    """One line a row of the record; the ratio is that to the best peer."""
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            for row in rows:
                told = row["ratios"].get(row["best_peer"] or "", {})
                writer.writerow(
                    {
                        **row,
                        "networks": " ".join(row["networks"]),
                        "ratio": told.get("ratio"),
                        "ratio_low": told.get("low"),
                        "ratio_high": told.get("high"),
                        "verdict": told.get("verdict"),
                    }
                )
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def _layers(title: str, rows: Sequence[Row]) -> Any:
    told = data.summary(rows)
    caption = None
    if told.ratio is not None:
        caption = f"geometric mean of {told.cases}: {told.ratio:.2f} x the best peer; {told.wins} not slower"
    heads = ("layer", "fused", "#ours", "#of limit", "#best peer", "", "#ratio", "", "match")
    shown = table(title, *heads, caption=caption)
    compared = {c.ours["case"]: c for c in data.primary(data.comparisons(rows))}
    for case, chosen in data.cases(rows).items():
        ours, peer = data.best(chosen, ours=True), data.best(chosen, ours=False)
        row = ours or peer
        if row is None:
            continue
        found = compared.get(case)
        shown.add_row(
            row["name"].removeprefix("conv "),
            row["epilogue"].replace("_", "+"),
            data.seconds(ours["seconds"]) if ours else "–",
            f"{100 * ours['floor_share']:.0f} %" if ours and ours["floor_share"] else "–",
            data.seconds(peer["seconds"]) if peer else "–",
            peer["implementation"] if peer else "",
            f"{found.ratio:.2f}" if found else "–",
            Text(found.verdict, STYLES.get(found.verdict, "")) if found else "",
            _match(chosen),
        )
    return shown


def _match(case: Sequence[Row]) -> Text | str:
    """Whether our results in a case were right; nothing where they were not compared."""
    judged = [row["match"] for row in data.measured(case) if row["ours"] and row["match"] is not None]
    return verdict(all(judged)) if judged else ""


def _rates(title: str, rows: Sequence[Row]) -> Any:
    heads = (
        "network",
        "dtype",
        "#batch",
        "",
        "#time",
        "#img/s",
        "#of limit",
        "#memory",
        "#ratio",
        "",
        "match",
    )
    shown = table(title, *heads, caption="ratio: the best peer's time over ours; above 1 ours is faster")
    case = None
    for row in rows:
        if case not in (None, row["case"]):
            shown.add_section()
        case = row["case"]
        told = row["ratios"].get(row["best_peer"] or "")
        shown.add_row(
            row["name"],
            row["dtype"],
            str(row["batch"]),
            row["implementation"],
            data.seconds(row["seconds"]),
            data.number(row["images_per_second"]),
            f"{100 * row['floor_share']:.0f} %" if row["floor_share"] else "–",
            data.gib(row["peak_bytes"]),
            f"{told['ratio']:.2f}" if told else "",
            Text(told["verdict"], STYLES.get(told["verdict"], "")) if told else "",
            "" if row["match"] is None else verdict(row["match"]),
            style="bold" if row["ours"] else None,
        )
    return shown


def _ceilings(run: Run, rows: Sequence[Row]) -> Any:
    shown = table(f"Ceilings of {data.place(run)}", "what", "dtype", "#time", "#GB/s", "#TFLOP/s")
    for row in rows:
        shown.add_row(
            row["label"],
            row["dtype"],
            data.seconds(row["seconds"]),
            data.number(row["gbs"]) if row["gbs"] else "",
            data.number(row["tflops"]) if row["tflops"] else "",
        )
    return shown


def _missing(run: Run, console: Console) -> None:
    """One line a reason."""
    reasons: dict[str, int] = {}
    for row in data.without(run):
        said = f"{row['label']}: {row['status']}, {row['reason'] or 'no reason given'}"
        reasons[said] = reasons.get(said, 0) + 1
    for said, count in reasons.items():
        console.print(f"{count} x {said}", markup=False, style="dim")
    if not run.complete:
        console.print(f"{run.suite}: not complete; the same command goes on where it stopped", style="yellow")
