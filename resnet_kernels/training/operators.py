"""Registration of the training operators: schemas, fake kernels, CPU router, FLOP formulas.

They are functional primitives: forward convolution with BatchNorm's moments, gradients of a convolution with
the neighbouring BatchNorm's work in their epilogues, BatchNorm's two backward passes, pooling.  None is
differentiable by itself; the `torch.autograd.Function`s of this package are built of them.  Conventions are
those of `_register`: activations and weights dense in channels_last, vectors float32 (float64 if they are).

* moments [2, C]: the mean and the sum of squared deviations of the rounded tensor, over N, H and W;
* mask int32 [N, H, W, ceil(C / 32)]: bit = channel, set where ReLU lets the gradient pass;
* sums [2, C]: sum h and sum h (x - mean) over N, H and W;
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
    "conv_fprop_stats": f"(Tensor x, Tensor weight, {_GEOMETRY}, bool tf32) -> (Tensor y, Tensor moments)",
    "conv_dgrad": "(Tensor dy, Tensor weight, Tensor? residual, Tensor? mask, Tensor? bn_input, "
    f"Tensor? bn_mean, int[] input_size, {_GEOMETRY}, bool tf32) -> (Tensor dx, Tensor sums)",
    "conv_wgrad": f"(Tensor dy, Tensor x, int[] kernel, {_GEOMETRY}, bool tf32) -> Tensor",
    "bn_finalize": "(Tensor moments, float count, Tensor? running_mean, Tensor? running_var, float momentum)"
    " -> (Tensor mean, Tensor var, Tensor new_running_mean, Tensor new_running_var)",
    "bn_relu_mask": "(Tensor x, Tensor? scale, Tensor? shift, Tensor mean, Tensor var, float eps, "
    "Tensor? residual) -> (Tensor y, Tensor mask)",
    "bn_backward_reduce": "(Tensor g, Tensor x, Tensor mean, Tensor? mask) -> (Tensor h, Tensor sums)",
    "bn_backward_apply": "(Tensor h, Tensor x, Tensor? scale, Tensor mean, Tensor var, float eps, "
    "Tensor sums, Tensor local_sums, float count, bool batch_stats) "
    "-> (Tensor dx, Tensor dscale, Tensor dshift)",
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


def _fake_conv_fprop_stats(
    x: Tensor, weight: Tensor, stride: _Ints, padding: _Ints, dilation: _Ints, tf32: bool
) -> tuple[Tensor, Tensor]:
    size = _register.output_size(x.shape, weight.shape, stride, padding, dilation)
    return _activation(x, x.shape[0], weight.shape[0], *size), _vectors(x, 2, weight.shape[0])


def _fake_conv_dgrad(
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
    channels = weight.shape[1]
    dx = _activation(dy, dy.shape[0], channels, *input_size)
    return dx, _vectors(dy, 0 if bn_input is None else 2, channels)


def _fake_conv_wgrad(
    dy: Tensor, x: Tensor, kernel: _Ints, stride: _Ints, padding: _Ints, dilation: _Ints, tf32: bool
) -> Tensor:
    return _activation(x, dy.shape[1], x.shape[1], *kernel)


def _fake_bn_finalize(
    moments: Tensor, count: float, running_mean: Tensor | None, running_var: Tensor | None, momentum: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    channels = moments.shape[1]
    running = 0 if running_mean is None else channels
    mean, var = (_vectors(moments, channels) for _ in range(2))
    return mean, var, _vectors(moments, running), _vectors(moments, running)


def _fake_bn_relu_mask(
    x: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    mean: Tensor,
    var: Tensor,
    eps: float,
    residual: Tensor | None,
) -> tuple[Tensor, Tensor]:
    n, c, h, w = x.shape
    return _activation(x, n, c, h, w), x.new_empty((n, h, w, (c + 31) // 32), dtype=torch.int32)


def _fake_bn_backward_reduce(
    g: Tensor, x: Tensor, mean: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    h = g.new_empty(0) if mask is None else _activation(g, *g.shape)
    return h, _vectors(g, 2, g.shape[1])


def _fake_bn_backward_apply(
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
    return _activation(h, *h.shape), _vectors(h, h.shape[1]), _vectors(h, h.shape[1])


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
    "bn_relu_mask": _fake_bn_relu_mask,
    "bn_backward_reduce": _fake_bn_backward_reduce,
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


def _fprop_flops(x_shape: list[int], weight_shape: list[int], *args: Any, out_shape: Any, **_: Any) -> int:
    return conv_flop_count(x_shape, weight_shape, out_shape[0])


def _dgrad_flops(dy_shape: list[int], weight_shape: list[int], *args: Any, out_shape: Any, **_: Any) -> int:
    return 2 * math.prod(dy_shape) * math.prod(weight_shape[1:])


def _wgrad_flops(
    dy_shape: list[int], x_shape: list[int], kernel: list[int], *args: Any, out_shape: Any, **_: Any
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
    name: getattr(torch.ops.resnet_kernels, name).default
    for name in (*SCHEMAS, "conv_fprop", "bn_apply", "global_avg_pool", "linear")
}
_COMPOSITIONS: dict[str, Callable[..., Any]] = {name: getattr(compositions, name) for name in SCHEMAS} | {
    name: getattr(_aten, name) for name in ("conv_fprop", "bn_apply", "global_avg_pool", "linear")
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
