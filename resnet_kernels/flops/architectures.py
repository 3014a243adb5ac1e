"""The paper's networks as data: table 1, figure 3 and section 4.2; and VGG, its yardstick."""

from __future__ import annotations

from dataclasses import dataclass, replace

IMAGENET_WIDTHS, CIFAR_WIDTHS = (64, 128, 256, 512), (16, 32, 64)
IMAGENET_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
"""Depth -> blocks in the four stages (table 1); bottlenecks from 50 layers on."""

CIFAR_DEPTHS = (20, 32, 44, 56, 110, 1202)
VGG_CONVOLUTIONS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Depth -> 3x3 convolutions in the five stages (Simonyan and Zisserman 2015, table 1, D and E)."""


@dataclass(frozen=True)
class Architecture:
    """One network.

    Attributes:
        depth: weighted layers on the longest path, as the paper counts.
        block: "plain", "basic" or "bottleneck"; "vgg".
        widths: channels of the stages' 3x3 convolutions.
        blocks: how many blocks (VGG: convolutions) in each stage.
        size: pixels a side of the images the paper feeds it.
        classes: length of the output.
        small_stem: 3x3 stride 1 instead of 7x7 stride 2 and pooling.
        shortcut: "A", "B" or "C"; None without shortcuts.
        stride_in: which convolution of a bottleneck has the stride, "1x1" or "3x3"; None without bottlenecks.
    """

    depth: int
    block: str
    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    size: int
    classes: int
    small_stem: bool = False
    shortcut: str | None = None
    stride_in: str | None = None

    @property
    def expansion(self) -> int:
        """Channels of a block's output over its width."""
        return 4 if self.block == "bottleneck" else 1


def _imagenet(depth: int, block: str, **options: str) -> Architecture:
    return Architecture(depth, block, IMAGENET_WIDTHS, IMAGENET_BLOCKS[depth], 224, 1000, **options)  # type: ignore[arg-type]


def _cifar(depth: int, block: str, shortcut: str | None) -> Architecture:
    return Architecture(depth, block, CIFAR_WIDTHS, ((depth - 2) // 6,) * 3, 32, 10, True, shortcut)


def _vgg(depth: int) -> Architecture:
    return Architecture(depth, "vgg", (64, 128, 256, 512, 512), VGG_CONVOLUTIONS[depth], 224, 1000)


def _all() -> dict[str, Architecture]:
    found = {f"plain{depth}": _imagenet(depth, "plain") for depth in (18, 34)}
    for depth in (18, 34):
        basic = _imagenet(depth, "basic", shortcut="B")
        found[f"resnet{depth}"] = basic
        found[f"resnet{depth}_a"] = replace(basic, shortcut="A")
        found[f"resnet{depth}_c"] = replace(basic, shortcut="C")
    for depth in (50, 101, 152):
        bottleneck = _imagenet(depth, "bottleneck", shortcut="B", stride_in="3x3")
        found[f"resnet{depth}"] = bottleneck
        found[f"resnet{depth}_v1"] = replace(bottleneck, stride_in="1x1")
    found |= {f"cifar_plain{depth}": _cifar(depth, "plain", None) for depth in CIFAR_DEPTHS[:-1]}
    found |= {f"cifar_resnet{depth}": _cifar(depth, "basic", "A") for depth in CIFAR_DEPTHS}
    return found | {f"vgg{depth}": _vgg(depth) for depth in VGG_CONVOLUTIONS}


ARCHITECTURES = _all()
"""Name -> network; the names are those of `rk.models.create`."""

TABLE_1 = tuple(f"resnet{depth}" for depth in IMAGENET_BLOCKS)
"""The columns of the paper's table 1."""
