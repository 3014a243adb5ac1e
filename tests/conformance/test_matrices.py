"""wgmma on tiles in shared memory, against a model of its operands written from the PTX ISA (9.7.15.5).

The figures of each case are those of csrc/kernels/conformance/sm90/matrices.h.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from .common import MACHINES, WORD, Case, Words, ask, bf16, bits, require, rng
from .test_tensors import SPANS, swizzled

STEPS, THREADS = 2, 128


@dataclass(frozen=True)
class Matrices:
    """A wgmma of 64 x n x (two k steps)."""

    kind: str  # bf16, f16, tf32
    n: int
    a: str  # "k" or "mn": which dimension is contiguous; "registers"
    b: str
    span: int = 128

    @property
    def size(self) -> int:
        """Bytes of an element."""
        return 4 if self.kind == "tf32" else 2

    @property
    def depth(self) -> int:
        return STEPS * 32 // self.size

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Elements as unsigned integers."""
        if self.kind == "bf16":
            return bf16(values.astype(np.float32))
        if self.kind == "f16":
            return values.astype(np.float16).view(np.uint16)
        return values.astype(np.float32).view(WORD)

    def decode(self, elements: np.ndarray) -> np.ndarray:
        if self.kind == "bf16":
            return (elements.astype(WORD) << 16).view(np.float32).astype(np.float64)
        if self.kind == "f16":
            return elements.view(np.float16).astype(np.float64)
        return (elements & WORD(0xFFFFE000)).view(np.float32).astype(np.float64)

    def tile(self, elements: np.ndarray, major: str) -> np.ndarray:
        """[mn, k] -> bytes of shared memory, as a tensor map of this swizzle would have placed them."""
        mn, k = np.indices(elements.shape)
        if major == "k" and self.span == SPANS["plain"]:  # columns of chunks
            chunk = k * self.size // 16
            address = (chunk * elements.shape[0] + mn) * 16 + k * self.size % 16
            total = elements.size * self.size
        elif major == "k":
            address = mn * self.span + k * self.size
            total = elements.shape[0] * self.span
        else:
            per_row = self.span // 2
            address = mn // per_row * (self.depth * self.span) + k * self.span + mn % per_row * 2
            total = -(-elements.shape[0] // per_row) * self.depth * self.span
        shared = np.zeros(-(-total // 1024) * 1024, np.uint8)
        places = swizzled(address, self.span)[..., None] + np.arange(self.size)
        shared[places] = elements[..., None].view(np.uint8).reshape(*elements.shape, self.size)
        return shared

    def fragments(self, a: np.ndarray) -> Words:
        """[64, k] -> the words of each step and thread, [STEPS, THREADS, 4], as mma.m16n8 holds them."""
        per_word = 4 // self.size
        half = self.depth // STEPS // 2
        out = np.zeros((STEPS, THREADS, 4, per_word), a.dtype)
        for step in range(STEPS):
            for thread in range(THREADS):
                group, t = thread % 32 // 4, thread % 4
                for i in range(4):
                    row = thread // 32 * 16 + group + 8 * (i % 2)
                    k = step * 2 * half + half * (i // 2) + t * per_word
                    out[step, thread, i] = a[row, k : k + per_word]
        return out.reshape(STEPS, THREADS, -1).view(WORD)

    def input(self, a: np.ndarray, b: np.ndarray) -> Words:
        """a [64, k], b [n, k] as elements."""
        parts = [self.tile(a, "k" if self.a == "registers" else self.a), self.tile(b, self.b)]
        if self.a == "registers":
            parts[0][:] = 0xFF  # NaN: nobody is to read it
            parts.append(self.fragments(a).reshape(-1).view(np.uint8))
        return np.concatenate(parts).view(WORD)[None]

    def rows(self, d: np.ndarray) -> np.ndarray:
        """[64, n] -> what the threads hold, [THREADS, n / 2]."""
        thread, i = np.arange(THREADS)[:, None], np.arange(self.n // 2)[None, :]
        row = thread // 32 * 16 + thread % 32 // 4 + 8 * (i % 4 // 2)
        return d[row, 8 * (i // 4) + 2 * (thread % 4) + i % 2]


MATRICES = {
    "wgmma_bf16_64_k_k": Matrices("bf16", 64, "k", "k"),
    "wgmma_bf16_256_k_mn": Matrices("bf16", 256, "k", "mn"),
    "wgmma_bf16_192_mn_mn": Matrices("bf16", 192, "mn", "mn"),
    "wgmma_bf16_8_mn_k_64": Matrices("bf16", 8, "mn", "k", 64),
    "wgmma_bf16_40_k_mn_64": Matrices("bf16", 40, "k", "mn", 64),
    "wgmma_f16_128_k_k": Matrices("f16", 128, "k", "k"),
    "wgmma_f16_72_mn_k": Matrices("f16", 72, "mn", "k"),
    "wgmma_tf32_96_k_k": Matrices("tf32", 96, "k", "k"),
    "wgmma_f16_96_k_k_plain": Matrices("f16", 96, "k", "k", SPANS["plain"]),
    "wgmma_bf16_128_registers_mn": Matrices("bf16", 128, "registers", "mn"),
    "wgmma_bf16_120_registers_k_plain": Matrices("bf16", 120, "registers", "k", SPANS["plain"]),
    "wgmma_f16_64_registers_k": Matrices("f16", 64, "registers", "k"),
    "wgmma_tf32_32_registers_k": Matrices("tf32", 32, "registers", "k"),
}


def product(primitive: str, integers: bool) -> Case:
    """Exact on small integers."""
    matrices, generator = MATRICES[primitive], rng(primitive)
    shapes = ((64, matrices.depth), (matrices.n, matrices.depth))
    if integers:
        values = [generator.integers(-128, 129, shape).astype(np.float64) for shape in shapes]
    else:
        values = [generator.standard_normal(shape) for shape in shapes]
    a, b = map(matrices.encode, values)
    wide_a, wide_b = matrices.decode(a), matrices.decode(b)
    bound = None if integers else 2.0**-21 * matrices.rows(np.abs(wide_a) @ np.abs(wide_b).T)
    want = bits(matrices.rows(wide_a @ wide_b.T))
    return Case(primitive, matrices.input(a, b), want, bound=bound, sm_90=True)


# ---- eight rows of a patch at a time, from a larger tile

PITCH, ROWS = 10, 100  # rows of the tile between rows of the patch, and in all: 8 x 8 pixels with a halo of 1


def patch(r: int, s: int) -> Case:
    """Tap (r, s) of a 3x3 window over the patch."""
    matrices, generator = Matrices("bf16", 64, "k", "k"), rng(f"patch {r} {s}")
    shift = r * PITCH + s
    tile = generator.integers(-128, 129, (ROWS, matrices.depth)).astype(np.float64)
    b = generator.integers(-128, 129, (64, matrices.depth)).astype(np.float64)
    row = np.arange(64) // 8 * PITCH + np.arange(64) % 8 + shift
    parts = [matrices.tile(matrices.encode(each), "k").view(WORD) for each in (tile, b)]
    x = np.concatenate([*parts, np.full(4, shift, WORD)])[None]
    return Case("wgmma_patch", x, bits(matrices.rows(tile[row] @ b.T)), sm_90=True)


CASES = {
    **{f"{name}_integers": product(name, True) for name in MATRICES},
    **{f"{name}_random": product(name, False) for name in MATRICES},
    **{f"wgmma_patch_{r}{s}": patch(r, s) for r in range(3) for s in range(3)},
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", CASES)
def test_product(machine: str, name: str) -> None:
    require(CASES[name], ask(machine, CASES[name]), CASES[name].want)
