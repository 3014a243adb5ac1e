"""Layer responses against the same network written out in PyTorch, whatever stands around the layers."""

import pytest
import torch
from torch import nn

import resnet_kernels as rk
from resnet_kernels.analysis.responses import Moments, ranked, responses


def randomised(model):
    """BatchNorms as training leaves them, so that no layer's response is that of another."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.2, 2)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model


def block_by_hand(block, x):
    """The standard deviations of a BasicBlock's two responses, and its output."""
    first = block.bn1(block.conv1(x))
    second = block.bn2(block.conv2(first.relu()))
    shortcut = x if block.downsample is None else block.downsample(x)
    return [first, second], (second + shortcut).relu()


def test_a_residual_network_by_hand():
    model = randomised(rk.models.resnet18(num_classes=7)).eval()
    images = [torch.randn(3, 3, 40, 48), torch.randn(2, 3, 40, 48)]
    found = responses(model, images)
    assert [response.layer for response in found] == [
        f"layer{i}.{j}.conv{k}" for i in range(1, 5) for j in range(2) for k in (1, 2)
    ]  # neither the 7x7 stem nor the 1x1 shortcuts
    values: dict[int, list] = {i: [] for i in range(len(found))}
    with torch.no_grad():
        for batch in images:
            x = model.maxpool(model.bn1(model.conv1(batch)).relu())
            i = 0
            for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
                for block in stage:
                    outputs, x = block_by_hand(block, x)
                    for output in outputs:
                        values[i].append(output.flatten())
                        i += 1
    for response, collected in zip(found, values.values(), strict=True):
        assert response.std == pytest.approx(float(torch.cat(collected).double().std(correction=0)), rel=1e-4)


def test_fused_torchvision_networks_respond_as_unfused_ones():
    torchvision = pytest.importorskip("torchvision")
    model = randomised(torchvision.models.resnet50(num_classes=5))
    x = [torch.randn(2, 3, 64, 64)]
    plain = responses(model, x)
    fused = responses(rk.fuse(model), x)
    assert len(plain) == 16  # one 3x3 layer in each bottleneck
    assert [response.layer for response in plain] == [response.layer for response in fused]
    for a, b in zip(plain, fused, strict=True):
        assert a.std == pytest.approx(b.std, rel=1e-4)


def test_the_model_is_given_back_as_it_came():
    model = randomised(rk.models.resnet18(num_classes=3)).train()
    model.layer2.eval()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    responses(model, [torch.randn(1, 3, 32, 32)])
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_hooks_go_and_modes_return_when_the_network_fails():
    model = rk.models.resnet18(num_classes=3).train()
    with pytest.raises((RuntimeError, ValueError)):
        responses(model, [torch.randn(1, 4, 32, 32)])
    assert model.layer4.training and not any(module._forward_hooks for module in model.modules())


def test_nothing_to_measure():
    pointwise = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
    with pytest.raises(ValueError, match="3x3"):
        responses(pointwise, [torch.randn(1, 3, 8, 8)])
    with pytest.raises(ValueError, match="no image"):
        responses(rk.models.resnet18(), [])


def test_a_batchnorm_behind_something_else_is_no_response():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
    )
    assert [response.layer for response in responses(model, [torch.randn(2, 3, 8, 8)])] == ["3"]


def test_moments_do_not_cancel():
    """A large mean and a small deviation, in many batches: the sum of squares would lose every digit."""
    values = 1e8 + torch.randn(20_000, dtype=torch.float64)
    moments = Moments()
    for part in (*values.split(731), values[:0]):
        moments.add(part)
    assert moments.count == len(values)
    assert moments.std == pytest.approx(float(values.std(correction=0)), rel=1e-6)
    assert moments.mean == pytest.approx(float(values.mean()), rel=1e-12)


def test_ranked():
    found = responses(randomised(rk.models.resnet18(num_classes=3)), [torch.randn(1, 3, 32, 32)])
    stds = [response.std for response in ranked(found)]
    assert stds == sorted(stds, reverse=True) and sorted(stds) == sorted(response.std for response in found)
