"""Which array module an array belongs to: NumPy, or CuPy where the data is on a GPU."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

Array = Any  # numpy.ndarray or cupy.ndarray


def array_module(*arrays: Array) -> Any:
    """cupy if any argument is a CuPy array, numpy otherwise. CuPy is never imported for the question's
    sake.
    """
    cupy = sys.modules.get("cupy")
    if cupy is not None and any(isinstance(a, cupy.ndarray) for a in arrays):
        return cupy
    return np


def float64(xp: Any, a: Array, name: str, rank: int) -> Array:
    """`a` as a float64 array of module `xp` with `rank` dimensions; ValueError names the argument
    otherwise.
    """
    a = xp.asarray(a, dtype=xp.float64)
    if a.ndim != rank:
        raise ValueError(f"{name} must have {rank} dimensions, got shape {tuple(a.shape)}")
    return a


def pair(value: int | tuple[int, int] | list[int], name: str, least: int) -> tuple[int, int]:
    """(h, w) from an int or a pair; ValueError unless both are integers of at least `least`."""
    h, w = (value, value) if isinstance(value, (int, np.integer)) else tuple(value)
    if int(h) != h or int(w) != w or min(h, w) < least:
        raise ValueError(f"{name} must be an int or a pair, each at least {least}, got {value!r}")
    return int(h), int(w)
