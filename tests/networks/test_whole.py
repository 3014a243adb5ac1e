"""ResNet-18 and ResNet-50 on a photograph at 224 x 224, on the simulator.

Random weights drift 11 to 13 % from float64 in bf16 in PyTorch itself, so the network is judged twice: every
layer by itself, fed the oracle's input, against the error bound of its operator; and the logits end to end,
beside PyTorch's own.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import resnet_kernels as rk
from resnet_kernels import reference
from resnet_kernels.demo import networks, photograph
from resnet_kernels.demo.compare import LOGITS_LIMIT, relative_error

from ..ops.error_budget import check_error, check_rms, to_numpy
from ..ops.problems import tf32

PRECISIONS = {"bf16": "bfloat16", "f32": "float32"}


@pytest.fixture(scope="module")
def image() -> Tensor:
    """china.jpg as the networks take it: [1, 3, 224, 224] float32."""
    return photograph.load(photograph.shipped()[0]).pixels


@pytest.fixture(scope="module", params=["resnet18", "resnet50"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module", params=list(PRECISIONS))
def precision(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def built(name: str, precision: str, image: Tensor) -> networks.Networks:
    return networks.prepare(name, PRECISIONS[precision], None, image, torch.device("cpu"))


def tensor(array: np.ndarray, dtype: torch.dtype) -> Tensor:
    made = torch.from_numpy(np.ascontiguousarray(array)).to(dtype)
    return made.contiguous(memory_format=torch.channels_last) if made.ndim == 4 else made


def check_convolution(step: reference.Step, dtype: torch.dtype, precision: str) -> None:
    """One convolution with everything fused to it, all operands rounded to the dtype first."""
    x, weight = tensor(step.x, dtype), tensor(step.weight, dtype)
    residual = None if step.residual is None else tensor(step.residual, dtype)
    bn = {key: torch.from_numpy(np.ascontiguousarray(value)).float() for key, value in step.bn.items()}
    keywords = {
        "scale": bn["weight"],
        "shift": bn["bias"],
        "mean": bn["mean"],
        "var": bn["var"],
        "eps": step.eps,
        "stride": step.stride,
        "padding": step.padding,
        "relu": step.relu,
    }
    with torch.no_grad(), rk.backend("simulator"):
        y = rk.ops.conv_bn_act(x, weight, residual=residual, **keywords)
    with torch.no_grad(), rk.backend("aten"):
        peer = rk.ops.conv_bn_act(x, weight, residual=residual, **keywords)

    vectors = [to_numpy(bn[key]).reshape(1, -1, 1, 1) for key in ("weight", "bias", "mean", "var")]
    gamma, beta, mean, var = vectors
    factor = gamma / np.sqrt(var + step.eps)
    geometry = {"stride": step.stride, "padding": step.padding}
    exact = (reference.conv2d(to_numpy(x), to_numpy(weight), **geometry) - mean) * factor + beta
    product = reference.conv2d(np.abs(to_numpy(x)), np.abs(to_numpy(weight)), **geometry)
    scale = (product + np.abs(mean)) * np.abs(factor) + np.abs(beta)
    if residual is not None:
        exact, scale = exact + to_numpy(residual), scale + np.abs(to_numpy(residual))
    exact = np.maximum(exact, 0.0) if step.relu else exact
    terms = step.weight[0].size
    check_error(y, exact, scale, terms, precision, what=step.name)
    check_rms(y, peer, exact, what=step.name)


def test_every_layer(built: networks.Networks, precision: str, image: Tensor) -> None:
    checked = 0
    with tf32(False):
        for step in reference.steps(built.state, image.double().numpy()):
            if step.kind != "conv_bn_act":
                continue
            check_convolution(step, built.dtype, precision)
            checked += 1
    assert checked == {"resnet18": 20, "resnet50": 53}[built.name]


def test_logits(built: networks.Networks, image: Tensor) -> None:
    x = image.to(built.dtype).contiguous(memory_format=torch.channels_last)
    exact = reference.resnet(built.state, to_numpy(x))
    with torch.no_grad(), tf32(False):
        with rk.backend("simulator"):
            ours = to_numpy(built.ours(x))
        with rk.backend("aten"):
            composition = to_numpy(built.ours(x))
        peer = to_numpy(built.torchvision(x))
    error = relative_error(ours, exact)
    limit = LOGITS_LIMIT[built.dtype]
    allowed = limit * min(relative_error(composition, exact), relative_error(peer, exact))
    print(f"logits' relative L2 error {error:.3e}, allowed {allowed:.3e}")
    assert error <= allowed
