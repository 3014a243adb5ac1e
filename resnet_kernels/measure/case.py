"""What is measured: a case is one computation, an implementation one way to do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .clock import Clock
from .inputs import Inputs
from .match import Verdict

Outputs = tuple[Tensor, ...]
Thunk = Callable[[], Outputs]
Bind = Callable[[Inputs], Thunk]


@dataclass(frozen=True)
class Implementation:
    """One way to compute a case.

    Attributes:
        name, label: for files and for people.
        bind: a set of inputs -> the call that is timed; what it does before (layouts, folding, compiling,
            capturing) is not.
        ours: this package's.
        roundings: intermediates it rounds to the short format (see `match`).
        clock: where the device's own clock does not see it.
        absent: why it cannot be here, None if it can.
        memory: whether the peak of its memory can be read around a call.
        finish: what the call gives -> the results as they are judged; not timed.
    """

    name: str
    label: str
    bind: Bind | None = None
    ours: bool = False
    roundings: int = 0
    clock: Clock | None = None
    absent: str | None = None
    memory: bool = True
    finish: Callable[[Any], Outputs] | None = None


@dataclass(frozen=True)
class Ours:
    """What this package's implementation is here.

    backend: what runs its operators, "aten" for PyTorch's composition; label: what people read.
    """

    backend: str
    label: str

    def roundings(self, composed: int) -> int:
        """Of intermediates: none in our kernels, `composed` in PyTorch's composition."""
        return composed if self.backend == "aten" else 0


@dataclass(frozen=True)
class Case:
    """One computation; see `record.Row` for the fields that it hands on.

    make: seed -> inputs; parts: (FLOPs, bytes) of each kernel, whose floors
    add up; idle: inputs that lend their shape alone; judge: (inputs, implementation -> (itself,
    results)) -> implementation -> verdict, or None where there is nothing to compare; cache: see `inputs`;
    images: whether images a second make sense; hidden: whether a GPU's time is wanted without the host's
    (see `clock`).
    """

    suite: str
    name: str
    dtype: str
    batch: int
    direction: str
    make: Callable[[int], Inputs]
    implementations: Callable[[], list[Implementation]]
    epilogue: str = ""
    problem: dict[str, Any] = field(default_factory=dict)
    networks: list[str] = field(default_factory=list)
    count: dict[str, int] = field(default_factory=dict)
    flops: int = 0
    bytes: int = 0
    judge: Callable[[Inputs, dict[str, tuple[Implementation, Outputs]]], dict[str, Verdict]] | None = None
    match_note: str | None = None
    parts: tuple[tuple[int, int], ...] = ()
    idle: tuple[str, ...] = ()
    cache: str = "cold"
    images: bool = False
    hidden: bool = True

    @property
    def key(self) -> str:
        parts = (self.suite, self.name, self.dtype, f"n{self.batch}", self.direction, self.epilogue)
        return "/".join(part for part in parts if part)


def ceiling(
    name: str,
    dtype: str,
    make: Callable[[int], Inputs],
    implementation: Implementation,
    *,
    flops: int = 0,
    moved: int = 0,
    cache: str = "warm",
    hidden: bool = True,
) -> Case:
    """What the device itself can do, measured one way; `moved`: bytes."""
    return Case(
        suite="primitives",
        name=name,
        dtype=dtype,
        batch=1,
        direction="ceiling",
        make=make,
        implementations=lambda: [implementation],
        flops=flops,
        bytes=moved,
        match_note="a ceiling: nothing to compare",
        cache=cache,
        hidden=hidden,
    )
