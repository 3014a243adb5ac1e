"""Rounding to the short floating-point formats, by integer operations on float64's own bits.

One rounding, straight from the float64 (or float32) value: no intermediate format, hence no double rounding.
Subnormals, overflow to infinity, signed zero and NaN follow IEEE 754. The results are values of the short
format held in the input's dtype.

    format   significand  exponents     halfway cases
    bf16     8 bits       -126 .. 127   to even
    f16      11 bits       -14 .. 15    to even
    tf32     11 bits      -126 .. 127   away from zero    (PTX cvt.rna.tf32.f32)
    f32      24 bits      -126 .. 127   to even
"""

from __future__ import annotations

import numpy as np

from .arrays import Array, array_module

UNIT_ROUNDOFF = {"bf16": 2.0**-8, "f16": 2.0**-11, "tf32": 2.0**-11, "f32": 2.0**-24, "f64": 2.0**-53}
"""Largest relative error of one rounding to nearest, for normal numbers."""

_FRACTION_BITS = 52  # of float64
_INFINITY = 0x7FF0000000000000
_MAGNITUDE = 0x7FFFFFFFFFFFFFFF


def round_bf16(x: Array) -> Array:
    """To bfloat16, nearest even."""
    return _round(x, fraction_bits=7, min_exponent=-126, max_exponent=127, ties_away=False)


def round_f16(x: Array) -> Array:
    """To IEEE half, nearest even: 65520 and above become infinity, below 2^-14 the step is 2^-24."""
    return _round(x, fraction_bits=10, min_exponent=-14, max_exponent=15, ties_away=False)


def round_tf32(x: Array) -> Array:
    """To TF32, nearest, halfway cases away from zero: what cvt.rna.tf32.f32 does before the tensor core."""
    return _round(x, fraction_bits=10, min_exponent=-126, max_exponent=127, ties_away=True)


def round_f32(x: Array) -> Array:
    """To float32, nearest even."""
    return _round(x, fraction_bits=23, min_exponent=-126, max_exponent=127, ties_away=False)


def _round(x: Array, *, fraction_bits: int, min_exponent: int, max_exponent: int, ties_away: bool) -> Array:
    xp = array_module(x)
    x = xp.asarray(x)
    out_dtype = x.dtype if x.dtype == xp.float32 else xp.float64
    with np.errstate(invalid="ignore"):  # a signalling NaN raises the flag on its way to float64
        bits = xp.ascontiguousarray(x, dtype=xp.float64).view(xp.int64).reshape(x.shape)
    magnitude = bits & _MAGNITUDE

    # Below the format's least normal exponent the step stops shrinking: more of float64's fraction has to go.
    exponent = (magnitude >> _FRACTION_BITS) - 1023
    shortfall = xp.clip(min_exponent - exponent, 0, None)
    drop = _FRACTION_BITS - fraction_bits + shortfall
    tiny = drop > _FRACTION_BITS  # less than one step: decided by comparison with half a step

    drop = xp.where(tiny, _FRACTION_BITS, drop)
    one = xp.ones_like(bits)
    half = one << (drop - 1)
    odd = xp.where(
        drop == _FRACTION_BITS, 1, (magnitude >> drop) & 1
    )  # of the last bit kept; at 52 it is the implicit one
    rounded = magnitude + (half if ties_away else half - 1 + odd)
    rounded = (rounded >> drop) << drop  # a carry out of the fraction lands in the exponent, as it should

    step = _bits_of(xp, 2.0 ** (min_exponent - fraction_bits))
    half_step = _bits_of(xp, 2.0 ** (min_exponent - fraction_bits - 1))
    up = magnitude >= half_step if ties_away else magnitude > half_step
    rounded = xp.where(tiny, xp.where(up, step, 0), rounded)
    rounded = xp.where(rounded >= _bits_of(xp, 2.0 ** (max_exponent + 1)), _INFINITY, rounded)
    rounded = xp.where(magnitude > _INFINITY, magnitude, rounded)  # NaN
    result = rounded | (bits & ~_MAGNITUDE)
    return result.astype(xp.int64, copy=False).view(xp.float64).astype(out_dtype, copy=False)


def _bits_of(xp, value: float) -> int:
    return int(xp.asarray([value], dtype=xp.float64).view(xp.int64)[0])
