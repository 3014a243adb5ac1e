"""Tuning on the simulator with a clock that knows each tile's speed: everything but the speeds is real."""

import json

import pytest
import torch
from rich.console import Console

import resnet_kernels as rk
from resnet_kernels import tuning
from resnet_kernels.measure import tune, tune_report
from resnet_kernels.measure.problems import Conv

pytestmark = pytest.mark.skipif(
    not rk.simulator.built(checked=True), reason="the simulator's checked build is missing"
)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def sm_80():
    """A GPU with few configurations."""
    with rk.simulator.compute_capability(80):
        yield


CONV = Conv(32, 9, 9, 72, 3, 1, ("bn_relu",), {"a network": 1})


class TileClock:
    """Seconds by the tile of the convolution's kernel, and how often each ran."""

    name = "seconds by tile"

    def __init__(self, seconds):
        self.seconds, self.ran = seconds, dict.fromkeys(seconds, 0)

    def burst(self, runs, between):
        times = []
        for run in runs:
            if between is not None:
                between()
            with rk.simulator.checked(), rk.simulator.record() as launches:
                run()
            kernel = next(launch["kernel"] for launch in launches if launch["kernel"].startswith("conv"))
            (tile,) = (tile for tile in self.seconds if tile in kernel)
            self.ran[tile] += 1
            times.append(self.seconds[tile])
        return times

    def synchronize(self):
        pass


def tuned(problem, clock, **rest):
    """The entry of one problem."""
    (entry,) = tune.tune([problem], CPU, "simulator", 132, clock, cache="warm", rounds=2, runs=1, **rest)
    return entry


@pytest.mark.parametrize("fastest", ["128x128", "128x64", "64x64"])
@pytest.mark.parametrize("operation", ["fprop", "dgrad"])
def test_the_fastest_wins(operation, fastest):
    clock = TileClock({tile: 1e-6 if tile == fastest else 2e-6 for tile in ("128x128", "128x64", "64x64")})
    problem = tune.Problem(CONV, 2, "bfloat16", operation)
    entry = tuned(problem, clock)
    assert entry.configuration == f"sm80/{fastest}"
    assert entry.task == problem.task(132)
    assert entry.seconds == {f"sm80/{tile}": seconds for tile, seconds in clock.seconds.items()}
    assert set(clock.ran.values()) == {3}  # a round to warm up, and two


def test_only_what_is_legal_is_measured():
    clock = TileClock({"128x128": 1e-6, "64x64": 2e-6})
    assert set(tuned(tune.Problem(CONV, 2, "bfloat16", "wgrad"), clock).seconds) == {
        "sm80/128x128",
        "sm80/64x64",
    }


def test_an_entry_reaches_the_call_that_was_measured(tmp_path):
    """Loaded, the table decides what the same operator runs: the task is the dispatcher's, padded alike."""
    for conv in (CONV, Conv(3, 9, 9, 16, 3, 2, ("bn_relu",), {})):
        problem = tune.Problem(conv, 2, "bfloat16", "fprop")
        for fastest in ("128x64", "64x64"):
            clock = TileClock({tile: 1 + (tile != fastest) for tile in ("128x128", "128x64", "64x64")})
            tuning.save(tmp_path / "a.json", device="none", command="none", only=[tuned(problem, clock)])
            try:
                tuning.load(tmp_path / "a.json")
                clock.ran = dict.fromkeys(clock.ran, 0)
                case = problem.case(CPU, "simulator")
                (ours,) = (way for way in case.implementations() if way.ours)
                with rk.backend("simulator"):
                    clock.burst([ours.bind(case.make(0))], None)
                assert [tile for tile, ran in clock.ran.items() if ran] == [fastest]
            finally:
                tuning.clear()


def test_the_plan():
    plan = tune.plan(["resnet50"], [1, 256], ["bfloat16"])
    assert len(plan) == 2 * (3 * 23 - 1)
    assert not [p for p in plan if p.conv.c == 3 and p.operation == "dgrad"]
    assert len(tune.plan(["resnet50"], [1], ["bfloat16"], ["wgrad"], most=5)) == 5
    assert plan[0].task(114).multiprocessors == 114
    with pytest.raises(ValueError, match="alexnet"):
        tune.plan(["alexnet"], [1], ["bfloat16"])


def test_what_is_shown():
    task = tuning.Task.of("fprop", "bfloat16", (256, 64, 56, 56), (64, 64, 3, 3), padding=1)
    (model,) = (c.configuration for c in tuning.choices(task) if c.chosen)
    other = next(c.configuration for c in tuning.choices(task) if not c.refused and not c.chosen)
    seconds = {model: 3e-6, other: 2e-6}
    console = Console(width=160, record=True)
    entries = [tuning.Entry(task, other, seconds), tuning.Entry(task, model, seconds)]
    tune_report.show(entries, "a GPU", console)
    text = console.export_text()
    assert "fprop 3x3 64>64 56x56, bfloat16, batch 256" in text
    assert "1.50x" in text
    assert "1 of 2 are as the model has them" in text


def test_json_is_what_the_loader_takes(tmp_path):
    clock = TileClock(dict.fromkeys(("128x128", "128x64", "64x64"), 1e-06))
    entry = tuned(tune.Problem(CONV, 1, "float16", "fprop"), clock)
    tuning.save(tmp_path / "a.json", device="none", command="none", only=[entry])
    assert json.loads((tmp_path / "a.json").read_text())["entries"][0]["seconds"] == entry.seconds
    try:
        assert tuning.load(tmp_path / "a.json") == [entry]
    finally:
        tuning.clear()
