"""The stage that looks into the layers with the largest gaps: what their kernels' time goes into.

Each is one small program under Nsight Compute, whose table is kept as profile-....csv and read into the book.
"""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING

from . import limited, ncu, tools
from .book import Entry

if TYPE_CHECKING:
    from .stages import Context

CASES = 5
REHEARSED = 60.0  # seconds of the simulator


def profiled(context: Context, entry: Entry) -> None:
    """The layers that lose most, as layers.json has them, one by one."""
    from resnet_kernels.errors import UserError
    from resnet_kernels.measure import gaps, record

    file = context.directory / "layers.json"
    try:
        chosen = [gap.ours["case"] for gap in gaps.largest(gaps.choose(record.load(file)), CASES)]
    except UserError as error:
        entry.status, entry.found = "incomplete", f"no gaps to look into: {error}"
        return
    program = [sys.executable, "-m", "benchmarks.campaign.one_case", str(file)]
    if not context.gpu:
        _rehearse(context, entry, [*program, *chosen[:1], "--backend", "simulator"])
        return
    tool = tools.find("ncu")
    if tool is None:
        entry.status, entry.found = "failed", tools.missing("ncu")
        return
    found: dict[str, dict] = entry.details.setdefault("cases", {})
    end = time.monotonic() + context.limit
    for index, case in enumerate(chosen):
        share = (end - time.monotonic()) / (len(chosen) - index)
        if share >= 1 and not found.get(case, {}).get("launches"):
            log = context.directory / f"profile-{re.sub(r'[^a-z0-9]+', '-', case.lower())}.csv"
            log.unlink(missing_ok=True)
            result = context.run(ncu.command(tool, log, [*program, case]), share)
            found[case] = _judge(result, log.read_text() if log.is_file() else "")
    read = [case for case in chosen if found.get(case, {}).get("launches")]
    said = [
        found.get(case, {}).get("said", "incomplete: no time left") for case in chosen if case not in read
    ]
    entry.found = f"{len(read)} of {len(chosen)} layers" + (f"; {said[0]}" if said else "")
    late = any(one.startswith("incomplete") for one in said)
    entry.status = "incomplete" if late else "failed" if said else "passed"
    show(found)


def _rehearse(context: Context, entry: Entry, command: list[str]) -> None:
    result = context.run(command, min(context.limit, REHEARSED))
    entry.found = result.lines[-1] if result.lines else "no output"
    entry.status = "no GPU" if result.code == 0 else "incomplete" if result.timed_out else "failed"


def _judge(result: limited.Result, text: str) -> dict:
    """ "launches", or "said": "incomplete: ..." or "failed: ..."."""
    launches = ncu.read(text)
    if launches and result.code == 0:
        return {"launches": launches}
    if result.timed_out:
        return {"said": f"incomplete: not done after {result.seconds:.0f} s"}
    said = ncu.trouble(text) or (result.lines[-1] if result.lines else "no output")
    return {"said": f"failed: {said}, exit status {result.code}"}


def show(cases: dict[str, dict]) -> None:
    """Print a line a launch, under its layer."""
    heads = ("time", "SMs", "tensor", "DRAM", "L2", "issue", "warps", "moved")
    print(f"\n{'':<8}{''.join(f'{head:>9}' for head in heads)}  stalled by (warps at each issue)")
    for case, found in cases.items():
        print(f"{case}: {found.get('said', '')}")
        for launch in found.get("launches", ()):
            shares = ("working", "tensor", "dram", "l2", "busy", "occupancy")
            cells = [_cell(launch["seconds"], 1e6, " µs"), *(_cell(launch[name], 1, " %") for name in shares)]
            moved = [launch[name] for name in ("read", "written")]
            cells.append("–" if None in moved else _cell(sum(moved), 1e-6, " MB"))
            stalls = ", ".join(f"{reason} {value:.1f}" for reason, value in launch["stalls"])
            print(f"{'':<8}{''.join(f'{cell:>9}' for cell in cells)}  {stalls}\n{'':<8}{launch['kernel']}")


def _cell(value: float | None, scale: float, unit: str) -> str:
    return "–" if value is None else f"{scale * value:.0f}{unit}"
