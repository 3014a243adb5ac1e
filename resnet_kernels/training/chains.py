"""Fused training of convolution + BatchNorm + ReLU layers and of residual blocks, for users and modules.

`conv_bn_act_train` is one layer, `chain_train` a chain of them with a shortcut around it.  They check and
convert their arguments as `ops` does (layout, autocast, TF32).  Every gradient has its argument's dtype:
float32 master weights get float32 gradients.

Semantics are those of `torch.nn.Conv2d`, `torch.nn.BatchNorm2d` and `torch.nn.ReLU` one after the other.
Running statistics are not changed in place: the new ones are returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import _aten, _checks, _register, ops
from ..backend import backend, for_cpu, for_cuda
from .function import Chain, ChainFunction, Unit
from .groups import shared_group

_Pair = int | Sequence[int]
MEMORY = ("save", "recompute")


class ConvBN(NamedTuple):
    """A convolution without bias, its BatchNorm and what follows.

    Attributes:
        weight: [K, C, R, S].
        gamma, beta: BatchNorm's weight and bias, [K] or None.
        running_mean, running_var: [K], or both None (then ``batch_stats`` must hold).
        batch_stats: normalise with the batch's statistics and return new running ones; otherwise the running
            ones are constants.
        momentum: of the running statistics; the share of the new value.
        relu: whether a ReLU follows (behind the add, for the last of a chain).
        process_group: of torch.distributed; under ``batch_stats`` the statistics are those of the batches of
            all its processes (synchronised BatchNorm), which all have to make the same calls.
    """

    weight: Tensor
    gamma: Tensor | None = None
    beta: Tensor | None = None
    running_mean: Tensor | None = None
    running_var: Tensor | None = None
    batch_stats: bool = True
    momentum: float = 0.1
    eps: float = 1e-5
    stride: _Pair = 1
    padding: _Pair = 0
    dilation: _Pair = 1
    relu: bool = True
    process_group: Any = None


class ZeroPad(NamedTuple):
    """The paper's shortcut A: every stride-th pixel, and zeros for the channels that are new."""

    stride: _Pair = 1


class Identity(NamedTuple):
    """The shortcut that is x itself."""


Shortcut = Tensor | ConvBN | ZeroPad | Identity | None
# New (running mean, running variance) of a layer; None where there is nothing new.
Running = tuple[Tensor, Tensor] | None


def runs_kernels(x: object) -> bool:
    """Whether the chosen backend trains on ``x`` with this package's kernels: a GPU's, or the simulator's."""
    if not isinstance(x, Tensor) or x.dtype == torch.float64:
        return False
    if x.is_cuda:
        return for_cuda("training", x.device) == "cuda"
    return x.device.type == "cpu" and for_cpu("training") == "simulator"


def conv_bn_act_train(
    x: Tensor,
    weight: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    residual: Tensor | None = None,
    *,
    batch_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    stride: _Pair = 1,
    padding: _Pair = 0,
    dilation: _Pair = 1,
    relu: bool = True,
    process_group: Any = None,
) -> tuple[Tensor, Running]:
    """relu?(batch_norm(conv2d(x, weight)) + residual) with gradients: (y, new running statistics).

    He et al. 2015, section 3.4; Ioffe and Szegedy 2015.  Arguments as in `ConvBN` and `ops.conv_bn_act`.

    Returns:
        [N, K, P, Q] in x's dtype (the autocast region's, inside of one), and the running statistics after
        this batch, float32 (float64), None without ``batch_stats`` or without running statistics.

    Raises:
        TypeError, ValueError: an argument that cannot be right; one value per channel under ``batch_stats``.
    """
    layer = ConvBN(
        weight, gamma, beta, running_mean, running_var, batch_stats, momentum, eps, stride, padding, dilation,
        relu, process_group,
    )  # fmt: skip
    y, running = chain_train(x, (layer,), residual, op="conv_bn_act_train")
    return y, running[0]


