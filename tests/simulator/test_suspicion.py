"""What the checked build has to notice, and what it must not complain about."""

from __future__ import annotations

import numpy as np
import pytest

from resnet_kernels import simulator
from resnet_kernels.simulator import ALL_SCHEDULES, Schedule, pct_schedule, random_schedule

from .conftest import Machine, line

TILES = 3
SCHEDULES = [*ALL_SCHEDULES, *map(random_schedule, range(4)), *map(pct_schedule, range(4))]


def reverse_problem() -> tuple[np.ndarray, np.ndarray]:
    """Input and right answer of `reverse`: two blocks, three tiles each."""
    data = np.arange(2 * TILES * 128, dtype=np.uint32)
    return data, data.reshape(-1, 128)[:, ::-1].reshape(-1)


def run_reverse(machine: Machine, variant: str = "reverse") -> np.ndarray:
    data, _ = reverse_problem()
    return machine.run(variant, data, out=data.size, blocks=2, smem=512, number=TILES)


def report(machine: Machine, kernel: str, *args: np.ndarray, **kwargs: int) -> str:
    with pytest.raises(RuntimeError) as error:
        machine.run(kernel, *args, **kwargs)
    return str(error.value)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_a_right_kernel_passes_every_schedule(checked: Machine, schedule: Schedule) -> None:
    with simulator.schedule(schedule):
        assert np.array_equal(run_reverse(checked), reverse_problem()[1])


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize(
    ("variant", "what", "where"),
    [
        ("reverse_no_commit", "has not waited for it", "reverse read"),
        ("reverse_no_wait", "has not waited for it", "reverse read"),
        ("reverse_no_first_barrier", "", "reverse read"),
        ("reverse_no_second_barrier", "not ", "reverse copy"),  # the copy over the read, or the read after it
    ],
)
def test_a_missing_instruction_is_reported(
    checked: Machine, schedule: Schedule, variant: str, what: str, where: str
) -> None:
    """Whatever the schedule: happens-before does not depend on it."""
    with simulator.schedule(schedule), pytest.raises(RuntimeError) as error:
        run_reverse(checked, variant)
    assert what in str(error.value) and line(where) in str(error.value)
    assert str(error.value).startswith("reverse, block (")


@pytest.mark.parametrize(
    ("variant", "schedules"),
    [
        ("reverse_no_commit", [s for s in ALL_SCHEDULES if s.completion == "late"]),
        ("reverse_no_wait", [s for s in ALL_SCHEDULES if s.completion == "late"]),
        ("reverse_no_first_barrier", [Schedule("late", "lockstep", "forward")]),
        ("reverse_no_second_barrier", [Schedule("eager", "run-ahead", "forward")]),
    ],
)
def test_the_right_schedule_shows_the_mistake_in_the_values(
    checked: Machine, variant: str, schedules: list[Schedule]
) -> None:
    for schedule in schedules:
        with simulator.schedule(schedule, races=False):
            try:
                wrong = not np.array_equal(run_reverse(checked, variant), reverse_problem()[1])
            except RuntimeError as error:
                wrong = "uninitialised" in str(error)
        assert wrong, schedule


@pytest.mark.parametrize("variant", ["reverse_no_first_barrier", "reverse_no_second_barrier"])
@pytest.mark.parametrize("draw", [random_schedule, pct_schedule])
def test_random_schedules_find_it_too(checked: Machine, variant: str, draw: object) -> None:
    """Without the race detector most seeds give wrong values."""
    found = 0
    for seed in range(10):
        with simulator.schedule(draw(seed), races=False):  # type: ignore[operator]
            try:
                found += not np.array_equal(run_reverse(checked, variant), reverse_problem()[1])
            except RuntimeError as error:
                found += "uninitialised" in str(error)
    assert found >= 5


def test_every_mutant_is_caught(checked: Machine) -> None:
    run_reverse(checked)
    sites = simulator.sites()
    kinds = ["cp_async_commit", "cp_async_wait", "barrier_sync", "barrier_sync"]
    assert [site.kind for site in sites] == kinds
    for site in sites:
        with simulator.mutate(site), pytest.raises(RuntimeError):
            run_reverse(checked)
    assert np.array_equal(run_reverse(checked), reverse_problem()[1])


