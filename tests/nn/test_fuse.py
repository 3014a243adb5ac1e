"""fuse on whole networks: same numbers, same keys, a true report, and the way back."""

import copy

import pytest
import torch
import torchvision
from torch import nn

import resnet_kernels as rk
from resnet_kernels import _native
from resnet_kernels.nn import chain
from resnet_kernels.nn.families import FusedModule

from .common import FOREIGN, SHORT, calls, error, foreign, images, outline, promised

EVERY = pytest.mark.parametrize("name", FOREIGN)
EVERY_SHORT = pytest.mark.parametrize("name", SHORT)


@pytest.mark.parametrize("name", [*SHORT, *FOREIGN])
def test_evaluation_is_the_same_and_the_report_is_true(name):
    model = foreign(name).eval()
    keys = list(model.state_dict())
    x = images(2, 3, 32, 32)
    with torch.no_grad():
        before = model(x)
        assert rk.fuse(model) is model
        after = model(x)
    assert list(model.state_dict()) == keys
    assert error(after, before) < 1e-5
    assert calls(model, x).ours == promised(model)


@EVERY
def test_every_layer_stands_in_the_report(name):
    model = rk.fuse(outline(name).eval())
    report = rk.fuse_report(model)
    listed = [layer for row in report.rows for layer in row.layers]
    for path, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.Linear, nn.AdaptiveAvgPool2d)):
            assert listed.count(path) == 1, path
        elif isinstance(module, nn.ReLU):
            assert path in listed
    for row in report.unfused:
        assert row.reason
        for layer in row.layers:
            module = model.get_submodule(layer) if layer != chain.ADD else None
            assert not isinstance(module, nn.Conv2d) or module.groups > 1 or ".se." in layer, row


@pytest.mark.parametrize(
    ("name", "convolutions", "fused"),
    [
        ("torchvision resnet18", 20, 20),
        ("torchvision resnet50", 53, 53),
        ("torchvision wide_resnet50_2", 53, 53),
        ("torchvision resnext50_32x4d", 53, 37),
        ("timm resnet50d", 55, 55),
        ("timm seresnet50", 85, 53),
    ],
)
def test_counts(name, convolutions, fused):
    report = rk.fuse_report(rk.fuse(outline(name)))
    assert (report.convolutions, report.fused_convolutions) == (convolutions, fused)
    assert f"{fused} of {convolutions} convolutions fused in evaluation" in report.summary()


@pytest.mark.parametrize("name", ["torchvision resnet50", "torchvision resnet18", "timm resnet50d"])
def test_a_fused_network_runs_on_our_operators_alone(name):
    counted = calls(rk.fuse(foreign(name).eval()).to(memory_format=torch.channels_last), images(1, 3, 64, 64))
    moving = {"clone", "permute", "view", "_to_copy", "detach", "alias"}  # the contiguous input's conversion
    assert set(counted.others) <= moving | ({"avg_pool2d"} if "50d" in name else set())


@EVERY_SHORT
def test_training_is_untouched_bit_for_bit(name):
    model = foreign(name)
    peer = copy.deepcopy(model)
    rk.fuse(model)
    x = images(2, 3, 32, 32)
    results = []
    for network in (model, peer):
        torch.manual_seed(7)
        y = network(x)
        y.square().mean().backward()
        results.append(y)
    assert torch.equal(*results)
    for (key, ours), theirs in zip(model.state_dict().items(), peer.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), key
    for (key, ours), theirs in zip(model.named_parameters(), peer.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad), key
    report = rk.fuse_report(model)
    assert report.training and "In training mode now: PyTorch's composition" in str(report)
    with torch.no_grad():
        assert not calls(model, x).ours


@EVERY_SHORT
def test_unfuse_restores_exactly(name):
    model = foreign(name).eval()
    kinds = [type(module) for module in model.modules()]
    attributes = [set(module.__dict__) for module in model.modules()]
    x = images(1, 3, 64, 64)
    with torch.no_grad():
        before = model(x)
    rk.fuse(model)
    fused = [type(module) for module in model.modules()]
    rk.fuse(model)
    assert [type(module) for module in model.modules()] == fused != kinds
    assert all(issubclass(a, b) for a, b in zip(fused, kinds, strict=True))
    assert rk.unfuse(model) is model
    assert [type(module) for module in model.modules()] == kinds
    assert [set(module.__dict__) for module in model.modules()] == attributes
    with torch.no_grad():
        assert torch.equal(model(x), before)


