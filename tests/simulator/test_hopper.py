"""mbarriers, bulk copies, wgmma, clusters: a right pipeline, its mutants, and one mistake at a time."""

from __future__ import annotations

import numpy as np
import pytest

from resnet_kernels import simulator
from resnet_kernels.simulator import ALL_SCHEDULES, Schedule, pct_schedule, random_schedule

from .conftest import Machine, line

SCHEDULES = [*ALL_SCHEDULES, *map(random_schedule, range(4)), *map(pct_schedule, range(4))]
LATE, EAGER = Schedule("late"), Schedule("eager")
ROWS, DEPTH = 380, 128  # six tiles of 64 rows, the last in part


def place(marker: str) -> str:
    return line(marker, "hopper.cpp")


def aligned(words: np.ndarray) -> np.ndarray:
    """A copy that begins at a multiple of 128 bytes."""
    raw = np.zeros(words.nbytes + 128, np.uint8)
    skip = -raw.ctypes.data % 128
    raw[skip : skip + words.nbytes] = words.view(np.uint8).reshape(-1)
    return raw[skip : skip + words.nbytes]


def pipeline_problem() -> tuple[np.ndarray, np.ndarray]:
    """b [64, k] and a [m, k] of small integers as bfloat16; a b^T as bfloat16."""
    rng = np.random.default_rng(3)
    b, a = (rng.integers(-1, 2, (rows, DEPTH)).astype(np.float32) for rows in (64, ROWS))
    halves = [(matrix.view(np.uint32) >> 16).astype(np.uint16) for matrix in (b, a)]
    want = ((a @ b.T).view(np.uint32) >> 16).astype(np.uint16)
    return aligned(np.concatenate(halves)), want


def run_pipeline(machine: Machine, cluster: bool = False, **kwargs: object) -> bool:
    """Whether the answer is right."""
    data, want = pipeline_problem()
    got = machine.run(
        "pipeline_cluster" if cluster else "pipeline",
        data,
        out=want.size // 2,
        blocks=2,
        cluster=2 if cluster else 1,
        threads=160,
        smem=5 * 8192 + 64,
        **kwargs,  # type: ignore[arg-type]
    )
    return bool(np.array_equal(got.view(np.uint16).reshape(want.shape), want))


def report(machine: Machine, kernel: str, **kwargs: object) -> str:
    kwargs = {"data": np.arange(128, dtype=np.uint32), "out": 64, "threads": 64, "smem": 1024} | kwargs
    if "data" in kwargs:
        kwargs["data"] = aligned(kwargs["data"])  # type: ignore[arg-type]
    with pytest.raises(RuntimeError) as error:
        machine.run(kernel, **kwargs)  # type: ignore[arg-type]
    return str(error.value)


class TestPipeline:
    @pytest.mark.parametrize("cluster", [False, True], ids=["blocks", "cluster"])
    def test_right_in_both_builds(self, machine: Machine, cluster: bool) -> None:
        assert run_pipeline(machine, cluster)
        assert run_pipeline(machine, cluster, pdl=True)

    @pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
    @pytest.mark.parametrize("cluster", [False, True], ids=["blocks", "cluster"])
    def test_right_under_every_schedule(self, checked: Machine, cluster: bool, schedule: Schedule) -> None:
        with simulator.schedule(schedule):
            assert run_pipeline(checked, cluster)

    @pytest.mark.parametrize("cluster", [False, True], ids=["blocks", "cluster"])
    def test_every_mutant_is_caught(self, checked: Machine, cluster: bool) -> None:
        """Leave out any wait, fence, arrival or commit, and some schedule reports it."""
        assert run_pipeline(checked, cluster, pdl=True)
        sites = simulator.sites()
        kinds = {site.kind for site in sites}
        assert kinds >= {
            *("mbarrier_wait", "mbarrier_arrive", "mbarrier_expect_tx", "fence_mbarrier_init"),
            *("fence_proxy_async", "bulk_commit", "bulk_wait", "barrier_sync", "griddep_wait"),
            *("wgmma_fence", "wgmma_commit", "wgmma_wait"),
        }
        assert not cluster or kinds >= {"cluster_arrive", "cluster_wait"}
        survivors = []
        for site in sites:
            with simulator.mutate(site):
                for schedule in SCHEDULES:
                    with simulator.schedule(schedule):
                        try:
                            right = run_pipeline(checked, cluster, pdl=True)
                        except RuntimeError:
                            right = False
                    if not right:
                        break
                else:
                    survivors.append(str(site))
        assert not survivors

    def test_counters(self, checked: Machine) -> None:
        """What tensor copies move and wgmma multiplies; multicast halves what is asked of b."""
        useful = {}
        for cluster in (False, True):
            with simulator.record() as launches:
                assert run_pipeline(checked, cluster)
            (launch,) = launches
            assert launch["macs"] == 6 * 64 * 64 * DEPTH
            assert launch["global"]["activation"]["useful"] == ROWS * DEPTH * 2
            assert launch["global"]["activation"]["unique_read"] == ROWS * DEPTH * 2 // 32
            assert launch["global"]["output"]["useful"] == ROWS * 64 * 2
            useful[cluster] = launch["global"]["weight"]["useful"]
        assert useful[False] == 6 * 64 * DEPTH * 2
        assert useful[True] == 6 * 64 * DEPTH * 2 // 2


