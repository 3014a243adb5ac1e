"""A suite's results as one JSON file, written as they come: a crash loses the case in progress and no more.

    {"format": 1, "suite": "layers", "complete": true, "header": {...}, "rows": [...]}

A row is one implementation of one case; its `key` names it, the same in every file, so that `compare` can
join two of them.  Everything is in SI units: seconds, bytes, FLOP/s.  Writing is atomic (a temporary file,
renamed).
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UserError

FORMAT = 1
SUITES = ("layers", "networks", "training", "primitives")
STATUSES = ("measured", "failed", "absent", "skipped")


@dataclass
class Row:
    """One implementation of one case.

    key: the case and the implementation; case: what was computed, shared by rows that were timed interleaved.
    count: network -> how often this layer occurs in it; batch: images.
    direction: fprop, dgrad, wgrad, elementwise, inference, step or ceiling; epilogue: what is fused behind
    it. backend: what ran this package's operators, None for peers.
    cache: "cold" (inputs rotated or the cache flushed between runs), "warm", or "steady" (whole networks:
        as a loop leaves it); sets: input sets taken in turn; flush_bytes: written between two runs, 0 for
        none.
    rounds: the median of each round, in seconds; seconds, q1, q3, iqr, min, max: of all runs.
    flops, bytes: the least there is to do; floor: the roofline's time for it, floor_share = floor / seconds.
    error: relative L2 distance from float64; share: the largest error over what is allowed, None where that
        is not defined; match: whether it was the right result.
    peak_bytes: memory in use at most, beyond what was there before the call.
    ratios: for `ours`, implementation -> {ratio, low, high, verdict}, above 1 where ours is the faster one.
    """

    key: str
    case: str
    suite: str
    name: str
    problem: dict[str, Any]
    networks: list[str]
    count: dict[str, int]
    dtype: str
    batch: int
    direction: str
    epilogue: str
    implementation: str
    label: str
    ours: bool
    backend: str | None = None
    status: str = "measured"
    reason: str | None = None
    cache: str = "cold"
    sets: int = 1
    flush_bytes: int = 0
    runs: int = 0
    rounds: list[float] = field(default_factory=list)
    seconds: float | None = None
    q1: float | None = None
    q3: float | None = None
    iqr: float | None = None
    min: float | None = None
    max: float | None = None
    flops: int = 0
    bytes: int = 0
    tflops: float | None = None
    gbs: float | None = None
    floor: float | None = None
    bound: str | None = None
    floor_share: float | None = None
    images_per_second: float | None = None
    error: float | None = None
    share: float | None = None
    match: bool | None = None
    match_note: str | None = None
    peak_bytes: int | None = None
    clocks: dict[str, Any] = field(default_factory=dict)
    ratios: dict[str, dict[str, Any]] = field(default_factory=dict)
    best_peer: str | None = None


@dataclass
class Run:
    """One file: `rows` as they stand in JSON."""

    suite: str
    header: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    complete: bool = False
    path: Path | None = None

    def cases(self) -> set[str]:
        """What has been measured already."""
        return {row["case"] for row in self.rows}

    def add(self, rows: list[Row]) -> None:
        """Append a case's rows and write the file."""
        self.rows += [_plain(asdict(row)) for row in rows]
        self.save()

    def save(self) -> None:
        """Write `path`, whole or not at all; nothing without a path."""
        if self.path is None:
            return
        content = {"format": FORMAT, "suite": self.suite, "complete": self.complete, "header": self.header}
        text = json.dumps(content, indent=1)[:-2] + ',\n "rows": [\n'
        text += ",\n".join("  " + json.dumps(row, allow_nan=False) for row in self.rows) + "\n ]\n}\n"
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)


def load(path: Path) -> Run:
    """Read a file that `Run.save` wrote.

    Raises:
        UserError: no such file, or not a record of benchmarks.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict) or not {"format", "suite", "header", "rows"} <= content.keys():
        raise UserError(f"{path} is not a record of benchmarks: it lacks format, suite, header or rows")
    if content["format"] != FORMAT:
        raise UserError(f"{path} has format {content['format']}, this version reads {FORMAT}: measure again")
    return Run(content["suite"], content["header"], content["rows"], bool(content.get("complete")), path)


def begin(suite: str, header: dict[str, Any], directory: Path) -> Run:
    """The file directory/suite.json: the one there if it was interrupted and is of the same make, else a
    new one.

    An older file is never written over: it is renamed after its date.

    Raises:
        UserError: the directory cannot be made or the file there is not a record.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the directory {directory}: {error.strerror or error}") from error
    path = directory / f"{suite}.json"
    if path.exists():
        found = load(path)
        if not found.complete and _make(found.header) == _make(header):
            return found
        path.replace(_free(directory / f"{suite}-{found.header['date'].replace(':', '')}.json"))
    return Run(suite, header, path=path)


def _make(header: dict[str, Any]) -> list[Any]:
    """What two sessions must agree in for their rows to stand in one file."""
    options = {key: value for key, value in header["options"].items() if key != "time_limit"}
    device = {key: header["device"][key] for key in ("kind", "name", "threads")}
    return [options, device, header["versions"], header["git"], header["binary"]]


def _free(path: Path) -> Path:
    """`path`, or with a number behind it if there is such a file."""
    names = (path.with_name(f"{path.stem}-{i}{path.suffix}") for i in range(2, 1000))
    return path if not path.exists() else next(name for name in names if not name.exists())


def _plain(value: Any) -> Any:
    """As JSON takes it: five significant digits, None for what is not finite."""
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
