"""python -m benchmarks.campaign: run the stages, each within its limit, and print what they found."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from .book import Book, pack, take_over
from .stages import ROOT, STAGES, Context

MOST = 540.0  # seconds a stage


def main() -> int:
    """0 if every stage asked for has passed, 1 otherwise; 2 for a mistake in the arguments."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.campaign", description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=ROOT / "runs/campaign", help="directory of the results"
    )
    parser.add_argument(
        "--from", dest="old", type=Path, help="an earlier --output or --archive to go on with"
    )
    parser.add_argument("--archive", type=Path, help="a .tgz of the output, written anew after every stage")
    parser.add_argument("--limit", type=float, default=MOST, help="seconds a stage, at most %(default)g")
    parser.add_argument("--total", type=float, default=float("inf"), help="seconds in all")
    parser.add_argument("--stages", default=",".join(STAGES), help="which, in order: %(default)s")
    parser.add_argument("--again", action="store_true", help="repeat stages that have passed or failed")
    options = parser.parse_args()
    names = [name.strip() for name in options.stages.split(",") if name.strip()]
    if unknown := [name for name in names if name not in STAGES]:
        parser.error(f"no stage {unknown[0]!r}; there are {', '.join(STAGES)}")
    if not 0 < options.limit <= MOST:
        parser.error(f"--limit must be above 0 and at most {MOST:g}, got {options.limit:g}")
    if options.old is not None and not options.old.exists():
        parser.error(f"--from: there is no {options.old}")
    output = options.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    if options.old is not None:
        take_over(options.old, output)
    return _campaign(names, output, options.limit, options.total, options.again, options.archive)


def _campaign(
    names: list[str], output: Path, limit: float, total: float, again: bool, archive: Path | None
) -> int:
    import torch

    book, end = Book(output), time.monotonic() + total
    gpu = torch.cuda.is_available()
    if not gpu:
        print("no GPU here: every stage rehearses its commands; nothing is measured on a GPU", flush=True)
    for name in names:
        entry = book.entry(name)
        if entry.status in ("passed", "failed") and not again:
            continue
        left = min(limit, end - time.monotonic())
        if left < 1:
            entry.status = entry.status or "incomplete"
            entry.found = entry.found or "no time left; the same command goes on"
            continue
        print(f"\n=== {name}, at most {left:.0f} s", flush=True)
        began = time.monotonic()
        try:
            STAGES[name](Context(output, left, gpu), entry)
        except Exception as error:  # one stage's mistake must not cost the others' results
            entry.status, entry.found = "failed", f"{type(error).__name__}: {error}"
        entry.seconds += time.monotonic() - began
        book.save()
        if archive is not None:
            pack(output, archive)
    book.save()
    _report(output)
    if archive is not None:
        pack(output, archive)
    print(f"\n{book.table()}")
    if not gpu:
        print("no GPU here: this was a rehearsal")
    return int(any(book.entries[name].status != "passed" for name in names))


def _report(output: Path) -> None:
    """The page and tables over every record that is there."""
    from rich.console import Console

    from resnet_kernels.errors import UserError
    from resnet_kernels.measure import record, report

    runs = [
        record.load(path) for path in (output / f"{name}.json" for name in record.SUITES) if path.is_file()
    ]
    if not runs:
        return
    try:
        report.show(runs, Console(width=120, highlight=False))
        report.write(runs, output)
    except UserError as error:
        print(error)


if __name__ == "__main__":
    sys.exit(main())
