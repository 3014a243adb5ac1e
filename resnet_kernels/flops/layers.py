"""What a count consists of: one `Layer` an operator, in execution order, and their sums."""

from __future__ import annotations

from dataclasses import dataclass

ITEM_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One operator. `kind` joins what it computes with "+": "conv+bn+add+relu"."""

    name: str
    kind: str
    input: Shape
    weight: Shape | None
    output: Shape
    macs: int
    params: int
    bytes: int

    @property
    def stage(self) -> str:
        """The row of the paper's table 1: "conv1", "layer1" .. "layer4" or "head"; VGG's "features"."""
        root = self.name.split(".")[0]
        return root if root in ("conv1", "features") or root.startswith("layer") else "head"


@dataclass(frozen=True)
class Count:
    """The layers in execution order, and their sums."""

    name: str
    input: Shape
    dtype: str
    layers: tuple[Layer, ...]
    params: int
    paper_gmacs: float | None = None  # what the paper prints for this very network and input, or None
    paper_mparams: float | None = None

    @property
    def macs(self) -> int:
        """Multiply-adds: the paper's "FLOPs"."""
        return sum(layer.macs for layer in self.layers)

    @property
    def flops(self) -> int:
        """2 x MACs: multiplications and additions."""
        return 2 * self.macs

    @property
    def bytes(self) -> int:
        """Sum of the operators' bytes: what crosses memory if nothing survives between two operators."""
        return sum(layer.bytes for layer in self.layers)

    def by_stage(self) -> dict[str, int]:
        """MACs of each stage, in execution order."""
        stages: dict[str, int] = {}
        for layer in self.layers:
            if layer.macs:
                stages[layer.stage] = stages.get(layer.stage, 0) + layer.macs
        return stages


def touched(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """How many of the `size` positions along one axis some window reads."""
    windows = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    read = {p * stride - padding + r * dilation for p in range(windows) for r in range(kernel)}
    return sum(0 <= position < size for position in read)
