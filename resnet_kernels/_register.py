"""The operators' registration with PyTorch: schemas, fake kernels, CPU router, gradients, FLOP formulas.

Three namespaces carry the same schemas.  ``resnet_kernels`` is the one to call: on a GPU the compiled
kernels of ``_C`` answer, on a CPU the router below, which reads the chosen backend at run time and calls
PyTorch's composition (`_aten`) or the simulator's operators, ``resnet_kernels_sim`` and
``resnet_kernels_sim_checked``.

Conventions of the raw operators (`ops` checks and converts to them): activations [N, C, H, W] and weights
[K, C, R, S] dense in channels_last; per-channel vectors float32 [K] (float64 beside float64 activations);
``stride``, ``padding``, ``dilation`` and ``kernel`` are (h, w).  With ``mean`` and ``var`` given, ``scale``
and ``shift`` are BatchNorm's weight and bias.  With ``residual_stride`` the residual is the paper's shortcut
A: every so many pixels of a larger image, in as many channels or fewer (`_aten.shortcut`).  Epilogue: float32
accumulator, affine, residual, ReLU, one rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import conv_flop_count, register_flop_formula

from . import _aten, _autograd, _checks, _native, backend

NAMESPACE = "resnet_kernels"
SIMULATOR = "resnet_kernels_sim"
SIMULATOR_CHECKED = "resnet_kernels_sim_checked"

_VECTORS = "Tensor? scale, Tensor? shift, Tensor? mean, Tensor? var, float eps"
_GEOMETRY = "int[] stride, int[] padding, int[] dilation"
SCHEMAS = {
    "conv_fprop": f"(Tensor x, Tensor weight, {_VECTORS}, Tensor? residual, {_GEOMETRY}, "
    "bool relu, bool tf32, int[] residual_stride=[1, 1]) -> Tensor",
    "bn_apply": f"(Tensor x, {_VECTORS}, Tensor? residual, bool relu) -> Tensor",
    "conv_bn_relu_maxpool": f"(Tensor x, Tensor weight, {_VECTORS}, {_GEOMETRY}, bool tf32) -> Tensor",
    "max_pool": "(Tensor x, int[] kernel, int[] stride, int[] padding) -> Tensor",
    "global_avg_pool": "(Tensor x) -> Tensor",
    "linear": "(Tensor x, Tensor weight, Tensor? bias, bool tf32) -> Tensor",
}
# What `tuning` asks of the choice of configurations; without tensors, of a compiled machine alone.
CHOICES = {
    "conv_choices": "(str operation, str dtype, int[] shape, int multiprocessors, int capability, "
    "bool aligned_source, bool aligned_rest, bool residual_view, str on_load) -> str",
    "tune_conv": "(str operation, str dtype, int[] shape, int multiprocessors, str configuration) -> ()",
    "forget_tuned": "() -> ()",
    "force_configuration": "(str configuration) -> str",
}
# What only measurements and tests of the machines call; a compiled machine alone has them.
INSTRUMENTS = {
    # Single instructions on raw words.
    "conformance": "(Tensor input, str primitive) -> Tensor",
    # What a GPU of compute capability 9.0 can do at most. x: bfloat16 [N, 64, H, W], boxes: "tiled", "im2col"
    # or "multicast" -> int32 [blocks, 32]; a: [128, depth], b: [256, depth] -> float32 [blocks, 128, 256].
    "feed_ceiling": "(Tensor x, str boxes, int blocks, int copies) -> Tensor",
    "matrix_ceiling": "(Tensor a, Tensor b, int blocks, int repeats) -> Tensor",
}
# Compilers must hand over tensors with the strides they were traced with: kernels read channels_last only.
_TAGS = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_exact_strides)


def window_output(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """Windows along one axis: floor((size + 2 padding - dilation (kernel - 1) - 1) / stride) + 1."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def output_size(
    x_shape: Sequence[int],
    weight_shape: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int] = (1, 1),
) -> list[int]:
    """(P, Q) of a window [..., R, S] sliding over [N, C, H, W]."""
    return [
        window_output(x_shape[2 + i], weight_shape[i - 2], stride[i], padding[i], dilation[i]) for i in (0, 1)
    ]


# Fake kernels: the output's shape, dtype, device and strides, with sizes that may be symbols.


