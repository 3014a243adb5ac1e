"""The residual networks of "Deep Residual Learning for Image Recognition" (table 1), from our own blocks.

Keys, shapes and order of the state_dict are torchvision's (for shortcut "B"), and the same seed gives the
same initial weights.  Weights are kept in channels_last.  A whole network in evaluation is operators of this
package alone: the stem with its max-pooling is one, every convolution with BatchNorm, add and ReLU one,
global average pooling and the classifier one each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from resnet_kernels.nn import BasicBlock, Bottleneck, chain, train
from resnet_kernels.nn.blocks import SHORTCUTS, STRIDES_IN
from resnet_kernels.nn.check import one_of, positive

WIDTHS = (64, 128, 256, 512)  # channels of the stages' 3x3 convolutions


class ResNet(chain.Chained):
    """A residual network for images [N, 3, H, W] -> logits [N, num_classes].

    A contiguous input is converted to channels_last once, on entry.

    Args:
        block: BasicBlock or Bottleneck.
        depths: blocks in each of the four stages.
        num_classes: length of the output.
        shortcut: "A", "B" or "C": the paper's options (section 3.3, table 3); its results are with "B".
        stride_in: in a bottleneck, the convolution with the stride: "3x3" (torchvision's) or "1x1" (the
            paper's).
        zero_init_residual: start every block's last BatchNorm at zero (Goyal et al. 2017, section 5.1).

    Raises:
        ValueError, TypeError: an argument is out of range; the message names it.
    """

    STEM = ("conv1", "bn1", "relu", "maxpool")
    STAGES = ("layer1", "layer2", "layer3", "layer4")
    CHAIN = (*STEM, *STAGES, "avgpool", chain.FLATTEN, "fc")

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        num_classes: int = 1000,
        shortcut: str = "B",
        stride_in: str = "3x3",
        zero_init_residual: bool = False,
    ) -> None:
        super().__init__()
        positive("ResNet", "num_classes", num_classes)
        one_of("ResNet", "shortcut", shortcut, SHORTCUTS)
        one_of("ResNet", "stride_in", stride_in, STRIDES_IN)
        options = {"shortcut": shortcut} | ({"stride_in": stride_in} if block is Bottleneck else {})
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = WIDTHS[0]
        for i, (width, depth) in enumerate(zip(WIDTHS, depths, strict=True)):
            blocks = []
            for j in range(depth):
                blocks.append(block(channels, width, stride=2 if i > 0 and j == 0 else 1, **options))
                channels = width * block.expansion
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        self._initialise(zero_init_residual)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _initialise(self, zero_init_residual: bool) -> None:
        """He et al. 2015, "Delving deep into rectifiers": normal, std = sqrt(2 / (K R S)), K outputs."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for module in self.modules():
            if zero_init_residual and isinstance(module, (BasicBlock, Bottleneck)):
                nn.init.zeros_(module.bn3.weight if isinstance(module, Bottleneck) else module.bn2.weight)

    def rk_chains(self) -> tuple[tuple[str, ...], ...]:
        return (self.CHAIN,)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, num_classes]."""
        if chain.stays_pytorch(self, x):
            return chain.one_by_one(chain.links(self, self.CHAIN), x, None)
        return train.run(self, self.CHAIN, x)


def resnet18(num_classes: int = 1000, shortcut: str = "B", stride_in: str = "3x3", **options: Any) -> ResNet:
    """ResNet-18: basic blocks 2-2-2-2, 11.7 million parameters. Arguments: see `ResNet`."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, shortcut, stride_in, **options)


def resnet34(num_classes: int = 1000, shortcut: str = "B", stride_in: str = "3x3", **options: Any) -> ResNet:
    """ResNet-34: basic blocks 3-4-6-3, 21.8 million parameters. Arguments: see `ResNet`."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes, shortcut, stride_in, **options)


def resnet50(num_classes: int = 1000, shortcut: str = "B", stride_in: str = "3x3", **options: Any) -> ResNet:
    """ResNet-50: bottlenecks 3-4-6-3, 25.6 million parameters. Arguments: see `ResNet`."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, shortcut, stride_in, **options)


def resnet101(num_classes: int = 1000, shortcut: str = "B", stride_in: str = "3x3", **options: Any) -> ResNet:
    """ResNet-101: bottlenecks 3-4-23-3, 44.5 million parameters. Arguments: see `ResNet`."""
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes, shortcut, stride_in, **options)


def resnet152(num_classes: int = 1000, shortcut: str = "B", stride_in: str = "3x3", **options: Any) -> ResNet:
    """ResNet-152: bottlenecks 3-8-36-3, 60.2 million parameters. Arguments: see `ResNet`."""
    return ResNet(Bottleneck, (3, 8, 36, 3), num_classes, shortcut, stride_in, **options)


_MODELS: dict[str, Callable[..., ResNet]] = {
    maker.__name__: maker for maker in (resnet18, resnet34, resnet50, resnet101, resnet152)
}


def names() -> list[str]:
    """The names `create` takes."""
    return list(_MODELS)


def create(name: str, **options: Any) -> ResNet:
    """The network called `name`, made with `options` (see `ResNet`).

    Raises:
        ValueError: there is no such network; the message lists those there are.
    """
    if name not in _MODELS:
        raise ValueError(f"create: name must be one of {', '.join(map(repr, _MODELS))}, got {name!r}")
    return _MODELS[name](**options)