class TestMbarriers:
    def test_right(self, machine: Machine) -> None:
        data = aligned(np.arange(64, dtype=np.uint32))
        assert np.array_equal(
            machine.run("load_mistakes", data, out=64, threads=64, smem=1024), np.arange(64)
        )

    @pytest.mark.parametrize(
        ("number", "what", "marker"),
        [
            (1, "256 bytes missing", "wait"),  # deadlock
            (2, "128 bytes more than were expected", "load"),
            (3, "", "read"),  # waits for the phase before: at once
            (4, "one arrival too many", "arrivals"),
            (5, "misaligned", "load"),
            (6, "without a fence.proxy.async", "load"),
            (7, "part of the mbarrier", "overwritten"),
            (8, "", ""),  # overtakes the readers: a race, or they miss a phase
            (9, "", "read"),
        ],
    )
    @pytest.mark.parametrize("schedule", [EAGER, LATE, random_schedule(1)], ids=str)
    def test_mistakes(
        self, checked: Machine, number: int, what: str, marker: str, schedule: Schedule
    ) -> None:
        with simulator.schedule(schedule):
            message = report(checked, "load_mistakes", number=number)
        assert what in message and (not marker or place(marker) in message)
        if number in (3, 9):
            assert "has not waited for" in message or "uninitialised" in message

    def test_never_initialised(self, machine: Machine) -> None:
        assert place("no init") in report(machine, "no_init")

    def test_deadlock_names_who_waits_for_what(self, machine: Machine) -> None:
        message = report(machine, "waits")
        assert "deadlock" in message and place("waits") in message
        assert "lane 8 in mbarrier_wait" in message
        assert "mbarrier at offset 0 (phase 0: 2 of 3 arrivals and 0 bytes missing)" in message


class TestTensorMaps:
    @pytest.mark.parametrize(
        ("kernel", "number", "what"),
        [
            ("encode_tiled", 1, "the rank is 6"),
            ("encode_tiled", 2, "the address must be a multiple of 16 bytes"),
            ("encode_tiled", 3, "extent 1 is 0"),
            ("encode_tiled", 4, "the stride of dimension 1 is 136 bytes"),
            ("encode_tiled", 5, "the box spans 257 in dimension 1"),
            ("encode_tiled", 6, "the element stride of dimension 1 is 9"),
            ("encode_tiled", 7, "a row of the box has 64 bytes; with this swizzle it must have 128"),
            ("encode_tiled", 8, "a row of the box has 8 bytes; it must be a multiple of 16"),
            ("encode_tiled", 9, "the element stride of dimension 0"),
            ("encode_tiled", 10, "only bf16 and f16 are filled with NaN"),
            ("encode_im2col", 1, "a corner along H is -129"),
            ("encode_im2col", 2, "the bounding box is empty along W"),
            ("encode_im2col", 3, "257 channels a pixel"),
            ("encode_im2col", 4, "1025 pixels a column"),
            ("encode_im2col", 5, "the stride of dimension 3"),
            ("encode_im2col", 6, "the element stride of dimension 1 is 0"),
        ],
    )
    def test_rules(self, machine: Machine, kernel: str, number: int, what: str) -> None:
        machine.run(kernel, aligned(np.zeros(256, np.uint32)), out=1)
        message = report(machine, kernel, number=number)
        assert message.startswith("tensor map: ") and what in message

    @pytest.mark.parametrize(
        ("number", "what", "marker"),
        [
            (1, "without a fence.mbarrier_init", "unfenced"),
            (2, "of rank 2, tiled with a map of rank 4, im2col", "wrong rank"),
            (3, "misaligned", "box alignment"),
            (4, "the start pixel's w is -2, outside the bounding box -1..0", "start pixel"),
            (5, "an offset above 255", "offset"),
            (6, "declared read-only", "read-only"),
            (7, "this is no tensor map", "no map"),
        ],
    )
    def test_copies(self, checked: Machine, number: int, what: str, marker: str) -> None:
        message = report(checked, "copy_mistakes", number=number, smem=16 * 1024)
        assert what in message and place(marker) in message


