"""The paper's two residual blocks (figure 5), with torchvision's attribute names and keys, and the plain one.

In evaluation every convolution with its BatchNorm and ReLU is one operator, and the residual add and the last
ReLU are inside the last convolution's epilogue.  In training a block is one fused function, forward and
backward, where the kernels run (train.py), and in a `Stage` a part of one; on a CPU PyTorch computes the
layers one by one.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from . import chain, train
from .check import one_of, positive
from .layers import ProjectionShortcut
from .zero_pad import ZeroPadShortcut

SHORTCUTS = ("A", "B", "C")  # the paper's options, section 3.3 and table 3
STRIDES_IN = ("1x1", "3x3")  # which convolution of a bottleneck carries the stride: the paper's v1, or v1.5


def _conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)


def shortcut_module(
    who: str, kind: str, in_channels: int, out_channels: int, stride: int
) -> nn.Module | None:
    """The module on the shortcut, None for the identity.

    "A": zeros for the new channels, no parameters; "B": a 1x1 convolution with BatchNorm where the shape
    changes; "C": one in every block.
    """
    one_of(who, "shortcut", kind, SHORTCUTS)
    if stride == 1 and in_channels == out_channels and kind != "C":
        return None
    if kind == "A":
        return ZeroPadShortcut(in_channels, out_channels, stride)
    return ProjectionShortcut(in_channels, out_channels, stride)


class _Block(chain.Block):
    """relu(body(x) + shortcut(x)) for the chain `BODY`; without an add in it relu(body(x))."""

    BODY: tuple[str, ...]

    @classmethod
    def rk_forward(cls) -> Any:
        return _Block.forward

    def rk_chains(self) -> tuple[tuple[str, ...], ...]:
        return (self.BODY,)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, K, ceil(H/stride), ceil(W/stride)]."""
        if chain.stays_pytorch(self, x):
            residual = x if self.downsample is None else self.downsample(x)
            return chain.one_by_one(chain.links(self, self.BODY), x, residual)
        return train.run_block(self, self.BODY, x, self.downsample)


class BasicBlock(_Block):
    """Two 3x3 convolutions; keys conv1, bn1, conv2, bn2, downsample.0, downsample.1.

    A contiguous input is converted to channels_last once on entry.

    Args:
        in_channels: C of the input.
        channels: C of both convolutions and of the output.
        stride: of the first convolution and the shortcut.
        shortcut: "A", "B" or "C", see `shortcut_module`.

    Raises:
        ValueError, TypeError: an argument is out of range; the message names it.
    """

    expansion = 1
    BODY = ("conv1", "bn1", "relu", "conv2", "bn2", chain.ADD, "relu")

    def __init__(self, in_channels: int, channels: int, stride: int = 1, *, shortcut: str = "B") -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("channels", channels), ("stride", stride)):
            positive("BasicBlock", name, value)
        downsample = shortcut_module("BasicBlock", shortcut, in_channels, channels, stride)
        self.conv1 = _conv(in_channels, channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = downsample
        self.stride = stride


class Bottleneck(_Block):
    """1x1, 3x3 and 1x1 convolutions; keys conv1, bn1, ..., conv3, bn3, downsample.0, downsample.1.

    A contiguous input is converted to channels_last once on entry.

    Args:
        in_channels: C of the input.
        channels: C of the first two convolutions; the output has 4 times as many.
        stride: of one convolution and the shortcut.
        shortcut: "A", "B" or "C", see `shortcut_module`.
        stride_in: which convolution has the stride: "3x3" (torchvision's, "v1.5") or "1x1" (the paper's).

    Raises:
        ValueError, TypeError: an argument is out of range; the message names it.
    """

    expansion = 4
    BODY = ("conv1", "bn1", "relu", "conv2", "bn2", "relu", "conv3", "bn3", chain.ADD, "relu")

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, *, shortcut: str = "B", stride_in: str = "3x3"
    ) -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("channels", channels), ("stride", stride)):
            positive("Bottleneck", name, value)
        one_of("Bottleneck", "stride_in", stride_in, STRIDES_IN)
        out_channels = channels * self.expansion
        first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
        downsample = shortcut_module("Bottleneck", shortcut, in_channels, out_channels, stride)
        self.conv1 = _conv(in_channels, channels, 1, first)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv(channels, channels, 3, second)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = _conv(channels, out_channels, 1)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample
        self.stride = stride


class PlainBlock(_Block):
    """Two 3x3 convolutions without a shortcut: a pair of the plain networks' layers (section 3.3).

    Keys conv1, bn1, conv2, bn2, as `BasicBlock`: [N, C, H, W] -> [N, K, ceil(H/stride), ceil(W/stride)].
    A contiguous input is converted to channels_last once on entry.

    Args:
        in_channels: C of the input.
        channels: C of both convolutions and of the output.
        stride: of the first convolution.

    Raises:
        ValueError, TypeError: an argument is out of range; the message names it.
    """

    expansion = 1
    BODY = ("conv1", "bn1", "relu", "conv2", "bn2", "relu")

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("channels", channels), ("stride", stride)):
            positive("PlainBlock", name, value)
        self.conv1 = _conv(in_channels, channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        self.stride = stride