@pytest.mark.skipif(
    not _native.simulator_built(), reason="resnet_kernels._sim is not built: run `make build`"
)
@pytest.mark.parametrize(
    "name", ["torchvision resnet18", "torchvision resnet50", "timm resnet50d", "timm seresnet50"]
)
def test_simulator_gives_the_same(name):
    model = foreign(name).eval()
    x = images(1, 3, 32, 32)
    with torch.no_grad():
        before = model(x)
        rk.fuse(model)
        with rk.backend("simulator"):
            assert error(model(x), before) < 1e-5


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(33, 65), (47, 32)])
def test_layouts_and_odd_sizes(layout, size):
    model = foreign("small").eval()
    x = images(2, 3, *size)
    with torch.no_grad():
        before = model(x)
        rk.fuse(model).to(memory_format=layout)
        for given in (torch.contiguous_format, torch.channels_last):
            assert error(model(x.contiguous(memory_format=given)), before) < 1e-5
    noted = any("not channels_last" in note for note in rk.fuse_report(model).notes)
    assert noted == (layout is torch.contiguous_format)


def test_autocast():
    model = foreign("torchvision resnet18").eval()
    x = images(2, 3, 64, 64)
    with torch.no_grad():
        exact = model(x)
        with torch.autocast("cpu", torch.bfloat16):
            before = model(x)
            after = rk.fuse(model)(x)
    assert after.dtype == before.dtype == torch.bfloat16
    assert error(after, exact) < max(1.25 * error(before, exact), 1e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes(dtype):
    model = foreign("torchvision resnet18").eval()
    x = images(1, 3, 32, 32)
    with torch.no_grad():
        exact = model.double()(x.double())
        model.to(dtype)
        before = model(x.to(dtype))
        after = rk.fuse(model)(x.to(dtype))
    assert after.dtype == dtype
    assert error(after, exact) <= 1.5 * error(before, exact)
    report = rk.fuse_report(model)
    if dtype == torch.float64:  # the kernels do not take it: PyTorch's own modules, said so
        assert torch.equal(after, before)
        assert not report.fused and "float64" in report.unfused[0].reason
    else:
        assert report.fused_convolutions == 20
        assert any("half-precision" in note for note in report.notes)
    assert calls(model, x.to(dtype)).ours == promised(model)


def test_evaluation_with_gradients_gives_pytorchs_gradients():
    model = foreign("small").eval()
    peer = copy.deepcopy(model)
    rk.fuse(model)
    x = images(2, 3, 32, 32)
    for network in (model, peer):
        network(x).square().mean().backward()
    for (key, ours), theirs in zip(model.named_parameters(), peer.parameters(), strict=True):
        assert error(ours.grad, theirs.grad) < 1e-4, key


def test_frozen_stages_are_fused_inside_a_training_network():
    model = rk.fuse(foreign("torchvision resnet18")).requires_grad_(False)
    model.layer1.eval()
    counted = calls(model, images(2, 3, 32, 32))
    assert counted.ours == {"conv_fprop": 4}


def test_frozen_batchnorm():
    model = torchvision.models.resnet18(norm_layer=torchvision.ops.FrozenBatchNorm2d).eval()
    for buffer in model.buffers():
        nn.init.uniform_(buffer, 0.5, 1.0)
    x = images(1, 3, 32, 32)
    with torch.no_grad():
        before = model(x)
        assert error(rk.fuse(model)(x), before) < 1e-5
    assert rk.fuse_report(model).fused_convolutions == 20


def test_modified_networks():
    """What transfer learning does to a torchvision network: another head, no first pooling, dilation."""
    resnet = torchvision.models.resnet
    model = resnet.ResNet(resnet.Bottleneck, [1, 1, 2, 2], replace_stride_with_dilation=[False, True, True])
    model.fc = nn.Sequential(nn.Dropout(0.5), nn.Linear(2048, 7))
    model.maxpool = nn.Identity()
    model.eval()
    x = images(1, 3, 32, 32)
    with torch.no_grad():
        before = model(x)
        assert error(rk.fuse(model)(x), before) < 1e-5
    assert calls(model, x).ours == promised(model) == {"conv_fprop": 23, "global_avg_pool": 1, "linear": 1}
    model.fc = nn.Identity()
    with torch.no_grad():
        assert model(x).shape == (1, 2048)


def test_own_networks_are_fused_by_birth():
    model = rk.models.resnet18().eval()
    report = rk.fuse_report(model)
    assert report.fused_convolutions == 20 and not report.unfused
    kinds = [type(module) for module in model.modules()]
    assert [type(module) for module in rk.fuse(model).modules()] == kinds
    assert [type(module) for module in rk.unfuse(model).modules()] == kinds
    assert not any(isinstance(module, FusedModule) for module in model.modules())


@pytest.mark.parametrize("function", [rk.fuse, rk.unfuse, rk.fuse_report])
def test_not_a_module(function):
    with pytest.raises(TypeError, match=rf"{function.__name__}: model must be a torch.nn.Module, got dict"):
        function({})


def test_scripted():
    with pytest.warns(DeprecationWarning):
        scripted = torch.jit.script(nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)))
    with pytest.raises(TypeError, match="scripted"):
        rk.fuse(scripted)
