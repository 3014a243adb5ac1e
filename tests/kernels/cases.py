"""One small problem for every kernel and every way through it, with answers known exactly.

Inputs are small integers, so that every product and sum is exact in float32 and a right kernel gives the
oracle's answer bit for bit, rounded once.  Each case runs on a simulated GPU of one or two multiprocessors
(`rk.simulator.multiprocessors`), where persistent kernels take several tiles a block and tile choices are
those of large problems.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import resnet_kernels as rk

DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32, "tf32": torch.float32}
Answer = Sequence[tuple[Tensor, Tensor]]  # (got, wanted in float64)


@dataclass(frozen=True)
class Case:
    """``run(seed)`` calls the operators and gives what they answered beside what they should."""

    name: str
    run: Callable[[int], Answer]
    multiprocessors: int = 1

    def check(self, seed: int = 0) -> None:
        """Assert that every answer is exact (NaN is never right)."""
        with rk.simulator.multiprocessors(self.multiprocessors):
            answers = self.run(seed)
        for i, (got, wanted) in enumerate(answers):
            want = wanted.to(got.dtype)
            assert got.shape == want.shape, (
                f"{self.name}[{i}]: shape {tuple(got.shape)}, want {tuple(want.shape)}"
            )
            wrong = ~(got == want)
            assert not bool(wrong.any()), f"{self.name}[{i}]: {int(wrong.sum())} of {got.numel()} wrong"


def operators():
    """The operators of the simulator's build in use, below the router."""
    name = "resnet_kernels_sim_checked" if rk.simulator.checked_enabled else "resnet_kernels_sim"
    return getattr(torch.ops, name)


class Draw:
    """Small integers from a seed."""

    def __init__(self, seed: int, dtype: torch.dtype) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype = dtype

    def integers(self, *shape: int, low: int = -2, high: int = 2) -> Tensor:
        return torch.randint(low, high + 1, shape, generator=self.generator)

    def image(self, *shape: int) -> Tensor:
        return self.integers(*shape).to(self.dtype).contiguous(memory_format=torch.channels_last)

    def vector(self, size: int, low: int = -2, high: int = 2) -> Tensor:
        return self.integers(size, low=low, high=high).float()

    def mask(self, n: int, c: int, h: int, w: int) -> tuple[Tensor, Tensor]:
        """Random bits as bool [N, C, H, W] and packed as kernels read them, int32 [N, H, W, ceil(C / 32)]."""
        bits = torch.rand((n, h, w, c), generator=self.generator) < 0.5
        return bits.permute(0, 3, 1, 2), pack(bits)


def pack(bits: Tensor) -> Tensor:
    """bool [N, H, W, C] -> int32 [N, H, W, ceil(C / 32)], bit = channel."""
    words = F.pad(bits, (0, -bits.shape[-1] % 32)).unflatten(-1, (-1, 32)).long()
    words = (words << torch.arange(32)).sum(-1)
    return torch.where(words >= 2**31, words - 2**32, words).int()


@dataclass(frozen=True)
class Shape:
    n: int
    c: int
    h: int
    w: int
    k: int
    r: int
    s: int
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    @property
    def geometry(self) -> tuple[list[int], list[int], list[int]]:
        return list(self.stride), list(self.padding), list(self.dilation)


def channel(vector: Tensor) -> Tensor:
    return vector.double().view(1, -1, 1, 1)


def conv_fprop(precision: str, shape: Shape) -> Callable[[int], Answer]:
    def run(seed: int) -> Answer:
        draw = Draw(seed, DTYPES[precision])
        x, weight = (
            draw.image(shape.n, shape.c, shape.h, shape.w),
            draw.image(shape.k, shape.c, shape.r, shape.s),
        )
        scale, shift = draw.vector(shape.k), draw.vector(shape.k)
        conv = F.conv2d(x.double(), weight.double(), None, *shape.geometry)
        skip = draw.image(*conv.shape)
        want = (conv * channel(scale) + channel(shift) + skip.double()).relu()
        got = operators().conv_fprop(
            x, weight, scale, shift, None, None, 0.0, skip, *shape.geometry, True, precision == "tf32"
        )
        return [(got, want)]

    return run


