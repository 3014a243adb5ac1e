"""What a compiled module asks of the process that loads it, read from its ELF tables."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection, GNUVerSymSection
from elftools.elf.sections import SymbolTableSection

from .tree import Finding

# The C and C++ run-time libraries, and the one library of torch that every build of it has.
LIBRARIES = re.compile(r"(libtorch_cpu|libstdc\+\+|libgcc_s|lib(c|m|dl|rt|pthread))\.so|ld-linux")
# What may be undefined without a library's version on it: torch's stable ABI, Python's C API, the linker's.
STABLE = re.compile(
    r"(aoti_torch_|torch_|_?Py|_ITM_|__gmon_start__$|__cxa_finalize$|__asan_|__ubsan_|__tsan_)"
)


class SharedObject(NamedTuple):
    """The tables of one shared object."""

    path: str
    needed: list[str]
    exported: list[str]  # strong symbols; a weak one is a template or a type that every library has
    undefined: list[str]  # symbols without a version; the C and C++ libraries version theirs


def read(path: Path) -> SharedObject:
    """Read the tables; ValueError (pyelftools' ELFError) if it is no ELF file."""
    with path.open("rb") as file:
        elf = ELFFile(file)
        dynamic = next(section for section in elf.iter_sections() if isinstance(section, DynamicSection))
        needed = [tag.needed for tag in dynamic.iter_tags() if tag.entry.d_tag == "DT_NEEDED"]
        symbols = elf.get_section_by_name(".dynsym")
        versions = elf.get_section_by_name(".gnu.version")
        assert isinstance(symbols, SymbolTableSection)
        versioned: set[int] = set()
        if isinstance(versions, GNUVerSymSection) and any(
            isinstance(section, GNUVerNeedSection) for section in elf.iter_sections()
        ):
            indices = (version.entry.ndx for version in versions.iter_symbols())
            versioned = {number for number, index in enumerate(indices) if isinstance(index, int)}
        exported, undefined = [], []
        for number, symbol in enumerate(symbols.iter_symbols()):
            if not symbol.name:
                continue
            if symbol.entry.st_shndx == "SHN_UNDEF":
                if number not in versioned:
                    undefined.append(symbol.name)
            elif symbol.entry.st_info.bind == "STB_GLOBAL":
                exported.append(symbol.name)
    return SharedObject(path.name, needed, exported, undefined)


def unstable_symbols(module: SharedObject) -> Iterator[Finding]:
    """Of torch, only its stable ABI is used; nothing of CUDA is left to be found at load time."""
    for name in module.undefined:
        if not STABLE.match(name):
            yield Finding(module.path, 0, f"needs {name}, which is in no stable ABI")


def unwanted_libraries(module: SharedObject) -> Iterator[Finding]:
    """Nothing is linked that a CPU-only torch, or a machine without a GPU, does not have."""
    for name in module.needed:
        if not LIBRARIES.match(name):
            yield Finding(module.path, 0, f"links {name}")
    if not any(name.startswith("libtorch_cpu.so") for name in module.needed):
        yield Finding(module.path, 0, "does not link libtorch_cpu, whose symbols it uses")


def exported_names(module: SharedObject) -> Iterator[Finding]:
    """Only the module's entry is exported: two modules in one process never mix."""
    for name in module.exported:
        if not name.startswith("PyInit_"):
            yield Finding(module.path, 0, f"exports {name}")


RULES = (unstable_symbols, unwanted_libraries, exported_names)
