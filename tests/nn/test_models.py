"""The paper's networks against torchvision's."""

import copy

import pytest
import torch
import torchvision
from torch import nn

import resnet_kernels as rk
from resnet_kernels import _native

from .common import calls, error, images, promised, settle


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_keys_shapes_and_order_are_torchvisions(name):
    with torch.device("meta"):
        ours, theirs = rk.models.create(name), getattr(torchvision.models, name)()
    ours, theirs = ours.state_dict(), theirs.state_dict()
    assert [(key, value.shape, value.dtype) for key, value in ours.items()] == [
        (key, value.shape, value.dtype) for key, value in theirs.items()
    ]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_same_seed_same_weights_same_results(name):
    networks = []
    for make in (rk.models.create, torchvision.models.get_model):
        torch.manual_seed(3)
        networks.append(settle(make(name, num_classes=10)))
    ours, theirs = networks
    for (key, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    x = images(2, 3, 65, 47)
    with torch.no_grad():
        assert error(ours.eval()(x), theirs.eval()(x)) < 1e-5
    ours.train()
    theirs.train().to(memory_format=torch.channels_last)
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_evaluation_runs_on_our_operators_alone(name):
    model = rk.models.create(name).eval()
    counted = calls(model, images(1, 3, 64, 64).contiguous(memory_format=torch.channels_last))
    convolutions = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    assert counted.ours == promised(model)
    assert counted.ours == {
        "conv_fprop": convolutions - 1,
        "conv_bn_relu_maxpool": 1,
        "global_avg_pool": 1,
        "linear": 1,
    }
    assert not counted.others
    assert not rk.fuse_report(model).unfused


@pytest.mark.skipif(
    not _native.simulator_built(), reason="resnet_kernels._sim is not built: run `make build`"
)
@pytest.mark.parametrize("options", [{}, {"shortcut": "A"}, {"shortcut": "C", "stride_in": "1x1"}], ids=str)
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_simulator_gives_the_same(name, options):
    torch.manual_seed(0)
    model = settle(rk.models.create(name, num_classes=10, **options)).eval()
    x = images(1, 3, 32, 32)
    with torch.no_grad():
        with rk.backend("aten"):
            expected = model(x)
        with rk.backend("simulator"):
            assert error(model(x), expected) < 1e-5


@pytest.mark.parametrize(
    ("name", "shortcut", "stride_in"),
    [
        ("resnet18", "A", "3x3"),
        ("resnet18", "B", "3x3"),
        ("resnet18", "C", "3x3"),
        ("resnet50", "A", "3x3"),
        ("resnet50", "B", "1x1"),
        ("resnet50", "C", "1x1"),
    ],
)
def test_variants_train_and_evaluate(name, shortcut, stride_in):
    torch.manual_seed(0)
    model = rk.models.create(name, num_classes=5, shortcut=shortcut, stride_in=stride_in)
    x = images(2, 3, 32, 32)
    model(x).square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    projections = sum(".downsample.0" in key for key in model.state_dict())
    blocks = {"resnet18": 8, "resnet50": 16}[name]
    changed = {"resnet18": 3, "resnet50": 4}[name]
    assert projections == {"A": 0, "B": changed, "C": blocks}[shortcut]
    peer = copy.deepcopy(settle(model).eval())
    with torch.no_grad():
        for module in peer.modules():  # hooks on every layer: PyTorch's own path
            if not list(module.children()):
                module.register_forward_hook(lambda *_: None)
        assert error(model(x), peer(x)) < 1e-5
        assert not calls(peer, x).ours.keys() - {"bn_apply"}


@pytest.mark.parametrize("make", [rk.models.resnet18, rk.models.resnet34])
def test_zero_init_residual_starts_as_the_identity(make):
    model = make(num_classes=2, zero_init_residual=True)
    assert all(not block.bn2.weight.any() for block in model.layer1)


def test_he_initialisation():
    torch.manual_seed(0)
    model = rk.models.resnet50(num_classes=2)
    weight = model.layer3[0].conv2.weight
    assert float(weight.std().detach()) == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)


def test_weights_are_channels_last_and_the_report_has_no_note():
    model = rk.models.resnet50(num_classes=2)
    assert all(
        module.weight.is_contiguous(memory_format=torch.channels_last)
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    )
    assert not rk.fuse_report(model.eval()).notes


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (
            lambda: rk.models.create("resnet19"),
            ValueError,
            "name must be one of .*'resnet18', .* got 'resnet19'",
        ),
        (lambda: rk.models.resnet18(num_classes=0), ValueError, "num_classes must be at least 1"),
        (lambda: rk.models.resnet18(shortcut="b"), ValueError, "shortcut must be one of 'A', 'B', 'C'"),
        (lambda: rk.models.resnet18(stride_in="2x2"), ValueError, "stride_in must be one of"),
        (lambda: rk.models.resnet18(width=3), TypeError, "width"),
    ],
)
def test_wrong_arguments_are_named(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


def test_wrong_input():
    with torch.no_grad(), pytest.raises(ValueError, match="x"):
        rk.models.resnet18(num_classes=2).eval()(images(1, 4, 32, 32))
