"""The 16-bit convolutions of the kernels' tests, by every configuration: exact, whichever it is."""

from __future__ import annotations

import pytest

from resnet_kernels import tuning

from ..kernels.cases import CASES
from .tasks import PORTABLE, SM_90, needs_simulator

pytestmark = needs_simulator

CONVOLUTIONS = [name for name in CASES if name.startswith("conv_") and name.split("-")[1] in ("bf16", "f16")]


@pytest.mark.parametrize("configuration", [*PORTABLE, *SM_90])
def test_exact(configuration):
    with tuning.forced(configuration):
        for name in CONVOLUTIONS:
            CASES[name].check(0)
