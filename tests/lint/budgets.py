"""The budget of every kernel: what the compiler made of it when somebody last looked, kept in budgets.csv.

`make budgets` writes the table anew from the last build and says what changed; the change is reviewed with
the code that caused it.  The test compares every build with the table:

- bytes spilled to local memory, threads, shared memory and resident blocks a multiprocessor: equal;
- registers: within 8, a unit of allocation of a warp, as long as the resident blocks are the same;
- tensor-core and copy instructions: within 10 %, or 8 of them; none where the table has none, some where it
  has some.

These tolerances let another patch release of the same compiler pass.  The kernels of csrc/kernels/conformance
are left out: they exercise one instruction each.
"""

import csv
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from . import machine_code
from .machine_code import COUNTED, Row
from .tree import ROOT, Finding

TABLE = Path(__file__).with_name("budgets.csv")
REGISTERS = 8  # a warp's registers are allocated in units of 256
RELATIVE, ABSOLUTE = 0.10, 8  # instructions
SHOWN = 60  # changes that `make budgets` prints
HEADS = (
    *("file", "architecture", "kernel", "threads", "shared_bytes", "registers", "spilled_bytes"),
    *("blocks_per_sm", *COUNTED),
)


class Budget(NamedTuple):
    """One line of the table; `numbers` are its columns from threads on."""

    file: str
    architecture: str
    kernel: str
    numbers: tuple[int, ...]

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.file, self.architecture, self.kernel)


def of(row: Row) -> Budget:
    """The line that a kernel of the build would have."""
    launch = row.symbol.threads, row.symbol.shared
    numbers = (*launch, row.registers, row.spilled, row.occupancy.blocks, *row.instructions)
    return Budget(row.file, row.architecture, row.symbol.name, numbers)


def measured(tool: str) -> list[Budget]:
    """The lines of the last build."""
    return [of(row) for row in machine_code.table(tool) if not row.file.startswith("conformance/")]


def read(path: Path = TABLE) -> tuple[str, list[Budget]]:
    """(the compiler's release, the lines) of the committed table."""
    first, _, rest = path.read_text().partition("\n")
    lines = list(csv.reader(rest.splitlines()))
    if tuple(lines[0]) != HEADS:
        raise ValueError(f"{path.name} has other columns: `make budgets` writes it anew")
    return first.removeprefix("# nvcc "), [
        Budget(*line[:3], tuple(int(number) for number in line[3:])) for line in lines[1:]
    ]


def write(release: str, budgets: Iterable[Budget], path: Path = TABLE) -> None:
    """Write the table."""
    with path.open("w", newline="") as file:
        file.write(f"# nvcc {release}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADS)
        writer.writerows([*budget[:3], *budget.numbers] for budget in budgets)


def release() -> str:
    """The release of the nvcc that builds take ("13.0.88")."""
    spec = importlib.util.spec_from_file_location("setup_of_release", ROOT / "setup.py")
    assert spec is not None and spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    nvcc = build.find_nvcc()
    if nvcc is None:
        raise ValueError("there is no nvcc: CUDA_HOME, PATH and PyPI's packages have none")
    said = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"release [\d.]+, V([\d.]+)", said)
    if match is None:
        raise ValueError(f"{nvcc} --version does not say its release")
    return match[1]


def breaches(built: list[Budget], kept: list[Budget]) -> Iterator[Finding]:
    """Where the build is not what the table says."""
    table = {budget.key: budget for budget in kept}
    for budget in built:
        known = table.pop(budget.key, None)
        if known is None:
            yield _finding(budget, "not in the table")
            continue
        for name, now, before in zip(HEADS[3:], budget.numbers, known.numbers, strict=True):
            if not _within(name, now, before):
                yield _finding(budget, f"{name} {now}, in the table {before}")
    for budget in table.values():
        yield _finding(budget, "in the table, but no longer built")


def _within(name: str, now: int, before: int) -> bool:
    if name == "registers":
        return abs(now - before) <= REGISTERS
    if name == "FFMA":
        return abs(now - before) <= max(ABSOLUTE, RELATIVE * before)
    if name in COUNTED:
        return (now > 0) == (before > 0) and abs(now - before) <= max(ABSOLUTE, RELATIVE * before)
    return now == before


def _finding(budget: Budget, what: str) -> Finding:
    return Finding(f"csrc/kernels/{budget.file}", 1, f"{budget.kernel} for {budget.architecture}: {what}")


def main() -> None:
    """Write the table anew and print what changed beyond the tolerances."""
    tool = machine_code.cuobjdump()
    if tool is None or not machine_code.EXTENSION.is_file():
        sys.exit("needs cuobjdump (CUDA's, or pip install triton) and a build with nvcc: `make build`")
    built = measured(tool)
    before = read()[1] if TABLE.is_file() else []
    changes = list(breaches(built, before))
    write(release(), built)
    print(*changes[:SHOWN], sep="\n", end="\n" if changes else "")
    if len(changes) > SHOWN:
        print(f"... and {len(changes) - SHOWN} more")
    print(f"{TABLE.name}: {len(built)} kernels, {len(changes)} changes beyond the tolerances")


if __name__ == "__main__":
    main()
