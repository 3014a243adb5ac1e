"""The machines the operators' tests run on."""

import pytest
import torch

import resnet_kernels as rk
from resnet_kernels import _native

from .error_budget import PRECISIONS

NEEDS_SIMULATOR = pytest.mark.skipif(
    not _native.simulator_built(), reason="resnet_kernels._sim is not built: run `make build`"
)
NEEDS_CHECKED = pytest.mark.skipif(
    not _native.simulator_built(checked=True),
    reason="resnet_kernels._sim_checked is not built: run `make build`",
)
MACHINES = ("aten", pytest.param("simulator", marks=NEEDS_SIMULATOR))
# What runs the kernels.  Tests that take tensors from `problems.call` run on a GPU as well.
KERNELS = (pytest.param("simulator", marks=NEEDS_SIMULATOR), pytest.param("cuda", marks=pytest.mark.gpu))
# PyTorch has no TF32 on a CPU.
MACHINE_PRECISIONS = (
    *(("aten", precision) for precision in PRECISIONS if precision != "tf32"),
    *(pytest.param(("simulator", precision), marks=NEEDS_SIMULATOR) for precision in PRECISIONS),
    *(pytest.param(("cuda", precision), marks=pytest.mark.gpu) for precision in PRECISIONS),
)


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """PyTorch on one thread: the problems are tiny, and idle threads that spin cost more than they help."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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


@pytest.fixture(params=KERNELS)
def kernels(request):
    """The backend's name; the test runs on the kernels, simulated or on a GPU."""
    with rk.backend(request.param):
        yield request.param


@pytest.fixture(params=KERNELS[:1])
def simulator(request):
    """Run the test on the simulator."""
    with rk.backend(request.param):
        yield
