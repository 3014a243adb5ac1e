"""Two files of the same suite, row by row: faster, slower, the same, or unclear.

Rows are joined by their keys.  The two were measured at different times, so what each session shared (clocks,
heat, where memory lay) is no longer cancelled: the ratio's interval is that of independent samples, and a
larger difference than between implementations of one session is needed to count.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UserError
from .record import Run
from .statistics import ratio

TOLERANCE = 0.03


@dataclass(frozen=True)
class Change:
    """One row: seconds before and now, old / new with its 95 % interval (above 1: faster now).

    verdict: "faster", "slower", "same", "unclear"; "new" or "gone" where one file has no such time.
    """

    key: str
    old: float | None
    new: float | None
    ratio: float | None
    low: float | None
    high: float | None
    verdict: str


def compare(old: Run, new: Run, tolerance: float = TOLERANCE) -> list[Change]:
    """Every row of either file, in the new one's order, then what is gone.

    Raises:
        UserError: the files are of different suites.
    """
    if old.suite != new.suite:
        raise UserError(f"the files are of different suites: {old.suite} and {new.suite}")
    before, now = ({row["key"]: row for row in run.rows if row["status"] == "measured"} for run in (old, new))
    changes = []
    for key, row in now.items():
        if key not in before:
            changes.append(Change(key, None, row["seconds"], None, None, None, "new"))
            continue
        found = ratio(before[key]["rounds"], row["rounds"], paired=False, tolerance=tolerance)
        times = before[key]["seconds"], row["seconds"]
        changes.append(Change(key, *times, found.ratio, found.low, found.high, found.verdict))
    gone = [key for key in before if key not in now]
    return changes + [Change(key, before[key]["seconds"], None, None, None, None, "gone") for key in gone]


def differences(old: Run, new: Run) -> list[str]:
    """What else changed between the two: device, versions, cache; a sentence each, none if nothing did."""
    found = []
    for what, read in (
        ("device", lambda header: header["device"]["name"]),
        ("threads", lambda header: header["device"]["threads"]),
        ("ours", lambda header: header["ours"]),
        ("cache", lambda header: header["options"]["cache"]),
    ):
        before, now = read(old.header), read(new.header)
        if before != now:
            found.append(f"{what}: {before} -> {now}")
    for name, now in new.header["versions"].items():
        before = old.header["versions"].get(name)
        if before != now:
            found.append(f"{name}: {before or 'none'} -> {now or 'none'}")
    return found