def test_mutating_an_unknown_site_says_so(checked: Machine) -> None:
    site = simulator.Site("reverse", "nowhere.h", 1, "barrier_sync")
    with pytest.raises(ValueError, match=r"nowhere\.h:1"), simulator.mutate(site):
        pass


class TestCollectives:
    def test_two_sites(self, checked: Machine) -> None:
        message = report(checked, "divergent_shuffle", out=128)
        assert "divergent collective" in message
        assert "lanes 0-15 at shfl_xor at" in message and "lanes 16-31 at shfl_xor at" in message
        assert line("divergent shuffle 1") in message and line("divergent shuffle 2") in message

    @pytest.mark.parametrize("order", ["forward", "reverse", "random"])
    def test_two_operations(self, checked: Machine, order: str) -> None:
        with simulator.schedule(Schedule(order=order)):
            message = report(checked, "divergent_barrier", out=1)
        assert "divergent collective" in message and "warp_sync" in message and "barrier_sync" in message
        assert line("divergent barrier") in message and line("divergent sync") in message

    def test_two_masks(self, checked: Machine) -> None:
        message = report(checked, "mask_mismatch", out=1)
        assert "divergent collective" in message and "lanes 0-15 at barrier_sync" in message
        assert "lanes 16-31 at warp_sync" in message and line("mask mismatch") in message

    def test_two_operations_in_the_fast_build(self, fast: Machine) -> None:
        assert "divergent collective" in report(fast, "divergent_barrier", out=1)

    def test_halves_of_a_warp_may_go_their_own_way(self, machine: Machine) -> None:
        assert (machine.run("half_warps", out=128) == 0x55555555).all()

    @pytest.mark.parametrize("threads", [64, 33, 1, 100])
    def test_partial_warps(self, machine: Machine, threads: int) -> None:
        assert (machine.run("fill", out=threads, threads=threads, number=3) == np.arange(threads) * 3).all()

    def test_deadlock_says_who_waits_where(self, machine: Machine) -> None:
        message = report(machine, "deadlock", out=1, threads=64)
        assert "deadlock" in message
        assert "warp 0 waits in barrier_sync at" in message and "warp 1 waits in barrier_sync at" in message
        assert line("deadlock 1") in message and line("deadlock 2") in message
        assert "barrier 1 has 32 of 64 threads" in message

    def test_exited_warps_do_not_hold_up_barrier_0(self, machine: Machine) -> None:
        result = machine.run("exited", out=64, threads=128, smem=256)
        assert np.array_equal(result, np.arange(64)[::-1])


class TestAccesses:
    @pytest.mark.parametrize(
        ("kernel", "marker"), [("global_read", "global read"), ("global_write", "global write")]
    )
    def test_global_bounds(self, checked: Machine, kernel: str, marker: str) -> None:
        message = report(checked, kernel, np.zeros(128, np.uint32), out=128, number=1)
        assert "thread 127" in message and "out of bounds" in message and "0 bytes past the end of" in message
        # A statement over two lines is known by its first or its last.
        assert "kernels.cpp:" in message
        if kernel == "global_write":
            assert line(marker) in message

    def test_copy_out_of_bounds(self, checked: Machine) -> None:
        message = report(checked, "copy_source", np.zeros(512, np.uint32), out=1, smem=2048, number=16)
        assert "out of bounds" in message and line("copy source") in message and "thread 127" in message

    def test_copy_misaligned(self, checked: Machine) -> None:
        message = report(checked, "copy_source", np.zeros(1024, np.uint32), out=1, smem=2048, number=4)
        assert "misaligned" in message and line("copy source") in message

    def test_store_to_an_input(self, checked: Machine) -> None:
        message = report(checked, "write_input", np.zeros(128, np.uint32), out=1)
        assert "read-only" in message and line("write input") in message

    def test_load_of_an_unwritten_output(self, checked: Machine) -> None:
        message = report(checked, "read_output", out=128)
        assert "nobody has written" in message and line("read output") in message

    @pytest.mark.parametrize("kernel", ["shared_read", "shared_write"])
    def test_shared_bounds(self, checked: Machine, kernel: str) -> None:
        message = report(checked, kernel, out=1, smem=64, number=64)
        assert "out of bounds: offset 64 of 64 bytes" in message
        assert line(kernel.replace("_", " ")) in message and "thread 0 " in message

    @pytest.mark.parametrize("kernel", ["shared_read", "shared_write"])
    def test_shared_alignment(self, checked: Machine, kernel: str) -> None:
        message = report(checked, kernel, out=1, smem=64, number=2)
        assert "misaligned" in message and line(kernel.replace("_", " ")) in message

    def test_uninitialised(self, checked: Machine) -> None:
        message = report(checked, "shared_read", out=1, smem=64, number=60)
        assert "uninitialised" in message and line("shared read") in message

    def test_outputs_start_as_nan(self, checked: Machine) -> None:
        result = checked.run("fill", out=256, threads=128, number=1)
        assert (result[128:] == 0xFFFFFFFF).all() and (result[:128] == np.arange(128)).all()