def conv_fprop_stats(precision: str, shape: Shape) -> Callable[[int], Answer]:
    """The batch is doubled with its negative, so that the means are 0."""

    def run(seed: int) -> Answer:
        draw = Draw(seed, DTYPES[precision])
        half = draw.image(shape.n, shape.c, shape.h, shape.w)
        x = torch.cat((half, -half)).contiguous(memory_format=torch.channels_last)
        weight = draw.image(shape.k, shape.c, shape.r, shape.s)
        want = F.conv2d(x.double(), weight.double(), None, *shape.geometry)
        y, moments = operators().conv_fprop_stats(x, weight, *shape.geometry, precision == "tf32")
        rounded = y.double()
        deviations = moments[1].double() - (rounded**2).sum((0, 2, 3))
        close = deviations.abs() <= 1e-6 * (rounded**2).sum((0, 2, 3)) + 1e-6
        means = moments[0].double().abs() <= 1e-5
        return [(y, want), (close & means, torch.ones(shape.k, dtype=torch.float64))]

    return run


def conv_dgrad(precision: str, shape: Shape) -> Callable[[int], Answer]:
    def run(seed: int) -> Answer:
        draw = Draw(seed, DTYPES[precision])
        size = (shape.n, shape.c, shape.h, shape.w)
        x, weight = (
            torch.zeros(size, dtype=torch.float64).requires_grad_(),
            draw.image(shape.k, shape.c, shape.r, shape.s),
        )
        y = F.conv2d(x, weight.double(), None, *shape.geometry)
        dy, skip, bn_input = draw.image(*y.shape), draw.image(*size), draw.image(*size)
        y.backward(dy.double())
        bits, mask = draw.mask(*size)
        mean = draw.vector(shape.c)
        want = torch.where(bits, x.grad + skip.double(), 0.0)
        rounded = want.to(dy.dtype).double()
        sums = torch.stack(
            (rounded.sum((0, 2, 3)), (rounded * (bn_input.double() - channel(mean))).sum((0, 2, 3)))
        )
        got, got_sums = operators().conv_dgrad(
            dy, weight, skip, mask, bn_input, mean, [shape.h, shape.w], *shape.geometry, precision == "tf32"
        )
        return [(got, want), (got_sums, sums)]

    return run


def conv_wgrad(precision: str, shape: Shape) -> Callable[[int], Answer]:
    def run(seed: int) -> Answer:
        draw = Draw(seed, DTYPES[precision])
        x = draw.image(shape.n, shape.c, shape.h, shape.w)
        weight = torch.zeros(shape.k, shape.c, shape.r, shape.s, dtype=torch.float64).requires_grad_()
        y = F.conv2d(x.double(), weight, None, *shape.geometry)
        dy = draw.image(*y.shape)
        y.backward(dy.double())
        got = operators().conv_wgrad(dy, x, [shape.r, shape.s], *shape.geometry, precision == "tf32")
        return [(got, weight.grad)]

    return run


def stem(precision: str, n: int, h: int, w: int, k: int) -> Callable[[int], Answer]:
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


def elementwise(precision: str, n: int, c: int, h: int, w: int) -> Callable[[int], Answer]:
    """bn_apply, bn_relu_mask, bn_backward_reduce, bn_backward_apply and bn_finalize."""

    def run(seed: int) -> Answer:
        draw = Draw(seed, DTYPES[precision])
        size = (n, c, h, w)
        x, skip, g = draw.image(*size), draw.image(*size), draw.image(*size)
        scale, shift, mean = draw.vector(c), draw.vector(c), draw.vector(c)
        var = torch.ones(c)
        op = operators()
        plain = (x.double() - channel(mean)) * channel(scale) + channel(shift) + skip.double()
        y = op.bn_apply(x, scale, shift, mean, var, 0.0, skip, False)
        activated, mask = op.bn_relu_mask(x, scale, shift, mean, var, 0.0, skip)
        passes = plain > 0
        h_want = torch.where(passes, g.double(), 0.0)
        got_h, sums = op.bn_backward_reduce(g, x, mean, mask)
        centered = x.double() - channel(mean)
        sums_want = torch.stack((h_want.sum((0, 2, 3)), (h_want * centered).sum((0, 2, 3))))
        zero = torch.zeros_like(sums)
        dx, dscale, dshift = op.bn_backward_apply(got_h, x, scale, mean, var, 0.0, zero, sums, 1.0, True)
        pixels = float(n * h * w)
        moments = torch.stack((mean, torch.full((c,), 4 * pixels)))
        finalized = op.bn_finalize(moments, pixels, mean, var, 0.0)
        return [
            (y, plain),
            (activated, plain.relu()),
            (mask, pack(passes.permute(0, 2, 3, 1)).double()),
            (got_h, h_want),
            (sums, sums_want),
            (dx, h_want * channel(scale)),
            (dscale, sums_want[1]),
            (dshift, sums_want[0]),
            (finalized[0], mean.double()),
            (finalized[1], torch.full((c,), 4.0, dtype=torch.float64)),
            (finalized[2], mean.double()),
            (finalized[3], var.double()),
        ]

    return run


