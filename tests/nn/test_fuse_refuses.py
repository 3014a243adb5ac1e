"""What stays PyTorch's own: touched, shared, foreign or uncovered layers, each listed with its reason."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import resnet_kernels as rk

from .common import calls, error, foreign, images, promised, settle


def conv(inputs=4, outputs=4, **options):
    return nn.Conv2d(inputs, outputs, 3, **({"padding": 1, "bias": False} | options))


def triple(convolution=None, norm=None, act=None):
    """conv, bn, relu in a Sequential, in evaluation."""
    convolution = conv() if convolution is None else convolution
    norm = nn.BatchNorm2d(convolution.out_channels) if norm is None else norm
    return settle(nn.Sequential(convolution, norm, nn.ReLU() if act is None else act)).eval()


def assert_same_and_reported(model, x, expected_calls):
    """Fusing changes no number, and the calls made are the calls reported and expected."""
    with torch.no_grad():
        before = copy.deepcopy(model)(x)
        rk.fuse(model)
        assert error(model(x), before) < 1e-5
    assert calls(model, x).ours == promised(model) == expected_calls


UNCOVERED = [
    (conv(groups=2), "groups=2"),
    (conv(padding_mode="reflect"), "padding_mode='reflect'"),
    (conv(padding="same"), "padding='same'"),
    (conv(bias=True), "bias"),
    (type("MyConv", (nn.Conv2d,), {})(4, 4, 3, bias=False), "it is a MyConv, not nn.Conv2d"),
]


@pytest.mark.parametrize(("convolution", "reason"), UNCOVERED, ids=[reason for _, reason in UNCOVERED])
def test_uncovered_convolutions(convolution, reason):
    model = triple(convolution)
    assert_same_and_reported(
        model, images(2, 4, 6, 6), {"bn_apply": 1}
    )  # BatchNorm and ReLU are one pass still
    (row,) = rk.fuse_report(model).unfused
    assert row.layers == ("0",) and reason in row.reason


def weight_hook(model):
    prune.l1_unstructured(model[0], "weight", amount=0.5)


def weight_norm(model):
    parametrizations.weight_norm(model[0])


def doubled(model):
    class Double(nn.Module):
        def forward(self, weight):
            return 2 * weight

    parametrize.register_parametrization(model[0], "weight", Double())


def replaced_forward(model):
    convolution = model[0]
    convolution.forward = lambda x: 3 * F.conv2d(x, convolution.weight, padding=1)


def backward_hook(model):
    model[0].register_full_backward_hook(lambda *_: None)


TOUCHES = [
    (weight_hook, "reparametrized by hooks (L1Unstructured)"),
    (weight_norm, "its weight is parametrized"),
    (doubled, "its weight is parametrized"),
    (replaced_forward, "its forward is replaced"),
    (backward_hook, "it has hooks"),
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("touch", "reason"), TOUCHES, ids=[touch.__name__ for touch, _ in TOUCHES])
def test_touched_convolutions(touch, reason, when):
    model = triple()
    x = images(2, 4, 6, 6)
    if when == "after":
        rk.fuse(model)
        assert calls(model, x).ours == {"conv_fprop": 1}
    touch(model)
    rk.fuse(model)
    with torch.no_grad():
        y = model[2](model[1](model[0](x)))
        assert error(model(x), y) < 1e-5
    assert calls(model, x).ours == promised(model) == {"bn_apply": 1}
    (row,) = rk.fuse_report(model).unfused
    assert reason in row.reason


def test_removed_pruning_fuses_again():
    model = rk.fuse(triple())
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    assert calls(model, images(1, 4, 6, 6)).ours == {"bn_apply": 1}
    prune.remove(model[0], "weight")
    assert calls(model, images(1, 4, 6, 6)).ours == {"conv_fprop": 1}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
@pytest.mark.parametrize(
    "path", ["conv1", "bn1", "relu", "maxpool", "layer1.0.conv2", "layer1.0.bn2", "layer1.0.relu"]
)
def test_hooks_fire_and_the_report_says_so(path, kind, when):
    if path == "layer1.0.bn2" and "backward" in kind:
        pytest.skip("PyTorch refuses a full backward hook before an in-place add")
    model = foreign("small").eval()
    for module in model.modules():  # PyTorch refuses a full backward hook before an in-place ReLU
        if isinstance(module, nn.ReLU):
            module.inplace = False
    if when == "after":
        rk.fuse(model)
    fired = []
    handle = getattr(model.get_submodule(path), f"register_{kind}_hook")(lambda *_: fired.append(1))
    rk.fuse(model)
    x = images(1, 3, 32, 32).requires_grad_()
    peer = rk.unfuse(copy.deepcopy(model))
    model(x).sum().backward()
    count = len(fired)
    peer(x).sum().backward()
    assert len(fired) == 2 * count > 0
    assert calls(model, x).ours == promised(model)
    reasons = {layer: row.reason for row in rk.fuse_report(model).unfused for layer in row.layers}
    assert "hooks" in reasons[path]
    handle.remove()
    assert not rk.fuse_report(model).unfused


@pytest.mark.parametrize("path", ["layer1.0", "layer1", "layer2.0.downsample", "avgpool", "fc", ""])
def test_hooks_on_containers_and_heads_fire(path):
    model = rk.fuse(foreign("small").eval())
    fired = []
    model.get_submodule(path).register_forward_hook(lambda *_: fired.append(1))
    x = images(1, 3, 32, 32)
    with torch.no_grad():
        assert error(model(x), rk.unfuse(copy.deepcopy(model))(x)) < 1e-5
    assert len(fired) == 2
    assert calls(model, x).ours == promised(model)
    assert rk.fuse_report(model).fused_convolutions == 12


def test_shared_layers_are_listed():
    convolution, norm, act = conv(), nn.BatchNorm2d(4), nn.ReLU()
    model = settle(
        nn.Sequential(convolution, norm, act, convolution, norm, act, conv(), nn.BatchNorm2d(4), act)
    ).eval()
    assert_same_and_reported(model, images(2, 4, 6, 6), {"conv_fprop": 1})
    report = rk.fuse_report(model)
    shared = {layer for row in report.unfused if "shared" in row.reason for layer in row.layers}
    assert {"0", "1", "2"} <= shared
    (row,) = report.fused
    assert row.layers == ("6", "7")  # the shared ReLU stays a module


def test_a_block_used_twice():
    model = foreign("torchvision resnet18").eval()
    model.layer1[1] = model.layer1[0]
    x = images(1, 3, 32, 32)
    with torch.no_grad():
        before = model(x)
        assert error(rk.fuse(model)(x), before) < 1e-5
    assert any("shared" in row.reason for row in rk.fuse_report(model).unfused)


class Foreign(nn.Module):
    """A network of its own: a block nobody knows, and a Sequential inside it."""

    def __init__(self):
        super().__init__()
        self.conv = conv()
        self.bn = nn.BatchNorm2d(4)
        self.stem = nn.Sequential(
            conv(), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2)
        )

    def forward(self, x):
        return self.stem(x) + torch.sigmoid(self.bn(self.conv(x)))[:, :, ::4, ::4]


def test_foreign_networks_get_the_generic_part():
    model = settle(Foreign()).eval()
    assert_same_and_reported(model, images(2, 4, 8, 8), {"conv_bn_relu_maxpool": 1, "max_pool": 1})
    (row,) = rk.fuse_report(model).unfused
    assert row.layers == ("conv", "bn") and "Foreign is not recognised" in row.reason
    assert type(model) is Foreign


def test_a_subclass_with_its_own_forward_is_not_recognised():
    import torchvision

    class Mine(torchvision.models.resnet.BasicBlock):
        def forward(self, x):
            return super().forward(x) * 2

    block = rk.fuse(settle(Mine(4, 4)).eval())
    assert type(block) is Mine
    (row,) = rk.fuse_report(block).unfused
    assert "Mine is not recognised" in row.reason


def test_a_subclass_with_the_known_forward_is_recognised():
    import torchvision

    class Mine(torchvision.models.resnet.BasicBlock):
        pass

    block = rk.fuse(settle(Mine(4, 4)).eval())
    assert isinstance(block, Mine) and rk.fuse_report(block).fused_convolutions == 2
    twin = copy.deepcopy(block)
    assert isinstance(twin, Mine)


def test_before_fuse_the_report_says_so():
    report = rk.fuse_report(foreign("torchvision resnet18"))
    assert not report.fused
    assert all("fuse() has not been called" in row.reason for row in report.unfused)


def test_other_norms_activations_and_pools():
    model = nn.Sequential(
        *(conv(), nn.GroupNorm(2, 4), nn.ReLU()),
        *(conv(), nn.BatchNorm2d(4), nn.ReLU6()),
        *(conv(), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(3, 2, 1, ceil_mode=True)),
        *(nn.BatchNorm2d(4), conv(), nn.Sigmoid()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)),
    )
    expected = {"conv_fprop": 2, "global_avg_pool": 1, "linear": 1}
    assert_same_and_reported(settle(model).eval(), images(2, 4, 8, 8), expected)
    reasons = [row.reason for row in rk.fuse_report(model).unfused]
    assert any("no BatchNorm follows it, GroupNorm does" in reason for reason in reasons)
    assert any("ceil_mode" in reason for reason in reasons)


def test_batchnorm_alone_in_training_mode():
    model = rk.fuse(foreign("torchvision resnet18").eval())
    model.layer1[0].bn1.train()
    x = images(2, 3, 32, 32)
    peer = rk.unfuse(copy.deepcopy(model))
    with torch.no_grad():
        assert error(model(x), peer(x)) < 1e-5
    report = rk.fuse_report(model)
    (row,) = report.unfused[:1]
    assert "training mode" in row.reason
    assert any("training mode" in note for note in report.notes)
    assert calls(model, x).ours == promised(model)


def test_dropout_and_nesting():
    inner = nn.Sequential(conv(), nn.BatchNorm2d(4))
    model = settle(nn.Sequential(inner, nn.Identity(), nn.Dropout2d(0.5), nn.ReLU())).eval()
    assert_same_and_reported(model, images(2, 4, 6, 6), {"conv_fprop": 1})
    (row,) = rk.fuse_report(model).fused
    assert row.layers == ("0.0", "0.1", "3")
