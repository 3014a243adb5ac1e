"""Gradients in eval(): fine-tuning with frozen BatchNorms, and gradients of the input alone."""

import copy

import pytest
import torch
from torch import nn

import resnet_kernels as rk

from .layers import distance, settled
from .test_modules import Calls, small

FORWARD = {"conv_fprop", "conv_bn_relu_maxpool", "bn_apply", "max_pool", "global_avg_pool", "linear"}


def tiny() -> nn.Module:
    torch.manual_seed(0)
    stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
    blocks = rk.nn.BasicBlock(8, 8), rk.nn.Bottleneck(8, 4, 2)
    return settled(nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)))


def images() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def loss(y: torch.Tensor) -> torch.Tensor:
    return (y.double() * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum()


def test_gradients_of_an_evaluation(simulator):
    """Our kernels forward and backward, float64's gradients, buffers as they were."""
    model = small().eval()
    exact, ours = copy.deepcopy(model).double(), rk.fuse(copy.deepcopy(model))
    x, z = images().requires_grad_(), images().double().requires_grad_()
    with Calls() as counted:
        loss(ours(x)).backward()
    assert counted.found["conv_wgrad"] == counted.found["conv_dgrad"] == 13  # twelve, and the classifier's
    assert counted.found["conv_fprop_stats"] == counted.found["bn_backward_finalize"] == 12
    loss(exact(z)).backward()
    assert distance(x.grad, z.grad) <= 1e-5
    for (name, a), b in zip(ours.named_parameters(), exact.parameters(), strict=True):
        assert distance(a.grad, b.grad) <= 1e-5, name
    for a, b in zip(ours.buffers(), model.buffers(), strict=True):
        assert torch.equal(a, b)


def test_a_frozen_backbone_stays_in_one_kernel_a_layer(simulator):
    """Only the last block and the classifier learn: what stands before keeps evaluation's operators."""
    model = rk.fuse(small().eval().requires_grad_(False))
    model.layer4.requires_grad_(True), model.fc.requires_grad_(True)
    with Calls() as counted:
        loss(model(images())).backward()
    # The stem and three blocks evaluated; three convolutions of layer4, and its classifier, differentiated.
    assert counted.found["conv_wgrad"] == 4
    assert counted.found["conv_fprop_stats"] == 1 + 3  # the stem stands in the classifier's chain
    assert counted.found["bn_backward_finalize"] == 3 and counted.found["conv_dgrad"] == 2


def test_gradient_of_the_input_alone(simulator):
    """As for saliency maps: no weight's gradient is computed."""
    model = rk.fuse(small().eval().requires_grad_(False))
    x, z = images().requires_grad_(), images().double().requires_grad_()
    with Calls() as counted:
        loss(model(x)).backward()
    assert not counted.found["conv_wgrad"] and counted.found["conv_dgrad"] == 13
    loss(rk.unfuse(copy.deepcopy(model)).double()(z)).backward()
    assert distance(x.grad, z.grad) <= 1e-5


def test_without_gradients_evaluation_is_one_kernel_a_layer(simulator):
    model = rk.fuse(small().eval())
    with torch.no_grad(), Calls() as counted:
        model(images())
    assert set(counted.found) <= FORWARD
    model.requires_grad_(False)
    with Calls() as counted:
        model(images())
    assert set(counted.found) <= FORWARD


@pytest.mark.parametrize("fine_tuned", ("BatchNorm frozen", "eval"))
def test_fine_tuning_moves_as_pytorchs(fine_tuned, machine):
    """Three steps: train() with BatchNorms in eval(), and all in eval(), give PyTorch's parameters."""
    models = [tiny(), tiny()]
    rk.fuse(models[0])
    for model, backend in zip(models, (machine, "auto"), strict=True):
        if fine_tuned == "eval":
            model.eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        for _ in range(3):
            optimizer.zero_grad()
            with rk.backend(backend):
                (model(images()) - 1).square().mean().backward()
            optimizer.step()
    for (name, a), b in zip(models[0].state_dict().items(), models[1].state_dict().values(), strict=True):
        assert distance(a, b) <= 1e-5, name


def test_twice_differentiable_where_pytorch_composes():
    x = images().requires_grad_()
    model = rk.fuse(tiny().eval())
    (g,) = torch.autograd.grad(loss(model(x)), x, create_graph=True)
    g.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    with rk.backend("simulator"):
        (g,) = torch.autograd.grad(loss(model(x)), x, create_graph=True)
        with pytest.raises(RuntimeError, match="differentiable once"):
            g.square().sum().backward()


def test_compiled(fresh, simulator):
    model = rk.fuse(tiny().eval())
    twin = copy.deepcopy(model)
    compiled = torch.compile(twin, fullgraph=True, backend="aot_eager")
    loss(model(images())).backward(), loss(compiled(images())).backward()
    for (name, a), b in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), name
