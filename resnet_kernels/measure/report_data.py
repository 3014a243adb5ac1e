"""What the reports read out of records: cases, ratios, and the few figures that sum a run up.

Rows are those of `record.Row` as they stand in JSON.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from .problems import convolutions
from .record import Run

Row = dict[str, Any]
DTYPES = ("bfloat16", "float16", "tf32", "float32")
DIRECTIONS = ("fprop", "train_forward", "train_backward", "dgrad", "wgrad", "elementwise")


@dataclass(frozen=True)
class Comparison:
    """Our row of a case beside the fastest peer's that computed the right thing; both measured.

    ratio: the peer's time over ours, with the interval [low, high]; verdict: faster, slower, same or unclear.
    """

    ours: Row
    peer: Row
    ratio: float
    low: float
    high: float
    verdict: str


def measured(rows: Iterable[Row]) -> list[Row]:
    """The rows that have a time."""
    return [row for row in rows if row["status"] == "measured" and row["seconds"]]


def cases(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Case -> its rows, in the order of the file."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["case"], []).append(row)
    return found


def comparisons(rows: Iterable[Row]) -> list[Comparison]:
    """One for each row of ours that was timed beside a peer and computed the right thing."""
    found = []
    for case in cases(rows).values():
        for ours in measured(case):
            peer = next((row for row in measured(case) if row["implementation"] == ours["best_peer"]), None)
            if not ours["ours"] or peer is None or ours["match"] is False:
                continue
            told = ours["ratios"].get(ours["best_peer"])
            if told is None:
                continue
            found.append(Comparison(ours, peer, told["ratio"], told["low"], told["high"], told["verdict"]))
    return found


def primary(found: Iterable[Comparison]) -> list[Comparison]:
    """One a case: our fastest implementation of it (plain, in a CUDA graph, compiled)."""
    best: dict[str, Comparison] = {}
    for comparison in found:
        case = comparison.ours["case"]
        if case not in best or comparison.ours["seconds"] < best[case].ours["seconds"]:
            best[case] = comparison
    return list(best.values())


def geometric_mean(values: Sequence[float]) -> float | None:
    """exp of the mean logarithm; None of nothing."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def group(row: Row) -> tuple[str, int, str]:
    """What layers are drawn together: dtype, batch, direction."""
    return (row["dtype"], row["batch"], row["direction"])


def groups(rows: Iterable[Row]) -> dict[tuple[str, int, str], list[Row]]:
    """Group -> rows: 16-bit types first, large batches before small ones, forward before backward."""
    found: dict[tuple[str, int, str], list[Row]] = {}
    for row in rows:
        found.setdefault(group(row), []).append(row)

    def order(key: tuple[str, int, str]) -> tuple[int, int, int]:
        direction = DIRECTIONS.index(key[2]) if key[2] in DIRECTIONS else len(DIRECTIONS)
        return (DTYPES.index(key[0]), -key[1], direction)

    return dict(sorted(found.items(), key=lambda item: order(item[0])))


@dataclass(frozen=True)
class Summary:
    """A run in a few figures; None where it has no such rows.

    ratio: geometric mean over cases, ours against the best peer; wins, cases: how many are not slower.
    floor_share: median share of the roofline's floor, ours; failed: rows whose result was wrong.
    """

    ratio: float | None
    wins: int
    cases: int
    floor_share: float | None
    failed: int


def summary(rows: Iterable[Row]) -> Summary:
    """Of all rows given."""
    rows = list(rows)
    found = primary(comparisons(rows))
    shares = [row["floor_share"] for row in measured(rows) if row["ours"] and row["floor_share"]]
    return Summary(
        ratio=geometric_mean([comparison.ratio for comparison in found]),
        wins=sum(comparison.verdict != "slower" for comparison in found),
        cases=len(found),
        floor_share=median(shares) if shares else None,
        failed=sum(row["match"] is False for row in rows if row["ours"]),
    )


def network_time(rows: Iterable[Row], network: str) -> tuple[float, float, float] | None:
    """(ours, best peers', floor) in seconds for all layers of `network` in turn; None where one is missing.

    The rows are one group's; a layer with several epilogues counts with its slowest of ours, as often as it
    occurs in the network.
    """
    rows = list(rows)
    stem = any(row["direction"] != "dgrad" for row in rows)  # images have no gradient
    wanted = {conv.name for conv in convolutions([network]) if stem or conv.c > 3}
    slowest: dict[str, Comparison] = {}
    for comparison in primary(comparisons(rows)):
        name = comparison.ours["name"]
        if name not in slowest or comparison.ours["seconds"] > slowest[name].ours["seconds"]:
            slowest[name] = comparison
    if wanted - slowest.keys():
        return None
    times = [
        [
            row["count"][network] * row[key]
            for row, key in ((c.ours, "seconds"), (c.peer, "seconds"), (c.ours, "floor"))
        ]
        for name, c in slowest.items()
        if name in wanted
    ]
    ours, peers, floor = (sum(column) for column in zip(*times, strict=True))
    return ours, peers, floor


def best(rows: Iterable[Row], ours: bool) -> Row | None:
    """The fastest measured row, of ours or of the peers, whose result was not wrong."""
    right = [row for row in measured(rows) if row["ours"] == ours and row["match"] is not False]
    return min(right, key=lambda row: row["seconds"]) if right else None


def without(run: Run) -> list[Row]:
    """Rows that have no time, and say why."""
    return [row for row in run.rows if row["status"] != "measured"]


def seconds(value: float | None) -> str:
    """A time with three digits and a unit."""
    if value is None:
        return "–"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= scale:
            return f"{value / scale:#.3g} {unit}".replace(". ", " ")
    return f"{value / 1e-9:#.3g} ns".replace(". ", " ")


def number(value: float | None, digits: int = 3) -> str:
    """Some significant digits, thousands apart, no exponent."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{round(value, places):,.{places}f}".replace(",", " ")


def gib(value: float | None) -> str:
    """Bytes as GiB, MiB or KiB."""
    if value is None:
        return "–"
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= scale:
            return f"{number(value / scale)} {unit}"
    return f"{value:.0f} B"


def place(run: Run) -> str:
    """The device, as a person calls it."""
    device = run.header["device"]
    return str(device["name"])


def revision(run: Run) -> str:
    """The first digits of the git revision, "+" if the tree had changes."""
    git = run.header.get("git") or {}
    if not git.get("revision"):
        return "unknown revision"
    return git["revision"][:9] + ("+" if git.get("dirty") else "")
