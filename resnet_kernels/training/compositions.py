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
    x: Tensor, weight: Tensor, stride: _Ints, padding: _Ints, dilation: _Ints, tf32: bool
) -> tuple[Tensor, Tensor]:
    """(conv(x, weight), moments [2, K]: its mean and the sum of its squared deviations from it)."""
    with _aten.without_autocast(x):
        y = _aten.convolve(x, weight, stride, padding, dilation)
    mean = _wide(y).mean(_AXES)
    m2 = (_wide(y) - _aten.per_channel(mean)).square().sum(_AXES)
    return _aten.canonical(y), torch.stack((mean, m2))


def conv_dgrad(
    dy: Tensor,
    weight: Tensor,
    residual: Tensor | None,
    mask: Tensor | None,
    bn_input: Tensor | None,
    bn_mean: Tensor | None,
    input_size: _Ints,
    stride: _Ints,
    padding: _Ints,
    dilation: _Ints,
    tf32: bool,
) -> tuple[Tensor, Tensor]:
    """(mask (dgrad + residual), its sums for the BatchNorm before it or an empty [0, C])."""
    channels = weight.shape[1]
    like_x = dy.new_empty(1).expand(dy.shape[0], channels, *input_size)
    dx, _ = _convolution_backward(dy, like_x, weight, (stride, padding, dilation), (True, False))
    assert dx is not None
    if residual is not None:
        dx = (_wide(dx) + residual).to(dy.dtype)
    dx = _aten.canonical(_masked(dx, mask))
    if bn_input is None or bn_mean is None:
        return dx, dx.new_empty((0, channels), dtype=_aten.accumulate_dtype(dy.dtype))
    return dx, _gradient_sums(dx, bn_input, bn_mean)


def conv_wgrad(
    dy: Tensor,
    x: Tensor,
    kernel: _Ints,
    stride: _Ints,
    padding: _Ints,
    dilation: _Ints,
    tf32: bool,
) -> Tensor:
    """sum over pixels of dy x^T: [K, C, R, S]."""
    like_weight = x.new_empty(1).expand(dy.shape[1], x.shape[1], *kernel)
    _, dw = _convolution_backward(dy, x, like_weight, (stride, padding, dilation), (False, True))
    assert dw is not None
    return _aten.canonical(dw)


def bn_finalize(
    moments: Tensor, count: float, running_mean: Tensor | None, running_var: Tensor | None, momentum: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(mean, biased variance, new running mean, new running variance: unbiased)."""
    mean, m2 = moments[0].clone(), moments[1]
    if running_mean is None or running_var is None:
        return mean, m2 / count, moments.new_empty(0), moments.new_empty(0)
    new_mean = running_mean * (1 - momentum) + mean * momentum
    new_var = running_var * (1 - momentum) + m2 / (count - 1) * momentum
    return mean, m2 / count, new_mean, new_var


def bn_relu_mask(
    x: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    mean: Tensor,
    var: Tensor,
    eps: float,
    residual: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """(relu(bn(x) + residual), where it lets the gradient pass: not y <= 0, as PyTorch, so NaN passes)."""
    y = _wide(x) - _aten.per_channel(mean)
    scale = (var + eps).rsqrt() if scale is None else (var + eps).rsqrt() * scale
    y = y * _aten.per_channel(scale)
    if shift is not None:
        y = y + _aten.per_channel(shift)
    if residual is not None:
        y = y + residual
    y = _aten.canonical(y.relu().to(x.dtype))
    return y, pack_mask(~(y <= 0))


def bn_backward_reduce(g: Tensor, x: Tensor, mean: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """(mask g, or an empty tensor without a mask; its sums [2, C])."""
    if mask is None:
        return g.new_empty(0), _gradient_sums(g, x, mean)
    h = _aten.canonical(_masked(g, mask))
    return h, _gradient_sums(h, x, mean)


def bn_backward_apply(
    h: Tensor,
    x: Tensor,
    scale: Tensor | None,
    mean: Tensor,
    var: Tensor,
    eps: float,
    sums: Tensor,
    local_sums: Tensor,
    count: float,
    batch_stats: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """(gradient through the BatchNorm, those of its scale and shift)."""
    rstd = (var + eps).rsqrt()
    dx = _wide(h)
    if batch_stats:
        deviation = _wide(x) - _aten.per_channel(mean)
        dx = dx - _aten.per_channel(sums[0] / count)
        dx = dx - deviation * _aten.per_channel(rstd.square() * sums[1] / count)
    dx = dx * _aten.per_channel(rstd if scale is None else rstd * scale)
    return _aten.canonical(dx.to(h.dtype)), local_sums[1] * rstd, local_sums[0].clone()


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
