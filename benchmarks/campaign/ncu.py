"""Nsight Compute's command line, and the table that it prints: what a kernel's time went into.

`--page raw --csv` gives a line a launch: a header with the names of the metrics, a line with their units (its
ID is empty), then the launches.  Lines of the tool itself begin with "==" and may stand anywhere before.
Clocks are left as they are; caches are flushed before every pass, as the layers were measured.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

OURS = "regex:rk::machine::entry"  # every kernel of this package is an instance of that one
METRICS = {
    "seconds": "gpu__time_duration.sum",
    "working": "sm__cycles_active.avg.pct_of_peak_sustained_elapsed",
    "tensor": "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed",
    "dram": "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed",
    "l2": "lts__throughput.avg.pct_of_peak_sustained_elapsed",
    "busy": "sm__instruction_throughput.avg.pct_of_peak_sustained_active",
    "occupancy": "sm__warps_active.avg.pct_of_peak_sustained_active",
    "read": "dram__bytes_read.sum",
    "written": "dram__bytes_write.sum",
}
"""What a launch's line is read for: seconds, percentages of the peak, bytes; and the stalls."""

STALLS = "WarpStateStats"  # the section that has every stall reason of the architecture
_STALL = re.compile(r"smsp__average_warps_issue_stalled_(\w+)_per_issue_active\.ratio")
_NO_STALLS = ("selected", "not_selected")
_TIMES = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_LONG = {"second": 1.0, "msecond": 1e-3, "usecond": 1e-6, "nsecond": 1e-9}  # as older releases write them
_BYTES = {"byte": 1.0, "Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9}
_UNITS = _TIMES | _LONG | _BYTES
MOST_STALLS = 3


def command(tool: str, log: Path, program: Sequence[str]) -> list[str]:
    """`program` under the profiler: our kernels between cudaProfilerStart and -Stop, the table into `log`."""
    chosen = ["--profile-from-start", "off", "--kernel-name-base", "demangled", "--kernel-name", OURS]
    asked = ["--metrics", ",".join(METRICS.values()), "--section", STALLS]
    printed = ["--csv", "--page", "raw", "--print-units", "base", "--log-file", str(log)]
    return [tool, "--clock-control", "none", *chosen, *asked, *printed, *program]


def read(text: str) -> list[dict]:
    """A launch each: "kernel", METRICS' names (None where the tool could not tell), "stalls".

    stalls: [reason, warps stalled for it at every instruction issued], the largest first.
    """
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), len(lines))
    rows = list(csv.DictReader(line for line in lines[start:] if line.startswith('"')))
    units = rows.pop(0) if rows and not rows[0]["ID"] else {}
    return [_launch(row, units) for row in rows]


def _launch(row: dict[str, str], units: dict[str, str]) -> dict:
    found: dict = {"kernel": kernel(row["Kernel Name"])}
    for name, metric in METRICS.items():
        found[name] = _value(row.get(metric), units.get(metric))
    stalls = (
        (match[1], _value(row[name], None)) for name in row if name and (match := _STALL.fullmatch(name))
    )
    known = [(reason, value) for reason, value in stalls if value and reason not in _NO_STALLS]
    found["stalls"] = [list(stall) for stall in sorted(known, key=lambda stall: -stall[1])[:MOST_STALLS]]
    return found


def _value(text: str | None, unit: str | None) -> float | None:
    """In seconds, bytes or what the unit is; thousands may be set apart by commas."""
    try:
        return float((text or "").replace(",", "")) * _UNITS.get(unit or "", 1.0)
    except ValueError:
        return None


def kernel(name: str) -> str:
    """ "void rk::machine::entry<rk::sm90::Conv<...>, 384u, 1u, 4096u>(...)" becomes "sm90::Conv<...>"."""
    match = re.search(r"entry<(.*)>\s*\(", name)
    return match[1].rsplit(",", 3)[0].replace("rk::", "").strip() if match else name


def trouble(text: str) -> str | None:
    """The last line in which the tool complains."""
    said = [line for line in text.splitlines() if re.match(r"==(ERROR|WARNING)== ", line)]
    return said[-1] if said else None
