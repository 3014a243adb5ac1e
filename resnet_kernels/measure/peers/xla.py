"""JAX: the same convolutions under jit, in NHWC, compiled by XLA.

Arrays are shared with PyTorch through DLPack, without a copy.  JAX has its own streams, which PyTorch's
events do not see: its time is the host's, for a burst that is waited for, divided by its runs; with many
runs in a burst the host's work for one hides behind the device's for another.
"""

from __future__ import annotations

import os
from functools import cache, partial
from typing import Any

import torch

from ..case import Implementation, Outputs, Thunk
from ..clock import WallClock
from ..exact import EPS
from ..inputs import Inputs
from .choose import NAMES, Choice

PATTERNS = {"fprop": ("none", "bn", "bn_relu", "bn_add_relu"), "dgrad": ("none",), "wgrad": ("none",)}
_AXES = ("NHWC", "OHWI", "NHWC")


def convolutions(
    direction: str, epilogue: str, geometry: dict[str, Any], dtype: str, choice: Choice
) -> list[Implementation]:
    """JAX, where this direction and epilogue are written for it."""
    if epilogue not in PATTERNS[direction]:
        return []
    absent = choice.absent("jax")
    return [
        Implementation(
            "jax",
            NAMES["jax"],
            partial(_bind, direction, epilogue, dtype, tuple(geometry.items())),
            roundings=3,
            clock=None if absent else WallClock(_wait),
            absent=absent,
            memory=False,
            finish=_from_jax,
        )
    ]


@cache
def _jax() -> Any:
    """The module; it may not take the whole GPU's memory for itself."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    return jax


def _wait(results: Any) -> None:
    _jax().block_until_ready(results)


def _to_jax(value: torch.Tensor) -> Any:
    """[N, C, H, W] in channels_last memory -> [N, H, W, C], the same memory."""
    dense = value.permute(0, 2, 3, 1).contiguous() if value.dim() == 4 else value.contiguous()
    return _jax().dlpack.from_dlpack(dense)


def _from_jax(results: Any) -> Outputs:
    return tuple(torch.from_dlpack(value).permute(0, 3, 1, 2) for value in results)


def _bind(
    direction: str, epilogue: str, dtype: str, geometry: tuple[tuple[str, int], ...], inputs: Inputs
) -> Thunk:
    names = {"fprop": ("x", "weight"), "dgrad": ("dy", "weight", "y"), "wgrad": ("dy", "weight", "x")}
    operands = [_to_jax(inputs[name]) for name in names[direction]]
    if direction == "fprop":
        extra = ("scale", "shift", "mean", "var", "residual")
        operands += [_to_jax(inputs[name]) for name in extra if name in inputs]
    program = _program(direction, epilogue, dtype, geometry)
    return lambda: program(*operands)


@cache
def _program(direction: str, epilogue: str, dtype: str, geometry: tuple[tuple[str, int], ...]) -> Any:
    """The jitted function; float32 products as the case's dtype says."""
    jax = _jax()
    window = dict(geometry)
    pad = (window["padding"],) * 2
    precision = jax.lax.Precision.HIGHEST if dtype == "float32" else jax.lax.Precision.DEFAULT

    def conv(x: Any, weight: Any) -> Any:
        strides = (window["stride"],) * 2
        return jax.lax.conv_general_dilated(
            x, weight, strides, (pad, pad), dimension_numbers=_AXES, precision=precision
        )

    def fprop(x: Any, weight: Any, *extra: Any) -> Any:
        y = conv(x, weight)
        if "bn" in epilogue:
            scale, shift, mean, var = extra[:4]
            s = scale / jax.numpy.sqrt(var + EPS)
            y = y.astype(jax.numpy.float32) * s + (shift - mean * s)
        if "add" in epilogue:
            y = y + extra[4].astype(y.dtype)
        if "relu" in epilogue:
            y = jax.nn.relu(y)
        return (y.astype(x.dtype),)

    def dgrad(dy: Any, weight: Any, like: Any) -> Any:
        return jax.vjp(lambda x: conv(x, weight), like)[1](dy)

    def wgrad(dy: Any, weight: Any, x: Any) -> Any:
        return jax.vjp(lambda w: conv(x, w), weight)[1](dy)

    return jax.jit({"fprop": fprop, "dgrad": dgrad, "wgrad": wgrad}[direction])
