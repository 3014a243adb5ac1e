"""Checks of the operators' arguments.

Each raises TypeError (not a tensor, wrong dtype or type of number) or ValueError (device, rank, shape,
range) with a message that names the operator and the argument, what was got and what is wanted.  Sizes may
be symbols under `torch.compile`; the batch size is never compared, so that it stays dynamic.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
_DEVICES = ("cpu", "cuda", "meta")

# Geometry travels to the kernels in 32 bits.
MAX_INT = 2**31 - 1


def describe(value: Any) -> str:
    """A few words on what was got: a tensor's dtype, shape and device, or a value and its type."""
    if isinstance(value, Tensor):
        return f"a {value.dtype} tensor of shape {tuple(value.shape)} on {value.device}"
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"


def activation(op: str, name: str, value: Any, rank: int, axes: str) -> None:
    """``value`` must be a strided floating tensor of ``rank`` dimensions on a CPU or a CUDA device."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor {axes}, got {describe(value)}")
    if value.dtype not in DTYPES:
        raise TypeError(
            f"{op}: {name} must be bfloat16, float16, float32 (or float64 under aten), got "
            f"{describe(value)}; convert it, as in {name}.float()"
        )
    if value.layout is not torch.strided:
        raise TypeError(
            f"{op}: {name} must be a dense tensor, got layout {value.layout}; use {name}.to_dense()"
        )
    if value.device.type not in _DEVICES:
        raise ValueError(f"{op}: {name} must be on a CPU or a CUDA device, got {describe(value)}")
    if value.dim() != rank:
        raise ValueError(
            f"{op}: {name} must have {rank} dimensions {axes}, got {describe(value)}"
            + (f"; add a batch dimension with {name}.unsqueeze(0)" if value.dim() == rank - 1 else "")
        )


def same_device(op: str, name: str, value: Tensor, x: Tensor) -> None:
    """``value`` must be on ``x``'s device."""
    if value.device != x.device:
        raise ValueError(
            f"{op}: {name} must be on x's device {x.device}, got {describe(value)}; "
            f"move it with {name}.to(x.device)"
        )


def same_dtype(op: str, name: str, value: Tensor, x: Tensor) -> None:
    """``value`` must have ``x``'s dtype (autocast has been applied by now)."""
    if value.dtype != x.dtype:
        raise TypeError(
            f"{op}: {name} must have x's dtype {x.dtype}, got {describe(value)}; convert one of them, as in "
            f"{name}.to(x.dtype), or use torch.autocast"
        )


def sizes(op: str, name: str, value: Tensor, axes: str) -> None:
    """Every dimension of ``value`` after the first (the batch, or K of a weight) must be at least 1."""
    if 0 in value.shape[1:]:
        raise ValueError(
            f"{op}: {name} must have at least one element along each of {axes}, got {describe(value)}"
        )


def same_shape(op: str, name: str, value: Tensor, shape: Sequence[int]) -> None:
    """``value`` must have ``shape``, the output's."""
    if tuple(value.shape) != tuple(shape):
        raise ValueError(f"{op}: {name} must have the output's shape {tuple(shape)}, got {describe(value)}")


def vector(op: str, name: str, value: Any, channels: int, x: Tensor) -> Tensor | None:
    """A per-channel vector as the kernels read it: [channels], float32 (float64 for float64 ``x``)."""
    if value is None:
        return None
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor [{channels}] or None, got {describe(value)}")
    if value.dtype not in DTYPES:
        raise TypeError(
            f"{op}: {name} must be a floating-point tensor, got {describe(value)}; use {name}.float()"
        )
    if value.layout is not torch.strided:
        raise TypeError(
            f"{op}: {name} must be a dense tensor, got layout {value.layout}; use {name}.to_dense()"
        )
    same_device(op, name, value, x)
    shape = value.shape
    if len(shape) != 1 or shape[0] != channels:
        raise ValueError(
            f"{op}: {name} must have shape ({channels},), one value a channel, got {describe(value)}"
        )
    wanted = torch.float64 if x.dtype == torch.float64 else torch.float32
    if value.dtype != wanted:
        value = value.to(wanted)
    return value.contiguous()


def statistics(op: str, mean: Any, var: Any) -> None:
    """``mean`` and ``var`` come together or not at all."""
    if (mean is None) != (var is None):
        missing, given = ("mean", "var") if mean is None else ("var", "mean")
        raise ValueError(
            f"{op}: {missing} must be given with {given}: BatchNorm's affine needs both, got None"
        )


def integer(op: str, name: str, value: Any, least: int, wants: str) -> int:
    """``value`` as an int of at least ``least``; bool and float are not integers here."""
    if type(value) is not int:
        if isinstance(value, torch.SymInt):
            return value  # type: ignore[return-value]
        if isinstance(value, (bool, float, str, Tensor)) or not hasattr(value, "__index__"):
            raise TypeError(f"{op}: {name} must be {wants}, got {describe(value)}")
        value = operator.index(value)
    if not least <= value <= MAX_INT:
        raise ValueError(f"{op}: {name} must be {wants}, got {value}")
    return value


def pair(op: str, name: str, value: Any, least: int) -> tuple[int, int]:
    """An int, or a pair of ints for height and width, each at least ``least``, as a pair."""
    wants = f"an int or a pair of ints (height, width), each from {least} to 2^31 - 1"
    if type(value) is int:
        value = integer(op, name, value, least, wants)
        return value, value
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"{op}: {name} must be {wants}, got {describe(value)}")
        return integer(op, name, value[0], least, wants), integer(op, name, value[1], least, wants)
    value = integer(op, name, value, least, wants)
    return value, value


def flag(op: str, name: str, value: Any) -> bool:
    """``value`` must be a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{op}: {name} must be True or False, got {describe(value)}")
    return value


def epsilon(op: str, value: Any) -> float:
    """BatchNorm's eps: a finite number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{op}: eps must be a number of at least 0, got {describe(value)}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{op}: eps must be finite and at least 0, got {value}")
    return float(value)


def window_fits(op: str, name: str, size: int, window: int, padding: int, axis: str) -> None:
    """The (dilated) window must fit into the padded input along ``axis``."""
    if size + 2 * padding < window:
        raise ValueError(
            f"{op}: {name} spans {window} along {axis} (dilation included), but x padded is only "
            f"{size + 2 * padding}: x needs {axis} of at least {window - 2 * padding}, or a larger padding"
        )


def indexable(
    op: str,
    x_shape: Sequence[int],
    weight_shape: Sequence[int],
    output: Sequence[int],
    padding: Sequence[int],
) -> None:
    """The extents the convolution kernels index in 32 bits must fit; ``output`` is (P, Q)."""
    n, c, h, w = x_shape
    padded = (h + 2 * padding[0]) * (w + 2 * padding[1])
    # The last tile of pixels may reach past the last pixel.
    for text, extent, spare in (
        ("x has {} pixels (N H W)", n * h * w, 1024),
        ("x and stride give {} output pixels (N P Q)", n * output[0] * output[1], 1024),
        ("weight has filters of {} elements (C R S)", math.prod(weight_shape[1:]), 1),
        ("x and padding give {} as 4 x the elements of a padded image (C H W)", 4 * c * padded, 1),
    ):
        if extent > 2**31 - spare:
            raise ValueError(
                f"{op}: {text.format(extent)}, the kernels index up to 2^31 - {spare}: split the batch or "
                "image, or choose rk.backend('aten')"
            )
