"""Gradients of the operators, from PyTorch's own operators.

The forward runs on whatever backend is chosen; the backward below is PyTorch's ``convolution_backward`` and
elementwise operators, recomputing what the fused forward does not keep (the convolution's output, where a
per-channel vector needs a gradient).  Registered under the operators themselves, so compiled and exported
graphs keep them.  Every formula is differentiable again, except that the ReLU's and the pool's choices are
constants.

Notation: y = relu(s c + b + residual), c = conv(x, weight); with statistics s = scale r, b = shift - mean
s, r = 1 / sqrt(var + eps).  g is the gradient behind the ReLU, in float32 (float64 for float64).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import _aten

_Vectors = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]


def _behind_relu(grad: Tensor, y: Tensor | None) -> Tensor:
    """The gradient before the ReLU whose output was ``y`` (None: no ReLU); as in PyTorch, it passes a NaN."""
    return grad if y is None else torch.ops.aten.threshold_backward(grad, y, 0)


def _vector_gradients(
    g: Tensor, c: Tensor, vectors: _Vectors, eps: float, needs: tuple[bool, ...]
) -> list[Tensor | None]:
    """Gradients of (scale, shift, mean, var) from g and the affine's input c, both [N, K, P, Q], wide."""
    scale, _, mean, var = vectors
    axes = (0, 2, 3)
    sum_g = g.sum(axes)
    if mean is None or var is None:
        return [(g * c).sum(axes) if needs[0] else None, sum_g if needs[1] else None, None, None]
    r = (var + eps).rsqrt()
    s = r if scale is None else r * scale
    # Centred before the sum: the sum of g c less mean times the sum of g would cancel.
    sum_gc = (g * (c - _aten.per_channel(mean))).sum(axes) if needs[0] or needs[3] else sum_g
    return [
        sum_gc * r if needs[0] else None,
        sum_g if needs[1] else None,
        -sum_g * s if needs[2] else None,
        sum_gc * s * r * r * -0.5 if needs[3] else None,
    ]


def _affine_backward(
    g: Tensor, vectors: _Vectors, eps: float, needs: tuple[bool, ...], affine_input: Callable[[], Tensor]
) -> tuple[Tensor, list[Tensor | None]]:
    """(gradient of the affine's input, gradients of its vectors); ``affine_input()`` gives c, wide."""
    s, _ = _aten.fold(*vectors, eps)
    gradients: list[Tensor | None] = [None, None, None, None]
    if any(needs):
        gradients = _vector_gradients(g, affine_input() if needs[0] or needs[3] else g, vectors, eps, needs)
    return (g if s is None else g * _aten.per_channel(s)), gradients


def _convolution_backward(
    g: Tensor, x: Tensor, weight: Tensor, vectors: _Vectors, ctx: Any, needs: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None, list[Tensor | None]]:
    """Gradients of x, weight and the vectors; ``needs`` says which of the six are wanted."""
    wide = _aten.accumulate_dtype(x.dtype)
    geometry = (ctx.stride, ctx.padding, ctx.dilation)
    gc, vector_gradients = _affine_backward(
        g.to(wide), vectors, ctx.eps, needs[2:], lambda: _aten.convolve(x, weight, *geometry).to(wide)
    )
    dx = dw = None
    if needs[0] or needs[1]:
        dtype = _aten.convolution_dtype(x)
        dx, dw, _ = torch.ops.aten.convolution_backward(
            gc.to(dtype), x.to(dtype), weight.to(dtype), None, *geometry, False, (0, 0), 1,
            (needs[0], needs[1], False),
        )  # fmt: skip
        dx, dw = (None if d is None else d.to(x.dtype) for d in (dx, dw))
    return dx, dw, vector_gradients


def _save_convolution(ctx: Any, inputs: tuple[Any, ...], y: Tensor | None) -> None:
    x, weight, scale, shift, mean, var, ctx.eps = inputs[:7]
    ctx.save_for_backward(x, weight, scale, shift, mean, var, y)


def _conv_fprop_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *_, ctx.stride, ctx.padding, ctx.dilation, relu, _, ctx.residual_stride = inputs
    residual = inputs[7]
    ctx.residual_shape = None if residual is None else residual.shape
    _save_convolution(ctx, inputs, output if relu else None)


