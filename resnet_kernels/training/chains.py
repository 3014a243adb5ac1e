"""Fused training of convolution + BatchNorm + ReLU layers and of residual blocks, for users and modules.

`conv_bn_act_train` is one layer, `chain_train` a chain of them with a shortcut around it, `stage_train` such
chains one after the other.  They check and
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

from .. import _checks, _register, ops
from ..backend import backend, for_cpu, for_cuda
from . import empty
from .function import StageFunction
from .groups import shared_group
from .stage import Block, Stage, Unit

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


class Residual(NamedTuple):
    """Layers one after the other, and what is added before the last one's ReLU.

    Attributes:
        layers: at least one.
        shortcut: nothing, a tensor of the result's shape, `Identity`, `ZeroPad`, or the convolution and
            BatchNorm of a `ConvBN` (without ReLU) applied to the input.
    """

    layers: Sequence[ConvBN]
    shortcut: Shortcut = None


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
    """A `Residual` of x, with gradients: (result, each layer's new running statistics, the shortcut's last).

    Otherwise as `stage_train`.
    """
    y, running = stage_train(x, (Residual(layers, shortcut),), memory=memory, op=op)
    return y, running[0]


def stage_train(
    x: Tensor,
    blocks: Sequence[Residual],
    *,
    memory: str = "save",
    on_load: bool = True,
    op: str = "stage_train",
) -> tuple[Tensor, list[list[Running]]]:
    """The blocks one after the other, each on the output of the one before; with gradients.

    Args:
        x: [N, C, H, W].
        blocks: at least one; a tensor may be the shortcut of the first alone.
        memory: "save" keeps for backward what convolutions gave and blocks took, and the weights cast;
            "recompute" neither the outputs of a block's last convolution and of its projection nor the cast
            weights: these two convolutions run again in backward.
        on_load: 1x1 convolutions make their input, and BatchNorm's gradient, while they load it; otherwise
            elementwise passes do, to the same bits with more traffic; sums over them may be in another order,
            where another kernel or tile computes them.
        op: the name errors speak of.

    Returns:
        The result [N, K, P, Q], and for each block its layers' new running statistics, the shortcut's last.

    Raises:
        TypeError, ValueError: an argument that cannot be right.
    """
    if memory not in MEMORY:
        raise ValueError(f"{op}: memory must be one of {', '.join(map(repr, MEMORY))}, got {memory!r}")
    if not blocks:
        raise ValueError(f"{op}: blocks must be at least one Residual, got none")
    _checks.activation(op, "x", x, 4, "[N, C, H, W]")
    _checks.sizes(op, "x", x, "C, H and W")
    x = ops._autocast(x).contiguous(memory_format=torch.channels_last)
    _check_backend(op, x)
    tensors: list[Tensor | None] = []
    checked: list[Block] = []
    residual = None
    shape: tuple[int, ...] = tuple(x.shape)
    for i, block in enumerate(blocks):
        if i > 0 and isinstance(block.shortcut, Tensor):
            raise ValueError(f"{op}: shortcut of block {i} must not be a tensor: that is for the first alone")
        if i == 0 and isinstance(block.shortcut, Tensor):
            residual = block.shortcut
        made, shape, residual = _add_block(op, tensors, block, x, shape, residual)
        checked.append(made)
    stage = Stage(
        blocks=tuple(checked),
        tf32=ops._tf32(x, ops._conv_tf32),
        recompute=memory == "recompute",
        backend=backend.current(),
        on_load=_checks.flag(op, "on_load", on_load),
    )
    if x.shape[0] == 0 and all(unit.group is None for block in checked for unit in block.units):
        y, statistics = empty.run(stage, x, residual, tuple(tensors))
    else:
        y, *statistics = StageFunction.apply(stage, x, residual, *tensors)
    new = iter(statistics)
    running: list[list[Running]] = []
    for made, each in zip(checked, stage.split(tuple(tensors)), strict=True):
        running.append([])
        for unit, (_, _, _, mean, _) in zip(made.units, each, strict=True):
            fresh = unit.batch_stats and mean is not None
            running[-1].append((next(new), next(new)) if fresh else None)
    return y, running


def _add_block(
    op: str,
    tensors: list[Tensor | None],
    block: Residual,
    x: Tensor,
    shape: tuple[int, ...],
    residual: Tensor | None,
) -> tuple[Block, tuple[int, ...], Tensor | None]:
    """Check a block on an input of ``shape``, append its tensors: (it, its result's shape, residual)."""
    if not block.layers:
        raise ValueError(f"{op}: layers must be at least one ConvBN, got none")
    units: list[Unit] = []
    entry, shortcut = shape, block.shortcut
    for layer in block.layers:
        shape = _add_unit(op, units, tensors, layer, layer.relu, x, shape)
    skip, skip_stride = "none", (1, 1)
    if isinstance(shortcut, Tensor):
        skip, residual = "tensor", ops._residual(op, shortcut, x, shape)
    elif isinstance(shortcut, Identity):
        skip = "input"
        _check_shortcut(op, entry, shape)
    elif isinstance(shortcut, ZeroPad):
        skip, skip_stride = "zero_pad", _checks.pair(op, "shortcut.stride", shortcut.stride, 1)
        size = ((entry[2 + i] - 1) // skip_stride[i] + 1 for i in (0, 1))
        _check_shortcut(op, (entry[0], max(entry[1], shape[1]), *size), shape)
    elif isinstance(shortcut, ConvBN):
        skip = "projection"
        _check_shortcut(op, _add_unit(op, units, tensors, shortcut, False, x, entry), shape)
    elif shortcut is not None:
        raise TypeError(
            f"{op}: shortcut must be None, a tensor, Identity, ZeroPad or ConvBN, got "
            f"{_checks.describe(shortcut)}"
        )
    return Block(tuple(units), skip, skip_stride), shape, residual


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