def pooling(precision: str, n: int, c: int, h: int, w: int) -> Callable[[int], Answer]:
    """max_pool, its indices and gradient; the global average and its gradient, for a power of two pixels."""

    def run(seed: int) -> Answer:
        draw = Draw(seed, DTYPES[precision])
        op = operators()
        x = draw.image(n, c, h, w)
        reference = x.double().requires_grad_()
        want = F.max_pool2d(reference, 3, 2, 1)
        dy = draw.image(*want.shape)
        want.backward(dy.double())
        window = ([3, 3], [2, 2], [1, 1])
        y, indices = op.max_pool_indices(x, *window)
        average_gradient = draw.integers(n, c).to(x.dtype)
        spread = (average_gradient.double() / (h * w)).view(n, c, 1, 1).expand(n, c, h, w)
        return [
            (op.max_pool(x, *window), want.detach()),
            (y, want.detach()),
            (op.max_pool_backward(dy, indices, [h, w], *window), reference.grad),
            (op.global_avg_pool(x), x.double().mean((2, 3))),
            (op.global_avg_pool_backward(average_gradient, [h, w]), spread),
        ]

    return run


def cases() -> list[Case]:
    """Every kernel, precision and tile; names say which."""
    large = Shape(1, 64, 12, 12, 136, 3, 3, padding=(1, 1))  # tiles of 128 filters, and a ragged second
    small = Shape(1, 72, 6, 12, 72, 3, 3, padding=(1, 1))
    # Eleven stages: the last lies where the epilogue's panel will.
    narrow = Shape(1, 72, 12, 12, 64, 3, 3, stride=(2, 1), padding=(1, 1))
    ragged = Shape(2, 9, 7, 6, 9, 3, 2, stride=(2, 1), padding=(1, 2), dilation=(1, 2))
    few = Shape(2, 3, 9, 7, 16, 3, 3, stride=(2, 2), padding=(1, 1))  # channels padded to a chunk
    light = Shape(1, 32, 10, 13, 72, 3, 3, padding=(1, 1))  # FFMA is slow to simulate
    found = []
    for precision in ("bf16", "f16", "tf32", "f32"):
        for name, shape, machine in (
            ("large", large if precision != "f32" else light, 1),
            ("small", small, 132),
            ("narrow", narrow, 1),
            ("ragged", ragged, 1),
            ("few", few, 1),
        ):
            for kernel in (conv_fprop, conv_fprop_stats, conv_dgrad, conv_wgrad):
                found.append(Case(f"{kernel.__name__}-{precision}-{name}", kernel(precision, shape), machine))
    for precision in ("bf16", "f16"):
        found.append(Case(f"stem-{precision}", stem(precision, 1, 64, 62, 72)))
    for precision in ("bf16", "f16", "f32"):
        found.append(Case(f"elementwise-{precision}", elementwise(precision, 2, 40, 8, 8), 2))
        found.append(Case(f"elementwise-{precision}-ragged", elementwise(precision, 2, 5, 7, 3), 2))
        found.append(Case(f"elementwise-{precision}-wide", elementwise(precision, 1, 272, 4, 4), 2))
        found.append(Case(f"pooling-{precision}", pooling(precision, 2, 72, 8, 8)))
        found.append(Case(f"pooling-{precision}-ragged", pooling(precision, 1, 3, 4, 4)))
    return found


CASES = {case.name: case for case in cases()}
