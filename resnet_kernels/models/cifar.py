"""The networks for CIFAR-10 of section 4.2: 6n+2 layers in three stages of 16, 32 and 64 channels.

Shortcuts are option A, so that a residual network has exactly the parameters of its plain counterpart, and
the same keys: their results differ by the adds alone.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from resnet_kernels.nn import BasicBlock, PlainBlock, chain
from resnet_kernels.nn.blocks import SHORTCUTS
from resnet_kernels.nn.check import one_of, positive

from .network import Network

WIDTHS = (16, 32, 64)  # channels of the three stages, at 32x32, 16x16 and 8x8 for CIFAR's images
DEPTHS = (20, 32, 44, 56, 110, 1202)  # the paper's: n = 3, 5, 7, 9, 18, 200 (table 6)


class _CifarNetwork(Network):
    CHAIN = ("conv1", "bn1", "relu", "layer1", "layer2", "layer3", "avgpool", chain.FLATTEN, "fc")

    def __init__(self, who: str, make: Any, depth: int, num_classes: int) -> None:
        super().__init__()
        positive(who, "depth", depth, 8)
        if depth % 6 != 2:
            raise ValueError(
                f"{who}: depth must be 6n+2 as in {', '.join(map(str, DEPTHS))}, got {depth}: the "
                f"nearest are {(depth - 2) // 6 * 6 + 2} and {(depth - 2) // 6 * 6 + 8}"
            )
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.relu = nn.ReLU(inplace=True)
        self._assemble(WIDTHS[0], [(width, (depth - 2) // 6) for width in WIDTHS], make, num_classes)


class CifarResNet(_CifarNetwork):
    """A residual network of 6n+2 layers: images [N, 3, H, W] (CIFAR's: 32x32) -> logits [N, num_classes].

    A contiguous input is converted to channels_last once, on entry.

    Args:
        depth: 6n+2, at least 8: a stem, 3 stages of n blocks of two 3x3 convolutions, a classifier.
        num_classes: length of the output.
        shortcut: "A", the paper's for these networks; "B" or "C" for comparison.

    Raises:
        ValueError, TypeError: an argument is out of range; the message names it.
    """

    def __init__(self, depth: int, num_classes: int = 10, shortcut: str = "A") -> None:
        one_of("CifarResNet", "shortcut", shortcut, SHORTCUTS)
        super().__init__("CifarResNet", partial(BasicBlock, shortcut=shortcut), depth, num_classes)


class CifarPlainNet(_CifarNetwork):
    """The same without shortcuts: images [N, 3, H, W] -> logits [N, num_classes]. Arguments: `CifarResNet`.

    Raises:
        ValueError, TypeError: an argument is out of range; the message names it.
    """

    def __init__(self, depth: int, num_classes: int = 10) -> None:
        super().__init__("CifarPlainNet", PlainBlock, depth, num_classes)


def cifar_resnet(depth: int, num_classes: int = 10, **options: Any) -> CifarResNet:
    """The residual network of `depth` = 6n+2 layers for CIFAR. Arguments: see `CifarResNet`."""
    return CifarResNet(depth, num_classes, **options)


def cifar_plain(depth: int, num_classes: int = 10) -> CifarPlainNet:
    """The plain network of `depth` = 6n+2 layers for CIFAR. Arguments: see `CifarResNet`."""
    return CifarPlainNet(depth, num_classes)
