"""What the compiler made of each kernel: registers and spills from ptxas, instructions from the machine code.

`make sass` prints the table, with the blocks that fit a multiprocessor by the CUDA occupancy rules.  The
ptxas logs lie beside the objects (build/inplace/_C/**/*.ptxas); machine code is read out of
resnet_kernels/_C.abi3.so by cuobjdump: CUDA's, or the one inside the triton package.  Threads, promised
blocks and shared memory stand in a kernel's symbol: entry<Kernel, threads, blocks, bytes>.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from resnet_kernels.measure.occupancy import MULTIPROCESSORS, Occupancy, occupancy

from .tree import ROOT, Finding

LOGS = ROOT / "build/inplace/_C"
EXTENSION = ROOT / "resnet_kernels/_C.abi3.so"
ARCHITECTURES = ("sm_80", "sm_90a")
# Tensor cores (a warp's and a warpgroup's), their loads from shared memory, cp.async, bulk tensor copies in
# and out, and float32 FMA.
COUNTED = ("HMMA", "HGMMA", "LDSM", "LDGSTS", "UTMALDG", "UTMASTG", "FFMA")


class Kernel(NamedTuple):
    """ptxas about one kernel for one architecture; stack and spills in bytes a thread."""

    log: str
    name: str  # mangled
    architecture: str
    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int  # static shared memory, bytes a block; ours is dynamic


_ENTRY = re.compile(r"Compiling entry function '(\S+)' for '(\w+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")


def parse_log(log: str, text: str) -> Iterator[Kernel]:
    """The kernels of one ptxas log; ValueError if a kernel's figures are missing."""
    pieces = re.split(r"(?=ptxas info\s*: Compiling entry function)", text)
    for piece in pieces:
        entry = _ENTRY.search(piece)
        if entry is None:
            continue
        stack, used = _STACK.search(piece), _USED.search(piece)
        if stack is None or used is None:
            raise ValueError(f"{log}: no figures for {entry.group(1)}")
        yield Kernel(
            log, entry.group(1), entry.group(2), int(used[1]), *map(int, stack.groups()), int(used[2] or 0)
        )


def read_logs(folder: Path = LOGS) -> list[Kernel]:
    """All kernels of the last build whose object is part of it, by file and architecture."""
    kernels = []
    for path in sorted(folder.glob("**/*.ptxas")):
        source = ROOT / "csrc" / path.relative_to(folder).with_suffix("").with_suffix(".cu")
        if source.is_file():  # a log of a file that was since renamed says nothing
            kernels += parse_log(path.relative_to(ROOT).as_posix(), path.read_text())
    return kernels


def spills(kernels: list[Kernel]) -> Iterator[Finding]:
    """No kernel keeps values of a thread in memory: neither spilled registers nor a stack frame."""
    for k in kernels:
        if k.spill_stores or k.spill_loads or k.stack:
            what = f"{k.spill_stores} + {k.spill_loads} bytes spilled, stack of {k.stack} bytes"
            yield Finding(k.log, 1, f"{demangled([k.name])[0]} for {k.architecture}: {what}")


def demangled(names: list[str]) -> list[str]:
    """The names as C++ writes them, without our namespaces; as they are where there is no c++filt."""
    if shutil.which("c++filt") is None:
        return names
    text = subprocess.run(
        ["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True
    ).stdout
    return [re.sub(r"\(anonymous namespace\)::|rk::(?:\w+::)*", "", line) for line in text.splitlines()]


class Symbol(NamedTuple):
    """What a kernel's symbol says: its readable name, and its launch: shared memory in bytes a block."""

    name: str
    threads: int
    promised: int  # resident blocks a multiprocessor, by __launch_bounds__
    shared: int


_SYMBOL = re.compile(r"entry<(.*), (\d+)u, (\d+)u, (\d+)u>\(")


def symbols(mangled: list[str]) -> list[Symbol]:
    """entry<rk::sm80::Foo<...>, 128u, 2u, 4096u>(...) becomes (Foo<...>, 128, 2, 4096)."""
    found = []
    for name in demangled(mangled):
        match = _SYMBOL.search(name)
        if match is None:
            raise ValueError(f"{name}: not a kernel that machine::launch starts; `make build` makes it anew")
        found.append(Symbol(match[1].replace("> >", ">>"), *map(int, match.groups()[1:])))
    return found


def cuobjdump() -> str | None:
    """The disassembler: on PATH, or inside the triton package."""
    spec = importlib.util.find_spec("triton")
    inside = Path(next(iter(spec.submodule_search_locations or [])), "backends/nvidia/bin") if spec else None
    return shutil.which("cuobjdump") or shutil.which("cuobjdump", path=inside)


def targets(tool: str, extension: Path = EXTENSION) -> tuple[set[str], set[str]]:
    """(architectures with machine code, architectures with PTX) that the extension carries."""
    machine_code, ptx = (
        subprocess.run([tool, option, str(extension)], capture_output=True, text=True, check=True).stdout
        for option in ("-res-usage", "-lptx")
    )
    return set(re.findall(r"^arch = (\w+)$", machine_code, re.M)), set(re.findall(r"\.(sm_\w+)\.ptx", ptx))


def parse_sass(text: str) -> dict[str, Counter[str]]:
    """Kernel (mangled) -> how often each opcode stands in its machine code."""
    counts: dict[str, Counter[str]] = {}
    current: Counter[str] = Counter()
    for line in text.splitlines():
        if match := re.search(r"Function : (\S+)", line):
            current = counts.setdefault(match.group(1), Counter())
        elif match := re.search(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9]*)", line):
            current[match.group(1)] += 1
    return counts