def _channels_last(x: Tensor, n: int, c: int, h: int, w: int) -> Tensor:
    return torch.empty((n, c, h, w), dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _fake_conv_fprop(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    eps: float,
    residual: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    relu: bool,
    tf32: bool,
    residual_stride: Sequence[int] = (1, 1),
) -> Tensor:
    size = output_size(x.shape, weight.shape, stride, padding, dilation)
    return _channels_last(x, x.shape[0], weight.shape[0], *size)


def _fake_bn_apply(
    x: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    eps: float,
    residual: Tensor | None,
    relu: bool,
) -> Tensor:
    return _channels_last(x, *x.shape)


def _fake_conv_bn_relu_maxpool(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    eps: float,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    tf32: bool,
) -> Tensor:
    conv = output_size(x.shape, weight.shape, stride, padding, dilation)
    pooled = [window_output(size, 3, 2, 1) for size in conv]
    return _channels_last(x, x.shape[0], weight.shape[0], *pooled)


def _fake_max_pool(x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    return _channels_last(x, x.shape[0], x.shape[1], *output_size(x.shape, kernel, stride, padding))


def _fake_global_avg_pool(x: Tensor) -> Tensor:
    return x.new_empty((x.shape[0], x.shape[1]))


def _fake_linear(x: Tensor, weight: Tensor, bias: Tensor | None, tf32: bool) -> Tensor:
    return x.new_empty((x.shape[0], weight.shape[0]))


FAKES: dict[str, Callable[..., Tensor]] = {
    "conv_fprop": _fake_conv_fprop,
    "bn_apply": _fake_bn_apply,
    "conv_bn_relu_maxpool": _fake_conv_bn_relu_maxpool,
    "max_pool": _fake_max_pool,
    "global_avg_pool": _fake_global_avg_pool,
    "linear": _fake_linear,
}


# The CPU router.


def _kernel_layout(value: Any) -> Any:
    """A tensor as the kernels read it: channels_last for four dimensions, contiguous otherwise."""
    if not isinstance(value, Tensor):
        return value
    return value.contiguous(
        memory_format=torch.channels_last if value.dim() == 4 else torch.contiguous_format
    )


def _check_indexable(operator: str, x: Tensor, weight: Tensor, *args: Any) -> None:
    """ValueError if a convolution's extents do not fit the kernels' 32-bit indices."""
    stride, padding, dilation = [a for a in args if isinstance(a, (list, tuple))][:3]
    _checks.indexable(
        operator,
        x.shape,
        weight.shape,
        output_size(x.shape, weight.shape, stride, padding, dilation),
        padding,
    )


def _simulate(operator: str, x: Tensor, args: tuple[Any, ...]) -> Tensor:
    """Run ``operator`` on the simulator, the checked build inside `simulator.checked`."""
    from . import simulator

    if x.dtype == torch.float64:
        raise TypeError(
            f"{operator}: x is float64, which the simulator's kernels do not take: convert to float32, "
            "bfloat16 or float16, or choose rk.backend('aten')"
        )
    if x.shape[0] == 0:
        return FAKES[operator](x, *args)
    if operator.startswith("conv"):
        _check_indexable(operator, x, *args)
    checked = simulator.checked_enabled
    _native.simulator(checked)
    run = getattr(getattr(torch.ops, SIMULATOR_CHECKED if checked else SIMULATOR), operator).default
    return run(_kernel_layout(x), *map(_kernel_layout, args))


def _router(operator: str) -> Callable[..., Tensor]:
    composition = getattr(_aten, operator)

    def route(x: Tensor, *args: Any) -> Tensor:
        if backend.for_cpu(operator) == "aten":
            return composition(x, *args)
        return _simulate(operator, x, args)

    return route


# FLOPs: a multiply-add is two, as in torch.utils.flop_counter; the epilogue is not counted, as PyTorch counts
# none for BatchNorm and ReLU.


def _conv_flops(
    x_shape: list[int], weight_shape: list[int], *args: Any, out_shape: list[int], **kwargs: Any
) -> int:
    return conv_flop_count(x_shape, weight_shape, out_shape)


def _conv_pool_flops(
    x_shape: list[int], weight_shape: list[int], *args: Any, out_shape: list[int], **kwargs: Any
) -> int:
    stride, padding, dilation, _ = args[-4:]
    spatial = output_size(x_shape, weight_shape, stride, padding, dilation)
    return conv_flop_count(x_shape, weight_shape, [x_shape[0], weight_shape[0], *spatial])


def _linear_flops(
    x_shape: list[int], weight_shape: list[int], *args: Any, out_shape: list[int], **kwargs: Any
) -> int:
    return 2 * x_shape[0] * weight_shape[0] * weight_shape[1]


_FLOPS = {"conv_fprop": _conv_flops, "conv_bn_relu_maxpool": _conv_pool_flops, "linear": _linear_flops}


def _register() -> list[torch.library.Library]:
    libraries = []
    for namespace in (NAMESPACE, SIMULATOR, SIMULATOR_CHECKED):
        library = torch.library.Library(namespace, "DEF")
        for operator, schema in SCHEMAS.items():
            library.define(operator + schema, tags=_TAGS)
            torch.library.register_fake(f"{namespace}::{operator}", FAKES[operator], lib=library)
        for name, schema in (INSTRUMENTS | CHOICES).items():
            library.define(name + schema)
        libraries.append(library)
    for operator, (setup, backward) in _autograd.FORMULAS.items():
        name = f"{NAMESPACE}::{operator}"
        torch.library.register_autograd(name, backward, setup_context=setup, lib=libraries[0])
        libraries[0].impl(operator, _router(operator), "CPU")
    for operator, formula in _FLOPS.items():
        register_flop_formula(getattr(getattr(torch.ops, NAMESPACE), operator))(formula)
    return libraries


# Kept alive: a Library that is collected takes its registrations with it.
_libraries = _register()
_native.load_cuda()
