"""The paper's shortcut without parameters."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .check import positive


class ZeroPadShortcut(nn.Module):
    """The paper's shortcut A: every stride-th pixel, and zeros for the channels that are new (section 3.3).

    No parameters.  [N, C, H, W] -> [N, K, ceil(H/stride), ceil(W/stride)] with K >= C.

    Raises:
        ValueError: ``out_channels`` is less than ``in_channels``, or an argument is not a positive int.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels), ("stride", stride)):
            positive("ZeroPadShortcut", name, value)
        if out_channels < in_channels:
            raise ValueError(
                f"ZeroPadShortcut: out_channels must be at least in_channels ({in_channels}), got "
                f"{out_channels}: zeros can be added, channels cannot be dropped"
            )
        self.in_channels, self.out_channels, self.stride = in_channels, out_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.out_channels - self.in_channels))

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, stride={self.stride}"
