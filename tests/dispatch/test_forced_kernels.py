"""The 16-bit convolutions of the kernels' tests, by every configuration: exact, whichever it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from resnet_kernels import tuning

from ..kernels.cases import CASES
from .tasks import PORTABLE, SM_90, needs_simulator

pytestmark = needs_simulator

CONVOLUTIONS = [
    replace(case, capability=90)
    for name, case in CASES.items()
    if name.startswith("conv_") and name.split("-")[1] in ("bf16", "f16") and case.configuration is None
]


@pytest.mark.parametrize("configuration", [*PORTABLE, *SM_90])
def test_exact(configuration):
    with tuning.forced(configuration):
        for case in CONVOLUTIONS:
            case.check(0)