class TestStores:
    def test_right(self, machine: Machine) -> None:
        for kernel in ("store_mistakes", "fence_behind"):
            got = machine.run(kernel, out=64, threads=64, smem=1024)
            assert np.array_equal(got, np.arange(64)), kernel

    @pytest.mark.parametrize(
        ("number", "what", "marker"),
        [
            (1, "without a fence.proxy.async since the write of thread", "store"),
            (2, "without a fence.proxy.async since the write of thread", "store"),
            (3, "bulk_wait_read is missing", "store"),
            (4, "still reads it", "early reuse"),
        ],
    )
    def test_mistakes(self, checked: Machine, number: int, what: str, marker: str) -> None:
        message = report(checked, "store_mistakes", number=number)
        assert what in message and place(marker) in message


class TestMatrices:
    def test_right(self, machine: Machine) -> None:
        got = machine.run("matrix_mistakes", out=128, threads=128, smem=10 * 1024)
        assert (got == 1).all()

    @pytest.mark.parametrize(
        ("number", "what", "marker"),
        [
            (1, "no wgmma_wait has named them", "touched"),
            (2, "no wgmma_wait has named them", "result"),
            (3, "no wgmma_fence has named since", "wgmma"),
            (4, "still reads it", "overwritten operand"),
            (5, "no wgmma_wait has named them", "fragment"),
            (6, "different wgmma", "wgmma"),
            (7, "without a fence.proxy.async", "wgmma"),
            (8, "wgmma_wait is missing", ""),
        ],
    )
    @pytest.mark.parametrize("schedule", [LATE, random_schedule(1)], ids=str)
    def test_mistakes(
        self, checked: Machine, number: int, what: str, marker: str, schedule: Schedule
    ) -> None:
        with simulator.schedule(schedule):
            message = report(checked, "matrix_mistakes", number=number, out=128, threads=128, smem=10 * 1024)
        assert what in message
        if marker:
            assert place(marker) in message

    def test_registers_change_hands(self, machine: Machine) -> None:
        machine.run("registers", out=1, threads=384, number=0)
        assert "to 232 registers a thread: the warp has 248" in report(machine, "registers", threads=256)
        message = report(machine, "registers", threads=384, number=1)
        assert "deadlock" in message and place("more registers") in message


class TestDependentLaunches:
    def test_weights_may_be_loaded_early(self, machine: Machine) -> None:
        data = np.arange(64, dtype=np.uint32)
        for pdl in (False, True):
            assert np.array_equal(
                machine.run("dependent", data, out=64, threads=64, pdl=pdl, number=0), data + 1
            )
        assert np.array_equal(machine.run("dependent", data, out=64, threads=64, number=1), data + 1)

    def test_activations_may_not(self, checked: Machine) -> None:
        message = report(checked, "dependent", pdl=True, number=1)
        assert "before griddep_wait" in message and place("early load") in message

    def test_every_kernel_waits(self, checked: Machine) -> None:
        with simulator.schedule(LATE):
            kwargs = {"pdl": True, "number": 2, "data": np.arange(64, dtype=np.uint32)}
            assert "before griddep_wait" in report(checked, "dependent", **kwargs)


class TestClusters:
    @pytest.mark.parametrize("blocks", [1, 2, 4, 8])
    def test_ring(self, machine: Machine, blocks: int) -> None:
        got = machine.run("ring", out=16 * 64, blocks=16, cluster=blocks, threads=64, smem=256)
        want = np.arange(16 * 64).reshape(-1, blocks, 64)
        assert np.array_equal(got, np.roll(want, 1, axis=1).reshape(-1))

    @pytest.mark.parametrize(
        ("number", "what", "marker"),
        [
            (1, "", "ring load"),
            (2, "has ended", "gone"),
            (3, "in block 2 of a cluster of 2", "ring store"),
        ],
    )
    def test_mistakes(self, checked: Machine, number: int, what: str, marker: str) -> None:
        with simulator.schedule(Schedule(pacing="lockstep")):
            message = report(
                checked, "ring", number=number, out=128, blocks=2, cluster=2, threads=64, smem=256
            )
        assert what in message and place(marker) in message

    def test_limits(self, machine: Machine) -> None:
        for cluster, blocks, what in ((3, 4, "do not divide"), (16, 16, "1 to 8 blocks")):
            message = report(machine, "ring", out=2000, blocks=blocks, cluster=cluster)
            assert what in message
        assert "64 warps" in report(machine, "ring", out=9000, blocks=8, cluster=8, threads=1024, smem=4096)
        machine.module.set_compute_capability(80)
        try:
            assert "compute capability 9.0" in report(machine, "ring", blocks=2, cluster=2)
            assert "compute capability 9.0" in report(machine, "ring", pdl=True)
        finally:
            machine.module.set_compute_capability(90)
