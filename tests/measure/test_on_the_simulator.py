"""Our side of the benchmarks of single operators, judged where there is no GPU: calls, results, no speeds."""

import pytest
import torch

import resnet_kernels as rk
from resnet_kernels.measure import convolutions, elementwise, problems
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
