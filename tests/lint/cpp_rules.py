"""Rules for csrc/: who may include whom, and what a kernel may not contain.

    binding -> api.h <- dispatch -> kernels -> tile -> <ptx/...>, <launch.h>

A rule is a function from (path, text) to findings; the paths are relative to the root.
"""

import re
from collections.abc import Callable, Iterator

from .tree import Finding, line_of

Rule = Callable[[str, str], Iterator[Finding]]

# What each part may include of ours: quoted includes from csrc/, and angle-bracketed ones of the machine.
COMMON = (
    "machine/device.h",
    "machine/launch_config.h",
    "machine/matrix_operand.h",
    "machine/tensor_map.h",
    "machine/tensor_map_cache.h",
    "machine/words.h",
)
MACHINE = ("ptx/", "launch.h")
LAYERS = {
    "csrc/api.h": (),
    "csrc/binding/": ("api.h", "binding/"),
    "csrc/dispatch/": ("api.h", "dispatch/", "kernels/", "tile/", *COMMON),
    "csrc/kernels/": ("api.h", "kernels/", "tile/", *COMMON, *MACHINE),
    "csrc/tile/": ("api.h", "tile/", *COMMON, *MACHINE),
    "csrc/machine/cuda/": (*COMMON, *MACHINE),
    "csrc/machine/sim/": ("api.h", "benchmark.h", "engine/", "checks/", *COMMON, *MACHINE),
    "csrc/machine/": ("api.h", "machine/"),
}
OTHERS = {  # libraries, and the only places that may include them
    r"(torch|ATen|c10|caffe2)/": ("csrc/binding/",),
    r"Python\.h": ("csrc/binding/", "csrc/machine/sim/module.cpp"),
    r"pybind11/": ("csrc/machine/sim/",),
    r"(cuda|cooperative_groups|mma\.h|curand|cub/|thrust/|cute/|cutlass|nv/)": ("csrc/machine/cuda/",),
}
STANDARD = re.compile(r"[a-z_]+(\.h)?$|(sys|sanitizer)/\w+\.h$")

# The stack switch of a fiber is host assembly; everything else in assembly is an instruction of the GPU.
ASSEMBLY = ("csrc/machine/cuda/", "csrc/machine/sim/engine/fiber.cpp")
LAUNCHER = "csrc/machine/cuda/launch.h"

# Instructions whose place among memory accesses matters.  ld.*.nc reads what no one writes and may move.
ORDERS_MEMORY = re.compile(
    r"\b(bar(rier)?\.|cp\.|st\.|red\.|atom\.|fence\.|membar\.|mbarrier\.|griddepcontrol|"
    r"ld\.(?!\w*(\.\w+)*\.nc)|ldmatrix|stmatrix|wgmma\.(fence|commit|wait)|discard|prefetch)"
)


def without_comments(text: str, keep_strings: bool = False) -> str:
    """The code alone: comments, and the insides of strings unless kept, become spaces; lines stay."""
    pattern = re.compile(
        r'//[^\n]*|/\*.*?\*/|R"\((?:.*?)\)"|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])\'', re.S
    )

    def blank(match: re.Match[str]) -> str:
        found = match.group()
        if found[0] == "/":
            return re.sub(r"[^\n]", " ", found)
        if keep_strings:
            return found
        return found[0] + re.sub(r"[^\n]", " ", found[1:-1]) + found[-1]

    return pattern.sub(blank, text)


def _is_under(path: str, places: tuple[str, ...]) -> bool:
    return any(path == place or (place.endswith("/") and path.startswith(place)) for place in places)


