"""What the compiler made of each kernel: registers and spills from ptxas, instructions from the machine code.

`make sass` prints the table.  The ptxas logs lie beside the objects (build/inplace/_C/**/*.ptxas); machine
code is read out of resnet_kernels/_C.abi3.so by cuobjdump: CUDA's, or the one inside the triton package.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .tree import ROOT, Finding

LOGS = ROOT / "build/inplace/_C"
EXTENSION = ROOT / "resnet_kernels/_C.abi3.so"
ARCHITECTURES = ("sm_80", "sm_90a")
# Tensor cores, their loads from shared memory, cp.async, float32 FMA, and traffic to local memory.
COUNTED = ("HMMA", "LDSM", "LDGSTS", "FFMA", "LDL", "STL")


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
    """Readable kernel names: entry<rk::sm80::Foo<...>>(...) becomes Foo<...>."""
    if shutil.which("c++filt") is None:
        return names
    text = subprocess.run(
        ["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True
    ).stdout
    found = (re.search(r"entry<(.*)>\(", line) for line in text.splitlines())
    readable = [match.group(1) if match else name for match, name in zip(found, names, strict=True)]
    return [re.sub(r"\(anonymous namespace\)::|rk::\w+::", "", name).strip() for name in readable]


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


def main() -> None:
    """Print the table."""
    tool, kernels = cuobjdump(), read_logs()
    if tool is None or not kernels or not EXTENSION.is_file():
        sys.exit("needs cuobjdump (CUDA's, or pip install triton) and a build with nvcc: `make build`")
    for architecture in ARCHITECTURES:
        chosen = [k for k in kernels if k.architecture == architecture]
        counts = sass(tool, architecture)
        print(f"\n{architecture}: {len(chosen)} kernels; spills and stack in bytes a thread")
        print("registers  spills  stack" + "".join(f"{name:>8}" for name in COUNTED) + "  kernel")
        for k, name in zip(chosen, demangled([k.name for k in chosen]), strict=True):
            numbers = "".join(f"{counts.get(k.name, {}).get(opcode, 0):>8}" for opcode in COUNTED)
            print(f"{k.registers:>9}{k.spill_stores + k.spill_loads:>8}{k.stack:>7}{numbers}  {name}")


if __name__ == "__main__":
    main()