def chain_train(
    x: Tensor,
    layers: Sequence[ConvBN],
    shortcut: Shortcut = None,
    *,
    memory: str = "save",
    op: str = "chain_train",
) -> tuple[Tensor, list[Running]]:
    """The layers one after the other, the last one's ReLU behind the add of the shortcut; with gradients.

    Args:
        x: [N, C, H, W].
        layers: at least one.
        shortcut: what is added before the last ReLU: nothing, a tensor of the result's shape, `Identity`,
            `ZeroPad`, or the convolution and BatchNorm of a `ConvBN` (without ReLU) applied to x.
        memory: "save" keeps the activations between the layers, and the weights cast, for backward;
            "recompute" makes them again there, from what is kept anyway: less memory, one elementwise pass a
            layer more.
        op: the name errors speak of.

    Returns:
        The result [N, K, P, Q], and each layer's new running statistics, the shortcut's last.

    Raises:
        TypeError, ValueError: an argument that cannot be right.
    """
    if memory not in MEMORY:
        raise ValueError(f"{op}: memory must be one of {', '.join(map(repr, MEMORY))}, got {memory!r}")
    if not layers:
        raise ValueError(f"{op}: layers must be at least one ConvBN, got none")
    _checks.activation(op, "x", x, 4, "[N, C, H, W]")
    _checks.sizes(op, "x", x, "C, H and W")
    x = ops._autocast(x).contiguous(memory_format=torch.channels_last)
    _check_backend(op, x)
    units: list[Unit] = []
    tensors: list[Tensor | None] = []
    shape: tuple[int, ...] = tuple(x.shape)
    for layer in layers:
        shape = _add_unit(op, units, tensors, layer, layer.relu, x, shape)
    skip, residual, skip_stride = "none", None, (1, 1)
    if isinstance(shortcut, Tensor):
        skip, residual = "tensor", ops._residual(op, shortcut, x, shape)
    elif isinstance(shortcut, Identity):
        skip = "input"
        _check_shortcut(op, tuple(x.shape), shape)
    elif isinstance(shortcut, ZeroPad):
        skip, skip_stride = "zero_pad", _checks.pair(op, "shortcut.stride", shortcut.stride, 1)
        size = ((x.shape[2 + i] - 1) // skip_stride[i] + 1 for i in (0, 1))
        _check_shortcut(op, (x.shape[0], max(x.shape[1], shape[1]), *size), shape)
    elif isinstance(shortcut, ConvBN):
        skip = "projection"
        _check_shortcut(op, _add_unit(op, units, tensors, shortcut, False, x, tuple(x.shape)), shape)
    elif shortcut is not None:
        raise TypeError(
            f"{op}: shortcut must be None, a tensor, Identity, ZeroPad or ConvBN, got "
            f"{_checks.describe(shortcut)}"
        )
    chain = Chain(
        units=tuple(units),
        skip=skip,
        skip_stride=skip_stride,
        tf32=ops._tf32(x, ops._conv_tf32),
        recompute=memory == "recompute",
        backend=backend.current(),
    )
    if x.shape[0] == 0 and all(unit.group is None for unit in units):
        return _empty(chain, x, residual, tensors)
    y, *statistics = ChainFunction.apply(chain, x, residual, *tensors)
    new = iter(statistics)
    running: list[Running] = []
    for i, unit in enumerate(chain.units):
        fresh = unit.batch_stats and tensors[5 * i + 3] is not None
        running.append((next(new), next(new)) if fresh else None)
    return y, running


def _check_backend(op: str, x: Tensor) -> None:
    """TypeError for float64 where kernels would run; whatever `for_cuda` finds wrong."""
    if x.is_cuda and for_cuda(op, x.device) == "cuda" and x.dtype == torch.float64:
        raise TypeError(
            f"{op}: x is float64, which the kernels do not take: convert to float32, bfloat16 or float16, or "
            "choose rk.backend('aten')"
        )


def _add_unit(
    op: str,
    units: list[Unit],
    tensors: list[Tensor | None],
    layer: ConvBN,
    relu: bool,
    x: Tensor,
    shape: tuple[int, ...],
) -> tuple[int, ...]:
    """Check a layer on an input of ``shape`` and x's dtype and device; append it; the shape of its result."""
    weight = layer.weight
    _checks.activation(op, "weight", weight, 4, "[K, C, R, S]")
    _checks.same_device(op, "weight", weight, x)
    if weight.dtype == torch.float64 or ops._autocast_dtype(weight) is None:
        _checks.same_dtype(op, "weight", weight, x)
    if weight.shape[1] != shape[1] or weight.shape[0] == 0:
        raise ValueError(
            f"{op}: weight must be [K, {shape[1]}, R, S] with K of at least 1, got {_checks.describe(weight)}"
        )
    _checks.sizes(op, "weight", weight, "C, R and S")
    geometry = (
        _checks.pair(op, "stride", layer.stride, 1),
        _checks.pair(op, "padding", layer.padding, 0),
        _checks.pair(op, "dilation", layer.dilation, 1),
    )
    for i, axis in enumerate(("height", "width")):
        window = geometry[2][i] * (weight.shape[2 + i] - 1) + 1
        _checks.window_fits(op, "weight", shape[2 + i], window, geometry[1][i], axis)
    size = _register.output_size(shape, weight.shape, *geometry)
    if not torch.compiler.is_compiling():
        _checks.indexable(op, shape, weight.shape, size, geometry[1])
    channels = weight.shape[0]
    result = (shape[0], channels, *size)
    batch_stats = _checks.flag(op, "batch_stats", layer.batch_stats)
    running = layer.running_mean, layer.running_var
    if (running[0] is None) != (running[1] is None):
        raise ValueError(f"{op}: running_mean and running_var must come together, got one of them")
    group = shared_group(op, layer.process_group) if batch_stats else None
    if batch_stats and group is None:
        F._verify_batch_size(torch.Size(result))  # type: ignore[attr-defined]
    elif not batch_stats and running[0] is None:
        raise ValueError(
            f"{op}: running_mean and running_var must be given where batch_stats is False, got None"
        )
    units.append(
        Unit(
            *geometry,
            eps=_checks.epsilon(op, layer.eps),
            momentum=float(layer.momentum),
            relu=_checks.flag(op, "relu", relu),
            batch_stats=batch_stats,
            weight_dtype=weight.dtype,
            group=group,
        )
    )
    tensors.append(weight)
    for name in ("gamma", "beta", "running_mean", "running_var"):
        tensors.append(_checks.vector(op, name, getattr(layer, name), channels, x))
    return result


def _check_shortcut(op: str, got: tuple[Any, ...], wanted: tuple[int, ...]) -> None:
    """The shortcut's result must have the chain's shape; the batch is not compared, it stays dynamic."""
    if tuple(got[1:]) != tuple(wanted[1:]):
        raise ValueError(f"{op}: shortcut must give the chain's shape {tuple(wanted)}, gives {tuple(got)}")


def _empty(
    chain: Chain, x: Tensor, residual: Tensor | None, tensors: list[Tensor | None]
) -> tuple[Tensor, list[Running]]:
    """The chain on an empty batch, by PyTorch: running statistics stay as they are."""

    def unit(i: int, x: Tensor) -> Tensor:
        weight, gamma, beta, mean, var = tensors[5 * i : 5 * i + 5]
        u = chain.units[i]
        with _aten.without_autocast(x):
            assert weight is not None
            y = _aten.convolve(x, weight.to(x.dtype), u.stride, u.padding, u.dilation)
            if u.batch_stats:
                return F.batch_norm(y, None, None, gamma, beta, True, 0.0, u.eps)
            return F.batch_norm(y, mean, var, gamma, beta, False, 0.0, u.eps)

    body = len(chain.units) - (chain.skip == "projection")
    y = x
    for i in range(body):
        y = unit(i, y)
        if i == body - 1:
            if chain.skip == "projection":
                y = y + unit(body, x)
            elif chain.skip == "tensor":
                assert residual is not None
                y = y + residual
        if chain.units[i].relu:
            y = y.relu()
    old = [(tensors[5 * i + 3], tensors[5 * i + 4]) for i in range(len(chain.units))]
    return y, [
        (mean.clone(), var.clone()) if u.batch_stats and mean is not None and var is not None else None
        for u, (mean, var) in zip(chain.units, old, strict=True)
    ]
