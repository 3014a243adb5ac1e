"""Registration of the training operators: schemas, fake kernels, CPU router, FLOP formulas.

They are functional primitives: forward convolution with BatchNorm's moments, gradients of a convolution with
the neighbouring BatchNorm's work in their epilogues, BatchNorm's two backward passes, pooling.  None is
differentiable by itself; the `torch.autograd.Function`s of this package are built of them.  Conventions are
those of `_register`: activations and weights dense in channels_last, vectors float32 (float64 if they are).

* moments [2, C]: the mean and the sum of squared deviations of the rounded tensor, over N, H and W;
* norm [4, C]: mean, scale = gamma rstd, shift = beta, rstd; norm(x) = (x - mean) scale + shift;
* mask int32 [N, H, W, ceil(C / 32)]: bit = channel, set where ReLU lets the gradient pass;
* sums [2, C]: sum h and sum h (x - mean) over N, H and W;
* coefficients [4, C]: slope, offset, mean, tilt, of the gradient slope (h - offset - (x - mean) tilt);
* indices uint8 [N, P, Q, C]: r S + s of a window's maximum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import conv_flop_count, register_flop_formula

from .. import _aten, _native, _register
from ..backend import for_cpu, for_cuda
from . import compositions

_GEOMETRY = "int[] stride, int[] padding, int[] dilation"
SCHEMAS = {
    "conv_fprop_stats": "(Tensor x, Tensor? norm, Tensor? residual, Tensor weight, "
    f"{_GEOMETRY}, bool keep, bool tf32) -> (Tensor y, Tensor moments, Tensor a, Tensor mask)",
    "conv_dgrad": "(Tensor g, Tensor? g_mask, Tensor? y, Tensor? coefficients, Tensor weight, "
    "Tensor? residual, Tensor? residual_mask, Tensor? mask, Tensor? bn_input, Tensor? norm, bool bn_relu, "
    f"int[] input_size, {_GEOMETRY}, bool tf32, int[] residual_stride=[1, 1])"
    " -> (Tensor dx, Tensor sums, Tensor dy)",
    "conv_wgrad": f"(Tensor dy, Tensor x, Tensor? norm, int[] kernel, {_GEOMETRY}, bool tf32) -> Tensor",
    "bn_finalize": "(Tensor moments, Tensor? gamma, Tensor? beta, float count, float eps, "
    "Tensor? running_mean, Tensor? running_var, float momentum)"
    " -> (Tensor norm, Tensor new_running_mean, Tensor new_running_var)",
    "bn_normalise": "(Tensor x, Tensor norm, Tensor? residual, Tensor? residual_norm, bool relu, "
    "bool keep_mask, int[] residual_stride=[1, 1]) -> (Tensor y, Tensor mask)",
    "bn_backward_reduce": "(Tensor g, Tensor? mask, Tensor x, Tensor norm, Tensor? other_x, "
    "Tensor? other_norm, bool keep) -> (Tensor h, Tensor sums, Tensor other_sums)",
    "bn_backward_finalize": "(Tensor norm, Tensor sums, Tensor local_sums, float count, bool batch_stats) "
    "-> (Tensor coefficients, Tensor dgamma, Tensor dbeta)",
    "bn_backward_apply": "(Tensor g, Tensor? mask, Tensor? x, Tensor coefficients) -> Tensor",
    "max_pool_indices": "(Tensor x, int[] kernel, int[] stride, int[] padding) -> (Tensor y, Tensor indices)",
    "max_pool_backward": "(Tensor dy, Tensor indices, int[] input_size, int[] kernel, int[] stride, "
    "int[] padding) -> Tensor",
    "global_avg_pool_backward": "(Tensor dy, int[] input_size) -> Tensor",
}

_Ints = Sequence[int]


# Fake kernels: the results' shapes, dtypes and strides, with sizes that may be symbols.


def _activation(like: Tensor, n: int, c: int, h: int, w: int) -> Tensor:
    return torch.empty((n, c, h, w), dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _vectors(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=_aten.accumulate_dtype(like.dtype), device=like.device)


def _mask(like: Tensor) -> Tensor:
    n, c, h, w = like.shape
    return like.new_empty((n, h, w, (c + 31) // 32), dtype=torch.int32)


def _nothing(like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A result that was not asked for."""
    return like.new_empty(0, dtype=dtype or like.dtype)


