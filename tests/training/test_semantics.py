"""A fused layer beside torch.nn.Conv2d, torch.nn.BatchNorm2d and torch.nn.ReLU in every mode of BatchNorm."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import resnet_kernels as rk
from resnet_kernels.training import conv_bn_act_train

from .layers import settled

MODES = {
    "train": ({}, True),
    "eval": ({}, False),
    "momentum": ({"momentum": 0.37}, True),
    "momentum 0": ({"momentum": 0.0}, True),
    "cumulative": ({"momentum": None}, True),
    "no statistics": ({"track_running_stats": False}, True),
    "no statistics, eval": ({"track_running_stats": False}, False),
    "no affine": ({"affine": False}, True),
    "no affine, eval": ({"affine": False}, False),
    "large eps": ({"eps": 0.5}, True),
}


def pair(keywords: dict, training: bool) -> tuple[rk.nn.ConvBNAct2d, nn.Sequential]:
    """(our layer in training mode with its BatchNorm in the mode asked for, PyTorch's modules alike)."""
    torch.manual_seed(2)
    ours = rk.nn.ConvBNAct2d(5, 8, 3, stride=2)
    ours.bn = nn.BatchNorm2d(8, **keywords)
    settled(ours)
    theirs = nn.Sequential(*(copy.deepcopy(m) for m in (ours.conv, ours.bn)), nn.ReLU())
    ours.bn.train(training), theirs[1].train(training)
    return ours, theirs


@pytest.mark.parametrize("mode", MODES)
def test_as_pytorchs_modules(mode, simulator):
    """Three steps: outputs, gradients, running statistics and the number of batches."""
    ours, theirs = pair(*MODES[mode])
    for step in range(3):
        x = torch.randn(4, 5, 7, 6, generator=torch.Generator().manual_seed(step)) * (step + 1)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        y, z = ours(a), theirs(b)
        g = torch.randn(y.shape)
        y.backward(g), z.backward(g)
        torch.testing.assert_close(y, z, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)
    for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, reference.grad, rtol=1e-4, atol=1e-4)
    for mine, reference in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-6)


def test_the_layer_is_fused_at_all(simulator):
    ours, _ = pair({}, True)
    with rk.simulator.checked(), rk.simulator.record() as launches:
        ours(torch.randn(2, 5, 6, 6)).sum().backward()
    names = " ".join(launch["kernel"] for launch in launches)
    assert "bn_relu_mask" in names and "conv_wgrad" in names


def test_one_value_per_channel_raises_pytorchs_error(simulator):
    ours, theirs = pair({}, True)
    x = torch.randn(1, 5, 2, 2)
    with pytest.raises(ValueError) as wanted:
        theirs(x)
    with pytest.raises(ValueError) as got:
        ours(x)
    assert str(got.value) == str(wanted.value)


def test_an_empty_batch(simulator):
    """As PyTorch: an empty result, zero gradients, statistics as they were."""
    ours, theirs = pair({}, True)
    x = torch.randn(0, 5, 6, 6)
    y, z = ours(x), theirs(x)
    y.sum().backward(), z.sum().backward()
    assert y.shape == z.shape
    for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine.grad, reference.grad)
    for mine, reference in zip(ours.buffers(), theirs.buffers(), strict=True):
        assert torch.equal(mine, reference)


def test_running_statistics_are_returned_not_written(machine):
    mean, var = torch.zeros(4), torch.ones(4)
    x, weight = torch.randn(3, 2, 5, 5) + 2, torch.randn(4, 2, 1, 1)
    _, running = conv_bn_act_train(x, weight, None, None, mean, var, momentum=0.25)
    norm = nn.BatchNorm2d(4, momentum=0.25)
    norm(nn.functional.conv2d(x, weight))
    assert torch.equal(mean, torch.zeros(4)) and torch.equal(var, torch.ones(4))
    torch.testing.assert_close(running[0], norm.running_mean)
    torch.testing.assert_close(running[1], norm.running_var)
    assert conv_bn_act_train(x, weight)[1] is None
    assert conv_bn_act_train(x, weight, None, None, mean, var, batch_stats=False)[1] is None


@pytest.mark.parametrize("reentrant", (False, True))
def test_checkpointing_updates_the_statistics_once(reentrant, simulator):
    ours, _ = pair({"momentum": None}, True)
    again = copy.deepcopy(ours)
    x = torch.randn(4, 5, 7, 6)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    ours(a).square().sum().backward()
    checkpoint(again, b, use_reentrant=reentrant).square().sum().backward()
    assert torch.equal(a.grad, b.grad)
    for mine, twice in zip(ours.buffers(), again.buffers(), strict=True):
        assert torch.equal(mine, twice)


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
def test_half_precision_modules(dtype, simulator):
    """BatchNorm's vectors in half precision: used in float32, gradients and buffers keep their dtype."""
    ours, _ = pair({}, True)
    ours = ours.to(dtype)
    before = ours.bn.running_var.clone()
    y = ours(torch.randn(4, 5, 7, 6).to(dtype))
    y.float().square().sum().backward()
    assert y.dtype == dtype and {p.grad.dtype for p in ours.parameters()} == {dtype}
    assert ours.bn.running_var.dtype == dtype and not torch.equal(before, ours.bn.running_var)


def test_without_gradients_the_statistics_move_all_the_same(simulator):
    ours, theirs = pair({}, True)
    x = torch.randn(4, 5, 7, 6)
    with torch.no_grad():
        y = ours(x)
    theirs(x)
    assert not y.requires_grad
    torch.testing.assert_close(ours.bn.running_var, theirs[1].running_var)
