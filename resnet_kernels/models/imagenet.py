"""The networks for ImageNet of "Deep Residual Learning for Image Recognition" (table 1), from our own blocks.

A 7x7 stem with max-pooling, four stages, one fully connected layer.  In a residual network keys, shapes and
order of the state_dict are torchvision's (for shortcut "B"), and the same seed gives the same initial
weights.  The plain networks are the residual ones with the adds left out (figure 3), under the same keys.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from resnet_kernels.nn import BasicBlock, Bottleneck, PlainBlock, chain
from resnet_kernels.nn.blocks import SHORTCUTS, STRIDES_IN
from resnet_kernels.nn.check import one_of

from .network import Network

WIDTHS = (64, 128, 256, 512)  # channels of the stages' 3x3 convolutions
Depths = tuple[int, int, int, int]  # blocks in each of the four stages


class _ImageNetNetwork(Network):
    STEM = ("conv1", "bn1", "relu", "maxpool")
    STAGES = ("layer1", "layer2", "layer3", "layer4")
    CHAIN = (*STEM, *STAGES, "avgpool", chain.FLATTEN, "fc")

    def __init__(self, make: Any, depths: Depths, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self._assemble(WIDTHS[0], list(zip(WIDTHS, depths, strict=True)), make, num_classes)


class ResNet(_ImageNetNetwork):
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

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Depths,
        num_classes: int = 1000,
        shortcut: str = "B",
        stride_in: str = "3x3",
        zero_init_residual: bool = False,
    ) -> None:
        one_of("ResNet", "shortcut", shortcut, SHORTCUTS)
        one_of("ResNet", "stride_in", stride_in, STRIDES_IN)
        options = {"shortcut": shortcut} | ({"stride_in": stride_in} if block is Bottleneck else {})
        super().__init__(partial(block, **options), depths, num_classes)  # type: ignore[arg-type]
        for module in self.modules() if zero_init_residual else ():
            if isinstance(module, (BasicBlock, Bottleneck)):
                nn.init.zeros_(module.bn3.weight if isinstance(module, Bottleneck) else module.bn2.weight)


class PlainNet(_ImageNetNetwork):
    """A network without shortcuts for images [N, 3, H, W] -> logits [N, num_classes] (section 3.3, figure 3).

    A contiguous input is converted to channels_last once, on entry.

    Args:
        depths: pairs of 3x3 convolutions in each of the four stages.
        num_classes: length of the output.

    Raises:
        ValueError, TypeError: an argument is out of range; the message names it.
    """

    def __init__(self, depths: Depths, num_classes: int = 1000) -> None:
        super().__init__(PlainBlock, depths, num_classes)


def plain18(num_classes: int = 1000) -> PlainNet:
    """The plain network of 18 layers: 11.5 million parameters (section 4.1)."""
    return PlainNet((2, 2, 2, 2), num_classes)


def plain34(num_classes: int = 1000) -> PlainNet:
    """The plain network of 34 layers: 21.6 million parameters (section 4.1, figure 3 in the middle)."""
    return PlainNet((3, 4, 6, 3), num_classes)


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
