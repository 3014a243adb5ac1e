"""A network's layers by pure arithmetic from its architecture: one row an operator as it is fused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

from .architectures import Architecture
from .layers import Layer, Shape, touched


def layers(network: Architecture, shape: Shape, item: int) -> Iterator[Layer]:
    """The operators of `network` for images [N, 3, H, W] of `item` bytes a value, stem to classifier."""
    yield from _vgg(network, shape, item) if network.block == "vgg" else _residual(network, shape, item)


def _residual(network: Architecture, shape: Shape, item: int) -> Iterator[Layer]:
    """A stem, stages of residual or plain blocks, global average pooling, one fully connected layer."""
    if network.small_stem:
        stem = _conv("conv1", shape, network.widths[0], 3, 1, item)
    else:
        stem = _conv("conv1", shape, network.widths[0], 7, 2, item)
        pooled = (*stem.output[:2], *((size - 1) // 2 + 1 for size in stem.output[2:]))
        saved = item * (prod(stem.output) - prod(pooled))  # the stem's own output never reaches memory
        stem = replace(stem, kind="conv+bn+relu+maxpool", output=pooled, bytes=stem.bytes - saved)
    yield stem

    x = stem.output
    for stage, (width, blocks) in enumerate(zip(network.widths, network.blocks, strict=True), 1):
        for index in range(blocks):
            stride = 2 if stage > 1 and index == 0 else 1
            for layer in _block(network, f"layer{stage}.{index}", x, width, stride, item):
                yield layer
            x = layer.output
    pool = (x[0], x[1])
    yield _elementwise("global_avg_pool", "global_avg_pool", x, pool, item)
    yield _linear("fc", pool, network.classes, item)


def _block(network: Architecture, name: str, x: Shape, width: int, stride: int, item: int) -> Iterator[Layer]:
    """The shortcut, if it computes something, and the two or three convolutions of a block."""
    out = network.expansion * width
    changes = stride != 1 or x[1] != out
    if network.shortcut == "C" or (network.shortcut == "B" and changes):
        yield _conv(f"{name}.downsample.0", x, out, 1, stride, item, relu=False)
    if network.block == "bottleneck":
        first, second = (stride, 1) if network.stride_in == "1x1" else (1, stride)
        steps: tuple[tuple[int, int, int], ...] = ((width, 1, first), (width, 3, second), (out, 1, 1))
    else:
        steps = ((width, 3, stride), (out, 3, 1))
    # Shortcut A reads the input's pixels that it takes, and its channels, inside the last convolution.
    added = 0 if network.shortcut is None else x[1] if network.shortcut == "A" else out
    for i, (k, kernel, step) in enumerate(steps, 1):
        layer = _conv(f"{name}.conv{i}", x, k, kernel, step, item, added=added if i == len(steps) else 0)
        yield layer
        x = layer.output


def _conv(
    name: str, x: Shape, k: int, kernel: int, stride: int, item: int, *, added: int = 0, relu: bool = True
) -> Layer:
    """relu(BatchNorm(conv(x)) + residual) -> [N, k, P, Q], "same" padding; added: the residual's channels."""
    n, c, h, w = x
    pad = kernel // 2
    p, q = ((size + 2 * pad - kernel) // stride + 1 for size in (h, w))
    read = n * c * touched(h, kernel, stride, pad, 1) * touched(w, kernel, stride, pad, 1)
    weight = k * c * kernel * kernel
    return Layer(
        name=name,
        kind="conv+bn" + "+add" * (added > 0) + "+relu" * relu,
        input=x,
        weight=(k, c, kernel, kernel),
        output=(n, k, p, q),
        macs=n * p * q * weight,
        params=weight + 2 * k,
        bytes=item * (read + weight + n * (k + added) * p * q) + 4 * 4 * k,
    )


def _linear(name: str, x: Shape, k: int, item: int) -> Layer:
    """x weight^T + bias: [N, C] -> [N, k]."""
    n, c = x
    moved = item * (n * c + k * c + n * k) + 4 * k
    return Layer(name, "linear", x, (k, c), (n, k), n * k * c, k * c + k, moved)


def _vgg(network: Architecture, shape: Shape, item: int) -> Iterator[Layer]:
    """As PyTorch executes torchvision's: five stages of 3x3 convolutions with bias and ReLUs, each with a
    max-pooling; adaptive pooling to 7x7; three linear layers.
    """
    x, place = shape, 0
    for width, convolutions in zip(network.widths, network.blocks, strict=True):
        for _ in range(convolutions):
            conv = _conv(f"features.{place}", x, width, 3, 1, item)
            vectors = (item - 4 * 4) * width  # a bias in place of BatchNorm's four
            yield replace(conv, kind="conv", params=conv.params - width, bytes=conv.bytes + vectors)
            x = conv.output
            yield _elementwise(f"features.{place + 1}", "relu", x, x, item)
            place += 2
        pooled = (*x[:2], *(size // 2 for size in x[2:]))
        read = (*x[:2], *(2 * size for size in pooled[2:]))
        yield replace(_elementwise(f"features.{place}", "max_pool", read, pooled, item), input=x)
        x, place = pooled, place + 1
    yield _elementwise("avgpool", "avg_pool", x, (*x[:2], 7, 7), item)
    x = (x[0], x[1] * 7 * 7)
    for index, k in ((0, 4096), (3, 4096), (6, network.classes)):
        yield _linear(f"classifier.{index}", x, k, item)
        x = (x[0], k)
        if index < 6:
            yield _elementwise(f"classifier.{index + 1}", "relu", x, x, item)


def _elementwise(name: str, kind: str, x: Shape, y: Shape, item: int) -> Layer:
    return Layer(name, kind, x, None, y, 0, 0, item * (prod(x) + prod(y)))
