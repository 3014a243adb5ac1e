"""Layers: convolution + BatchNorm + ReLU as one module, and the shortcuts of residual blocks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from . import chain, train
from .check import pair_of, positive


class ConvBNAct2d(chain.Chained):
    """relu(bn(conv(x)) + residual): [N, C, H, W] -> [N, K, P, Q].

    A real ``nn.Conv2d`` (no bias) and a real ``nn.BatchNorm2d``: the keys are ``conv.weight`` and ``bn.*``,
    and what works on those two (optimizers, SyncBN conversion, EMA copies, pruning, hooks) works here.

    In evaluation the whole layer is one operator: BatchNorm's running statistics are folded in the kernel's
    epilogue, nothing is cached.  In training forward and backward are fused where the kernels run.  On a CPU,
    and where a hook, a pruning or a parametrization stands in the way, PyTorch computes convolution,
    BatchNorm, add and ReLU one after the other; `fuse_report` says which.

    A contiguous input or weight is converted to channels_last on entry; make the module channels_last
    (``.to(memory_format=torch.channels_last)``) and feed it channels_last, and nothing is copied.  The output
    is channels_last.

    Args:
        in_channels, out_channels: C and K.
        kernel_size, stride, dilation: an int or a pair (h, w) each.
        padding: an int or a pair; None keeps H and W at stride 1, which needs an odd kernel.
        act: whether a ReLU follows.
        eps, momentum: BatchNorm's.
        device, dtype: of the parameters.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type; the message names it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | None = None,
        dilation: int | tuple[int, int] = 1,
        act: bool = True,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        who = "ConvBNAct2d"
        positive(who, "in_channels", in_channels)
        positive(who, "out_channels", out_channels)
        kernel = pair_of(who, "kernel_size", kernel_size)
        strides = pair_of(who, "stride", stride)
        dilations = pair_of(who, "dilation", dilation)
        if padding is None:
            if kernel[0] % 2 == 0 or kernel[1] % 2 == 0:
                raise ValueError(
                    f"{who}: padding must be given for an even kernel_size, got kernel_size={kernel}"
                )
            pads = (dilations[0] * (kernel[0] - 1) // 2, dilations[1] * (kernel[1] - 1) // 2)
        else:
            pads = pair_of(who, "padding", padding, least=0)
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel,
            strides,
            pads,
            dilations,
            bias=False,
            device=device,
            dtype=dtype,
        )
        self.bn = nn.BatchNorm2d(out_channels, eps=eps, momentum=momentum, device=device, dtype=dtype)
        self.act = nn.ReLU(inplace=True) if act else nn.Identity()

    def rk_chains(self) -> tuple[tuple[str, ...], ...]:
        return (("conv", "bn", "act"),)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """x: [N, C, H, W]; residual: None, or of the output's shape, added before the ReLU."""
        names = ("conv", "bn", "act") if residual is None else ("conv", "bn", chain.ADD, "act")
        if chain.stays_pytorch(self, x):
            x = self.bn(self.conv(x))
            return self.act(x if residual is None else x + residual)
        return train.run(self, names, x, residual)


class ProjectionShortcut(chain.Chained, nn.Sequential):
    """The paper's shortcuts B and C: a 1x1 convolution and BatchNorm (section 3.3); keys 0.weight, 1.*.

    [N, C, H, W] -> [N, K, ceil(H/stride), ceil(W/stride)], one operator in evaluation.

    Raises:
        ValueError, TypeError: an argument is not a positive int.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels), ("stride", stride)):
            positive("ProjectionShortcut", name, value)
        conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
        super().__init__(conv, nn.BatchNorm2d(out_channels))

    def rk_chains(self) -> tuple[tuple[str, ...], ...]:
        return (("0", "1"),)

    def forward(self, x: Tensor) -> Tensor:
        if chain.stays_pytorch(self, x):
            return self[1](self[0](x))
        return train.run(self, ("0", "1"), x)
