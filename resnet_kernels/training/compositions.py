"""PyTorch's own composition of each training operator: the "aten" backend, also in float64.

Same arguments, results and mathematics as the kernels.  Convolutions and their gradients run in the tensors'
dtype, as PyTorch's do; what follows them runs in float32 (float64 for float64) and is rounded once.  The
statistics are those of the rounded tensors, and the deviations are squared after the mean is taken away.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import _aten

_Ints = list[int] | tuple[int, ...]
_AXES = (0, 2, 3)


def _wide(x: Tensor) -> Tensor:
    return x.to(_aten.accumulate_dtype(x.dtype))


def pack_mask(passes: Tensor) -> Tensor:
    """bool [N, C, H, W] -> int32 [N, H, W, ceil(C / 32)], bit = channel."""
    bits = passes.permute(0, 2, 3, 1).to(torch.int32)
    bits = F.pad(bits, (0, -passes.shape[1] % 32)).unflatten(3, (-1, 32))
    places = torch.arange(32, dtype=torch.int32, device=passes.device)
    return (bits << places).sum(4, dtype=torch.int32)


def unpack_mask(mask: Tensor, channels: int) -> Tensor:
    """int32 [N, H, W, ceil(C / 32)] -> bool [N, C, H, W]."""
    places = torch.arange(32, dtype=torch.int32, device=mask.device)
    bits = (mask.unsqueeze(4) >> places).bitwise_and(1)
    return bits.flatten(3)[..., :channels].permute(0, 3, 1, 2).to(torch.bool)


def _normalised(x: Tensor, norm: Tensor) -> Tensor:
    """norm(x), float32 (float64)."""
    mean, scale, shift, _ = norm
    return (_wide(x) - _aten.per_channel(mean)) * _aten.per_channel(scale) + _aten.per_channel(shift)


def _activated(x: Tensor, norm: Tensor, residual: Tensor | None = None) -> Tensor:
    """relu(norm(x) + residual), rounded."""
    y = _normalised(x, norm)
    return _aten.canonical((y if residual is None else y + residual).relu().to(x.dtype))


def _passes(y: Tensor) -> Tensor:
    """Where ReLU, which gave y, lets the gradient pass: not y <= 0, as PyTorch, so NaN passes."""
    return ~(y <= 0)


def _masked(h: Tensor, mask: Tensor | None) -> Tensor:
    return h if mask is None else h.where(unpack_mask(mask, h.shape[1]), 0.0)


def _gradient_sums(h: Tensor, x: Tensor, mean: Tensor) -> Tensor:
    """[2, C]: sum h and sum h (x - mean) over the pixels."""
    h, deviation = _wide(h), _wide(x) - _aten.per_channel(mean)
    return torch.stack((h.sum(_AXES), (h * deviation).sum(_AXES)))


def _convolution_backward(
    dy: Tensor, x: Tensor, weight: Tensor, geometry: tuple[_Ints, ...], wants: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """(dx, dw), those that are wanted, in ``dy``'s dtype."""
    dtype = _aten.convolution_dtype(dy)
    with _aten.without_autocast(dy):
        dx, dw, _ = torch.ops.aten.convolution_backward(
            dy.to(dtype), x.to(dtype), weight.to(dtype), None, *geometry, False, (0, 0), 1, (*wants, False)
        )
    return dx if dx is None else dx.to(dy.dtype), dw if dw is None else dw.to(dy.dtype)


