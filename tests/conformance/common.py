"""What the conformance tests share: one question to a machine, the answer wanted, and how they are compared.

Data movement, conversions and integer-valued products agree bit for bit (any NaN equals any other); products
of random values lie within 2^-21 sum |a b| of the exact result, because tensor cores truncate where the
simulator rounds.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from resnet_kernels import _native

from ..conftest import built

WORD = np.uint32
Words = np.ndarray
OUT_OF_BOUNDS = 0x7FF7  # the NaN that TMA leaves outside a tensor and fma.oob takes for a factor of zero

SIMULATORS = [
    pytest.param("sim", marks=pytest.mark.skipif(not built("_sim"), reason="_sim is not built")),
    pytest.param(
        "sim_checked", marks=pytest.mark.skipif(not built("_sim_checked"), reason="_sim_checked is not built")
    ),
]
MACHINES = [*SIMULATORS, pytest.param("cuda", marks=pytest.mark.gpu)]


@dataclass(frozen=True)
class Case:
    """A primitive, its input [threads, words], and the answer, in as many rows."""

    primitive: str
    x: Words
    want: Words
    floats: type | None = None  # elements of the answer where any NaN will do
    bound: np.ndarray | None = None  # float32 answers: how far each may be off
    defined: np.ndarray | None = None  # words that are written; the rest may hold anything
    sm_90: bool = False  # needs a GPU of this capability


def ask(machine: str, case: Case) -> Words:
    """The machine's answer, in the shape wanted; skips the test on a GPU that lacks the instruction."""
    if machine == "cuda" and case.sm_90 and torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("needs a GPU of compute capability 9.0")
    return run(machine, case.primitive, case.x).reshape(case.want.shape)


def run(machine: str, primitive: str, x: Words) -> Words:
    """The machine's answer, as many rows as x has."""
    flat = torch.from_numpy(x.reshape(-1).view(np.int32).copy())
    if machine == "cuda":
        _native.require_cuda()
        result = torch.ops.resnet_kernels.conformance(flat.cuda(), primitive).cpu()
    else:
        _native.simulator(checked=machine == "sim_checked")
        result = getattr(torch.ops, f"resnet_kernels_{machine}").conformance(flat, primitive)
    return result.numpy().view(WORD).reshape(len(x), -1)


def require(case: Case, got: Words, want: Words, slack: float = 1.0) -> None:
    """The answer is the one wanted, or within `slack` times the bound of it."""
    got, want = np.ascontiguousarray(got), np.ascontiguousarray(want)
    assert got.shape == want.shape
    if case.bound is not None:
        error = np.abs(got.view(np.float32) - want.view(np.float32))
        assert (error <= slack * case.bound).all(), f"{case.primitive}: {error.max():.3g} off"
        return
    same = got == want
    if case.floats is not None:
        a, b = got.view(case.floats), want.view(case.floats)
        bits_of = f"u{np.dtype(case.floats).itemsize}"
        same = (a.view(bits_of) == b.view(bits_of)) | np.isnan(a) & np.isnan(b)
    if case.defined is not None:
        same = same | ~case.defined
    assert same.all(), f"{case.primitive}: differs in rows {np.unique(np.nonzero(~same)[0])[:8]}"


# ---- inputs


def rng(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def bits(values: np.ndarray) -> Words:
    return np.ascontiguousarray(values, np.float32).view(WORD)


def random_words(name: str, threads: int, words: int) -> Words:
    return rng(name).integers(0, 2**32, (threads, words), dtype=np.uint64).astype(WORD)


def awkward_floats(name: str, threads: int, words: int) -> Words:
    """Random bit patterns among which are zeros, infinities, NaNs, denormals, ties and the largest floats."""
    special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        np.inf,
        -np.inf,
        np.nan,
        65504.0,
        65519.0,
        65520.0,
        3.4e38,
        -3.4e38,
        1e-45,
    ]
    special += [6e-8, 2.98e-8, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-12, -1 - 2**-9]
    generator = rng(name)
    values = random_words(name, threads, words)
    values[::3] = bits(generator.standard_normal(values[::3].shape))
    chosen = generator.random(values.shape) < 0.4
    values[chosen] = bits(generator.choice(np.array(special, np.float32), int(chosen.sum())))
    return values


def bf16(value: np.ndarray) -> np.ndarray:
    """The nearest bfloat16, ties to even, as uint16; through float64 so that no bit trick is shared."""
    value = np.asarray(value, np.float32)
    wide = value.astype(np.float64)
    with np.errstate(all="ignore"):
        exponent = np.maximum(np.frexp(wide)[1], -125)
        unit = np.ldexp(1.0, exponent - 8)
        rounded = np.where(np.isfinite(wide), np.rint(wide / unit) * unit, wide).astype(np.float32)
    rounded = np.copysign(rounded, value)
    # PTX: the canonical NaN of bf16 is 0x7fff.
    return np.where(np.isnan(value), 0x7FFF, rounded.view(WORD) >> 16).astype(np.uint16)
