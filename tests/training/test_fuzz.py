"""Random problems on the simulator: the gradients of convolutions, and whole layers against float64 autograd.

RESNET_KERNELS_FUZZ sets how many there are, RESNET_KERNELS_FUZZ_SEED where they start.
"""

import os

import numpy as np
import pytest
import torch

from resnet_kernels.training import conv_bn_act_train

from ..conftest import FUZZ
from .layers import distance
from .problems import PRECISIONS, Conv, Gradients

FIRST = int(os.environ.get("RESNET_KERNELS_FUZZ_SEED", "0"))
BATCHES = 10
MACS = 2_000_000  # above it a problem is shrunk


def problem(seed: int) -> tuple[Conv, str]:
    """A random convolution and precision: any channels, window, stride, padding and dilation that fit."""
    rng = np.random.default_rng((20260101, seed))

    def channels() -> int:
        return int(rng.choice((1, 3, 5, 8, 16, 24, 32, 64, 65, rng.integers(1, 130))))

    def pair(low: int, high: int) -> tuple[int, int]:
        first = int(rng.integers(low, high + 1))
        return first, first if rng.random() < 0.6 else int(rng.integers(low, high + 1))

    r, s = pair(1, 3) if rng.random() < 0.8 else pair(1, 5)
    stride = (1, 1) if rng.random() < 0.4 else pair(1, 4)
    dilation = (1, 1) if rng.random() < 0.7 else pair(1, 3)
    padding = (r // 2 * dilation[0], s // 2 * dilation[1]) if rng.random() < 0.6 else pair(0, 3)
    least = (dilation[0] * (r - 1) + 1 - 2 * padding[0], dilation[1] * (s - 1) + 1 - 2 * padding[1])
    h, w = (max(1, low + int(rng.integers(0, 12))) for low in least)
    conv = Conv(int(rng.integers(1, 5)), channels(), h, w, channels(), r, s, stride, padding, dilation)
    macs = conv.n * conv.size[0] * conv.size[1] * conv.c * conv.k * r * s
    if macs > MACS:
        conv = Conv(1, conv.c, h, w, max(1, conv.k * MACS // macs), r, s, stride, padding, dilation)
    return conv, str(rng.choice(tuple(PRECISIONS)))


def check_layer(conv: Conv, seed: int) -> None:
    """A float32 layer with a residual in a random mode: output and all gradients."""
    rng = np.random.default_rng((3, seed))
    generator = torch.Generator().manual_seed(seed)
    relu, batch_stats, skip = (bool(rng.random() < 0.6) for _ in range(3))
    if conv.n * conv.size[0] * conv.size[1] == 1:
        batch_stats = False
    shapes = [(conv.n, conv.c, conv.h, conv.w), (conv.k, conv.c, conv.r, conv.s), (conv.k,), (conv.k,)]
    if skip:
        shapes.append((conv.n, conv.k, *conv.size))
    tensors = [torch.randn(shape, generator=generator) for shape in shapes]
    running = torch.randn(conv.k, generator=generator), torch.rand(conv.k, generator=generator) + 0.5
    stride, padding, dilation = conv.geometry
    g = torch.randn((conv.n, conv.k, *conv.size), generator=generator)

    def ours(x, weight, gamma, beta, residual=None):
        return conv_bn_act_train(
            x, weight, gamma, beta, *running, residual, batch_stats=batch_stats, stride=stride,
            padding=padding, dilation=dilation, relu=relu, eps=1e-3,
        )[0]  # fmt: skip

    def reference(x, weight, gamma, beta, residual=None):
        y = torch.nn.functional.conv2d(x, weight, None, stride, padding, dilation)
        mean, var = (v.double().clone() for v in running)
        y = torch.nn.functional.batch_norm(y, mean, var, gamma, beta, batch_stats, 0.1, 1e-3)
        y = y if residual is None else y + residual
        return y.relu() if relu else y

    results = []
    for function, dtype in ((ours, torch.float32), (reference, torch.float64)):
        leaves = [t.to(dtype).requires_grad_() for t in tensors]
        y = function(*leaves)
        results.append((y, *torch.autograd.grad(y, leaves, g.to(dtype))))
    for name, a, b in zip(("y", "x", "weight", "gamma", "beta", "residual"), *results, strict=False):
        a, b = a.detach(), b.detach()
        scale = float(b.norm()) / max(1, b.numel()) ** 0.5
        error = float((a.double() - b).norm()) / max(1, b.numel()) ** 0.5
        assert error <= 2e-4 * scale + 2e-4, f"{name} of {conv}, seed {seed}: {distance(a, b):.1e}"


@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_problems(batch, simulator):
    for seed in range(FIRST + batch, FIRST + FUZZ, BATCHES):
        conv, precision = problem(seed)
        if seed % 3 == 0:
            check_layer(conv, seed)
        else:
            Gradients(conv, precision, seed, integers=seed % 3 == 1).check()