def _fake_conv_fprop_stats(
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
    size = _register.output_size(x.shape, weight.shape, stride, padding, dilation)
    y = _activation(x, x.shape[0], weight.shape[0], *size)
    a = _activation(x, *x.shape) if keep else _nothing(x)
    return y, _vectors(x, 2, weight.shape[0]), a, _mask(x) if keep else _nothing(x, torch.int32)


def _fake_conv_dgrad(
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
    channels = weight.shape[1]
    dx = _activation(g, g.shape[0], channels, *input_size)
    dy = _nothing(g) if coefficients is None else _activation(g, *g.shape)
    return dx, _vectors(g, 0 if bn_input is None else 2, channels), dy


def _fake_conv_wgrad(
    dy: Tensor,
    x: Tensor,
    norm: Tensor | None,
    kernel: _Ints,
    stride: _Ints,
    padding: _Ints,
    dilation: _Ints,
    tf32: bool,
) -> Tensor:
    return _activation(x, dy.shape[1], x.shape[1], *kernel)


def _fake_bn_finalize(
    moments: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    count: float,
    eps: float,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
) -> tuple[Tensor, Tensor, Tensor]:
    channels = moments.shape[1]
    running = 0 if running_mean is None else channels
    return _vectors(moments, 4, channels), _vectors(moments, running), _vectors(moments, running)


def _fake_bn_normalise(
    x: Tensor,
    norm: Tensor,
    residual: Tensor | None,
    residual_norm: Tensor | None,
    relu: bool,
    keep_mask: bool,
    residual_stride: _Ints = (1, 1),
) -> tuple[Tensor, Tensor]:
    return _activation(x, *x.shape), _mask(x) if keep_mask else _nothing(x, torch.int32)


def _fake_bn_backward_reduce(
    g: Tensor,
    mask: Tensor | None,
    x: Tensor,
    norm: Tensor,
    other_x: Tensor | None,
    other_norm: Tensor | None,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    h = _activation(g, *g.shape) if keep else _nothing(g)
    return h, _vectors(g, 2, g.shape[1]), _vectors(g, 0 if other_x is None else 2, g.shape[1])


def _fake_bn_backward_finalize(
    norm: Tensor, sums: Tensor, local_sums: Tensor, count: float, batch_stats: bool
) -> tuple[Tensor, Tensor, Tensor]:
    channels = norm.shape[1]
    return _vectors(norm, 4, channels), _vectors(norm, channels), _vectors(norm, channels)


def _fake_bn_backward_apply(g: Tensor, mask: Tensor | None, x: Tensor | None, coefficients: Tensor) -> Tensor:
    return _activation(g, *g.shape)


def _fake_max_pool_indices(x: Tensor, kernel: _Ints, stride: _Ints, padding: _Ints) -> tuple[Tensor, Tensor]:
    n, c = x.shape[:2]
    p, q = _register.output_size(x.shape, kernel, stride, padding)
    return _activation(x, n, c, p, q), x.new_empty((n, p, q, c), dtype=torch.uint8)


def _fake_max_pool_backward(
    dy: Tensor, indices: Tensor, input_size: _Ints, kernel: _Ints, stride: _Ints, padding: _Ints
) -> Tensor:
    return _activation(dy, dy.shape[0], dy.shape[1], *input_size)


def _fake_global_avg_pool_backward(dy: Tensor, input_size: _Ints) -> Tensor:
    return _activation(dy, *dy.shape, *input_size)


FAKES: dict[str, Callable[..., Any]] = {
    "conv_fprop_stats": _fake_conv_fprop_stats,
    "conv_dgrad": _fake_conv_dgrad,
    "conv_wgrad": _fake_conv_wgrad,
    "bn_finalize": _fake_bn_finalize,
    "bn_normalise": _fake_bn_normalise,
    "bn_backward_reduce": _fake_bn_backward_reduce,
    "bn_backward_finalize": _fake_bn_backward_finalize,
    "bn_backward_apply": _fake_bn_backward_apply,
    "max_pool_indices": _fake_max_pool_indices,
    "max_pool_backward": _fake_max_pool_backward,
    "global_avg_pool_backward": _fake_global_avg_pool_backward,
}


# The CPU router.


def _kernel_layout(value: Any) -> Any:
    """A tensor as the kernels read it: activations and weights channels_last, the rest contiguous."""
    if not isinstance(value, Tensor):
        return value
    activation = value.dim() == 4 and value.is_floating_point()
    return value.contiguous(memory_format=torch.channels_last if activation else torch.contiguous_format)


def _simulate(operator: str, args: tuple[Any, ...]) -> Any:
    """Run ``operator`` on the simulator, the checked build inside `simulator.checked`."""
    from .. import simulator

    if args[0].dtype == torch.float64:
        raise TypeError(
            f"{operator}: the tensors are float64, which the simulator's kernels do not take: convert to "
            "float32, bfloat16 or float16, or choose rk.backend('aten')"
        )
    if args[0].shape[0] == 0:
        raise ValueError(f"{operator}: an empty batch has no statistics and no gradients")
    checked = simulator.checked_enabled
    _native.simulator(checked)
    namespace = _register.SIMULATOR_CHECKED if checked else _register.SIMULATOR
    return getattr(getattr(torch.ops, namespace), operator).default(*map(_kernel_layout, args))


def _router(operator: str) -> Callable[..., Any]:
    composition = getattr(compositions, operator)

    def route(*args: Any) -> Any:
        if for_cpu(operator) == "aten":
            return composition(*args)
        return _simulate(operator, args)

    return route


# FLOPs: a multiply-add is two; all three convolutions of a layer have the same number.


def _fprop_flops(
    x_shape: list[int],
    norm: Any,
    residual: Any,
    weight_shape: list[int],
    *args: Any,
    out_shape: Any,
    **_: Any,
) -> int:
    return conv_flop_count(x_shape, weight_shape, out_shape[0])


def _dgrad_flops(
    g_shape: list[int], g_mask: Any, y: Any, coefficients: Any, weight_shape: list[int], *args: Any, **_: Any
) -> int:
    return 2 * math.prod(g_shape) * math.prod(weight_shape[1:])


def _wgrad_flops(
    dy_shape: list[int], x_shape: list[int], norm: Any, kernel: list[int], *args: Any, **_: Any
) -> int:
    return 2 * math.prod(dy_shape) * x_shape[1] * math.prod(kernel)


_FLOPS: dict[str, Callable[..., int]] = {
    "conv_fprop_stats": _fprop_flops,
    "conv_dgrad": _dgrad_flops,
    "conv_wgrad": _wgrad_flops,
}


def _registered() -> list[torch.library.Library]:
    libraries = []
    for namespace in (_register.NAMESPACE, _register.SIMULATOR, _register.SIMULATOR_CHECKED):
        library = torch.library.Library(namespace, "FRAGMENT")
        for operator, schema in SCHEMAS.items():
            library.define(operator + schema, tags=_register._TAGS)
            torch.library.register_fake(f"{namespace}::{operator}", FAKES[operator], lib=library)
        libraries.append(library)
    for operator in SCHEMAS:
        libraries[0].impl(operator, _router(operator), "CPU")
    for operator, formula in _FLOPS.items():
        register_flop_formula(getattr(getattr(torch.ops, _register.NAMESPACE), operator))(formula)
    return libraries


# Kept alive: a Library that is collected takes its registrations with it.
_libraries = _registered()


# Operators that calls go to; those of the forward package with the same conventions included.
_OPERATORS = {
    name: getattr(torch.ops.resnet_kernels, name).default for name in (*SCHEMAS, "global_avg_pool", "linear")
}
_COMPOSITIONS: dict[str, Callable[..., Any]] = {name: getattr(compositions, name) for name in SCHEMAS} | {
    name: getattr(_aten, name) for name in ("global_avg_pool", "linear")
}


def _without_values(operator: str, args: tuple[Any, ...]) -> Any:
    """The results for an empty batch, which the kernels do not take: sums of nothing, and empty tensors."""
    fake = FAKES.get(operator) or _register.FAKES[operator]
    return tree_map_only(Tensor, torch.zero_, fake(*args))


def run(operator: str, *args: Any) -> Any:
    """Call an operator on the chosen backend; on a GPU under "aten" its composition."""
    x = args[0]
    if x.shape[0] == 0:
        return _without_values(operator, args)
    if x.is_cuda and for_cuda(operator, x.device) == "aten":
        return _COMPOSITIONS[operator](*args)
    return _OPERATORS[operator](*args)
