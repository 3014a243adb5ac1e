"""Our side of the benchmarks of single operators, judged where there is no GPU: calls, results, no speeds."""

import pytest
import torch

import resnet_kernels as rk
from resnet_kernels import _native
from resnet_kernels.measure import convolutions, elementwise, kernel_ceilings, primitives, problems
from resnet_kernels.measure.case import Ours
from resnet_kernels.measure.engine import Engine
from resnet_kernels.measure.peers import Choice

from .common import LIMITS, SHORT

pytestmark = pytest.mark.skipif(not rk.simulator.built(), reason="the simulator is not built")

CPU = torch.device("cpu")
OURS = Ours("simulator", "ours")
CHOICE = Choice(CPU, ("eager_nhwc",))
CONV = problems.Conv(32, 14, 14, 64, 3, 1)
CONVOLUTIONS = [
    (direction, epilogue)
    for direction, epilogues in convolutions.EPILOGUES.items()
    for epilogue in epilogues
    if direction != "fprop" or epilogue in ("stats", "bn_relu")
]


def matches(case) -> bool:
    rows = {row.implementation: row for row in Engine(CPU, "simulator", LIMITS, SHORT).measure(case)}
    assert rows["ours"].status == "measured", rows["ours"].reason
    return bool(rows["ours"].match)


@pytest.mark.parametrize(("direction", "epilogue"), CONVOLUTIONS)
def test_convolutions(direction, epilogue):
    assert matches(convolutions.case(CONV, 1, "bfloat16", direction, epilogue, CHOICE, OURS))


@pytest.mark.parametrize("name", elementwise.KERNELS)
def test_elementwise(name):
    assert matches(elementwise.case(name, (64, 14, 14), 2, "bfloat16", CHOICE, OURS, "a test"))


def test_ceilings_of_our_kernels():
    """Every one runs, with the bytes or FLOPs that its launch counts; none without a GPU in the suite."""
    _native.simulator()
    found = list(kernel_ceilings.cases(CPU, ("bfloat16", "tf32", "float32")))
    assert [(case.name, case.dtype) for case in found] == [
        ("L2 to shared, tiled", "bfloat16"),
        ("L2 to shared, im2col", "bfloat16"),
        ("L2 to shared, tiled multicast", "bfloat16"),
        ("wgmma", "bfloat16"),
        ("wgmma", "tf32"),
    ]
    for case in found:
        (row,) = Engine(CPU, "simulator", LIMITS, SHORT).measure(case)
        assert row.status == "measured" and row.ours, row.reason
        assert bool(row.gbs) == (case.name != "wgmma") and bool(row.tflops) == (case.name == "wgmma")
    suite = primitives.cases(CHOICE, ("float32",), True, Ours("aten", "ours"))
    assert not {case.name for case in suite} & {case.name for case in found}


def test_ceilings_count_what_the_kernels_move():
    """Bytes of boxes and multiply-adds, by the checked simulator's counters."""
    copies, repeats = kernel_ceilings.SIMULATED.copies, kernel_ceilings.SIMULATED.repeats
    _native.simulator(checked=True)
    run, read = torch.ops.resnet_kernels_sim_checked, {}
    for case in kernel_ceilings.cases(CPU, ("bfloat16", "tf32")):
        inputs = case.make(0)
        with rk.simulator.record() as launches:
            if case.name == "wgmma":
                run.matrix_ceiling(inputs["a"], inputs["b"], 4, repeats)
            else:
                run.feed_ceiling(inputs["x"], kernel_ceilings.FEEDS[case.name], 4, copies)
        assert 2 * launches[0]["macs"] == case.flops
        read[case.name] = launches[0]["global"]["activation"]["useful"] / (case.bytes or 1)
    assert read["L2 to shared, tiled"] == 1 and read["L2 to shared, tiled multicast"] == 0.5
    assert 0.9 < read["L2 to shared, im2col"] < 1  # padding is not read
