"""Counters against figures worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from resnet_kernels import simulator

from .conftest import Machine


def recorded(machine: Machine, kernel: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
    with simulator.record() as launches:
        machine.run(kernel, *args, **kwargs)
    assert len(launches) == 1 and launches[0]["grid"] == (kwargs.get("blocks", 1), 1, 1)
    return launches[0]


def aligned(words: int) -> np.ndarray:
    """Zeros that begin at a multiple of 128 bytes."""
    raw = np.zeros(words + 32, np.uint32)
    skip = -raw.ctypes.data % 128 // 4
    return raw[skip : skip + words]


# 64 threads; words are 4 bytes, sectors 32.
@pytest.mark.parametrize(
    ("stride", "unique", "requested"),
    [
        (1, 8, 8),  # 64 words are 8 sectors
        (2, 16, 16),
        (8, 64, 64),  # a sector each
        (16, 64, 64),  # every other sector
        (0, 1, 2),  # one word: one sector for each of the two warps
    ],
)
def test_strided_loads(checked: Machine, stride: int, unique: int, requested: int) -> None:
    launch = recorded(checked, "strided", aligned(64 * 16), out=64, threads=64, number=stride)
    reads = launch["global"]["activation"]
    assert (reads["unique_read"], reads["requested"], reads["useful"]) == (unique, requested, 256)
    assert reads["unique_written"] == 0
    writes = launch["global"]["output"]
    assert (writes["unique_read"], writes["useful"]) == (0, 256)
    assert launch["kernel"] == "strided" and launch["block"] == 64


def test_unique_is_over_the_grid(checked: Machine) -> None:
    launch = recorded(checked, "strided", aligned(16), out=512, blocks=8, threads=64, number=0)
    reads = launch["global"]["activation"]
    assert (reads["unique_read"], reads["requested"]) == (1, 16)


def test_turns_of_a_loop_are_instructions_of_their_own(checked: Machine) -> None:
    launch = recorded(checked, "looped", aligned(32), out=32, threads=32)
    reads = launch["global"]["activation"]
    assert (reads["requested"], reads["useful"]) == (4 + 1, 2 * 128)
    loads = [site for site in launch["sites"] if site["kind"] == "ld_global"]
    assert len(loads) == 1 and loads[0]["instructions"] == 2


# One warp, a store and a load each: (bytes a lane, byte stride, wavefronts, conflict-free wavefronts).
@pytest.mark.parametrize(
    ("size", "stride", "wavefronts", "ideal"),
    [
        (4, 4, 1, 1),
        (4, 8, 2, 1),
        (4, 128, 32, 1),  # one bank
        (4, 132, 1, 1),  # padded by a word
        (8, 8, 2, 2),  # two half-warps
        (8, 16, 4, 2),
        (8, 128, 32, 2),
        (16, 16, 4, 4),  # four quarter-warps
        (16, 32, 8, 4),
        (16, 128, 32, 4),  # eight rows in four banks, four times
        (16, 144, 4, 4),  # padded by 16 bytes
    ],
)
def test_bank_conflicts(checked: Machine, size: int, stride: int, wavefronts: int, ideal: int) -> None:
    launch = recorded(checked, f"shared_strided_{size}", out=1, threads=32, smem=8192, number=stride)
    shared = launch["shared"]
    assert (shared["instructions"], shared["wavefronts"]) == (2, 2 * wavefronts)
    assert shared["conflict_free"] == 2 * ideal
    found = simulator.conflicts(launch)
    assert bool(found) == (wavefronts > ideal)
    assert all("kernels.cpp" in where and extra == wavefronts - ideal for where, extra in found.items())


@pytest.mark.parametrize(("stride", "wavefronts"), [(16, 4), (32, 8), (128, 32), (144, 4)])
def test_ldmatrix_conflicts(checked: Machine, stride: int, wavefronts: int) -> None:
    launch = recorded(checked, "matrix_strided", out=1, threads=32, smem=8192, number=stride)
    (site,) = [site for site in launch["sites"] if site["kind"] == "ldmatrix"]
    assert site["shared"] == {"instructions": 1, "wavefronts": wavefronts, "conflict_free": 4}


def test_copies(checked: Machine) -> None:
    launch = recorded(checked, "reverse", aligned(256), out=256, smem=512, number=2)
    reads = launch["global"]["activation"]
    assert (reads["unique_read"], reads["requested"], reads["useful"]) == (32, 32, 1024)
    (copy,) = [site for site in launch["sites"] if site["kind"] == "cp_async"]
    assert copy["instructions"] == 8 and copy["shared"]["wavefronts"] == 8


def test_recording_is_off_outside(checked: Machine) -> None:
    with simulator.record() as launches:
        pass
    checked.run("fill", out=128)
    with simulator.record() as more:
        checked.run("fill", out=128)
        checked.run("fill", out=128)
    assert launches == [] and [launch["kernel"] for launch in more] == ["fill", "fill"]
