"""Keep what a campaign has measured with the project, and write README's figures out of it.

    python -m benchmarks.keep runs/campaign          a campaign's directory, or its --archive

The records go to benchmarks/results/MACHINE/DATE-WHAT.json, as they are but for the directory in their
command, and those in what the campaign says; a picture of the layers goes beside them.  The hardware's
answers to the conformance cases go to the tests, which hold the simulator to them.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from resnet_kernels.errors import UserError
from resnet_kernels.measure import gaps, record, report, report_plots
from resnet_kernels.measure import report_data as data
from resnet_kernels.measure.record import Run

from . import performance
from .campaign.book import take_over
from .campaign.stages import ANSWERS, GOLDEN

BESIDE = ("tuned", "campaign")  # what else a campaign leaves as JSON
_OUTPUT = re.compile(rb' (?:--output|-o)[ =][^\s"]+')
_DIRECTORIES = re.compile(r"(?<![\w.:/])/(?:[\w.+@-]+/)+")  # of an absolute path
MOST_LAYERS = 40  # in the picture


def keep(source: Path, results: Path, answers: Path, replace: bool = False) -> list[Path]:
    """Copy the records of a campaign to `results`, its conformance to `answers`; what was written.

    Raises:
        UserError: nothing there to keep, or a file of that name with other contents.
    """
    if not source.exists():
        raise UserError(f"there is no {source}: name a campaign's directory or archive")
    with tempfile.TemporaryDirectory() as name:
        taken = Path(name)
        try:
            take_over(source, taken)
        except tarfile.TarError as error:
            raise UserError(f"{source} is neither a campaign's directory nor its archive: {error}") from error
        runs = [
            record.load(path)
            for path in (taken / f"{suite}.json" for suite in record.SUITES)
            if path.is_file()
        ]
        if not runs:
            suites = ", ".join(f"{suite}.json" for suite in record.SUITES)
            raise UserError(f"{source} has no record to keep: none of {suites}")
        if len({data.place(run) for run in runs}) > 1:
            raise UserError(f"the records in {source} are of different devices: keep those of one")
        dates = {run.suite: run.header["date"][:10] for run in runs}
        dates |= {what: max(dates.values()) for what in BESIDE if (taken / f"{what}.json").is_file()}
        folder = results / machine(runs[0])
        files = {
            folder / f"{date}-{what}.json": _OUTPUT.sub(b"", (taken / f"{what}.json").read_bytes())
            for what, date in dates.items()
        }
        for path, content in files.items():
            if path.stem.endswith("-campaign"):
                files[path] = json.dumps(without_directories(json.loads(content)), indent=1).encode() + b"\n"
        for path in sorted(taken.glob(f"{ANSWERS}*.npz")):
            files[answers / path.name.removeprefix(ANSWERS)] = path.read_bytes()
    for path, content in files.items():
        if path.exists() and path.read_bytes() != content and not replace:
            raise UserError(f"{path} is there with other contents: move it away, or say --replace")
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return [*files, *(picture for path in files if path.stem.endswith("-layers") for picture in draw(path))]


def without_directories(value: Any) -> Any:
    """The same with absolute paths cut down to their last names, wherever in it they stand."""
    if isinstance(value, dict):
        return {name: without_directories(each) for name, each in value.items()}
    if isinstance(value, list):
        return [without_directories(each) for each in value]
    return _DIRECTORIES.sub("", value) if isinstance(value, str) else value


def machine(run: Run) -> str:
    """A device's name as a directory's: "NVIDIA H200" is h200, every CPU is cpu."""
    if not gaps.on_gpu(run):
        return "cpu"
    words = re.findall(r"[a-z0-9]+", data.place(run).lower())
    return "-".join(word for word in words if word != "nvidia")


def draw(path: Path) -> list[Path]:
    """The picture of a record of layers: inference in the first dtype, at the largest batch."""
    run = record.load(path)
    for (dtype, batch, direction), rows in data.groups(run.rows).items():
        inference = [row for row in rows if direction == "fprop" and row["epilogue"].startswith("bn")]
        if found := data.primary(data.comparisons(inference))[:MOST_LAYERS]:
            picture = path.with_suffix(".png")
            report_plots.ratios_picture(
                found, picture, f"{data.place(run)}: inference, {dtype}, batch {batch}"
            )
            return [picture]
    return []


def main() -> int:
    """0, or 2 for what a person can put right."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.keep", description=__doc__)
    parser.add_argument("campaign", type=Path, help="a campaign's --output or --archive")
    parser.add_argument("--replace", action="store_true", help="write over files of the same names")
    options = parser.parse_args()
    try:
        for path in keep(options.campaign, report.COMMITTED, GOLDEN, options.replace):
            print(f"written: {path}")
    except UserError as error:
        parser.error(str(error))
    return performance.main()


if __name__ == "__main__":
    sys.exit(main())
