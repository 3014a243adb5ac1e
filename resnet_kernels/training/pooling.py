"""Pooling and the classifier in training: forward and backward on this package's operators.

What is kept: a byte per output of the maximum pool, nothing for the average, the classifier's operands.
Not differentiable twice (PyTorch's `once_differentiable`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .. import _aten, _checks, ops
from ..backend import backend
from .function import below_autograd, obeying
from .operators import run

_POINT = ([1, 1], [0, 0], [1, 1])  # stride, padding, dilation of a fully connected layer
MAX_WINDOW = 256  # elements of a window whose place fits a byte


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Any, stride: Any, padding: Any) -> Tensor:
        with below_autograd():
            y, indices = run("max_pool_indices", x, kernel, stride, padding)
        ctx.save_for_backward(indices)
        ctx.size, ctx.window = list(x.shape[2:]), (kernel, stride, padding)
        ctx.backend = backend.current()
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        (indices,) = ctx.saved_tensors
        g = g.contiguous(memory_format=torch.channels_last)
        with obeying(ctx.backend):
            return run("max_pool_backward", g, indices, ctx.size, *ctx.window), None, None, None


class _GlobalAvgPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.size, ctx.backend = list(x.shape[2:]), backend.current()
        with below_autograd():
            return run("global_avg_pool", x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        with obeying(ctx.backend):
            return run("global_avg_pool_backward", g.contiguous(), ctx.size)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, tf32: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.tf32, ctx.backend = tf32, backend.current()
        with below_autograd():
            return run("linear", x, weight, bias, tf32)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs, g = ctx.needs_input_grad, g.contiguous()
        dx = dw = db = None
        with obeying(ctx.backend):
            dy = g[:, :, None, None]
            if needs[0]:
                w = weight[:, :, None, None]
                plain = None, None, None, w, None, None, None, None, None, False
                dx, *_ = run("conv_dgrad", dy, *plain, [1, 1], *_POINT, ctx.tf32)
                dx = dx.flatten(1)
            if needs[1]:
                dw = run("conv_wgrad", dy, x[:, :, None, None], None, [1, 1], *_POINT, ctx.tf32).flatten(1)
        if needs[2]:
            db = g.sum(0, dtype=_aten.accumulate_dtype(g.dtype))
        return dx, dw, db, None


def max_pool_train(
    x: Tensor, kernel: int | Sequence[int], stride: int | Sequence[int] | None, padding: int | Sequence[int]
) -> Tensor:
    """`ops.max_pool` whose backward runs on the same backend; windows over 256 go to `ops.max_pool`."""
    op = "max_pool"
    window = _checks.pair(op, "kernel", kernel, 1)
    if x.shape[0] == 0 or window[0] * window[1] > MAX_WINDOW:
        return ops.max_pool(x, kernel, stride, padding)
    _checks.activation(op, "x", x, 4, "[N, C, H, W]")
    steps = window if stride is None else _checks.pair(op, "stride", stride, 1)
    pads = _checks.pair(op, "padding", padding, 0)
    for i, axis in enumerate(("height", "width")):
        if 2 * pads[i] > window[i]:
            raise ValueError(f"{op}: padding must be at most half of the window along {axis}, got {pads[i]}")
        _checks.window_fits(op, "kernel", x.shape[2 + i], window[i], pads[i], axis)
    return _MaxPool.apply(x.contiguous(memory_format=torch.channels_last), window, steps, pads)


def global_avg_pool_train(x: Tensor) -> Tensor:
    """`ops.global_avg_pool` whose backward runs on the same backend: [N, C, H, W] -> [N, C]."""
    if x.shape[0] == 0:
        return ops.global_avg_pool(x)
    _checks.activation("global_avg_pool", "x", x, 4, "[N, C, H, W]")
    return _GlobalAvgPool.apply(x.contiguous(memory_format=torch.channels_last))


def linear_train(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`ops.linear` whose backward runs on the same backend: [N, C] x [K, C]^T + [K] -> [N, K]."""
    if x.shape[0] == 0:
        return ops.linear(x, weight, bias)
    args = ops._linear_arguments(x, weight, bias)
    return _Linear.apply(*args)
