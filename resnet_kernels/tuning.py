"""Which configuration computes a convolution: the cost model's choice, a tuned table, or a forced one.

    import resnet_kernels as rk

    rk.tuning.load("h200.json")                   # what `resnet-kernels bench tune` measured
    with rk.tuning.forced("sm80/64x64"): ...      # every convolution that this configuration can compute
    task = rk.tuning.Task.of("fprop", "bfloat16", (256, 64, 56, 56), (64, 64, 3, 3), padding=1)
    for choice in rk.tuning.choices(task): print(choice.configuration, choice.seconds)

A configuration is a family of kernels and a tile of GEMM rows x columns.  Table and force belong to the
process and hold for every compiled machine in it; both may change while other threads run convolutions.
Where a configuration cannot compute a problem, it is as if it had not been named.  Between configurations
results differ by the order of their sums, so by roundings; one gives the same bits in every run.

A table is known by shapes and the number of multiprocessors, not by the GPU's name: load what was measured
on such a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from . import _native, _register
from .errors import UserError

OPERATIONS = ("fprop", "dgrad", "wgrad")
DTYPES = ("bfloat16", "float16", "float32", "tf32")
ON_LOAD = ("nothing", "one", "two", "other")
FORMAT = "resnet_kernels tuned table 1"
H200 = 132  # multiprocessors

Pair = tuple[int, int]


@dataclass(frozen=True)
class Task:
    """A convolution of forward geometry x [n, c, h, w], weight [k, c, r, s], and which of its three products.

    dtype: one of DTYPES; multiprocessors: of the GPU.
    """

    operation: str
    dtype: str
    x: tuple[int, int, int, int]
    weight: tuple[int, int, int, int]
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    multiprocessors: int = H200

    @classmethod
    def of(
        cls,
        operation: str,
        dtype: str,
        x: Sequence[int],
        weight: Sequence[int],
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
        multiprocessors: int = H200,
    ) -> Task:
        """The task of a call with these sizes.

        Images of fewer channels than a 16-byte chunk are padded to one before a convolution with a window
        sees them, and so is the task.
        Raises UserError for an unknown operation or dtype, or sizes that make no convolution.
        """
        if operation not in OPERATIONS or dtype not in DTYPES:
            what, known = (operation, OPERATIONS) if operation not in OPERATIONS else (dtype, DTYPES)
            raise UserError(f"tuning: no {what!r}; there are {', '.join(known)}")
        pairs = [(value, value) if isinstance(value, int) else value for value in (stride, padding, dilation)]
        if len(x) != 4 or len(weight) != 4 or x[1] != weight[1] or any(len(pair) != 2 for pair in pairs):
            raise UserError(f"tuning: x {list(x)} and weight {list(weight)} make no convolution")
        numbers = [*x, *weight, *pairs[0], *pairs[2], *(1 + p for p in pairs[1]), multiprocessors]
        if not all(isinstance(number, int) and 1 <= number < 2**31 for number in numbers):
            raise UserError(f"tuning: the sizes of x {list(x)}, weight {list(weight)} are out of range")
        for i in (0, 1):
            if x[2 + i] + 2 * pairs[1][i] <= pairs[2][i] * (weight[2 + i] - 1):
                raise UserError(f"tuning: the filter {list(weight)} is larger than the padded x {list(x)}")
        n, c, h, w = x
        k, _, r, s = weight
        if r * s > 1 and operation != "dgrad":
            c = max(c, 8 if dtype in ("bfloat16", "float16") else 4)
        first, second, third = ((int(a), int(b)) for a, b in pairs)
        return cls(operation, dtype, (n, c, h, w), (k, c, r, s), first, second, third, multiprocessors)

    def arguments(self) -> tuple[str, str, list[int], int]:
        """As the operators of `_register.CHOICES` take it."""
        n, c, h, w = self.x
        k, _, r, s = self.weight
        shape = [n, h, w, c, k, r, s, *self.stride, *self.padding, *self.dilation]
        return self.operation, self.dtype, shape, self.multiprocessors


@dataclass(frozen=True)
class Choice:
    """What the cost model says of one configuration: predicted, not measured.

    refused: why it cannot compute the problem; "" if it can, and the rest holds only then.
    tiles, waves, efficiency: of the grid, of residency, and the share of the waves that is filled.
    memory, feed, math: seconds of HBM, of L2 into shared memory, of arithmetic; `bound` is the longest of
    them; launches: seconds on top of it; seconds: all together.
    """

    configuration: str
    refused: str
    chosen: bool
    tiles: int
    waves: float
    efficiency: float
    memory: float
    feed: float
    math: float
    launches: float
    seconds: float
    bound: str


@dataclass(frozen=True)
class Entry:
    """A task, the configuration that was measured to be best, and the seconds of all that were measured."""

    task: Task
    configuration: str
    seconds: dict[str, float] = field(default_factory=dict)


_entries: dict[Task, Entry] = {}


def choices(
    task: Task,
    capability: int | None = None,
    *,
    machine: str | None = None,
    aligned_source: bool = True,
    aligned_rest: bool = True,
    residual_view: bool = False,
    on_load: str = "nothing",
) -> list[Choice]:
    """Every configuration for a task, the chosen one marked.

    capability: compute capability of the GPU, 80 or 90, as if every kernel for it were there; None: that of
    the machine, with the kernels that are.  machine: "cuda" or "simulator"; None: whichever is there.
    The others are what can rule a configuration out: tensors that are not aligned to 16 bytes, a residual of
    another shape than the output, an input that is made while it is loaded: of "one" tensor, of "two", or in
    an "other" way than sm_90's kernels know.
    """
    if capability not in (None, 80, 90):
        raise UserError(f"tuning: capability must be 80 or 90, got {capability}")
    if on_load not in ON_LOAD:
        raise UserError(f"tuning: on_load must be one of {', '.join(ON_LOAD)}, got {on_load!r}")
    spaces = _machines()
    if machine is not None:
        spaces = [name for name in spaces if (name == _register.NAMESPACE) == (machine == "cuda")]
    elif not torch.cuda.is_available():
        spaces = spaces[::-1]
    if not spaces:
        raise UserError(f"tuning: there is no compiled {machine}; build it with `make build`")
    demands = aligned_source, aligned_rest, residual_view, on_load
    found = _call(spaces[0], "conv_choices", *task.arguments(), capability or 0, *demands)
    return [Choice(**each) for each in json.loads(found)]


@cache
def configurations() -> tuple[str, ...]:
    """The names of all configurations."""
    return tuple(
        choice.configuration for choice in choices(Task("fprop", "bfloat16", (1,) * 4, (1,) * 4), 80)
    )


def entries() -> list[Entry]:
    """The tuned table of this process."""
    return list(_entries.values())


def add(more: Iterable[Entry]) -> None:
    """Enter into the table, before what stands there for the same tasks.  UserError for unknown names."""
    wanted = list(more)
    for entry in wanted:
        _known(entry.configuration)
    for entry in wanted:
        _entries[entry.task] = entry
        for space in _machines():
            _call(space, "tune_conv", *entry.task.arguments(), entry.configuration)


def clear() -> None:
    """Empty the table."""
    _entries.clear()
    for space in _machines():
        _call(space, "forget_tuned")


@contextmanager
def forced(configuration: str) -> Iterator[None]:
    """Inside the block every problem that the configuration can compute uses it, before any table.

    Raises UserError for a name that is none of `configurations`.
    """
    _known(configuration)
    before = [(space, _call(space, "force_configuration", configuration)) for space in _machines()]
    try:
        yield
    finally:
        for space, previous in before:
            _call(space, "force_configuration", previous)


def save(
    path: str | PathLike[str], *, device: str, command: str, only: Iterable[Entry] | None = None
) -> None:
    """Write entries as JSON: the process's table, or `only` these.

    device, command: where and how they were measured.  UserError if the file cannot be written.
    """
    content = {
        "format": FORMAT,
        "device": device,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": command,
        "entries": [_as_json(entry) for entry in (entries() if only is None else only)],
    }
    try:
        Path(path).write_text(json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def load(path: str | PathLike[str]) -> list[Entry]:
    """Enter the entries of a file that `save` wrote, and return them.

    Raises UserError, and enters nothing, if the file cannot be read, is no tuned table, or names a
    configuration that does not exist.
    """
    try:
        content = json.loads(Path(path).read_text())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{path} is not a tuned table: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} is not a tuned table: its format is not {FORMAT!r}")
    try:
        found = [_of_json(entry) for entry in content["entries"]]
        add(found)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a tuned table: {type(error).__name__} {error}") from error
    return found


def _as_json(entry: Entry) -> dict[str, Any]:
    task = entry.task
    return {
        "operation": task.operation,
        "dtype": task.dtype,
        "x": task.x,
        "weight": task.weight,
        "stride": task.stride,
        "padding": task.padding,
        "dilation": task.dilation,
        "multiprocessors": task.multiprocessors,
        "configuration": entry.configuration,
        "seconds": entry.seconds,
    }


def _of_json(entry: dict[str, Any]) -> Entry:
    lists = {name: tuple(entry[name]) for name in ("x", "weight", "stride", "padding", "dilation")}
    task = Task.of(entry["operation"], entry["dtype"], multiprocessors=entry["multiprocessors"], **lists)
    seconds = {str(name): float(value) for name, value in entry["seconds"].items()}
    return Entry(task, str(entry["configuration"]), seconds)


def _known(configuration: str) -> None:
    if configuration not in configurations():
        raise UserError(
            f"tuning: no configuration {configuration!r}; there are {', '.join(configurations())}"
        )


@cache
def _machines() -> list[str]:
    """The namespaces of the compiled machines, the GPU's first, the simulators loaded."""
    found = []
    try:
        _native.require_cuda()
        found.append(_register.NAMESPACE)
    except ImportError:
        pass
    for space, checked in ((_register.SIMULATOR_CHECKED, True), (_register.SIMULATOR, False)):
        if _native.simulator_built(checked):
            _native.simulator(checked)
            found.append(space)
    if not found:
        raise UserError("tuning: no kernels are compiled; build them with `make build`")
    return found


def _call(space: str, operator: str, *args: Any) -> Any:
    return getattr(getattr(torch.ops, space), operator).default(*args)
