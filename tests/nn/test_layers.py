"""ConvBNAct2d and ZeroPadShortcut against PyTorch's own layers."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import resnet_kernels as rk
from resnet_kernels.nn import ConvBNAct2d, ZeroPadShortcut

from .common import calls, error, images, settle


def composed(layer, x, residual=None):
    y = layer.bn(layer.conv(x))
    y = y if residual is None else y + residual
    return F.relu(y) if isinstance(layer.act, nn.ReLU) else y


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("act", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 1},
        {"kernel_size": 3, "stride": 2},
        {"kernel_size": 3, "dilation": 2},
        {"kernel_size": (1, 3), "stride": (2, 1), "padding": (0, 1)},
        {"kernel_size": 4, "stride": 3, "padding": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(8, 8), (7, 11)])
def test_evaluation_is_one_operator_and_right(machine, options, act, residual, size):
    torch.manual_seed(0)
    layer = settle(ConvBNAct2d(6, 10, act=act, **options)).eval()
    x = images(2, 6, *size)
    with torch.no_grad():
        r = images(*layer.conv(x).shape) if residual else None
        expected = composed(layer, x, r)
        assert error(layer(x, r), expected) < 1e-5
    counted = calls(layer, x, r) if residual else calls(layer, x)
    assert counted.ours == {"conv_fprop": 1}
    assert "batch_norm" not in " ".join(counted.others)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_modules(machine, dtype):
    layer = settle(ConvBNAct2d(16, 24, 3)).eval().to(dtype)
    x = images(2, 16, 9, 9).to(dtype)
    with torch.no_grad():
        y = layer(x)
        assert y.dtype == dtype
        assert error(y, composed(layer.double(), x.double())) < 1e-2


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_any_layout_in_channels_last_out(layout):
    layer = settle(ConvBNAct2d(8, 8, 3)).eval()
    x = images(2, 8, 6, 6).contiguous(memory_format=layout)
    with torch.no_grad():
        y = layer(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert error(y, composed(layer, x)) < 1e-5


def test_training_is_pytorchs_composition_bit_for_bit():
    torch.manual_seed(0)
    layer = ConvBNAct2d(5, 7, 3, stride=2)
    peer = copy.deepcopy(layer)
    x, r = images(4, 5, 9, 9), images(4, 7, 5, 5)
    y = layer(x, r)
    expected = F.relu(peer.bn(peer.conv(x)) + r)
    assert torch.equal(y, expected)
    assert torch.equal(layer.bn.running_var, peer.bn.running_var)
    y.sum().backward()
    expected.sum().backward()
    assert torch.equal(layer.conv.weight.grad, peer.conv.weight.grad)
    with torch.no_grad():
        assert not calls(layer, x, r).ours


def test_evaluation_with_gradients():
    layer = settle(ConvBNAct2d(5, 7, 3)).eval()
    peer = copy.deepcopy(layer)
    x = images(2, 5, 6, 6).requires_grad_()
    z = x.detach().clone().requires_grad_()
    layer(x).square().sum().backward()
    composed(peer, z).square().sum().backward()
    assert error(x.grad, z.grad) < 1e-5
    for (name, ours), theirs in zip(layer.named_parameters(), peer.parameters(), strict=True):
        assert error(ours.grad, theirs.grad) < 1e-5, name


def test_autocast_casts_activations_and_weights_alone():
    layer = settle(ConvBNAct2d(8, 8, 3)).eval()
    x, r = images(2, 8, 6, 6), images(2, 8, 6, 6)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        y = layer(x, r)
    assert y.dtype == torch.bfloat16
    with torch.no_grad():
        assert error(y, composed(layer, x, r)) < 2e-2


def test_batchnorm_without_statistics_stays_pytorchs():
    layer = settle(ConvBNAct2d(4, 4, 3)).eval()
    layer.bn = nn.BatchNorm2d(4, track_running_stats=False).eval()
    x = images(2, 4, 5, 5)
    with torch.no_grad():
        assert torch.equal(layer(x), composed(layer, x))
    assert not calls(layer, x).ours
    (row,) = rk.fuse_report(layer).unfused[:1]
    assert "no running statistics" in row.reason


def test_momentum_none_and_no_affine():
    layer = ConvBNAct2d(4, 4, 3, momentum=None)
    layer.bn = nn.BatchNorm2d(4, momentum=None, affine=False)
    layer(images(3, 4, 5, 5))
    layer.eval()
    x = images(2, 4, 5, 5, seed=2)
    with torch.no_grad():
        assert error(layer(x), composed(layer, x)) < 1e-5
    assert calls(layer, x).ours == {"conv_fprop": 1}


def test_is_an_ordinary_module():
    layer = settle(ConvBNAct2d(4, 6, 3)).eval()
    assert list(layer.state_dict()) == [
        "conv.weight",
        "bn.weight",
        "bn.bias",
        "bn.running_mean",
        "bn.running_var",
        "bn.num_batches_tracked",
    ]
    x = images(1, 4, 5, 5)
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(layer))
    assert isinstance(synced.bn, nn.SyncBatchNorm)
    with torch.no_grad():
        for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), synced):
            assert torch.equal(twin(x), layer(x))
            assert calls(twin, x).ours == {"conv_fprop": 1}


def test_empty_batch(machine):
    layer = ConvBNAct2d(4, 6, 3, stride=2).eval()
    with torch.no_grad():
        assert layer(torch.empty(0, 4, 8, 8)).shape == (0, 6, 4, 4)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"in_channels": 0}, ValueError, "in_channels must be at least 1, got 0"),
        ({"out_channels": 2.0}, TypeError, "out_channels must be an int, got 2.0"),
        ({"kernel_size": (3, 3, 3)}, ValueError, "kernel_size must be an int or a pair"),
        ({"kernel_size": 2}, ValueError, "padding must be given for an even kernel_size"),
        ({"stride": 0}, ValueError, "stride must be at least 1"),
        ({"padding": -1}, ValueError, "padding must be at least 0"),
        ({"padding": "same"}, TypeError, "padding must be an int"),
        ({"dilation": True}, TypeError, "dilation must be an int"),
    ],
)
def test_wrong_arguments_are_named(arguments, kind, message):
    with pytest.raises(kind, match=message):
        ConvBNAct2d(**({"in_channels": 4, "out_channels": 4, "kernel_size": 3} | arguments))


@pytest.mark.parametrize(
    "x", [torch.zeros(4, 8, 8), torch.zeros(1, 5, 8, 8), torch.zeros(1, 4, 8, 8, dtype=torch.int32)], ids=str
)
def test_wrong_inputs_raise(x):
    layer = ConvBNAct2d(4, 4, 3).eval()
    with torch.no_grad(), pytest.raises((ValueError, TypeError), match="x"):
        layer(x)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_zero_pad_shortcut(layout):
    x = images(2, 3, 7, 5).contiguous(memory_format=layout)
    y = ZeroPadShortcut(3, 8, 2)(x)
    assert y.shape == (2, 8, 4, 3)
    assert torch.equal(y[:, :3], x[:, :, ::2, ::2])
    assert not y[:, 3:].any()
    assert not list(ZeroPadShortcut(3, 8, 2).parameters())


def test_zero_pad_shortcut_cannot_drop_channels():
    with pytest.raises(ValueError, match=r"out_channels must be at least in_channels \(8\), got 4"):
        ZeroPadShortcut(8, 4)
