"""Random convolutions on the kernels, each held to the error budget and, on integers, to exactness.

RESNET_KERNELS_FUZZ sets how many problems there are (200; the long mode is 20,000),
RESNET_KERNELS_FUZZ_SEED where they start.  A failure prints the problem and its seed.
"""

import os

import numpy as np
import pytest

from .error_budget import PRECISIONS
from .problems import Conv, check, check_exact

PROBLEMS = int(os.environ.get("RESNET_KERNELS_FUZZ", "200"))
FIRST = int(os.environ.get("RESNET_KERNELS_FUZZ_SEED", "0"))
BATCHES = 20
# Multiply-adds above which a problem is shrunk: what the simulator does in a few tens of milliseconds.
MACS = 4_000_000


def problem(seed: int) -> tuple[Conv, str]:
    """A random convolution and precision: any channels, window, stride, padding and dilation that fit."""
    rng = np.random.default_rng((20151210, seed))

    def channels() -> int:
        return int(rng.choice((1, 3, 5, 8, 16, 24, 32, 64, 65, 96, 128, rng.integers(1, 200))))

    def pair(low: int, high: int) -> tuple[int, int]:
        first = int(rng.integers(low, high + 1))
        return first, first if rng.random() < 0.6 else int(rng.integers(low, high + 1))

    r, s = pair(1, 3) if rng.random() < 0.8 else pair(1, 7)
    stride = (1, 1) if rng.random() < 0.5 else pair(1, 4)
    dilation = (1, 1) if rng.random() < 0.7 else pair(1, 3)
    padding = (r // 2 * dilation[0], s // 2 * dilation[1]) if rng.random() < 0.6 else pair(0, 4)
    least = (dilation[0] * (r - 1) + 1 - 2 * padding[0], dilation[1] * (s - 1) + 1 - 2 * padding[1])
    h, w = (max(1, low + int(rng.integers(0, 18))) for low in least)
    conv = Conv(
        n=int(rng.choice((1, 1, 2, 3, 7))),
        c=channels(), h=h, w=w, k=channels(), r=r, s=s, stride=stride, padding=padding, dilation=dilation,
        affine=str(rng.choice(("none", "bias", "scale", "bn"))),
        residual=bool(rng.random() < 0.5),
        relu=bool(rng.random() < 0.7),
    )  # fmt: skip
    p, q = conv.size
    if conv.n * p * q * conv.k * conv.terms > MACS:
        conv = Conv(**(vars(conv) | {"n": 1, "k": max(1, min(conv.k, MACS // (p * q * conv.terms)))}))
    return conv, str(rng.choice(PRECISIONS))


@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_problems(batch, kernels):
    for seed in range(FIRST + batch, FIRST + PROBLEMS, BATCHES):
        conv, precision = problem(seed)
        if seed % 4 == 0:
            check_exact(conv, precision, kernels, seed)
        else:
            check(conv, precision, kernels, seed)


def test_the_problems_cover_what_they_should():
    """The first 200 contain every precision, epilogue and the geometry the kernels branch on."""
    drawn = [problem(seed) for seed in range(200)]
    convs = [conv for conv, _ in drawn]
    assert {precision for _, precision in drawn} == set(PRECISIONS)
    assert {(c.affine, c.residual, c.relu) for c in convs} >= {("bn", True, True), ("none", False, False)}
    assert {1, 3, 5, 24, 65} <= {c.c for c in convs}
    for covered in (
        lambda c: c.stride[0] > c.r,
        lambda c: c.dilation != (1, 1),
        lambda c: c.stride[0] != c.stride[1],
        lambda c: c.padding[0] >= c.r,
        lambda c: c.h != c.w,
        lambda c: (c.r, c.s, c.stride) == (1, 1, (1, 1)),
        lambda c: c.c % 16 == 0 and c.k % 16 == 0,
    ):
        assert sum(map(covered, convs)) >= 5
