"""How far from the oracle a float32-accumulating kernel may be, element by element.

    |y - ref| <= u_out |ref| + (2^-22 sqrt(K) + n u) T

T, the error scale, is the oracle on absolute values: what the sum would be had nothing cancelled. K is the
length of the sum, u_out the unit roundoff of the output's format, n the number of intermediates rounded to a
short format of unit roundoff u before the end.
"""

from __future__ import annotations

import math

from .arrays import Array, array_module
from .layers import Pair, affine, batch_norm_affine, conv2d, linear


def conv_error_scale(
    x: Array,
    weight: Array,
    scale: Array | None = None,
    shift: Array | None = None,
    residual: Array | None = None,
    *,
    mean: Array | None = None,
    var: Array | None = None,
    eps: float = 1e-5,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
) -> Array:
    """T [N,K,P,Q] of residual + affine(conv(x, weight)), or with mean and var of BatchNorm (scale, shift:
    its weight and bias).
    """
    xp = array_module(x, weight)
    t = conv2d(xp.abs(x), xp.abs(weight), stride=stride, padding=padding, dilation=dilation)
    return affine_error_scale(t, scale, shift, residual, mean=mean, var=var, eps=eps)


def affine_error_scale(
    x: Array,
    scale: Array | None = None,
    shift: Array | None = None,
    residual: Array | None = None,
    *,
    mean: Array | None = None,
    var: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    """|x| |scale| + |shift| + |residual|; with mean and var, |shift| becomes |bias| + |mean scale|: its two
    terms may cancel.
    """
    xp = array_module(x)
    if (mean is None) != (var is None):
        raise ValueError("mean and var are given together or not at all")
    if mean is not None:
        folded, minus_mean = batch_norm_affine(scale, None, mean, var, eps)
        shift = xp.abs(minus_mean) + (0.0 if shift is None else xp.abs(xp.asarray(shift, dtype=xp.float64)))
        scale = folded
    t = affine(xp.abs(x), None if scale is None else xp.abs(scale), None if shift is None else xp.abs(shift))
    return t if residual is None else t + xp.abs(residual)


def linear_error_scale(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """T [N,K] of linear."""
    xp = array_module(x, weight)
    return linear(xp.abs(x), xp.abs(weight), None if bias is None else xp.abs(bias))


def allowed_error(
    ref: Array, scale: Array, terms: int, *, u_out: float, intermediates: int = 0, u_intermediate: float = 0.0
) -> Array:
    """The bound above, element by element; `terms` is K, `scale` is T, `intermediates` and `u_intermediate`
    are n and u.
    """
    xp = array_module(ref, scale)
    return u_out * xp.abs(ref) + (2.0**-22 * math.sqrt(terms) + intermediates * u_intermediate) * scale


def rms(x: Array) -> float:
    """Root of the mean square; 0 for an empty array."""
    xp = array_module(x)
    x = xp.asarray(x, dtype=xp.float64)
    return float(xp.sqrt(xp.mean(x * x))) if x.size else 0.0