def include_direction(path: str, text: str) -> Iterator[Finding]:
    """Includes run downwards, name their file from csrc/, the machine's headers stand in angle brackets."""
    layer = next((allowed for place, allowed in LAYERS.items() if _is_under(path, (place,))), None)
    for match in re.finditer(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', text, re.M):
        bracket, name = match.groups()
        line = line_of(text, match.start(1))
        if layer is None:
            yield Finding(path, line, "lies in no layer of csrc/: add it to LAYERS")
            return
        other = next((places for library, places in OTHERS.items() if re.match(library, name)), None)
        machine_header = name.startswith(MACHINE)
        if other is not None:
            if not _is_under(path, other):
                yield Finding(path, line, f"<{name}> may be included only in {' and '.join(other)}")
        elif ".." in name or name.startswith("./"):
            yield Finding(path, line, f"{name}: includes name the file from csrc/, never relative")
        elif machine_header and bracket == '"':
            yield Finding(path, line, f"{name}: the machine's headers are included in angle brackets")
        elif bracket == "<" and not machine_header:
            if not STANDARD.match(name):
                yield Finding(path, line, f"<{name}> is neither a standard header nor the machine's")
        elif not any(name == item or (item.endswith("/") and name.startswith(item)) for item in layer):
            yield Finding(
                path, line, f"{name}: this layer may include only {', '.join(layer) or 'nothing of ours'}"
            )


def assembly_place(path: str, text: str) -> Iterator[Finding]:
    """Assembly stands in csrc/machine/cuda/, a fiber's stack switch in one file of the simulator."""
    if _is_under(path, ASSEMBLY):
        return
    for match in re.finditer(r"\b(asm|__asm__|__asm)\b", without_comments(text)):
        yield Finding(path, line_of(text, match.start()), "assembly belongs in csrc/machine/cuda/ptx/")


def assembly_clobber(path: str, text: str) -> Iterator[Finding]:
    """Assembly that orders memory is volatile and clobbers "memory", or accesses move across it."""
    if not path.startswith("csrc/machine/cuda/"):
        return
    code = without_comments(text, keep_strings=True)
    for match in re.finditer(r"\basm\b(\s+volatile)?\s*\(", code):
        statement = _parenthesised(code, match.end() - 1)
        instruction = "".join(re.findall(r'"((?:\\.|[^"\\])*)"', _until_colon(statement)))
        if not ORDERS_MEMORY.search(instruction):
            continue
        line = line_of(code, match.start())
        if match.group(1) is None:
            yield Finding(path, line, f"not volatile, but it orders memory: {instruction[:60]}")
        if not re.search(r':[^:"]*(?:"[^"]*"[^:"]*)*"memory"', statement):
            yield Finding(path, line, f'no "memory" clobber, but it orders memory: {instruction[:60]}')


def _parenthesised(code: str, start: int) -> str:
    """The text from the parenthesis at `start` to the one that closes it; strings may hold parentheses."""
    depth, position, quoted = 0, start, False
    while position < len(code):
        letter = code[position]
        if quoted:
            position += letter == "\\"
            quoted = letter != '"'
        elif letter == '"':
            quoted = True
        elif letter in "()":
            depth += 1 if letter == "(" else -1
            if depth == 0:
                return code[start : position + 1]
        position += 1
    return code[start:]


def _until_colon(statement: str) -> str:
    """The instruction part of an asm statement: up to the first colon outside a string."""
    quoted = False
    for position, letter in enumerate(statement):
        if letter == '"' and statement[position - 1] != "\\":
            quoted = not quoted
        elif letter == ":" and not quoted:
            return statement[:position]
    return statement


FORBIDDEN_IN_KERNELS = {
    r"\b__shared__\b": "shared memory is an address from ptx::smem_base()",
    r"<<<": "kernels start through machine::launch",
    r"\bextern\b": "shared memory is an address from ptx::smem_base()",
    r"\b(__global__|__device__|__host__|__constant__|__forceinline__)": "write RK_DEVICE from <ptx/target.h>",
    r"\b(threadIdx|blockIdx|blockDim|gridDim|warpSize)\b": "write the functions of <ptx/ids.h>",
    r"\b__(syncthreads|syncwarp|threadfence|shfl|ballot|ldg|ldcg|activemask|cvta)\w*": "use <ptx/...>",
    r"\bcuda[A-Z]\w*": "the CUDA runtime is the machine's affair",
    r"\b(atomic(Add|Max|Min|Exch|CAS)|memcpy_async)\b": "no atomics: results are the same bits in every run",
    r"^\s*#\s*if(n?def)?\b": "one source for both machines: no conditional compilation",
    r"\*\s*reinterpret_cast\s*<": "memory is reached through <ptx/...>",
    r"\breinterpret_cast\s*<[^;]*?\*\s*>\s*\([^;]*?\)\s*(\[|->)": "memory is reached through <ptx/...>",
    r"\*\s*\(\s*\w[^()]*\*\s*\)\s*[\w(]": "memory is reached through <ptx/...>",
}
# `T* name` as a parameter, a member or a local; one at this thread's own registers (= &fragment...) is none.
POINTER = re.compile(
    r"(?:^|[;{(,}]|\bpublic:)\s*(?:(?:const|typename|static|constexpr)\s+)*"
    r"[\w:]+(?:<[^;{}()]*>)?(?:\s+const)?\s*"
    r"\*\s*(?:const\s+)?(?:__restrict__\s+)?(\w+)\s*(?:[;,)]|=(?!\s*&))"
)

# `float a[4], b[4] = {};`: a thread's registers.
ARRAYS = re.compile(r"\b(?!return\b|else\b)\w+>?\s+((?:\w+\s*(?:\[[^\]]*\]\s*)+,?\s*)+)[;={]")
# Where these names are a thread's own registers, loaded and stored by the kernel around them.
REGISTERS = {"csrc/kernels/conformance/": {"in", "out"}}


def kernel_vocabulary(path: str, text: str) -> Iterator[Finding]:
    """kernels/ and tile/ name no CUDA keyword, launch syntax, shared array or machine conditional."""
    if not path.startswith(("csrc/kernels/", "csrc/tile/")):
        return
    code = without_comments(text)
    for pattern, instead in FORBIDDEN_IN_KERNELS.items():
        for match in re.finditer(pattern, code, re.M):
            yield Finding(path, line_of(code, match.start()), f"{match.group().strip()[:50]}: {instead}")


def raw_dereference(path: str, text: str) -> Iterator[Finding]:
    """No pointer is subscripted or dereferenced in kernels/ and tile/: the simulator must see every access.

    Names declared as pointers (parameters and members of Params, `const char*` apart),
    then `name[`, `*name` and `name->` wherever they stand; only as `p.name` where the file also has
    an array of that name: registers.
    """
    if not path.startswith(("csrc/kernels/", "csrc/tile/")):
        return
    code = without_comments(text)
    declared = re.sub(r"\bconst\s+char\s*\*", "text ", code)
    arrays = {name for match in ARRAYS.finditer(code) for name in re.findall(r"(\w+)\s*\[", match.group(1))}
    own = next((names for place, names in REGISTERS.items() if path.startswith(place)), set())
    for name in sorted(_pointers(declared) - own):
        holder = r"\b(?:p|params)\.(?:\w+\.)*" if name in arrays else r"(?:\b\w+\s*(?:\.|->)\s*)*\b"
        member = rf"{holder}{name}\b"
        subscript = rf"{member}\s*(?:\[|->)"
        star = rf"(?:[=(,;{{+\-&|!<?:\[]|\breturn|}} *\n)\s*\*\s*\(?\s*{member}(?!\s*\()"
        for match in re.finditer(f"{subscript}|{star}", code):
            yield Finding(
                path,
                line_of(code, match.end()),
                f"{name} is dereferenced: use ld_global, st_global, cp_async",
            )


def _pointers(code: str) -> set[str]:
    """The names declared as pointers; matches overlap, since a comma ends one and begins the next."""
    names, position = set(), 0
    while match := POINTER.search(code, position):
        names.add(match.group(1))
        position = match.start(1)
    return names


def one_launch(path: str, text: str) -> Iterator[Finding]:
    """Kernels start in one function of one file."""
    code = without_comments(text)
    launches = [match.start() for match in re.finditer(r"<<<|\bcu(da)?Launch(Cooperative)?Kernel\w*", code)]
    allowed = 1 if path == LAUNCHER else 0
    for position in launches[allowed:]:
        yield Finding(path, line_of(code, position), f"a kernel is launched here: only {LAUNCHER} does, once")


def float_atomics(path: str, text: str) -> Iterator[Finding]:
    """No float atomics anywhere: their order, and so the bits of a sum, change from run to run."""
    if path.startswith("csrc/machine/sim/"):
        return
    for match in re.finditer(r"\batomicAdd\s*\(|\b(red|atom)\.[\w.:]*\.f(16|32|64)|cp\.reduce", text):
        yield Finding(path, line_of(text, match.start()), f"{match.group()}: no float atomics")


def header_guard(path: str, text: str) -> Iterator[Finding]:
    """Every header says #pragma once."""
    if path.endswith(".h") and not re.search(r"^#pragma once$", text, re.M):
        yield Finding(path, 1, "a header begins with #pragma once")


RULES: tuple[Rule, ...] = (
    include_direction,
    assembly_place,
    assembly_clobber,
    kernel_vocabulary,
    raw_dereference,
    one_launch,
    float_atomics,
    header_guard,
)
