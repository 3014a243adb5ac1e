"""The convolutions' kernels on integers: what they answer beside what they should.

Each function gives a ``run(seed)`` for a `cases.Case`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from .problems import (
    DTYPES,
    Answer,
    Draw,
    Shape,
    bn_gradient,
    channel,
    gradient_sums,
    moments_are_right,
    normalised,
    operators,
    packed,
    shortcut_a,
)

Run = Callable[[int], Answer]
LIFT = 64  # of a padding pixel that should have stayed zero


def conv_fprop(precision: str, shape: Shape) -> Run:
    """Inference: BatchNorm, residual and ReLU in the epilogue."""

    def run(seed: int) -> Answer:
        draw = Draw(seed, DTYPES[precision])
        x, weight = draw.image(*shape.x), draw.image(*shape.weight)
        scale, shift, skip = draw.vector(shape.k), draw.vector(shape.k), draw.image(*shape.y)
        conv = F.conv2d(x.double(), weight.double(), None, *shape.geometry)
        want = (conv * channel(scale) + channel(shift) + skip.double()).relu()
        got = operators().conv_fprop(
            x, weight, scale, shift, None, None, 0.0, skip, *shape.geometry, True, precision == "tf32"
        )
        return [(got, want)]

    return run


def conv_fprop_with_shortcut_a(precision: str, shape: Shape) -> Run:
    """The residual is the paper's shortcut A: fewer channels, on an image twice as large."""

    def run(seed: int) -> Answer:
        draw = Draw(seed, DTYPES[precision])
        x, weight = draw.image(*shape.x), draw.image(*shape.weight)
        conv = F.conv2d(x.double(), weight.double(), None, *shape.geometry)
        n, k, p, q = conv.shape
        answers = []
        for channels in (k - 3, k // 2 // 8 * 8 or 1):  # not of whole chunks, and of these
            skip = draw.image(n, channels, 2 * p - 1, 2 * q)
            want = (conv + shortcut_a(skip, 2, k)).relu()
            vectors = None, None, None, None, 0.0
            got = operators().conv_fprop(
                x, weight, *vectors, skip, *shape.geometry, True, precision == "tf32", [2, 2]
            )
            answers.append((got, want))
        return answers

    return run


def conv_dgrad_with_shortcut_a(precision: str, shape: Shape) -> Run:
    """The residual is the masked gradient of what shortcut A gave: more channels, on every other pixel."""

    def run(seed: int) -> Answer:
        draw = Draw(seed, DTYPES[precision])
        dy, weight = draw.image(*shape.y), draw.image(*shape.weight)
        x = torch.zeros(shape.x, dtype=torch.float64).requires_grad_()
        F.conv2d(x, weight.double(), None, *shape.geometry).backward(dy.double())
        bits, mask = draw.mask(*shape.x)
        n, c, h, w = shape.x
        answers = []
        for channels in (c + 3, 2 * c):
            g = draw.image(n, channels, (h + 1) // 2, (w + 1) // 2)
            g_bits, g_mask = draw.mask(*g.shape)
            spread = torch.zeros(shape.x, dtype=torch.float64)
            spread[:, :, ::2, ::2] = (g.double() * g_bits)[:, :c]
            epilogue = g, g_mask, mask, None, None, False, [h, w]
            got, _, _ = operators().conv_dgrad(
                *(dy, None, None, None, weight, *epilogue, *shape.geometry, precision == "tf32", [2, 2])
            )
            answers.append((got, (x.grad + spread) * bits))
        return answers

    return run


def conv_fprop_stats(precision: str, shape: Shape) -> Run:
    """Training: moments of the output in the epilogue."""

    def run(seed: int) -> Answer:
        draw = Draw(seed, DTYPES[precision])
        x, weight = draw.image(*shape.x), draw.image(*shape.weight)
        want = F.conv2d(x.double(), weight.double(), None, *shape.geometry)
        y, moments, _, _ = operators().conv_fprop_stats(
            x, None, None, weight, *shape.geometry, False, precision == "tf32"
        )
        return [(y, want), moments_are_right(y, moments)]

    return run


def conv_fprop_of_norm(precision: str, shape: Shape) -> Run:
    """The input normalised on load (elementwise before, where chunks do not allow it)."""

    def run(seed: int) -> Answer:
        draw = Draw(seed, DTYPES[precision])
        x, weight, norm = draw.image(*shape.x), draw.image(*shape.weight), draw.norm(shape.c, LIFT)
        a = normalised(x, norm).relu()
        want = F.conv2d(a, weight.double(), None, *shape.geometry)
        y, moments, _, _ = operators().conv_fprop_stats(
            x, norm, None, weight, *shape.geometry, False, precision == "tf32"
        )
        return [(y, want), moments_are_right(y, moments)]

    return run


def conv_fprop_of_sum(precision: str, shape: Shape) -> Run:
    """The input normalised, added to and rectified on load, and kept with its mask."""

    def run(seed: int) -> Answer:
        draw = Draw(seed, DTYPES[precision])
        x, weight, norm = draw.image(*shape.x), draw.image(*shape.weight), draw.norm(shape.c)
        skip = draw.image(*shape.x)
        a_want = (normalised(x, norm) + skip.double()).relu()
        want = F.conv2d(a_want, weight.double(), None, *shape.geometry)
        y, moments, a, mask = operators().conv_fprop_stats(
            x, norm, skip, weight, *shape.geometry, True, precision == "tf32"
        )
        return [(y, want), (a, a_want), (mask, packed(a_want > 0)), moments_are_right(y, moments)]

    return run


def _dgrad(precision: str, shape: Shape, source: str) -> Run:
    """source: "dy"; "bn", BatchNorm's gradient; "fixed bn", that of one with constant statistics."""

    def run(seed: int) -> Answer:
        draw = Draw(seed, DTYPES[precision])
        weight, g = draw.image(*shape.weight), draw.image(*shape.y)
        dy, g_mask, y, coefficients = g.double(), None, None, None
        if source != "dy":
            bits, g_mask = draw.mask(*shape.y)
            y = draw.image(*shape.y) if source == "bn" else None
            coefficients = draw.coefficients(shape.k)
            dy = bn_gradient(dy * bits, y, coefficients)
        x = torch.zeros(shape.x, dtype=torch.float64).requires_grad_()
        F.conv2d(x, weight.double(), None, *shape.geometry).backward(dy)
        skip, bn_input, norm = draw.image(*shape.x), draw.image(*shape.x), draw.norm(shape.c)
        skip_bits, skip_mask = draw.mask(*shape.x)
        bits, mask = draw.mask(*shape.x)
        passes = bits & (normalised(bn_input, norm) > 0)
        want = (x.grad + skip.double() * skip_bits) * passes
        got, sums, made = operators().conv_dgrad(
            *(g, g_mask, y, coefficients, weight, skip, skip_mask, mask, bn_input, norm, True),
            *([shape.h, shape.w], *shape.geometry, precision == "tf32"),
        )
        answers = [(got, want), (sums, gradient_sums(want.to(g.dtype), bn_input, norm[0]))]
        return answers if source == "dy" else [*answers, (made, dy)]

    return run


def conv_dgrad(precision: str, shape: Shape) -> Run:
    """With residual, both masks, ReLU found again and BatchNorm's sums in the epilogue."""
    return _dgrad(precision, shape, "dy")


def conv_dgrad_of_bn(precision: str, shape: Shape) -> Run:
    """The same of BatchNorm's masked gradient, taken on load where the convolution is pointwise."""
    return _dgrad(precision, shape, "bn")


def conv_dgrad_of_fixed_bn(precision: str, shape: Shape) -> Run:
    """The same where the statistics were constants: no second source."""
    return _dgrad(precision, shape, "fixed bn")


def _wgrad(precision: str, shape: Shape, of_norm: bool) -> Run:
    def run(seed: int) -> Answer:
        draw = Draw(seed, DTYPES[precision])
        x, dy = draw.image(*shape.x), draw.image(*shape.y)
        norm = draw.norm(shape.c, LIFT) if of_norm else None
        a = x.double() if norm is None else normalised(x, norm).relu()
        weight = torch.zeros(shape.weight, dtype=torch.float64).requires_grad_()
        F.conv2d(a, weight, None, *shape.geometry).backward(dy.double())
        got = operators().conv_wgrad(dy, x, norm, [shape.r, shape.s], *shape.geometry, precision == "tf32")
        return [(got, weight.grad)]

    return run


def conv_wgrad(precision: str, shape: Shape) -> Run:
    return _wgrad(precision, shape, of_norm=False)


def conv_wgrad_of_norm(precision: str, shape: Shape) -> Run:
    """The activation made on load (elementwise before, where chunks do not allow it)."""
    return _wgrad(precision, shape, of_norm=True)


def stem(precision: str, n: int, h: int, w: int, k: int) -> Run:
    """Convolution, BatchNorm, ReLU and max pool in one kernel."""

    def run(seed: int) -> Answer:
        draw = Draw(seed, DTYPES[precision])
        x, weight = draw.image(n, 3, h, w), draw.image(k, 3, 7, 7)
        scale, shift = draw.vector(k), draw.vector(k)
        conv = F.conv2d(x.double(), weight.double(), None, 2, 3) * channel(scale) + channel(shift)
        want = F.max_pool2d(conv.relu().to(x.dtype).double(), 3, 2, 1)
        got = operators().conv_bn_relu_maxpool(
            x, weight, scale, shift, None, None, 0.0, [2, 2], [3, 3], [1, 1], False
        )
        return [(got, want)]

    return run