def _conv_fprop_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, weight, *vectors, y = ctx.saved_tensors
    needs = ctx.needs_input_grad
    with _aten.without_autocast(x):
        g = _behind_relu(grad, y)
        dx, dw, dv = _convolution_backward(g, x, weight, tuple(vectors), ctx, needs[:6])
        skip = _aten.shortcut_gradient(g, ctx.residual_stride, ctx.residual_shape) if needs[7] else None
    return dx, dw, *dv, None, skip, None, None, None, None, None, None


def _bn_apply_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, scale, shift, mean, var, ctx.eps, _, relu = inputs
    ctx.save_for_backward(x, scale, shift, mean, var, output if relu else None)


def _bn_apply_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, *vectors, y = ctx.saved_tensors
    needs = ctx.needs_input_grad
    wide = _aten.accumulate_dtype(x.dtype)
    g = _behind_relu(grad, y)
    dx, dv = _affine_backward(g.to(wide), tuple(vectors), ctx.eps, needs[1:5], lambda: x.to(wide))
    return (dx.to(x.dtype) if needs[0] else None), *dv, None, (g if needs[6] else None), None


def _conv_bn_relu_maxpool_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *_, ctx.stride, ctx.padding, ctx.dilation, ctx.tf32 = inputs
    _save_convolution(ctx, inputs, None)


def _conv_bn_relu_maxpool_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, weight, scale, shift, mean, var, _ = ctx.saved_tensors
    vectors, geometry = (scale, shift, mean, var), (ctx.stride, ctx.padding, ctx.dilation)
    with _aten.without_autocast(x):
        twice = torch.is_grad_enabled()
        z = _aten.conv_fprop(
            x, weight, *vectors, ctx.eps, None, *geometry, True, ctx.tf32, differentiable=twice
        )
        g = _behind_relu(_pool_backward(grad, z, (3, 3), (2, 2), (1, 1)), z)
        dx, dw, dv = _convolution_backward(g, x, weight, vectors, ctx, ctx.needs_input_grad[:6])
    return dx, dw, *dv, None, None, None, None, None


def _pool_backward(grad: Tensor, x: Tensor, kernel: Any, stride: Any, padding: Any) -> Tensor:
    """Gradient of `max_pool`'s input: a window's gradient goes to the element PyTorch's own pool chooses."""
    aten = torch.ops.aten
    _, indices = aten.max_pool2d_with_indices(x, kernel, stride, padding)
    return aten.max_pool2d_with_indices_backward(grad, x, kernel, stride, padding, (1, 1), False, indices)


def _max_pool_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.kernel, ctx.stride, ctx.padding = inputs
    ctx.save_for_backward(x)


def _max_pool_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (x,) = ctx.saved_tensors
    return _pool_backward(grad, x, ctx.kernel, ctx.stride, ctx.padding), None, None, None


def _global_avg_pool_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.shape = inputs[0].shape


def _global_avg_pool_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return ((grad / (ctx.shape[2] * ctx.shape[3]))[:, :, None, None].expand(ctx.shape),)


def _linear_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, *_ = inputs
    ctx.save_for_backward(x, weight)


def _linear_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, weight = ctx.saved_tensors
    needs = ctx.needs_input_grad
    with _aten.without_autocast(x):
        dx = grad @ weight if needs[0] else None
        dw = grad.t() @ x if needs[1] else None
        db = grad.sum(0, dtype=_aten.accumulate_dtype(x.dtype)) if needs[2] else None
    return dx, dw, db, None


# Operator -> (what the forward keeps, the backward).
FORMULAS = {
    "conv_fprop": (_conv_fprop_setup, _conv_fprop_backward),
    "bn_apply": (_bn_apply_setup, _bn_apply_backward),
    "conv_bn_relu_maxpool": (_conv_bn_relu_maxpool_setup, _conv_bn_relu_maxpool_backward),
    "max_pool": (_max_pool_setup, _max_pool_backward),
    "global_avg_pool": (_global_avg_pool_setup, _global_avg_pool_backward),
    "linear": (_linear_setup, _linear_backward),
}
