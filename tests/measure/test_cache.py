"""Cold is cold: operands are evicted or exchanged before every single run, and they are never zeros."""

import statistics as standard

import pytest
import torch

from resnet_kernels.measure import convolutions, inputs, problems
from resnet_kernels.measure.clock import CpuClock
from resnet_kernels.measure.engine import Effort

from .common import CPU, EAGER, KERNELS, case, engine, implementation, numbers


def make(kib):
    return numbers(kib * 256)


def test_every_run_follows_a_flush():
    """Also the second run of a burst, and the first after another implementation's."""
    seen = []
    turns = inputs.rotation(make(1), "cold", CPU, size=1 << 20)
    assert len(turns.sets) == 1 and turns.flush_bytes >= 3 << 20

    def run():
        assert turns.flush.buffer.unique().tolist() == [turns.flush.count]  # all of it was written
        seen.append(turns.flush.count)

    for burst in (1, 4, 3):
        CpuClock().burst([run] * burst, turns.flush)
    assert seen == list(range(1, 9))


def test_the_engine_flushes_before_every_run(monkeypatch):
    flushers, seen = [], {"a": [], "b": []}
    monkeypatch.setattr(inputs, "cache_bytes", lambda device: 1 << 16)

    class Flusher(inputs.Flusher):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            flushers.append(self)

    monkeypatch.setattr(inputs, "Flusher", Flusher)

    def function(name):
        def run(values):
            if flushers:
                seen[name].append(flushers[0].count)
            return (values["x"] + 1,)

        return implementation(name, run, ours=name == "a", memory=False)

    effort = Effort(rounds=6, seconds=1.0, most=3, warm_up=0.0)
    rows = engine(effort).measure(case([function("a"), function("b")], make=make(1)))
    assert rows[0].cache == "cold" and rows[0].flush_bytes >= 3 << 16
    timed = sorted(count for runs in seen.values() for count in runs if count)
    assert len(timed) >= 2 * 6 * 3 and len(set(timed)) == len(timed), "two runs after one flush"
    assert timed == list(range(1, flushers[0].count + 1)), "a flush without a run, or a run without one"


@pytest.mark.parametrize("kib", (128, 300, 4096))
def test_rotation_touches_three_caches_in_between(kib):
    size = 1 << 20
    turns = inputs.rotation(make(kib), "cold", CPU, size=size)
    assert turns.flush is None
    each = inputs.total_bytes(turns.sets[0])
    assert (len(turns.sets) - 1) * each >= 3 * size
    assert len({values["x"].data_ptr() for values in turns.sets}) == len(turns.sets)


def test_the_engine_takes_the_sets_in_turn(monkeypatch):
    monkeypatch.setattr(inputs, "cache_bytes", lambda device: 1 << 20)
    seen = []

    def run(values):
        seen.append(values["x"].data_ptr())
        return (values["x"],)

    rows = engine().measure(case([implementation("a", run, memory=False)], make=make(1024)))
    assert rows[0].sets == 4 and rows[0].flush_bytes == 0
    timed = seen[1:]  # after the run whose result is judged
    assert all(len(set(timed[i : i + 4])) == 4 for i in range(len(timed) - 3))


def test_idle_inputs_do_not_count():
    def both(seed):
        return make(64)(seed) | {"shape": make(4096)(seed)["x"]}

    turns = inputs.rotation(both, "cold", CPU, size=1 << 18, idle=("shape",))
    assert len(turns.sets) == 13


def test_warm_and_steady():
    warm, steady = (inputs.rotation(make(1), cache, CPU, size=1 << 20) for cache in ("warm", "steady"))
    assert (len(warm.sets), warm.flush, len(steady.sets), steady.flush) == (1, None, 3, None)
    with pytest.raises(ValueError, match="lukewarm"):
        inputs.rotation(make(1), "lukewarm", CPU)


def test_values_are_random_and_differ_by_set():
    conv = problems.Conv(8, 6, 6, 8, 3, 1)
    for direction, epilogues in convolutions.EPILOGUES.items():
        for epilogue in epilogues:
            made = convolutions.case(conv, 2, "bfloat16", direction, epilogue, EAGER, KERNELS).make
            one, other, again = made(0), made(1), made(0)
            for name, value in one.items():
                assert torch.equal(value, again[name])
                if value.is_floating_point():
                    assert not torch.equal(value, other[name])
                    assert value.float().std() > 0.01 and (value != 0).float().mean() > 0.3


def test_cold_is_slower_than_warm():
    """Reading 512 KiB: from a near cache, or from behind a flush; once seen is enough, on a busy machine."""

    def run(values):
        return (values["x"].sum(),)

    ratios = []
    for _ in range(40):
        seconds = []
        for cache in ("cold", "warm"):
            effort = Effort(rounds=8, seconds=0.05, most=5, warm_up=0.01)
            row = engine(effort, cache=cache).measure(case([implementation("a", run)], make=make(512)))[0]
            seconds.append(row.q1)
        ratios.append(seconds[0] / seconds[1])
        if ratios[-1] > 1.3:
            return
    raise AssertionError(f"a flush makes no difference: {standard.median(ratios):.2f}")
