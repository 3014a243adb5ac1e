"""The machines the operators' tests run on."""

import pytest

import resnet_kernels as rk
from resnet_kernels import _native

from .error_budget import PRECISIONS

NEEDS_SIMULATOR = pytest.mark.skipif(
    not _native.simulator_built(), reason="resnet_kernels._sim is not built: run `make build`"
)
MACHINES = ("aten", pytest.param("simulator", marks=NEEDS_SIMULATOR))
# PyTorch has no TF32 on a CPU.
MACHINE_PRECISIONS = tuple(("aten", precision) for precision in PRECISIONS if precision != "tf32") + tuple(
    pytest.param(("simulator", precision), marks=NEEDS_SIMULATOR) for precision in PRECISIONS
)


@pytest.fixture(params=MACHINES)
def machine(request):
    """Run the test on this backend, and on "auto" again after it."""
    with rk.backend(request.param):
        yield request.param


@pytest.fixture(params=MACHINE_PRECISIONS, ids="-".join)
def machine_precision(request):
    """(backend, precision), every pair there is; the test runs on the backend."""
    with rk.backend(request.param[0]):
        yield request.param


@pytest.fixture(params=(pytest.param(None, marks=NEEDS_SIMULATOR),), ids=("simulator",))
def simulator():
    """Run the test on the simulator."""
    with rk.backend("simulator"):
        yield
