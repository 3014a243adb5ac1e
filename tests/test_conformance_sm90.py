"""The instructions of sm_90, one tiny kernel each, against models in NumPy: see test_conformance.py.

Models of tensor copies and of wgmma's operands are written from the PTX ISA (5.5, 9.7.15.5), element
by element; the figures of each case are those of csrc/kernels/conformance/sm90/.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from .test_conformance import MACHINES, WORD, Words, bf16, bits, random_words, require_equal, rng, run

SPANS = {"plain": 16, "32": 32, "64": 64, "128": 128}


@pytest.fixture(autouse=True)
def _hopper(request: pytest.FixtureRequest) -> None:
    machine = getattr(request.node, "callspec", None) and request.node.callspec.params.get("machine")
    if machine == "cuda" and torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("needs a GPU of compute capability 9.0")


# ---- words through barriers and shared memory


def reverse(x: Words) -> Words:
    return x[::-1]


def mbarrier(x: Words) -> Words:
    return np.concatenate([x[::-1] * WORD(phase + 1) for phase in range(3)], axis=1)


def stmatrix(count: int, trans: bool) -> Callable[[Words], Words]:
    def model(x: Words) -> Words:
        out = np.zeros((32, 8), np.uint16)
        for m in range(count):
            matrix = np.zeros((8, 8), np.uint16)
            halves = x[:, m].copy().view(np.uint16).reshape(32, 2)
            for lane in range(32):
                matrix[lane // 4, 2 * (lane % 4) : 2 * (lane % 4) + 2] = halves[lane]
            matrix = matrix.T if trans else matrix
            for row in range(8):
                out[x[8 * m + row, 4]] = matrix[row]
        return out.view(WORD)

    return model


def stmatrix_input(name: str) -> Words:
    x = random_words(name, 32, 8)
    x[:, 4] = rng(name).permutation(32)
    return x


def swap_blocks(x: Words) -> Words:
    return x.reshape(-1, 2, 64)[:, ::-1].reshape(-1, 1)


EXCHANGES: dict[str, tuple[Words, Callable[[Words], Words]]] = {
    "elect": (random_words("elect", 64, 1), lambda x: x + WORD(1)),
    "mbarrier": (random_words("mbarrier", 128, 1), mbarrier),
    "bulk_load": (random_words("bulk_load", 128, 1), reverse),
    "bulk_store": (random_words("bulk_store", 256, 1), lambda x: x),
    "stmatrix_x4": (stmatrix_input("sx4"), stmatrix(4, False)),
    "stmatrix_x4_trans": (stmatrix_input("sx4t"), stmatrix(4, True)),
    "stmatrix_x2": (stmatrix_input("sx2"), stmatrix(2, False)),
    "setmaxnreg": (random_words("setmaxnreg", 256, 1), lambda x: x),
    "griddepcontrol": (random_words("griddepcontrol", 32, 1), lambda x: x),
    "cluster_ids": (
        np.zeros((128, 1), WORD),
        lambda x: np.stack([np.arange(128) // 32 % 2, np.full(128, 2)], axis=1).astype(WORD),
    ),
    "cluster_exchange": (
        random_words("cluster_exchange", 256, 1),
        lambda x: np.concatenate([swap_blocks(x), x + WORD(1)], axis=1),
    ),
    "cluster_bulk_copy": (random_words("cluster_bulk_copy", 128, 1), swap_blocks),
    "cluster_mbarrier": (random_words("cluster_mbarrier", 64, 1), lambda x: x),
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("primitive", EXCHANGES)
def test_exchange(machine: str, primitive: str) -> None:
    x, model = EXCHANGES[primitive]
    require_equal(primitive, run(machine, primitive, x), model(x.copy()))


# ---- boxes of tensors


def swizzled(address: np.ndarray, span: int) -> np.ndarray:
    """Bits 4 and up of an address xored with bits 7 and up, as many as number the span's 16-byte chunks."""
    return address ^ ((address >> 7 & (span // 16 - 1)) << 4)


@dataclass(frozen=True)
class Box:
    """A copy as a list of places: for each word of the box, an index into the tensor or -1."""

    extent: tuple[int, ...]  # innermost first
    span: int
    places: np.ndarray  # [rows, words of a row]

    @property
    def tensor_words(self) -> int:
        return int(np.prod(self.extent))

    def positions(self) -> np.ndarray:
        """Where each word of the box lies in shared memory, in words."""
        return swizzled(4 * np.arange(self.places.size), self.span) // 4

    def load(self, tensor: Words) -> Words:
        words = np.where(self.places.reshape(-1) >= 0, tensor[self.places.reshape(-1)], 0)
        shared = np.zeros(words.size, WORD)
        shared[self.positions()] = words
        return shared


def index(extent: tuple[int, ...], at: tuple[int, ...]) -> int:
    """Of an element in a densely packed tensor, -1 outside."""
    place, stride = 0, 1
    for x, size in zip(at, extent, strict=True):
        if not 0 <= x < size:
            return -1
        place += x * stride
        stride *= size
    return place


def tiled(extent, span, box, step, at) -> Box:
    counts = [box[0]] + [-(-b // s) for b, s in zip(box[1:], step[1:], strict=True)]
    rows = []
    for outer in np.ndindex(*counts[:0:-1]):
        offsets = [n * s for n, s in zip(outer[::-1], step[1:], strict=True)]
        rest = [a + o for a, o in zip(at[1:], offsets, strict=True)]
        rows.append([index(extent, (at[0] + c, *rest)) for c in range(box[0])])
    return Box(extent, span, np.array(rows))


def im2col(extent, span, lower, upper, channels, pixels, step, at, offset) -> Box:
    rows = []
    c, w, h, n = at
    for _ in range(pixels):
        rows.append([index(extent, (c + i, w + offset[0], h + offset[1], n)) for i in range(channels)])
        w += step[0]
        if w > extent[1] - 1 + upper[0]:
            w, h = lower[0], h + step[1]
            if h > extent[2] - 1 + upper[1]:
                h, n = lower[1], n + 1
    return Box(extent, span, np.array(rows))


WINDOW = ((32, 9, 11, 2), 128, (-1, -1), (-1, -1), 32, 48, (1, 1), (0, 3, 8, 0))
STRIDED_WINDOW = ((24, 8, 6, 2), 64, (-2, -1), (-2, -1), 16, 32, (2, 3), (16, 0, 2, 1))
PLANES = {
    name: tiled((40, 30), span, (32 if span == 16 else span // 4, 16), (1, 1), (-2, -3))
    for name, span in SPANS.items()
}
PLANE_END = tiled((40, 30), 128, (32, 8), (1, 1), (17, 25))
VOLUME = tiled((16, 5, 7, 8), 64, (16, 3, 6, 7), (1, 1, 2, 3), (0, 3, 2, 3))
LOADS = {
    **{f"tma_plane_{name}": box for name, box in PLANES.items()},
    "tma_plane_end": PLANE_END,
    "tma_volume": VOLUME,
    "tma_window": im2col(*WINDOW, (2, 0)),
    "tma_strided_window": im2col(*STRIDED_WINDOW, (3, 2)),
    "tma_plane_multicast": PLANE_END,
    "tma_window_multicast": im2col(*WINDOW, (2, 0)),
}
STORES = {
    "tma_store_plane": PLANE_END,
    "tma_store_volume": VOLUME,
    "tma_store_window": im2col(*WINDOW, (0, 0)),
    "tma_store_strided_window": im2col(*STRIDED_WINDOW, (0, 0)),
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("primitive", LOADS)
def test_load(machine: str, primitive: str) -> None:
    box = LOADS[primitive]
    tensor = random_words(primitive, 1, box.tensor_words)
    want = box.load(tensor[0])
    got = run(machine, primitive, tensor).reshape(-1, want.size)
    assert len(got) == (2 if "multicast" in primitive else 1)
    for block in got:
        assert np.array_equal(block, want)
    assert (box.places < 0).any(), "the box lies inside the tensor: nothing is filled"


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("primitive", STORES)
def test_store(machine: str, primitive: str) -> None:
    box = STORES[primitive]
    shared = random_words(primitive, 1, box.places.size)
    got = run(machine, primitive, shared).reshape(-1)
    inside = box.places.reshape(-1) >= 0
    assert np.array_equal(got[box.places.reshape(-1)[inside]], shared[0][box.positions()][inside])
    if machine == "sim_checked":  # which fills outputs with ones beforehand
        untouched = np.setdiff1d(np.arange(box.tensor_words), box.places)
        assert untouched.size and (got[untouched] == 0xFFFFFFFF).all()


# ---- wgmma

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


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("primitive", MATRICES)
@pytest.mark.parametrize("integers", [True, False], ids=["integers", "random"])
def test_wgmma(machine: str, primitive: str, integers: bool) -> None:
    """Exact on small integers, else within 2^-21 sum |a b|: tensor cores truncate."""
    case, generator = MATRICES[primitive], rng(primitive)
    shapes = ((64, case.depth), (case.n, case.depth))
    if integers:
        values = [generator.integers(-128, 129, shape).astype(np.float64) for shape in shapes]
    else:
        values = [generator.standard_normal(shape) for shape in shapes]
    a, b = map(case.encode, values)
    got = run(machine, primitive, case.input(a, b)).reshape(THREADS, -1).copy().view(np.float32)
    wide_a, wide_b = case.decode(a), case.decode(b)
    want = case.rows(wide_a @ wide_b.T)
    if integers:
        assert np.array_equal(got.view(WORD), bits(want).reshape(got.shape))
    else:
        assert (np.abs(got - want) <= 2.0**-21 * case.rows(np.abs(wide_a) @ np.abs(wide_b).T)).all()
