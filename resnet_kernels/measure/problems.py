"""Every distinct convolution of the paper's networks, and where it occurs.

From `flops`' tables of the architectures, at the image size that the paper feeds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .. import flops
from ..flops.layers import touched

IMAGENET = ("resnet50", "resnet18", "resnet34", "resnet101", "resnet152")  # most important first
CIFAR = tuple(name for name in flops.names() if name.startswith("cifar_resnet"))
NETWORKS = (*IMAGENET, *CIFAR)


@dataclass(frozen=True)
class Conv:
    """A convolution without batch: x [., c, h, w], weight [k, c, kernel, kernel].

    epilogues: what follows it in the networks' inference; count: network -> how often it occurs there.
    """

    c: int
    h: int
    w: int
    k: int
    kernel: int
    stride: int
    epilogues: tuple[str, ...] = ()
    count: dict[str, int] = field(default_factory=dict)

    @property
    def padding(self) -> int:
        return self.kernel // 2

    @property
    def size(self) -> tuple[int, int]:
        """(P, Q) of the output."""
        p, q = ((side + 2 * self.padding - self.kernel) // self.stride + 1 for side in (self.h, self.w))
        return p, q

    @property
    def name(self) -> str:
        stride = f"/{self.stride}" if self.stride > 1 else ""
        return f"conv {self.kernel}x{self.kernel}{stride} {self.c}>{self.k} {self.h}x{self.w}"

    @property
    def geometry(self) -> dict[str, Any]:
        return {"stride": self.stride, "padding": self.padding, "dilation": 1}

    def problem(self, batch: int) -> dict[str, Any]:
        return {
            "x": [batch, self.c, self.h, self.w],
            "weight": [self.k, self.c, self.kernel, self.kernel],
            **self.geometry,
        }

    def macs(self, batch: int) -> int:
        """Multiply-adds of the convolution, and of either of its gradients."""
        p, q = self.size
        return batch * self.k * p * q * self.c * self.kernel**2

    def values(self, batch: int) -> dict[str, int]:
        """How many values each operand has; `read`: those of x that some window reads."""
        p, q = self.size
        rows, columns = (
            touched(side, self.kernel, self.stride, self.padding, 1) for side in (self.h, self.w)
        )
        read = batch * self.c * rows * columns
        weight = self.k * self.c * self.kernel**2
        return {
            "x": batch * self.c * self.h * self.w,
            "read": read,
            "weight": weight,
            "y": batch * self.k * p * q,
        }


def convolutions(networks: Sequence[str] = NETWORKS) -> list[Conv]:
    """The distinct ones, in the order of the networks and of their layers.

    Raises:
        ValueError: an unknown network.
    """
    found: dict[tuple[int, ...], Conv] = {}
    for network in networks:
        for conv in layers(network):
            key = (conv.c, conv.h, conv.w, conv.k, conv.kernel, conv.stride)
            seen = found.get(key, replace(conv, epilogues=()))
            epilogues = seen.epilogues + tuple(e for e in conv.epilogues if e not in seen.epilogues)
            count = {**seen.count, network: seen.count.get(network, 0) + 1}
            found[key] = replace(seen, epilogues=epilogues, count=count)
    return list(found.values())


def layers(network: str, image: int | None = None) -> Iterator[Conv]:
    """A network's convolutions, in the order in which they run, for images of `image` pixels a side."""
    shape = None if image is None else (1, 3, image, image)
    for layer in flops.count(network, shape).layers:
        if not layer.kind.startswith("conv") or layer.weight is None:
            continue
        k, c, kernel, _ = layer.weight
        h, w = layer.input[2:]
        pooled = layer.kind.endswith("maxpool")
        stride = 2 if pooled or layer.output[2] < h else 1
        epilogue = layer.kind.removeprefix("conv").lstrip("+").replace("+", "_") or "none"
        yield Conv(c, h, w, k, kernel, stride, (epilogue,))
