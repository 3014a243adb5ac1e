"""Whole networks against torchvision in float64, and the promises that the comparison of layers rests on."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision

from resnet_kernels import reference as ref


def network(depth, seed=0):
    """A float64 torchvision ResNet in eval mode with uneven running statistics, and its state_dict in
    NumPy.
    """
    torch.manual_seed(seed)
    model = getattr(torchvision.models, f"resnet{depth}")(num_classes=10).double().eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    return model, {k: v.numpy() for k, v in model.state_dict().items()}


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_logits_are_torchvisions(depth):
    model, state = network(depth)
    x = torch.randn(2, 3, 64, 48, dtype=torch.float64)
    with torch.no_grad():
        want = model(x).numpy()
    got = ref.resnet(state, x.numpy(), depth)
    assert np.abs(got - want).max() <= 1e-11 * np.abs(want).max()


def test_steps_chain_and_match_torchvisions_modules():
    """Every step's y, recomputed by torchvision's module from that step's x, and fed to the next step."""
    model, state = network(50)
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    modules = dict(model.named_modules())
    names, blocks = [], 0
    with torch.no_grad():
        for step in ref.steps(state, x.numpy()):
            names.append(step.name)
            if step.kind == "block":
                blocks += 1
                want = modules[step.name](torch.from_numpy(step.x)).numpy()
                assert np.abs(step.y - want).max() <= 1e-12 * np.abs(want).max()
    assert blocks == 16 and len(names) == 53 + 16 + 3 and names[0] == "conv1" and names[-1] == "fc"
    assert names[2:7] == [
        "layer1.0.downsample.0",
        "layer1.0.conv1",
        "layer1.0.conv2",
        "layer1.0.conv3",
        "layer1.0",
    ]


def test_stride_in_the_first_convolution_is_the_papers_v1():
    model, state = network(50)
    for stage in (model.layer2, model.layer3, model.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        want = model(x).numpy()
    assert np.abs(ref.resnet(state, x.numpy(), stride_in="1x1") - want).max() <= 1e-11 * np.abs(want).max()
    assert np.abs(ref.resnet(state, x.numpy()) - want).max() > 1e-3 * np.abs(want).max()


def test_hook_sees_every_step():
    _, state = network(18)
    seen = []
    ref.resnet(state, np.zeros((1, 3, 32, 32)), 18, hook=lambda step: seen.append(step.kind))
    assert seen.count("conv_bn_act") == 20 and seen.count("block") == 8 and seen[-1] == "linear"


def test_units_compose_to_the_network():
    _, state = network(18)
    x = y = np.random.default_rng(0).standard_normal((1, 3, 32, 32))
    names = ref.units(state)
    assert names[0] == "stem" and names[-1] == "head" and len(names) == 10
    for name in names:
        y = ref.unit(state, name, y)
    assert np.array_equal(y, ref.resnet(state, x))
    with pytest.raises(ValueError, match=r"layer9\.0"):
        ref.unit(state, "layer9.0", x)


def test_what_is_not_a_resnet_is_refused():
    _, state = network(18)
    with pytest.raises(ValueError, match="ResNet-18"):
        ref.resnet(state, np.zeros((1, 3, 32, 32)), 50)
    with pytest.raises(ValueError, match=r"conv1\.weight"):
        ref.resnet({}, np.zeros((1, 3, 32, 32)))
    with pytest.raises(ValueError, match="stride_in"):
        ref.resnet(state, np.zeros((1, 3, 32, 32)), stride_in="2x2")


def test_the_oracle_imports_neither_torch_nor_the_package_under_test():
    """Loaded on its own, outside its package, with torch forbidden."""
    code = f"""
import importlib.util, pathlib, sys
sys.modules["torch"] = None
path = pathlib.Path({str(ref.__file__)!r})
spec = importlib.util.spec_from_file_location("oracle", path, submodule_search_locations=[str(path.parent)])
module = importlib.util.module_from_spec(spec)
sys.modules["oracle"] = module
spec.loader.exec_module(module)
assert not any(name.startswith("resnet_kernels") for name in sys.modules), "imports the package"
"""
    subprocess.run([sys.executable, "-c", code], check=True)
