"""Residual blocks against torchvision's, and the paper's variants against their definition."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.models import resnet as torchvision_resnet

import resnet_kernels as rk
from resnet_kernels.nn import BasicBlock, Bottleneck, ZeroPadShortcut

from .common import calls, error, images, promised, settle


def twins(kind, in_channels, channels, stride):
    """Our block, and torchvision's with the same weights."""
    ours = settle({"basic": BasicBlock, "bottleneck": Bottleneck}[kind](in_channels, channels, stride))
    theirs_kind = {"basic": torchvision_resnet.BasicBlock, "bottleneck": torchvision_resnet.Bottleneck}[kind]
    out_channels = channels * theirs_kind.expansion
    downsample = None
    if stride != 1 or in_channels != out_channels:
        downsample = torch.nn.Sequential(
            torchvision_resnet.conv1x1(in_channels, out_channels, stride), torch.nn.BatchNorm2d(out_channels)
        )
    theirs = theirs_kind(in_channels, channels, stride, downsample)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


SHAPES = [("basic", 16, 16, 1), ("basic", 8, 16, 2), ("bottleneck", 32, 8, 1), ("bottleneck", 16, 8, 2)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("size", [(8, 8), (9, 7), (1, 1)])
def test_evaluation_equals_torchvision(machine, shape, size):
    ours, theirs = twins(*shape)
    x = images(2, shape[1], *size)
    with torch.no_grad():
        assert error(ours.eval()(x), theirs.eval()(x)) < 1e-5
    convolutions = sum(isinstance(m, torch.nn.Conv2d) for m in ours.modules())
    assert calls(ours, x).ours == {"conv_fprop": convolutions} == promised(ours)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_training_equals_torchvision_bit_for_bit(shape):
    ours, theirs = twins(*shape)
    x = images(4, shape[1], 8, 8)
    z = x.clone().requires_grad_()
    x.requires_grad_()
    y, expected = ours(x), theirs(z)
    assert torch.equal(y, expected)
    y.square().sum().backward()
    expected.square().sum().backward()
    assert torch.equal(x.grad, z.grad)
    for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    report = rk.fuse_report(ours)
    assert report.training and "PyTorch's composition" in report.summary()


def test_the_add_is_in_the_last_epilogue():
    block = settle(Bottleneck(32, 8)).eval()
    counted = calls(block, images(1, 32, 6, 6))
    assert not {"add", "add_", "relu", "relu_"} & set(counted.others)
    assert rk.fuse_report(block).rows[-1].layers == ("conv3", "bn3", "+ shortcut", "relu")


@pytest.mark.parametrize("kind", [BasicBlock, Bottleneck])
def test_shortcut_a_is_the_definition(machine, kind):
    block = settle(kind(16, 24, 2, shortcut="A")).eval()
    assert isinstance(block.downsample, ZeroPadShortcut)
    assert not any("downsample" in key for key in block.state_dict())
    x = images(2, 16, 7, 7)
    with torch.no_grad():
        y = F.relu(block.bn1(block.conv1(x)))
        y = block.bn2(block.conv2(y))
        if kind is Bottleneck:
            y = block.bn3(block.conv3(F.relu(y)))
        y[:, :16] += x[:, :, ::2, ::2]
        assert error(block(x), F.relu(y)) < 1e-5


def test_shortcut_c_projects_where_b_does_not():
    assert BasicBlock(16, 16, shortcut="B").downsample is None
    block = settle(BasicBlock(16, 16, shortcut="C")).eval()
    x = images(1, 16, 5, 5)
    with torch.no_grad():
        y = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x)))))
        assert error(block(x), F.relu(y + block.downsample(x))) < 1e-5


def test_stride_in_says_which_convolution_strides():
    v1, v15 = Bottleneck(16, 8, 2, stride_in="1x1"), Bottleneck(16, 8, 2, stride_in="3x3")
    assert (v1.conv1.stride, v1.conv2.stride) == ((2, 2), (1, 1))
    assert (v15.conv1.stride, v15.conv2.stride) == ((1, 1), (2, 2))
    x = images(1, 16, 7, 5)
    with torch.no_grad():
        assert v1.eval()(x).shape == v15.eval()(x).shape == (1, 32, 4, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BasicBlock(0, 4), "in_channels must be at least 1"),
        (lambda: BasicBlock(4, 4, 0), "stride must be at least 1"),
        (lambda: Bottleneck(4, 4, shortcut="D"), "shortcut must be one of 'A', 'B', 'C', got 'D'"),
        (lambda: Bottleneck(4, 4, stride_in="5x5"), "stride_in must be one of '1x1', '3x3', got '5x5'"),
        (lambda: Bottleneck(64, 4, shortcut="A"), "out_channels must be at least in_channels"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
