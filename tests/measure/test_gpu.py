"""On a GPU: what the clock sees, every peer on small problems, graphs, and the whole step in a graph."""

import time

import pytest
import torch

from resnet_kernels.measure import convolutions, elementwise, inputs, networks, problems, training, units
from resnet_kernels.measure.case import Ours
from resnet_kernels.measure.clock import CudaClock
from resnet_kernels.measure.engine import Engine
from resnet_kernels.measure.peers import Choice, pytorch

from .common import LIMITS, SHORT

pytestmark = pytest.mark.gpu

GPU = torch.device("cuda")
OURS = Ours("cuda", "ours")
CONV = problems.Conv(32, 14, 14, 64, 3, 1)
OPTIONAL = ("cudnn_graph", "cudnn_fused", "jax")  # may refuse a pattern, and say so


def rows_of(case):
    return {row.implementation: row for row in Engine(GPU, "cuda", LIMITS, SHORT).measure(case)}


def judged(case):
    rows = rows_of(case)
    assert rows["ours"].match, (rows["ours"].reason, rows["ours"].share)
    for name, row in rows.items():
        if row.status != "absent" and name not in OPTIONAL:
            assert row.status == "measured", row.reason
            assert row.match is not False, (name, row.share)
            assert row.seconds > 0 and len(row.rounds) == SHORT.rounds
        if row.status == "failed":
            assert row.reason
    return rows


@pytest.mark.parametrize(
    ("direction", "epilogue"), [(d, e) for d, some in convolutions.EPILOGUES.items() for e in some]
)
@pytest.mark.parametrize("dtype", ("bfloat16", "float16", "tf32", "float32"))
def test_convolutions(direction, epilogue, dtype):
    conv = problems.Conv(3, 32, 32, 64, 7, 2) if "maxpool" in epilogue else CONV
    judged(convolutions.case(conv, 4, dtype, direction, epilogue, Choice(GPU), OURS))


@pytest.mark.parametrize("name", elementwise.KERNELS)
def test_elementwise(name):
    judged(elementwise.case(name, (64, 14, 14), 4, "bfloat16", Choice(GPU), OURS, "a test"))


@pytest.mark.parametrize("direction", ("train_forward", "train_backward"))
def test_trained_layers(direction):
    judged(units.case(CONV, 4, "bfloat16", direction, "bn_add_relu", Choice(GPU), OURS))


def test_networks_and_steps():
    chosen = Choice(GPU, ("eager_nhwc", "eager_nchw", "eager_nhwc_graph", "folded_nhwc_graph"))
    inference = judged(networks.case("cifar_resnet20", 4, "bfloat16", chosen, OURS))
    assert inference["ours_graph"].status == inference["folded_nhwc_graph"].status == "measured"
    step = judged(training.case("cifar_resnet20", 16, "bfloat16", chosen, OURS))
    assert step["ours_graph"].status == "measured" and step["ours"].peak_bytes > 0


def test_a_captured_step_learns():
    """Replays change the weights: the loss on one batch falls."""
    case = training.case("cifar_resnet20", 32, "bfloat16", Choice(GPU), OURS)
    step = next(one for one in case.implementations() if one.name == "ours_graph").bind(case.make(0))
    first = step()[0].item()
    for _ in range(200):
        (loss,) = step()
    assert loss.item() < 0.9 * first


def test_hidden_launches():
    """A kernel of microseconds behind Python's milliseconds: the event sees the former."""
    x = torch.randn(1024, device=GPU)

    def slow_to_launch():
        time.sleep(2e-3)
        x.add_(1)

    hidden = CudaClock(hide_launches=True).burst([slow_to_launch] * 5, None)
    seen = CudaClock(hide_launches=False).burst([slow_to_launch] * 5, None)
    assert max(hidden) < 1e-3 < 1.5e-3 < min(seen[1:])


def test_cold_is_slower_than_warm():
    """Reading 8 MiB from the L2 and from memory."""

    def make(seed):
        return {"x": torch.randn(1 << 21, generator=torch.Generator(GPU).manual_seed(seed), device=GPU)}

    clock, seconds = CudaClock(True), {}
    for cache in ("warm", "cold"):
        turns = inputs.rotation(make, cache, GPU)
        runs = [pytorch.eager(lambda i: (i["x"].sum(),))(values) for values in turns.sets] * 10
        clock.burst(runs, turns.flush)
        seconds[cache] = sorted(clock.burst(runs, turns.flush))[len(runs) // 2]
    assert seconds["cold"] > 1.1 * seconds["warm"]
