"""Tasks for the tests of the choice: ResNet-50's shapes, and what the cost model says of them."""

from __future__ import annotations

import pytest

from resnet_kernels import simulator, tuning
from resnet_kernels.measure import problems
from resnet_kernels.tuning import Choice, Task

needs_simulator = pytest.mark.skipif(not simulator.built(), reason="the simulator is not built")

PORTABLE = ("sm80/128x128", "sm80/128x64", "sm80/64x64")
HOPPER = ("sm90/128x256", "sm90/256x128", "sm90/128x128", "sm90/256x64")  # of any convolution
ON_LOAD = "sm90/128x64"  # for what is made on load alone
KEPT = "sm90/192x64"  # for up to 64 channels, whose weights stay in shared memory
WGRAD = "sm90/wgrad"  # whose tile is planned
SM_90 = (*HOPPER, ON_LOAD, KEPT, WGRAD)
TILES = {name: tuple(map(int, name.partition("/")[2].split("x"))) for name in (*PORTABLE, *HOPPER)}
CONVOLUTIONS = [conv for conv in problems.convolutions(["resnet50"]) if conv.c > 3]


def task(
    operation="fprop",
    n=256,
    c=64,
    size=56,
    k=64,
    kernel=3,
    stride=1,
    *,
    padding=None,
    dtype="bfloat16",
    **rest,
) -> Task:
    """A square convolution, by default a 3x3 of ResNet-50's first stage, padded to keep its size."""
    padding = kernel // 2 if padding is None else padding
    return Task.of(operation, dtype, (n, c, size, size), (k, c, kernel, kernel), stride, padding, **rest)


def resnet50(operation: str, batch: int) -> list[Task]:
    """Every distinct convolution but the first."""
    return [task(operation, batch, conv.c, conv.h, conv.k, conv.kernel, conv.stride) for conv in CONVOLUTIONS]


def by_name(wanted: Task, capability: int | None = 90, **demands) -> dict[str, Choice]:
    """The simulator's predictions for a task."""
    found = tuning.choices(wanted, capability, machine="simulator", **demands)
    return {choice.configuration: choice for choice in found}


def legal(wanted: Task, capability: int | None = 90, **demands) -> dict[str, Choice]:
    return {name: c for name, c in by_name(wanted, capability, **demands).items() if not c.refused}


def chosen(wanted: Task, capability: int | None = 90, **demands) -> str:
    (name,) = (name for name, c in by_name(wanted, capability, **demands).items() if c.chosen)
    return name
