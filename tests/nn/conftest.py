"""The machines the module tests run on, and strict float32."""

import pytest
import torch

import resnet_kernels as rk
from resnet_kernels import _native

torch.set_num_threads(2)


@pytest.fixture(
    params=(
        "aten",
        pytest.param(
            "simulator",
            marks=pytest.mark.skipif(
                not _native.simulator_built(), reason="resnet_kernels._sim is not built: run `make build`"
            ),
        ),
    )
)
def machine(request):
    """Run the test on this backend, and on "auto" again after it."""
    with rk.backend(request.param):
        yield request.param


@pytest.fixture(autouse=True)
def strict_float32():
    """float32 convolutions without TF32: the simulator obeys PyTorch's switch as a GPU does.

    Through the old switch: torch.compile reads it, and that raises once the new ones were set."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before
