"""Layers and blocks with parameters from a seed: PyTorch's modules, and the fused functions on them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from resnet_kernels.training import ConvBN, Identity, Residual, ZeroPad, stage_train


def settled(module: nn.Module, seed: int = 0) -> nn.Module:
    """BatchNorm vectors and statistics that differ from the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d):
                if norm.affine:
                    norm.weight.uniform_(0.4, 1.2, generator=generator)
                    norm.bias.normal_(0, 0.3, generator=generator)
                if norm.running_mean is not None:
                    norm.running_mean.normal_(0, 0.5, generator=generator)
                    norm.running_var.uniform_(0.5, 1.5, generator=generator)
    return module


class Block(nn.Module):
    """relu(body(x) + shortcut(x)), by PyTorch's modules; `fused` computes it with `stage_train`.

    kind: "basic" or "bottleneck"; shortcut: "identity", "projection" or "zero_pad".
    """

    def __init__(self, kind: str, shortcut: str, width: int = 8, stride: int = 1) -> None:
        super().__init__()
        torch.manual_seed(3)
        out = 2 * width if shortcut != "identity" else width
        inner = width // 2 if kind == "bottleneck" else out
        plan = [(width, inner, 1, 1), (inner, inner, 3, stride), (inner, out, 1, 1)]
        if kind == "basic":
            plan = [(width, out, 3, stride), (out, out, 3, 1)]
        self.convs = nn.ModuleList(nn.Conv2d(c, k, r, s, r // 2, bias=False) for c, k, r, s in plan)
        self.norms = nn.ModuleList(nn.BatchNorm2d(k) for _, k, _, _ in plan)
        self.shortcut, self.stride, self.width, self.out = shortcut, stride, width, out
        if shortcut == "projection":
            self.down = nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        settled(self)

    def forward(self, x: Tensor) -> Tensor:
        skip = x
        if self.shortcut == "projection":
            skip = self.down(x)
        elif self.shortcut == "zero_pad":
            skip = x[:, :, :: self.stride, :: self.stride]
            skip = torch.nn.functional.pad(skip, (0, 0, 0, 0, 0, self.out - self.width))
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x))
            x = (x + skip if i == len(self.convs) - 1 else x).relu()
        return x

    def residual(self, group: Any = None) -> tuple[Residual, list[nn.BatchNorm2d]]:
        """The block for `stage_train`, and its BatchNorms in the order of the new statistics."""
        shortcut = {"identity": Identity(), "zero_pad": ZeroPad(self.stride)}.get(self.shortcut)
        norms = list(self.norms)
        if shortcut is None:
            shortcut = layer(self.down[0], self.down[1], False, group)
            norms.append(self.down[1])
        layers = [layer(conv, norm, True, group) for conv, norm in zip(self.convs, self.norms, strict=True)]
        return Residual(layers, shortcut), norms

    def fused(self, x: Tensor, memory: str = "save", group: Any = None) -> Tensor:
        """`forward` by a stage of this block; updates the running statistics."""
        return fused((self,), x, memory, group)


class Stage(nn.Sequential):
    """Blocks one after the other; ``shortcuts`` of each, all but identities double the width.

    The first that can has the stride 2.
    """

    def __init__(self, kind: str, shortcuts: tuple[str, ...], width: int = 16) -> None:
        blocks = []
        stride = 2
        for shortcut in shortcuts:
            blocks.append(Block(kind, shortcut, width, 1 if shortcut == "identity" else stride))
            stride = stride if shortcut == "identity" else 1
            width = blocks[-1].out
        super().__init__(*blocks)

    def fused(self, x: Tensor, memory: str = "save", grain: str = "stage") -> Tensor:
        """`forward` by one `stage_train`, or at the grain of blocks."""
        if grain == "stage":
            return fused(tuple(self), x, memory)
        for block in self:
            x = block.fused(x, memory)
        return x


def fused(blocks: tuple[Block, ...], x: Tensor, memory: str = "save", group: Any = None) -> Tensor:
    """The blocks by `stage_train`; updates their running statistics."""
    residuals, norms = zip(*(block.residual(group) for block in blocks), strict=True)
    y, running = stage_train(x, residuals, memory=memory)
    with torch.no_grad():
        for of_block, new_of_block in zip(norms, running, strict=True):
            for norm, new in zip(of_block, new_of_block, strict=True):
                if new is not None:
                    norm.running_mean.copy_(new[0])
                    norm.running_var.copy_(new[1])
    return y


def layer(conv: nn.Conv2d, norm: nn.BatchNorm2d, relu: bool = True, group: Any = None) -> ConvBN:
    return ConvBN(
        conv.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var,
        batch_stats=norm.training or norm.running_mean is None, momentum=norm.momentum, eps=norm.eps,
        stride=conv.stride, padding=conv.padding, dilation=conv.dilation, relu=relu,
        process_group=group,
    )  # fmt: skip


def results(module: nn.Module, forward, x: Tensor, g: Tensor) -> dict[str, Tensor]:
    """Output, gradients of x and of every parameter, and buffers, of one step with the gradient ``g``."""
    x = x.clone().requires_grad_()
    module.zero_grad()
    y = forward(x)
    y.backward(g.to(y.dtype))
    out = {"y": y.detach(), "x.grad": x.grad}
    out |= {f"{name}.grad": p.grad for name, p in module.named_parameters() if p.grad is not None}
    return out | {name: b.clone() for name, b in module.named_buffers() if b.is_floating_point()}


def in_float64(module: nn.Module, x: Tensor, g: Tensor) -> dict[str, Tensor]:
    """`results` of PyTorch's own forward in float64."""
    wide = copy.deepcopy(module).double()
    return results(wide, wide, x.double(), g.double())


def distance(a: Tensor, b: Tensor) -> float:
    """Relative L2 distance of a from b."""
    return float((a.double() - b.double()).norm() / (b.double().norm() + 1e-30))
