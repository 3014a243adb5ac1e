"""Rules for resnet_kernels/: which way imports run.

    cli -> demo, train, evaluate, ... -> data -> models -> nn -> training -> ops -> _register -> _C | _sim

`reference` and `flops` stand apart: they import nothing of ours, so that they can judge it.
"""

import ast
from collections.abc import Iterator

from .tree import Finding

# A part may import parts of a greater depth, and its own; the face (`__init__`) may import everything.
DEPTH = {
    "cli": 0,
    "demo": 1,
    "analysis": 1,
    "detection": 1,
    "train": 2,
    "evaluate": 3,
    "measure": 3,
    "data": 4,
    "machine": 4,
    "page": 4,
    "models": 5,
    "nn": 6,
    "training": 7,
    "ops": 8,
    "tuning": 8,
    "_register": 9,
    "_autograd": 10,
    "simulator": 10,
    "backend": 10,
    "_aten": 11,
    "_checks": 11,
    "_native": 11,
    "errors": 11,
    "_C": 12,
    "_sim": 12,
    "_sim_checked": 12,
}
APART = ("reference", "flops")
FACE_IS_FOR = 4  # the depth down to which `import resnet_kernels` itself is in order
LIGHT = {"reference": ("torch",)}  # libraries a part does without: the oracle is NumPy alone


def imports(path: str, text: str) -> Iterator[tuple[int, str]]:
    """(line, absolute name) of everything a file of the package imports, wherever in the file."""
    package = path.removesuffix(".py").split("/")
    package = package[:-1]  # the package a relative import starts from, for modules and __init__ alike
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def part_of(name: str) -> str:
    """The part of the package a dotted name belongs to; "" for the package's face."""
    parts = name.split(".")
    known = {*DEPTH, *APART}
    return parts[1] if len(parts) > 1 and parts[1] in known else ""


def import_direction(path: str, text: str) -> Iterator[Finding]:
    """Imports run downwards; the oracle and the counts import nothing of ours."""
    mine = path.removesuffix(".py").split("/")[1]
    if mine == "__init__":
        return
    if mine not in DEPTH and mine not in APART:
        yield Finding(path, 1, f"{mine} has no place among the parts: add it to DEPTH")
        return
    for line, name in imports(path, text):
        root = name.split(".")[0]
        if root in LIGHT.get(mine, ()):
            yield Finding(path, line, f"{mine} does without {root}")
        if root != "resnet_kernels":
            continue
        other = part_of(name)
        if other == mine:
            continue
        if mine in APART:
            yield Finding(path, line, f"{mine} imports {name}: it stands apart and imports nothing of ours")
        elif not other:
            if DEPTH[mine] > FACE_IS_FOR:
                yield Finding(path, line, f"{mine} imports the package's face ({name}), which imports it")
        elif other in APART:
            if DEPTH[mine] > FACE_IS_FOR:
                yield Finding(path, line, f"{mine} imports {other}, which is there to judge it")
        elif DEPTH[other] <= DEPTH[mine]:
            yield Finding(path, line, f"{mine} imports {other}: imports run downwards ({other} lies above)")


RULES = (import_direction,)
