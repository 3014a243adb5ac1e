"""The roofline: what one H200 could do at best. A prediction from counts; nothing here is measured.

A layer cannot take less than max(bytes / bandwidth, FLOPs / peak); a network's floor is the sum over its
layers, because nothing is assumed to survive in cache between two kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

from .. import flops

BANDWIDTH = 4.3e12  # bytes/s: what H200's HBM3e (4.8e12 on paper) sustains
PEAK = 790e12  # FLOP/s: what dense bf16 mma sustains (989e12 on paper)
LABEL = "predicted, not measured"


@dataclass(frozen=True)
class Floor:
    """One layer's least time in seconds, by memory and by arithmetic."""

    layer: flops.Layer
    memory: float
    math: float

    @property
    def seconds(self) -> float:
        return max(self.memory, self.math)

    @property
    def bound(self) -> str:
        return "math" if self.math > self.memory else "memory"


@dataclass(frozen=True)
class Prediction:
    """Floors of a network's layers at one batch size."""

    batch: int
    floors: tuple[Floor, ...]

    @property
    def seconds(self) -> float:
        return sum(floor.seconds for floor in self.floors)

    @property
    def images_per_second(self) -> float:
        return self.batch / self.seconds


def predict(count: flops.Count) -> Prediction:
    """Floors for the layers of `count`."""
    floors = tuple(Floor(layer, layer.bytes / BANDWIDTH, 2 * layer.macs / PEAK) for layer in count.layers)
    return Prediction(count.input[0], floors)


def fused(name: str, batch: int, size: int = 224) -> Prediction:
    """One kernel a convolution, all that follows in its epilogue, in bf16: this package's schedule."""
    return predict(flops.count(name, (batch, 3, size, size), dtype="bfloat16"))


def eager(name: str, batch: int, size: int = 224) -> Prediction:
    """Convolution, BatchNorm, ReLU and add each on its own, in bf16: PyTorch's eager schedule."""
    import torch
    import torchvision

    with torch.device("meta"):
        model = getattr(torchvision.models, name)().to(torch.bfloat16, memory_format=torch.channels_last)
    return predict(flops.count(model, (batch, 3, size, size)))
