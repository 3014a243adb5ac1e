"""The operators for users: checks, layout, autocast and backend, then ``torch.ops.resnet_kernels.*``.

Shared by all of them:

* Activations are [N, C, H, W], weights [K, C, R, S], computed in ``torch.channels_last`` memory; another
  layout is converted once, on entry, so a channels_last model makes no copies.  Results are channels_last.
* dtypes: bfloat16, float16, float32; float64 on the "aten" backend.  Per-channel vectors may be of any
  floating dtype and are used in float32.
* Sums are accumulated in float32; the epilogue (affine, residual, ReLU) runs in float32 and is rounded
  once. ReLU(NaN) is NaN.
* float32 convolutions use TF32 if ``torch.backends.cudnn.conv.fp32_precision == "tf32"`` (PyTorch's
  default), and `linear` if ``torch.backends.cuda.matmul.fp32_precision == "tf32"``, on the simulator as on
  a GPU; a compiled program keeps what it was compiled under.  PyTorch's composition obeys PyTorch's
  switches by itself.
* Under `torch.autocast` the operators that multiply (convolutions, `linear`) cast activations and weights
  to the region's dtype; the others compute in the dtype they are given.  Vectors are left alone; float64 is
  never cast.
* Gradients come from PyTorch's own operators, whatever backend ran the forward.
* N = 0 gives an empty result.  Arguments that cannot be right raise TypeError or ValueError naming the
  argument.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from . import _aten, _checks, _register, backend

_Pair = int | Sequence[int]
_AXES = "[N, C, H, W]"

_conv_fprop = torch.ops.resnet_kernels.conv_fprop.default
_bn_apply = torch.ops.resnet_kernels.bn_apply.default
_conv_bn_relu_maxpool = torch.ops.resnet_kernels.conv_bn_relu_maxpool.default
_max_pool = torch.ops.resnet_kernels.max_pool.default
_global_avg_pool = torch.ops.resnet_kernels.global_avg_pool.default
_linear = torch.ops.resnet_kernels.linear.default


def conv_bn_act(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    residual: Tensor | None = None,
    *,
    mean: Tensor | None = None,
    var: Tensor | None = None,
    eps: float = 1e-5,
    stride: _Pair = 1,
    padding: _Pair = 0,
    dilation: _Pair = 1,
    residual_stride: _Pair | None = None,
    relu: bool = True,
) -> Tensor:
    """relu(scale * conv2d(x, weight) + shift + residual): a layer of a residual unit.

    He et al. 2015, section 3.2, equation 1 (the shortcut), and section 3.4 (BatchNorm).

    With ``mean`` and ``var`` the affine is BatchNorm with these statistics:
    ``scale * (conv - mean) / sqrt(var + eps) + shift``.  A convolution's bias is ``shift`` alone.

    Args:
        x: [N, C, H, W].
        weight: [K, C, R, S], x's dtype.  Not for grouped convolutions: `torch.nn.functional.conv2d`.
        scale, shift, mean, var: [K] or None (1, 0, and no BatchNorm); ``mean`` and ``var`` come together.
        residual: [N, K, P, Q], x's dtype, or None; added before the ReLU.
        eps: added to ``var``; at least 0.
        stride, padding, dilation: an int, or a pair (height, width); at least 1, 0, 1.
        residual_stride: likewise, or None.  With it the residual is [N, C', H', W'] with C' <= K, P =
            ceil(H' / residual_stride) and Q alike: every so many pixels of it are added to the first C'
            channels (the paper's shortcut A).
        relu: apply the ReLU.

    Returns:
        [N, K, P, Q] in x's dtype, P = floor((H + 2 padding - dilation (R - 1) - 1) / stride) + 1, Q alike.

    Raises:
        TypeError, ValueError: an argument that cannot be right, or a backend that cannot run these tensors.
    """
    op = "conv_bn_act"
    x, weight, geometry, size = _convolution(op, x, weight, stride, padding, dilation)
    channels = weight.shape[0]
    vectors = _vectors(op, channels, x, scale, shift, mean, var)
    eps = _checks.epsilon(op, eps)
    skip_stride = None if residual_stride is None else _checks.pair(op, "residual_stride", residual_stride, 1)
    if residual is not None:
        residual = _residual(op, residual, x, (x.shape[0], channels, *size), skip_stride)
    args = (
        x,
        weight,
        *vectors,
        eps,
        residual,
        *geometry,
        _checks.flag(op, "relu", relu),
        _tf32(x, _conv_tf32),
        skip_stride or (1, 1),
    )
    return _run(op, _conv_fprop, _aten.conv_fprop, args, (size, geometry[1]))


def bn_act(
    x: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    residual: Tensor | None = None,
    *,
    mean: Tensor | None = None,
    var: Tensor | None = None,
    eps: float = 1e-5,
    relu: bool = True,
) -> Tensor:
    """relu(scale * x + shift + residual), elementwise: what follows a convolution.

    He et al. 2015, section 3.2, equation 1 (the shortcut), and section 3.4 (BatchNorm).

    With ``mean`` and ``var`` the affine is BatchNorm with these statistics, as in `conv_bn_act`.

    Args:
        x: [N, C, H, W].
        scale, shift, mean, var: [C] or None (1, 0, and no BatchNorm); ``mean`` and ``var`` come together.
        residual: [N, C, H, W], x's dtype, or None; added before the ReLU.
        eps: added to ``var``; at least 0.
        relu: apply the ReLU.

    Returns:
        [N, C, H, W] in x's dtype.

    Raises:
        TypeError, ValueError: an argument that cannot be right, or a backend that cannot run these tensors.
    """
    op = "bn_act"
    _checks.activation(op, "x", x, 4, _AXES)
    _checks.sizes(op, "x", x, "C, H and W")
    vectors = _vectors(op, x.shape[1], x, scale, shift, mean, var)
    eps = _checks.epsilon(op, eps)
    if residual is not None:
        residual = _residual(op, residual, x, x.shape)
    x = x.contiguous(memory_format=torch.channels_last)
    return _run(op, _bn_apply, _aten.bn_apply, (x, *vectors, eps, residual, _checks.flag(op, "relu", relu)))


def conv_bn_relu_maxpool(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    *,
    mean: Tensor | None = None,
    var: Tensor | None = None,
    eps: float = 1e-5,
    stride: _Pair = 1,
    padding: _Pair = 0,
    dilation: _Pair = 1,
) -> Tensor:
    """maxpool(relu(scale * conv2d(x, weight) + shift)), window 3x3, stride 2, padding 1: the stem.

    The first two rows of He et al. 2015, table 1 (there 7x7, stride 2).  Arguments as for `conv_bn_act`.

    Returns:
        [N, K, floor((P - 1) / 2) + 1, floor((Q - 1) / 2) + 1] in x's dtype, P x Q the convolution's output.

    Raises:
        TypeError, ValueError: an argument that cannot be right, or a backend that cannot run these tensors.
    """
    op = "conv_bn_relu_maxpool"
    x, weight, geometry, size = _convolution(op, x, weight, stride, padding, dilation)
    vectors = _vectors(op, weight.shape[0], x, scale, shift, mean, var)
    args = (x, weight, *vectors, _checks.epsilon(op, eps), *geometry, _tf32(x, _conv_tf32))
    return _run(op, _conv_bn_relu_maxpool, _aten.conv_bn_relu_maxpool, args, (size, geometry[1]))


def max_pool(x: Tensor, kernel: _Pair, stride: _Pair | None = None, padding: _Pair = 0) -> Tensor:
    """Maximum over windows, as `torch.nn.functional.max_pool2d`: padding is -inf, NaN wins.

    Args:
        x: [N, C, H, W].
        kernel: the window, an int or a pair (height, width); at least 1.
        stride: at least 1; the window's size if None.
        padding: from 0 to half the window.

    Returns:
        [N, C, P, Q] in x's dtype, P = floor((H + 2 padding - kernel) / stride) + 1, Q alike.

    Raises:
        TypeError, ValueError: an argument that cannot be right, or a backend that cannot run these tensors.
    """
    op = "max_pool"
    _checks.activation(op, "x", x, 4, _AXES)
    _checks.sizes(op, "x", x, "C, H and W")
    kernel = _checks.pair(op, "kernel", kernel, 1)
    stride = kernel if stride is None else _checks.pair(op, "stride", stride, 1)
    padding = _checks.pair(op, "padding", padding, 0)
    for i, axis in enumerate(("height", "width")):
        if 2 * padding[i] > kernel[i]:
            raise ValueError(
                f"{op}: padding must be at most half of the window along {axis}, got {padding[i]} for a "
                f"window of {kernel[i]}"
            )
        _checks.window_fits(op, "kernel", x.shape[2 + i], kernel[i], padding[i], axis)
    x = x.contiguous(memory_format=torch.channels_last)
    return _run(op, _max_pool, _aten.max_pool, (x, kernel, stride, padding))


def global_avg_pool(x: Tensor) -> Tensor:
    """Mean over height and width, summed in float32: [N, C, H, W] -> [N, C] (He et al. 2015, table 1).

    Raises:
        TypeError, ValueError: an argument that cannot be right, or a backend that cannot run these tensors.
    """
    op = "global_avg_pool"
    _checks.activation(op, "x", x, 4, _AXES)
    _checks.sizes(op, "x", x, "C, H and W")
    return _run(
        op, _global_avg_pool, _aten.global_avg_pool, (x.contiguous(memory_format=torch.channels_last),)
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weight^T + bias: the classifier (He et al. 2015, table 1, "1000-d fc").

    Args:
        x: [N, C].
        weight: [K, C], x's dtype.
        bias: [K], of any floating dtype, or None.

    Returns:
        [N, K] in x's dtype.

    Raises:
        TypeError, ValueError: an argument that cannot be right, or a backend that cannot run these tensors.
    """
    return _run("linear", _linear, _aten.linear, _linear_arguments(x, weight, bias))


def _linear_arguments(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Any, ...]:
    """The checked arguments of the raw operator ``linear``."""
    op = "linear"
    _checks.activation(op, "x", x, 2, "[N, C]")
    _checks.activation(op, "weight", weight, 2, "[K, C]")
    _checks.same_device(op, "weight", weight, x)
    x, weight = _autocast(x), _autocast(weight)
    _checks.same_dtype(op, "weight", weight, x)
    _checks.sizes(op, "x", x, "C")
    if weight.shape[1] != x.shape[1] or weight.shape[0] == 0:
        raise ValueError(
            f"{op}: weight must be [K, {x.shape[1]}] with K of at least 1, got {_checks.describe(weight)}"
        )
    bias = _checks.vector(op, "bias", bias, weight.shape[0], x)
    return x.contiguous(), weight.contiguous(), bias, _tf32(x, _matmul_tf32)


def _convolution(
    op: str, x: Tensor, weight: Tensor, stride: _Pair, padding: _Pair, dilation: _Pair
) -> tuple[Tensor, Tensor, tuple[tuple[int, int], ...], list[int]]:
    """Check a convolution's operands; (x and weight as the kernels take them, geometry, (P, Q))."""
    _checks.activation(op, "x", x, 4, _AXES)
    _checks.activation(op, "weight", weight, 4, "[K, C, R, S]")
    _checks.same_device(op, "weight", weight, x)
    x, weight = _autocast(x), _autocast(weight)
    _checks.same_dtype(op, "weight", weight, x)
    _checks.sizes(op, "x", x, "C, H and W")
    channels, wanted = weight.shape[1], x.shape[1]
    if channels != wanted:
        grouped = 0 < channels < wanted and wanted % channels == 0
        raise ValueError(
            f"{op}: weight must have x's {wanted} channels along dimension 1, got {_checks.describe(weight)}"
            + (
                f"; a convolution of {wanted // channels} groups is not covered, use torch.nn.Conv2d"
                if grouped
                else ""
            )
        )
    _checks.sizes(op, "weight", weight, "C, R and S")
    if weight.shape[0] == 0:
        raise ValueError(f"{op}: weight must have at least one filter, got {_checks.describe(weight)}")
    geometry = (
        _checks.pair(op, "stride", stride, 1),
        _checks.pair(op, "padding", padding, 0),
        _checks.pair(op, "dilation", dilation, 1),
    )
    for i, axis in enumerate(("height", "width")):
        window = geometry[2][i] * (weight.shape[2 + i] - 1) + 1
        _checks.window_fits(op, "weight", x.shape[2 + i], window, geometry[1][i], axis)
    size = _register.output_size(x.shape, weight.shape, *geometry)
    channels_last = torch.channels_last
    return (
        x.contiguous(memory_format=channels_last),
        weight.contiguous(memory_format=channels_last),
        geometry,
        size,
    )


def _vectors(
    op: str, channels: int, x: Tensor, scale: Any, shift: Any, mean: Any, var: Any
) -> tuple[Tensor | None, ...]:
    """The affine's four vectors, checked and as the kernels take them."""
    _checks.statistics(op, mean, var)
    return (
        _checks.vector(op, "scale", scale, channels, x),
        _checks.vector(op, "shift", shift, channels, x),
        _checks.vector(op, "mean", mean, channels, x),
        _checks.vector(op, "var", var, channels, x),
    )


def _residual(
    op: str, residual: Tensor, x: Tensor, shape: Sequence[int], stride: Sequence[int] | None = None
) -> Tensor:
    """The residual, checked, in channels_last; under autocast in x's dtype."""
    _checks.activation(op, "residual", residual, 4, "[N, K, P, Q]")
    _checks.same_device(op, "residual", residual, x)
    if residual.dtype != x.dtype and x.dtype != torch.float64 and _autocast_dtype(x) is not None:
        residual = residual.to(x.dtype)
    _checks.same_dtype(op, "residual", residual, x)
    if stride is None:
        _checks.same_shape(op, "residual", residual, shape)
    else:
        seen = [(residual.shape[2 + i] - 1) // stride[i] + 1 for i in (0, 1)]
        if (residual.shape[0], *seen) != (shape[0], *shape[2:]) or not 0 < residual.shape[1] <= shape[1]:
            raise ValueError(
                f"{op}: residual must give every {tuple(stride)}-th pixel to an output of shape "
                f"{tuple(shape)} and have no more channels, got {_checks.describe(residual)}"
            )
    return residual.contiguous(memory_format=torch.channels_last)


def _autocast_dtype(x: Tensor) -> torch.dtype | None:
    """The dtype of the enclosing autocast region for ``x``'s device, None outside of one."""
    kind = x.device.type
    if kind != "meta" and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return None


def _autocast(value: Tensor) -> Tensor:
    """``value`` in the autocast region's dtype, as PyTorch casts: float64 stays."""
    dtype = _autocast_dtype(value)
    return value if dtype is None or value.dtype == torch.float64 else value.to(dtype)


# PyTorch's switches, constants of a compiled program: dynamo cannot trace the properties.


@backend.traced_constant
def _conv_tf32() -> bool:
    return torch.backends.cudnn.conv.fp32_precision == "tf32"  # type: ignore[attr-defined]


@backend.traced_constant
def _matmul_tf32() -> bool:
    return torch.backends.cuda.matmul.fp32_precision == "tf32"


def _tf32(x: Tensor, switch: Callable[[], bool]) -> bool:
    return x.dtype == torch.float32 and switch()


def _run(
    op: str,
    operator: Callable[..., Tensor],
    composition: Callable[..., Tensor],
    args: tuple[Any, ...],
    convolution: tuple[Sequence[int], Sequence[int]] | None = None,
) -> Tensor:
    """Call ``operator``, or ``composition`` on a GPU under "aten"; ``convolution``: (P, Q) and padding."""
    x = args[0]
    compiling = torch.compiler.is_compiling()
    needs_grad = torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in args)
    if x.is_cuda:
        if backend.for_cuda(op, x.device) == "aten":
            return composition(*args, differentiable=needs_grad)
        if x.dtype == torch.float64:
            raise TypeError(
                f"{op}: x is float64, which the kernels do not take: convert to float32, bfloat16 or "
                "float16, or choose rk.backend('aten')"
            )
        if convolution is not None and not compiling:
            size, padding = convolution
            _checks.indexable(op, x.shape, args[1].shape, size, padding)
    if needs_grad or compiling:
        return operator(*args)
    # Nothing to differentiate: past the autograd layer, whose Python function would cost more than the call.
    with torch._C._AutoDispatchBelowAutograd():
        return operator(*args)
