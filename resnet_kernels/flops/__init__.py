"""What a network costs: multiply-adds, parameters and bytes, for each layer and in all.

    count = rk.flops.count("resnet50", (1, 3, 224, 224))      # from the paper's table, pure arithmetic
    count = rk.flops.count(model, (1, 3, 224, 224))           # any module: ours, torchvision's, fused ones
    count.macs, count.flops, count.params, count.bytes, count.layers
    for row in rk.flops.compare(): ...                        # every figure of the paper beside ours

Conventions.  A MAC is one multiply-add; convolutions and fully connected layers alone are counted, as He et
al. 2015 do: the paper's table 1 says "FLOPs" and means MACs.  `flops` is twice that.  BatchNorm, ReLU, add
and pooling have 0 MACs but move bytes.  `bytes` are the distinct bytes that an operator must read and write
once, its weights included: a strided 1x1 convolution reads every second pixel only.  `params` are learnable
values (running statistics are not).

The two ways are independent of each other: the table knows the architecture and no torch, the other executes
the module on fake tensors (no memory, no arithmetic) and looks at each operator that PyTorch dispatches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .architectures import ARCHITECTURES, TABLE_1, Architecture
from .layers import ITEM_BYTES, Count, Layer, Shape
from .paper import FIGURES, Comparison, gmacs, mparams
from .table import layers
from .traced import traced

__all__ = [
    "ARCHITECTURES",
    "ITEM_BYTES",
    "TABLE_1",
    "Architecture",
    "Comparison",
    "Count",
    "Layer",
    "compare",
    "count",
    "names",
]

SMALLEST_VGG = 32  # pixels a side: five poolings halve it


def names() -> list[str]:
    """The names `count` knows: those of `rk.models.names`."""
    return list(ARCHITECTURES)


def count(
    model: Any,
    input_shape: Sequence[int] | None = None,
    *,
    dtype: str | None = None,
    stride_in: str | None = None,
    shortcut: str | None = None,
    num_classes: int | None = None,
) -> Count:
    """Count `model`, a name ("resnet50") or a torch.nn.Module, for inputs [N, C, H, W] in evaluation mode.

    A name is counted from the paper's table, one row a fused operator, in `dtype` (default "float32"); the
    three options after it belong to names alone and default to what the name says.  A module is counted as it
    executes, in its own dtype.  The input defaults to one image of the size the paper feeds the network, and
    to (1, 3, 224, 224) for a module.

    Raises:
        ValueError: unknown name, option, dtype or an input that the network cannot take.
        TypeError: `model` is neither a string nor a module.
    """
    if isinstance(model, str):
        return _named(model, input_shape, dtype or "float32", stride_in, shortcut, num_classes)
    if not callable(getattr(model, "forward", None)):
        raise TypeError(
            f"count: model must be a network's name or a torch.nn.Module, got {type(model).__name__}"
        )
    return traced(model, _shape((1, 3, 224, 224) if input_shape is None else input_shape))


def compare() -> list[Comparison]:
    """Every cost the paper prints beside ours."""
    rows = []
    for name, source, unit, figure in FIGURES:
        counted = count(name)
        ours = (counted.macs / 1e9) if unit == "GMACs" else counted.params / 1e6
        row = Comparison(name, source, unit, figure, ours)
        rows.append(row if row.agrees else replace(row, note=_explain(counted)))
    return rows


def _explain(counted: Count) -> str:
    """The part of a network that a printed figure may have meant."""
    convolutions = sum(layer.macs for layer in counted.layers if layer.kind.startswith("conv"))
    return f"the convolutions alone: {convolutions / 1e9:.3f}"


def _shape(sizes: Sequence[int]) -> Shape:
    shape = tuple(int(size) for size in sizes)
    if len(shape) != 4 or min(shape) < 0 or min(shape[1:]) < 1:
        raise ValueError(f"count: input_shape must be (N, C, H, W) with C, H, W >= 1, got {tuple(sizes)}")
    return shape


def _named(
    name: str,
    input_shape: Sequence[int] | None,
    dtype: str,
    stride_in: str | None,
    shortcut: str | None,
    num_classes: int | None,
) -> Count:
    if name not in ARCHITECTURES:
        raise ValueError(f"count: no network {name!r}; known: {', '.join(names())}")
    own = ARCHITECTURES[name]
    network = _with_options(name, own, stride_in, shortcut, num_classes)
    if dtype not in ITEM_BYTES:
        raise ValueError(f"count: dtype must be one of {', '.join(ITEM_BYTES)}, got {dtype!r}")
    shape = _shape((1, 3, own.size, own.size) if input_shape is None else input_shape)
    if shape[1] != 3:
        raise ValueError(f"count: {name} takes images of 3 channels, got {shape[1]}")
    if own.block == "vgg" and min(shape[2:]) < SMALLEST_VGG:
        raise ValueError(f"count: {name} takes input_shape from {SMALLEST_VGG} x {SMALLEST_VGG} pixels on")
    found = tuple(layers(network, shape, ITEM_BYTES[dtype]))
    comparable = shape[2:] == (own.size,) * 2 and replace(network, stride_in=own.stride_in) == own
    return Count(
        name=name,
        input=shape,
        dtype=dtype,
        layers=found,
        params=sum(layer.params for layer in found),
        paper_gmacs=gmacs(name, own.depth) if comparable else None,
        paper_mparams=mparams(name, own.depth) if comparable else None,
    )


def _with_options(
    name: str, network: Architecture, stride_in: str | None, shortcut: str | None, num_classes: int | None
) -> Architecture:
    for what, got, wanted in (
        ("stride_in", stride_in, ("3x3", "1x1")),
        ("shortcut", shortcut, ("A", "B", "C")),
    ):
        if got is not None and got not in wanted:
            raise ValueError(f"count: {what} must be one of {', '.join(map(repr, wanted))}, got {got!r}")
    if shortcut is not None:
        if network.shortcut is None:
            raise ValueError(f"count: {name} has no shortcuts, got shortcut={shortcut!r}")
        network = replace(network, shortcut=shortcut)
    if stride_in is not None and network.stride_in is not None:
        network = replace(network, stride_in=stride_in)  # blocks of two 3x3 convolutions have no choice
    return network if num_classes is None else replace(network, classes=num_classes)