def sass(tool: str, architecture: str, extension: Path = EXTENSION) -> dict[str, Counter[str]]:
    """`parse_sass` of the extension's machine code for one architecture."""
    command = [tool, "-sass", "-arch", architecture, str(extension)]
    return parse_sass(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


class Row(NamedTuple):
    """One kernel for one architecture: its launch, what ptxas gave it, and its instructions (COUNTED)."""

    file: str
    architecture: str
    symbol: Symbol
    registers: int
    spilled: int  # bytes a thread in local memory: spills, and the stack
    instructions: tuple[int, ...]

    @property
    def occupancy(self) -> Occupancy:
        """Resident blocks on one multiprocessor of the architecture."""
        sm = MULTIPROCESSORS[self.architecture]
        return occupancy(sm, self.symbol.threads, self.registers, self.symbol.shared)


def table(tool: str) -> list[Row]:
    """Every kernel of the build, sorted by file, architecture and name."""
    kernels = read_logs()
    with ThreadPoolExecutor(len(ARCHITECTURES)) as pool:
        counts = dict(zip(ARCHITECTURES, pool.map(lambda a: sass(tool, a), ARCHITECTURES), strict=True))
    rows = []
    for kernel, symbol in zip(kernels, symbols([kernel.name for kernel in kernels]), strict=True):
        found = counts[kernel.architecture].get(kernel.name)
        if found is None:
            raise ValueError(f"{EXTENSION.name} is not of this build: it has no {symbol.name}; `make build`")
        rows.append(
            Row(
                file=kernel.log.removeprefix("build/inplace/_C/kernels/").removesuffix(".o.ptxas"),
                architecture=kernel.architecture,
                symbol=symbol._replace(shared=symbol.shared + kernel.shared),
                registers=kernel.registers,
                spilled=kernel.spill_stores + kernel.spill_loads + kernel.stack,
                instructions=tuple(found[opcode] for opcode in COUNTED),
            )
        )
    return sorted(rows, key=lambda row: (row.file, row.architecture, row.symbol))


def main() -> None:
    """Print the table."""
    tool = cuobjdump()
    if tool is None or not read_logs() or not EXTENSION.is_file():
        sys.exit("needs cuobjdump (CUDA's, or pip install triton) and a build with nvcc: `make build`")
    rows = table(tool)
    for architecture in ARCHITECTURES:
        chosen = [row for row in rows if row.architecture == architecture]
        print(f"\n{architecture}: {len(chosen)} kernels; bytes spilled a thread, shared KiB a block, blocks")
        print("resident on a multiprocessor, the share of its warps, and what runs out first")
        print(
            "threads regs  spilled  shared  blocks  warps  limit        "
            + "".join(f"{name:>8}" for name in COUNTED)
            + "  kernel"
        )
        for row in chosen:
            resident = row.occupancy
            numbers = "".join(f"{count:>8}" for count in row.instructions)
            print(
                f"{row.symbol.threads:>7}{row.registers:>5}{row.spilled:>9}{row.symbol.shared / 1024:>8.1f}"
                f"{resident.blocks:>8}{resident.share:>6.0%}   {resident.limit:<13}{numbers}"
                f"  {row.symbol.name}"
            )


if __name__ == "__main__":
    main()