class TestRaces:
    @pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
    def test_shared_race(self, checked: Machine, schedule: Schedule) -> None:
        with simulator.schedule(schedule):
            message = report(checked, "shared_race", out=1, smem=64)
        assert "data race" in message and line("shared race") in message

    @pytest.mark.parametrize(
        ("kernel", "partner", "right"),
        [
            ("exchange", 0, True),
            ("exchange", 1, False),
            ("exchange_shuffle", 1, False),  # a shuffle orders no memory
            ("exchange_warp_sync", 31, True),
            ("exchange_warp_sync", 32, False),  # another warp
            ("exchange_barrier", 127, True),
        ],
    )
    @pytest.mark.parametrize("order", ["forward", "reverse", "random"])
    def test_what_orders_memory(
        self, checked: Machine, kernel: str, partner: int, right: bool, order: str
    ) -> None:
        with simulator.schedule(Schedule(order=order)):
            if right:
                result = checked.run(kernel, out=128, smem=512, number=partner)
                assert np.array_equal(result, np.arange(128) ^ partner)
                return
            message = report(checked, kernel, out=128, smem=512, number=partner)
        if "uninitialised" not in message:
            assert "data race" in message
            assert line("exchange load") in message and line("exchange store") in message

    def test_halves_of_a_word(self, checked: Machine) -> None:
        result = checked.run("halves", out=128, smem=256)
        pairs = np.arange(128) // 2 * 2
        assert np.array_equal(result, pairs | (pairs + 1) << 16)

    def test_many_readers(self, checked: Machine) -> None:
        assert (checked.run("many_readers", out=128, smem=64, number=1) == 7).all()
        with simulator.schedule(Schedule(order="reverse")):
            message = report(checked, "many_readers", out=128, smem=64, number=0)
        assert "not ordered after the read" in message and line("many readers") in message

    def test_named_barriers(self, machine: Machine) -> None:
        result = machine.run("producer_consumer", out=32, threads=64, smem=128)
        assert np.array_equal(result, np.arange(32) ** 2)

    def test_arriving_too_early(self, checked: Machine) -> None:
        message = report(checked, "producer_consumer_early", out=32, threads=64, smem=128)
        assert "data race" in message and line("consumer") in message

    def test_stores_of_two_blocks(self, checked: Machine) -> None:
        message = report(checked, "output_race", out=128, blocks=2)
        assert "data race on out" in message and line("output race") in message and "of block" in message

    def test_stores_of_two_threads(self, checked: Machine) -> None:
        message = report(checked, "output_race", out=128, number=1)
        assert "data race on out" in message and "thread 0 of block 0" in message

    @pytest.mark.parametrize(("completion", "value"), [("eager", 1), ("late", 2)])
    def test_when_a_copy_reads_its_source(self, checked: Machine, completion: str, value: int) -> None:
        with simulator.schedule(Schedule(completion=completion)):
            result = checked.run("late_source", out=256, smem=512)
        assert (result[1::2] == value).all()
