"""The engine: replay, errors, workers, threads, fork; and the Python face around it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from resnet_kernels import simulator
from resnet_kernels.simulator import Schedule, pct_schedule, random_schedule

from .conftest import Machine

BLOCKS = 16


def racy(machine: Machine) -> np.ndarray:
    """Which thread stored last, by block: up to the schedule."""
    return machine.run("shared_race", out=BLOCKS, blocks=BLOCKS, smem=64)


@pytest.mark.parametrize("draw", [random_schedule, pct_schedule])
def test_a_seed_replays(checked: Machine, draw: object) -> None:
    seen = set()
    for seed in range(5):
        runs = []
        for workers in (1, 2, 3):
            checked.module.set_workers(workers)
            with simulator.schedule(draw(seed), races=False):  # type: ignore[operator]
                runs.append(np.concatenate([racy(checked), racy(checked)]))
        checked.module.set_workers(0)
        assert all(np.array_equal(run, runs[0]) for run in runs)
        seen.add(runs[0].tobytes())
    assert len(seen) == 5


def test_a_second_launch_differs_from_the_first(checked: Machine) -> None:
    with simulator.schedule(random_schedule(1), races=False):
        assert not np.array_equal(racy(checked), racy(checked))


@pytest.mark.parametrize("workers", [1, 4])
def test_the_lowest_failing_block_is_thrown(machine: Machine, workers: int) -> None:
    machine.module.set_workers(workers)
    for _ in range(20):
        with pytest.raises(RuntimeError, match=r"^throws, block \(7, 0, 0\), thread 3 .*: threw block 7$"):
            machine.run("throws", out=1, blocks=64, threads=64, number=7)
    machine.module.set_workers(0)
    assert (machine.run("fill", out=128, number=1) == np.arange(128)).all()  # and the machine still works


def test_launch_limits(machine: Machine) -> None:
    for kwargs, what in (
        ({"threads": 1025}, "1025 threads"),
        ({"threads": 0}, "0 threads"),
        ({"smem": 240000}, "240000 bytes of shared memory"),
        ({"blocks": 0}, "empty grid"),
    ):
        with pytest.raises(RuntimeError, match=f"fill: launch failed: .*{what}"):
            machine.run("fill", out=128, **kwargs)


def test_overlapping_buffers(checked: Machine) -> None:
    data = np.zeros(128, np.uint32)
    error = ctypes.create_string_buffer(1000)
    checked._run(
        b"fill",
        ctypes.c_uint32(1),
        ctypes.c_uint32(1),
        ctypes.c_uint32(64),
        ctypes.c_uint32(0),
        ctypes.c_uint32(0),
        ctypes.c_void_p(data.ctypes.data),
        ctypes.c_int64(512),
        ctypes.c_void_p(data.ctypes.data + 256),
        ctypes.c_int64(256),
        ctypes.c_uint32(1),
        error,
        ctypes.c_size_t(1000),
    )
    assert b"overlap" in error.value


def test_two_launching_threads(machine: Machine) -> None:
    failures: list[int] = []

    def launch(number: int) -> None:
        for _ in range(30):
            result = machine.run("fill", out=1024, blocks=8, number=number)
            if not np.array_equal(result, np.arange(1024, dtype=np.uint32) * number):
                failures.append(number)

    threads = [threading.Thread(target=launch, args=(n,)) for n in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork(machine: Machine) -> None:
    """A child launches although the parent's workers are not in it; so does the parent afterwards."""
    machine.module.set_workers(3)
    want = np.arange(1024, dtype=np.uint32)
    assert np.array_equal(machine.run("fill", out=1024, blocks=8, number=1), want)
    child = os.fork()
    if child == 0:
        right = np.array_equal(machine.run("fill", out=1024, blocks=8, number=1), want)
        os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(machine.run("fill", out=1024, blocks=8, number=1), want)
    machine.module.set_workers(0)


def test_schedules_are_validated() -> None:
    assert len(set(simulator.ALL_SCHEDULES)) == 8
    for wrong in ({"completion": "soon"}, {"pacing": ""}, {"order": "up"}, {"kind": "x"}, {"seed": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Schedule(**wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="wants a Schedule"), simulator.schedule("late"):  # type: ignore[arg-type]
        pass


def test_schedule_is_restored(checked: Machine) -> None:
    before = simulator._schedule
    with pytest.raises(KeyError), simulator.schedule(random_schedule(3)):
        assert simulator._schedule == random_schedule(3)
        raise KeyError
    assert simulator._schedule == before


def test_checked_flag_nests() -> None:
    assert not simulator.checked_enabled
    with simulator.checked():
        with simulator.checked():
            assert simulator.checked_enabled
        assert simulator.checked_enabled
    assert not simulator.checked_enabled


def test_missing_build_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    from resnet_kernels import _native

    def missing(name: str) -> None:
        return None

    monkeypatch.setattr(_native.importlib.util, "find_spec", missing)
    _native.simulator.cache_clear()
    with pytest.raises(ImportError, match="make build"):
        simulator.sites()
    _native.simulator.cache_clear()


def test_imports_without_the_builds() -> None:
    code = (
        "import resnet_kernels.simulator as s, sys; "
        "assert not any('_sim' in m.rsplit('.')[-1] for m in sys.modules if m.startswith('resnet_kernels.'))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
