"""The networks as a PyTorch user has them, with the same weights as ours: torchvision's, and CIFAR's of its
blocks.

Weights are He's random ones from a fixed seed; BatchNorm's running statistics are those of random images,
so that activations keep the scale that a trained network's have, however deep it is.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import flops, models

SEED = 2015
CALIBRATION = 8  # images
FORMATS = {"nhwc": torch.channels_last, "nchw": torch.contiguous_format}


class _ZeroPad(nn.Module):
    """The paper's shortcut A as it is written in PyTorch."""

    def __init__(self, stride: int, channels: int) -> None:
        super().__init__()
        self.stride, self.channels = stride, channels

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.channels))


class CifarResNet(nn.Module):
    """He et al. 2015, section 4.2, of torchvision's blocks; the keys of `models.CifarResNet`."""

    def __init__(self, depth: int) -> None:
        from torchvision.models.resnet import BasicBlock

        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        channels = 16
        for stage, width in enumerate((16, 32, 64), 1):
            blocks = []
            for index in range((depth - 2) // 6):
                shrinks = stage > 1 and index == 0
                shortcut = _ZeroPad(2, width - channels) if shrinks else None
                blocks.append(BasicBlock(channels, width, 2 if shrinks else 1, shortcut))
                channels = width
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))  # type: ignore[operator]
        return self.fc(torch.flatten(self.avgpool(x), 1))


def image_size(name: str) -> int:
    """Pixels a side that the paper feeds the network."""
    return flops.ARCHITECTURES[name].size


def classes(name: str) -> int:
    """Length of the network's output."""
    return flops.ARCHITECTURES[name].classes


def network(name: str) -> nn.Module:
    """PyTorch's network without trained weights.

    Raises:
        ImportError: without torchvision.
    """
    if name.startswith("cifar_resnet"):
        return CifarResNet(int(name.removeprefix("cifar_resnet")))
    from torchvision.models import get_model

    return get_model(name, weights=None)


@cache
def weights(name: str, device: torch.device) -> dict[str, Tensor]:
    """The state_dict that ours and PyTorch's both load, float32, on `device`."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(SEED)
        model = models.create(name)
        images = torch.randn(CALIBRATION, 3, *(image_size(name),) * 2)
    plain = network(name)
    plain.load_state_dict(model.state_dict())
    plain.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        plain(images.to(device, memory_format=torch.channels_last))
    return {key: value.detach() for key, value in plain.state_dict().items()}


def build(name: str, device: torch.device, *, ours: bool, layout: str = "nhwc") -> Any:
    """A network with the common weights in float32: this package's, or PyTorch's in either layout."""
    with torch.device("meta"):
        model = models.create(name) if ours else network(name)
    model = model.to_empty(device=device)
    model.load_state_dict(weights(name, device))
    return model.to(memory_format=FORMATS[layout])  # type: ignore[call-overload]


def lower(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Convolutions and the classifier in `dtype`, BatchNorm in float32: as autocast computes."""
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.to(dtype)
    return model


def folded(model: nn.Module) -> nn.Module:
    """The network in evaluation with every BatchNorm folded into its convolution."""
    from torch.fx.experimental.optimization import fuse

    return fuse(copy.deepcopy(model).eval())