def conv_fprop_stats(
    x: Tensor,
    norm: Tensor | None,
    residual: Tensor | None,
    weight: Tensor,
    stride: _Ints,
    padding: _Ints,
    dilation: _Ints,
    keep: bool,
    tf32: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(conv(a, weight), moments [2, K]: its mean and sum of squared deviations, a, a's mask); a and its mask
    only if ``keep``; a is x, or relu(norm(x) + residual)."""
    a = x if norm is None else _activated(x, norm, residual)
    with _aten.without_autocast(x):
        y = _aten.convolve(a, weight, stride, padding, dilation)
    mean = _wide(y).mean(_AXES)
    m2 = (_wide(y) - _aten.per_channel(mean)).square().sum(_AXES)
    kept = (a, pack_mask(_passes(a))) if keep else (x.new_empty(0), x.new_empty(0, dtype=torch.int32))
    return _aten.canonical(y), torch.stack((mean, m2)), *kept


def conv_dgrad(
    g: Tensor,
    g_mask: Tensor | None,
    y: Tensor | None,
    coefficients: Tensor | None,
    weight: Tensor,
    residual: Tensor | None,
    residual_mask: Tensor | None,
    mask: Tensor | None,
    bn_input: Tensor | None,
    norm: Tensor | None,
    bn_relu: bool,
    input_size: _Ints,
    stride: _Ints,
    padding: _Ints,
    dilation: _Ints,
    tf32: bool,
    residual_stride: _Ints = (1, 1),
) -> tuple[Tensor, Tensor, Tensor]:
    """(mask (dgrad of dy + residual_mask residual), its sums for the BatchNorm before it or an empty [0, C],
    dy if it is not g itself)."""
    channels = weight.shape[1]
    dy = g if coefficients is None else bn_backward_apply(g, g_mask, y, coefficients)
    like_x = dy.new_empty(1).expand(dy.shape[0], channels, *input_size)
    dx, _ = _convolution_backward(dy, like_x, weight, (stride, padding, dilation), (True, False))
    assert dx is not None
    if residual is not None:
        skip = _aten.shortcut_gradient(_masked(residual, residual_mask), residual_stride, dx.shape)
        dx = (_wide(dx) + skip).to(dy.dtype)
    dx = _masked(dx, mask)
    if norm is not None and bn_input is not None and bn_relu:
        dx = dx.where(_passes(_normalised(bn_input, norm).to(dx.dtype)), 0.0)
    dx = _aten.canonical(dx)
    made = dy if coefficients is not None else dy.new_empty(0)
    if bn_input is None or norm is None:
        return dx, dx.new_empty((0, channels), dtype=_aten.accumulate_dtype(dy.dtype)), made
    return dx, _gradient_sums(dx, bn_input, norm[0]), made


def conv_wgrad(
    dy: Tensor,
    x: Tensor,
    norm: Tensor | None,
    kernel: _Ints,
    stride: _Ints,
    padding: _Ints,
    dilation: _Ints,
    tf32: bool,
) -> Tensor:
    """sum over pixels of dy a^T: [K, C, R, S]; a is x, or relu(norm(x))."""
    a = x if norm is None else _activated(x, norm)
    like_weight = x.new_empty(1).expand(dy.shape[1], x.shape[1], *kernel)
    _, dw = _convolution_backward(dy, a, like_weight, (stride, padding, dilation), (False, True))
    assert dw is not None
    return _aten.canonical(dw)


def bn_finalize(
    moments: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    count: float | Tensor,
    eps: float,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """(norm [4, C], new running mean, new running variance: unbiased)."""
    mean, m2 = moments
    rstd = (m2 / count + eps).rsqrt()
    scale = rstd if gamma is None else gamma * rstd
    norm = torch.stack((mean, scale, torch.zeros_like(mean) if beta is None else beta, rstd))
    if running_mean is None or running_var is None:
        return norm, moments.new_empty(0), moments.new_empty(0)
    new_mean = running_mean * (1 - momentum) + mean * momentum
    return norm, new_mean, running_var * (1 - momentum) + m2 / (count - 1) * momentum


def bn_normalise(
    x: Tensor,
    norm: Tensor,
    residual: Tensor | None,
    residual_norm: Tensor | None,
    relu: bool,
    keep_mask: bool,
    residual_stride: _Ints = (1, 1),
) -> tuple[Tensor, Tensor]:
    """(relu?(norm(x) + residual_norm(residual)), where it lets the gradient pass, if ``keep_mask``)."""
    y = _normalised(x, norm)
    if residual is not None:
        if residual_norm is None:
            y = y + _aten.shortcut(residual, residual_stride, y.shape[1])
        else:
            y = y + _normalised(residual, residual_norm)
    y = _aten.canonical((y.relu() if relu else y).to(x.dtype))
    return y, pack_mask(_passes(y)) if keep_mask else x.new_empty(0, dtype=torch.int32)


def bn_backward_reduce(
    g: Tensor,
    mask: Tensor | None,
    x: Tensor,
    norm: Tensor,
    other_x: Tensor | None,
    other_norm: Tensor | None,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """(h = mask g if ``keep``, its sums [2, C] for the BatchNorm of x, those for another or [0, C])."""
    h = _masked(g, mask)
    sums = _gradient_sums(h, x, norm[0])
    if other_x is None or other_norm is None:
        other_sums = sums.new_empty((0, sums.shape[1]))
    else:
        other_sums = _gradient_sums(h, other_x, other_norm[0])
    # A result is never an argument itself.
    kept = _aten.canonical(h if mask is not None else h.clone()) if keep else g.new_empty(0)
    return kept, sums, other_sums


def bn_backward_finalize(
    norm: Tensor, sums: Tensor, local_sums: Tensor, count: float, batch_stats: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """(coefficients [4, C], gradients of BatchNorm's scale and shift)."""
    mean, scale, _, rstd = norm
    share = sums / count if batch_stats else torch.zeros_like(sums)
    coefficients = torch.stack((scale, share[0], mean, rstd.square() * share[1]))
    return coefficients, local_sums[1] * rstd, local_sums[0].clone()


def bn_backward_apply(g: Tensor, mask: Tensor | None, x: Tensor | None, coefficients: Tensor) -> Tensor:
    """slope (mask g - offset - (x - mean) tilt), rounded; without x the statistics were constants."""
    slope, offset, mean, tilt = map(_aten.per_channel, coefficients)
    dx = _wide(_masked(g, mask))
    if x is not None:
        dx = dx - offset - (_wide(x) - mean) * tilt
    return _aten.canonical((dx * slope).to(g.dtype))


def max_pool_indices(x: Tensor, kernel: _Ints, stride: _Ints, padding: _Ints) -> tuple[Tensor, Tensor]:
    """(maximum over windows, uint8 [N, P, Q, C]: its place r S + s in the window)."""
    y, flat = torch.ops.aten.max_pool2d_with_indices(x, kernel, stride, padding)
    p = torch.arange(y.shape[2], device=x.device).view(1, 1, -1, 1)
    q = torch.arange(y.shape[3], device=x.device).view(1, 1, 1, -1)
    row = flat // x.shape[3] - (p * stride[0] - padding[0])
    column = flat % x.shape[3] - (q * stride[1] - padding[1])
    place = (row * kernel[1] + column).to(torch.uint8)
    return _aten.canonical(y), place.permute(0, 2, 3, 1).contiguous()


def max_pool_backward(
    dy: Tensor, indices: Tensor, input_size: _Ints, kernel: _Ints, stride: _Ints, padding: _Ints
) -> Tensor:
    """dy of every window at the place its maximum came from."""
    n, c, p, q = dy.shape
    place = indices.permute(0, 3, 1, 2).to(torch.int64)
    rows = torch.arange(p, device=dy.device).view(1, 1, -1, 1) * stride[0] - padding[0] + place // kernel[1]
    columns = torch.arange(q, device=dy.device).view(1, 1, 1, -1) * stride[1] - padding[1] + place % kernel[1]
    dx = torch.zeros((n, c, input_size[0] * input_size[1]), dtype=_wide(dy).dtype, device=dy.device)
    dx.scatter_add_(2, (rows * input_size[1] + columns).flatten(2), _wide(dy).flatten(2))
    return _aten.canonical(dx.view(n, c, *input_size).to(dy.dtype))


def global_avg_pool_backward(dy: Tensor, input_size: _Ints) -> Tensor:
    """dy / (H W) in every pixel: [N, C] -> [N, C, H, W]."""
    pixels = input_size[0] * input_size[1]
    dx = (_wide(dy) / pixels).to(dy.dtype)[:, :, None, None]
    return _aten.canonical(dx.expand(*dy.shape, *input_size))
