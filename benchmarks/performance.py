"""README's section on performance, written out of the records in benchmarks/results and nothing else.

    python -m benchmarks.performance          writes it; a test holds README to what this would write

A GPU's figures are of its newest record of each suite, and only of kernels of this package; results of ours
that were wrong are in none of them.  Without a record of a GPU the section says that there is none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from resnet_kernels.errors import UserError
from resnet_kernels.measure import gaps, report
from resnet_kernels.measure import report_data as data
from resnet_kernels.measure.problems import IMAGENET
from resnet_kernels.measure.record import SUITES, Run
from resnet_kernels.measure.report_data import Row
from resnet_kernels.measure.report_plots import pretty

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN, END = "<!-- performance: python -m benchmarks.performance -->\n", "<!-- /performance -->\n"
NOTHING = (
    "Nothing has been measured on a GPU yet, so there are no speeds to report.  What the simulator counts "
    "(bytes moved,\nmultiply-adds issued) and what a roofline makes of it are predictions, headed "
    '"predicted, not measured":\n'
)
MEANS = "Speed beside cuDNN's best route, geometric mean over the convolutions (how many are not slower):\n"
TELLING = "resnet50"  # at every batch; the others at their largest


def section(results: Path, beside: Path) -> str:
    """The section as Markdown; its links are relative to the directory `beside`."""
    machines: dict[str, dict[str, Run]] = {}
    for run in report.history(results):
        if gaps.on_gpu(run) and (run.suite == "primitives" or any(map(_ours, run.rows))):
            machines.setdefault(data.place(run), {})[run.suite] = run
    if not machines:
        drawn = sorted(results.glob("cpu/*-predicted-resnet50.png"))[-1:]
        links = [f"\n![Predicted, not measured]({_link(path, beside)})\n" for path in drawn]
        return NOTHING + "".join(links)
    return "\n".join(_machine(name, runs, beside) for name, runs in sorted(machines.items()))


def write(readme: Path, results: Path) -> bool:
    """Put the section between its two comments in `readme`; whether that changed anything.

    Raises:
        UserError: the file has no such comments, or cannot be written.
    """
    try:
        text = readme.read_text(encoding="utf-8")
        head, begun, rest = text.partition(BEGIN)
        _, ended, tail = rest.partition(END)
        if not begun or not ended:
            raise UserError(f"{readme} lacks the comments {BEGIN.strip()} and {END.strip()}: put them back")
        new = head + begun + section(results, readme.parent) + ended + tail
        if new != text:
            readme.write_text(new, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {readme}: {error.strerror or error}") from error
    return new != text


def _ours(row: Row) -> bool:
    """Whether a row is of this package's kernels."""
    return bool(row["ours"]) and row["backend"] == "cuda"


def _link(path: Path, beside: Path) -> str:
    return Path(os.path.relpath(path, beside)).as_posix()


# -----------------------------------------------------------------------------
# One machine


def _machine(name: str, runs: dict[str, Run], beside: Path) -> str:
    newest = max(runs.values(), key=lambda run: run.header["date"])
    header, versions = newest.header, newest.header["versions"]
    facts = [
        header["date"][:10],
        f"PyTorch {versions['torch']}",
        f"cuDNN {versions['cudnn']}",
        f"driver {header['device']['driver']}",
        f"resnet_kernels {data.revision(newest)}",
    ]
    parts = [f"**{name}**, {', '.join(facts)}.\n"]
    rates = [
        line
        for suite, what in (("networks", "inference"), ("training", "training step"))
        if suite in runs
        for line in _rates(runs[suite].rows, what)
    ]
    if rates:
        heads = ("images a second", "dtype", "#batch", "#ours", "#best peer", "", "#speed", "#of limit")
        parts.append(_table(heads, rates))
    if "layers" in runs:
        parts += _layers(runs["layers"], beside)
    if "primitives" in runs:
        parts.append(_table(("ceiling of the device", "dtype", "#reached"), _ceilings(runs["primitives"])))
    parts.append(_sources(runs, beside))
    return "\n".join(parts)


