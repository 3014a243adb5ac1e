"""The machines the training tests run on, and strict float32 unless a test says otherwise."""

import pytest
import torch

import resnet_kernels as rk
from resnet_kernels import _native

torch.set_num_threads(2)

NEEDS_SIMULATOR = pytest.mark.skipif(
    not _native.simulator_built(), reason="resnet_kernels._sim is not built: run `make build`"
)
MACHINES = ("aten", pytest.param("simulator", marks=NEEDS_SIMULATOR))


@pytest.fixture(params=MACHINES)
def machine(request):
    """Run the test on this backend, and on "auto" again after it."""
    with rk.backend(request.param):
        yield request.param


@pytest.fixture(params=(pytest.param(None, marks=NEEDS_SIMULATOR),), ids=("simulator",))
def simulator():
    """Run the test on the simulator."""
    with rk.backend("simulator"):
        yield


@pytest.fixture(autouse=True)
def strict_float32():
    """float32 convolutions without TF32, through the old switch: torch.compile reads that one."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture
def fresh():
    """Nothing compiled before, nothing left compiled after."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
