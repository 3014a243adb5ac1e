"""PyTorch's own composition of each operator: the "aten" backend, and the peer in tests.

Same arguments and same mathematics as the kernels, from PyTorch's operators, differentiable, also in
float64.  The convolution runs in the tensors' dtype, as `torch.nn.Conv2d` does; what follows it (affine,
residual, ReLU) runs in float32 (float64 for float64) and is rounded once.  So bf16 and fp16 round twice
here, once behind the convolution and once at the end, where the kernels round once; without affine and
residual both round once.  ReLU(NaN) is NaN.

Whether PyTorch's float32 convolutions use TF32 is PyTorch's own switch; the argument ``tf32`` is not read
here.

With ``differentiable=False`` a function may work in place on what it allocated itself; never on an
argument.
"""

from __future__ import annotations

import contextlib

import torch
import torch.nn.functional as F
from torch import Tensor

_Ints = list[int] | tuple[int, ...]


def without_autocast(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """A context in which PyTorch's operators compute in the dtype they are given."""
    kind = x.device.type
    if kind in ("cpu", "cuda") and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return contextlib.nullcontext()


def accumulate_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums and per-channel vectors: float64 for float64, float32 otherwise."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def per_channel(vector: Tensor) -> Tensor:
    """[K] -> [1, K, 1, 1], which broadcasts over an NCHW tensor."""
    return vector.view(1, -1, 1, 1)


def fold(
    scale: Tensor | None, shift: Tensor | None, mean: Tensor | None, var: Tensor | None, eps: float
) -> tuple[Tensor | None, Tensor | None]:
    """Per-channel (s, b) of ``y = s x + b``; BatchNorm with statistics if ``mean`` and ``var`` are given.

    s = scale / sqrt(var + eps), b = shift - mean s; without statistics s = scale, b = shift (None: absent).
    """
    if mean is None or var is None:
        return scale, shift
    s = (var + eps).rsqrt()
    if scale is not None:
        s = s * scale
    b = -mean * s if shift is None else shift - mean * s
    return s, b


def canonical(y: Tensor) -> Tensor:
    """``y`` dense in channels_last with `torch.empty`'s strides, those of size-1 dimensions included."""
    _, c, h, w = y.shape
    strides = (h * w * c, 1, w * c, c)
    if y.stride() == strides:
        return y
    if y.is_contiguous(memory_format=torch.channels_last):
        return y.as_strided(y.shape, strides)
    return torch.empty_like(y, memory_format=torch.channels_last).copy_(y)


def convolution_dtype(x: Tensor) -> torch.dtype:
    """What PyTorch convolves in: ``x``'s dtype, but float32 for float16 on a CPU.

    oneDNN 3.10's float16 convolutions end the process with a segmentation fault for some windows that lie in
    the padding alone: x [1, 32, 1, 11], weight [64, 32, 3, 3], stride 2, padding (3, 2), dilation (2, 1).
    """
    return torch.float32 if x.dtype == torch.float16 and x.device.type == "cpu" else x.dtype


def convolve(x: Tensor, weight: Tensor, stride: _Ints, padding: _Ints, dilation: _Ints) -> Tensor:
    """`torch.nn.functional.conv2d` without a bias, rounded to ``x``'s dtype."""
    dtype = convolution_dtype(x)
    return F.conv2d(x.to(dtype), weight.to(dtype), None, stride, padding, dilation).to(x.dtype)


def _epilogue(
    y: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    eps: float,
    residual: Tensor | None,
    relu: bool,
    differentiable: bool,
    owned: bool,
) -> Tensor:
    """relu(s y + b + residual) in float32, rounded once to ``y``'s dtype; ``owned``: ``y`` is ours."""
    dtype = y.dtype
    s, b = fold(scale, shift, mean, var, eps)
    if s is not None or b is not None or residual is not None:
        wide = y.to(accumulate_dtype(dtype))
        owned = owned or wide is not y
        y = wide
    if owned and not differentiable:
        if s is not None and b is not None:
            torch.addcmul(per_channel(b), y, per_channel(s), out=y)
        elif s is not None:
            y.mul_(per_channel(s))
        elif b is not None:
            y.add_(per_channel(b))
        if residual is not None:
            y.add_(residual)
        if relu:
            y.relu_()
    else:
        if s is not None:
            y = y * per_channel(s)
        if b is not None:
            y = y + per_channel(b)
        if residual is not None:
            y = y + residual
        if relu:
            y = y.relu()
    return y.to(dtype)


def shortcut(residual: Tensor, stride: _Ints, channels: int) -> Tensor:
    """Every ``stride``-th pixel, and zeros for the channels it lacks: the paper's shortcut A."""
    if tuple(stride) == (1, 1) and residual.shape[1] == channels:
        return residual
    strided = residual[:, :, :: stride[0], :: stride[1]]
    return F.pad(strided, (0, 0, 0, 0, 0, channels - residual.shape[1]))


def shortcut_gradient(g: Tensor, stride: _Ints, size: _Ints) -> Tensor:
    """The gradient of `shortcut`'s argument of the given size [N, C, H, W] from that of its result."""
    if tuple(stride) == (1, 1) and tuple(g.shape) == tuple(size):
        return g
    spread = g.new_zeros(size).contiguous(memory_format=torch.channels_last)
    spread[:, :, :: stride[0], :: stride[1]] = g[:, : size[1]]
    return spread


def conv_fprop(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    eps: float,
    residual: Tensor | None,
    stride: _Ints,
    padding: _Ints,
    dilation: _Ints,
    relu: bool,
    tf32: bool,
    residual_stride: _Ints = (1, 1),
    differentiable: bool = False,
) -> Tensor:
    """relu(s conv(x, weight) + b + residual): [N, C, H, W] x [K, C, R, S] -> [N, K, P, Q]."""
    with without_autocast(x):
        y = convolve(x, weight, stride, padding, dilation)
        if residual is not None:
            residual = shortcut(residual, residual_stride, y.shape[1])
        y = _epilogue(y, scale, shift, mean, var, eps, residual, relu, differentiable, owned=True)
        return canonical(y)


def bn_apply(
    x: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    eps: float,
    residual: Tensor | None,
    relu: bool,
    differentiable: bool = False,
) -> Tensor:
    """relu(s x + b + residual), elementwise: [N, C, H, W] -> [N, C, H, W]."""
    y = _epilogue(x, scale, shift, mean, var, eps, residual, relu, differentiable, owned=False)
    return canonical(y.clone() if y is x else y)


def conv_bn_relu_maxpool(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    eps: float,
    stride: _Ints,
    padding: _Ints,
    dilation: _Ints,
    tf32: bool,
    differentiable: bool = False,
) -> Tensor:
    """maxpool3x3/2(relu(s conv(x, weight) + b)), padding 1: the network's stem."""
    vectors = scale, shift, mean, var, eps, None
    geometry = stride, padding, dilation
    y = conv_fprop(x, weight, *vectors, *geometry, True, tf32, differentiable=differentiable)
    return max_pool(y, (3, 3), (2, 2), (1, 1))


def max_pool(
    x: Tensor,
    kernel: _Ints,
    stride: _Ints,
    padding: _Ints,
    differentiable: bool = False,
) -> Tensor:
    """Maximum over windows, implicit padding -inf; a NaN in a window is its maximum."""
    return canonical(F.max_pool2d(x, kernel, stride, padding))


def global_avg_pool(x: Tensor, differentiable: bool = False) -> Tensor:
    """Mean over H and W, summed in float32: [N, C, H, W] -> [N, C]."""
    return x.mean((2, 3)).contiguous()


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, tf32: bool, differentiable: bool = False
) -> Tensor:
    """x weight^T + bias: [N, C] x [K, C] -> [N, K]; the bias is rounded to ``x``'s dtype first."""
    with without_autocast(x):
        return F.linear(x, weight, None if bias is None else bias.to(x.dtype))