def _rates(rows: Sequence[Row], what: str) -> list[tuple[str, ...]]:
    """A line a network of ImageNet: its best way of ours beside the best of everybody else."""
    pairs = [
        (data.best(filter(_ours, case), ours=True), data.best(case, ours=False))
        for case in data.cases(rows).values()
    ]
    told = [(ours, peer) for ours, peer in pairs if ours and peer and ours["name"] in IMAGENET]
    largest: dict[tuple[str, str], int] = {}
    for ours, _ in told:
        network = ours["name"], ours["dtype"]
        largest[network] = max(ours["batch"], largest.get(network, 0))
    lines = []
    for ours, peer in told:
        if ours["name"] != TELLING and ours["batch"] != largest[ours["name"], ours["dtype"]]:
            continue
        line = (
            f"{pretty(ours['name'])}, {what}",
            ours["dtype"],
            str(ours["batch"]),
            data.number(ours["images_per_second"]),
            data.number(peer["images_per_second"]),
            peer["label"],
            f"{_ratio(ours, peer):.2f} ×",
            f"{100 * ours['floor_share']:.0f} %" if ours["floor_share"] else "–",
        )
        lines.append(((ours["name"] != TELLING, IMAGENET.index(ours["name"]), -ours["batch"]), line))
    return [line for _, line in sorted(lines, key=lambda entry: entry[0])]


def _ratio(ours: Row, peer: Row) -> float:
    """The peer's time over ours: of the interleaved rounds where the record has it."""
    told = ours["ratios"].get(peer["implementation"])
    return float(told["ratio"] if told else peer["seconds"] / ours["seconds"])


def _layers(run: Run, beside: Path) -> list[str]:
    """Geometric means over the convolutions, a line a direction and a column a dtype and batch."""
    found: dict[str, dict[str, str]] = {}
    columns: list[str] = []
    for (dtype, batch, direction), rows in data.groups(run.rows).items():
        ratios = []
        for case in data.cases(rows).values():
            ours, peer = data.best(filter(_ours, case), ours=True), gaps.cudnn(case)
            if ours is not None and peer is not None:
                ratios.append(_ratio(ours, peer))
        mean = data.geometric_mean(ratios)
        if mean is not None:
            column = f"{dtype}, batch {batch}"
            columns += [] if column in columns else [column]
            wins = sum(ratio >= 1 for ratio in ratios)
            found.setdefault(direction, {})[column] = f"{mean:.2f} × ({wins} of {len(ratios)})"
    if not found:
        return []
    lines = [
        (direction.replace("_", " "), *(cells.get(column, "–") for column in columns))
        for direction, cells in found.items()
    ]
    parts = [MEANS, _table(("direction", *(f"#{column}" for column in columns)), lines)]
    picture = run.path.with_suffix(".png") if run.path else None
    if picture is not None and picture.is_file():
        parts.append(f"![Each layer beside its best peer on {data.place(run)}]({_link(picture, beside)})\n")
    return parts


def _ceilings(run: Run) -> Iterable[tuple[str, ...]]:
    for row in data.measured(run.rows):
        reached = data.seconds(row["seconds"])
        if row["flops"]:
            reached = f"{data.number(row['tflops'])} TFLOP/s"
        elif row["bytes"]:
            reached = f"{data.number(row['gbs'])} GB/s"
        yield row["label"], row["dtype"], reached


def _sources(runs: dict[str, Run], beside: Path) -> str:
    """Each file, and the command that made it; what is missing from it."""
    lines = []
    for suite in SUITES:
        if suite in runs:
            run = runs[suite]
            assert run.path is not None
            wrong = sum(
                row["ours"] and (row["status"] == "failed" or row["match"] is False) for row in run.rows
            )
            notes = [] if run.complete else ["not complete"]
            notes += [f"failed or wrong of ours: {wrong}"] if wrong else []
            said = f" ({', '.join(notes)})" if notes else ""
            lines.append(
                f"- [{suite}]({_link(run.path, beside)}), {run.header['date'][:10]}{said}: "
                f"`{run.header['command']}`\n"
            )
    return "".join(lines)


def _table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a head that begins with # is a numeric column."""
    rule = ("--:" if head.startswith("#") else "---" for head in heads)
    rows = [[head.removeprefix("#") for head in heads], list(rule), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main() -> int:
    """0, or 2 for what a person can put right."""
    try:
        changed = write(README, report.COMMITTED)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{'written' if changed else 'up to date'}: {README.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
