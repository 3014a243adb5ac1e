"""Boxes that TMA copies, against a model of the copy written from the PTX ISA (5.5), element by element.

The figures of each case are those of csrc/kernels/conformance/sm90/tensors.h.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from .common import MACHINES, OUT_OF_BOUNDS, WORD, Case, Words, ask, random_words, require

SPANS = {"plain": 16, "32": 32, "64": 64, "128": 128}


def swizzled(address: np.ndarray, span: int) -> np.ndarray:
    """Bits 4 and up of an address xored with bits 7 and up, as many as number the span's 16-byte chunks."""
    return address ^ ((address >> 7 & (span // 16 - 1)) << 4)


@dataclass(frozen=True)
class Box:
    """A copy as a list of places: for each element of the box, an index into the tensor or -1."""

    extent: tuple[int, ...]  # innermost first
    span: int
    places: np.ndarray  # [rows, elements of a row]
    dtype: type = np.uint32
    fill: int = 0
    words: int = 0  # of a tensor that is not densely packed

    @property
    def tensor_words(self) -> int:
        return self.words or int(np.prod(self.extent)) * np.dtype(self.dtype).itemsize // 4

    def positions(self) -> np.ndarray:
        """Where each element of the box lies in shared memory."""
        size = np.dtype(self.dtype).itemsize
        return swizzled(size * np.arange(self.places.size), self.span) // size

    def load(self, tensor: Words) -> Words:
        places = self.places.reshape(-1)
        shared = np.zeros(places.size, self.dtype)
        shared[self.positions()] = np.where(places >= 0, tensor.view(self.dtype)[places], self.fill)
        return shared.view(WORD)


def index(extent: tuple[int, ...], at: tuple[int, ...], strides: tuple[int, ...] = ()) -> int:
    """Of an element, -1 outside; the tensor is densely packed unless it has strides."""
    strides = strides or tuple(np.cumprod((1, *extent))[:-1])
    if not all(0 <= x < size for x, size in zip(at, extent, strict=True)):
        return -1
    return sum(x * stride for x, stride in zip(at, strides, strict=True))


def tiled(extent, span, box, step, at, strides=(), **more) -> Box:
    counts = [box[0]] + [-(-b // s) for b, s in zip(box[1:], step[1:], strict=True)]
    rows = []
    for outer in np.ndindex(*counts[:0:-1]):
        offsets = [n * s for n, s in zip(outer[::-1], step[1:], strict=True)]
        rest = [a + o for a, o in zip(at[1:], offsets, strict=True)]
        rows.append([index(extent, (at[0] + c, *rest), strides) for c in range(box[0])])
    return Box(extent, span, np.array(rows), **more)


def im2col(extent, span, lower, upper, channels, pixels, step, at, offset, strides=(), **more) -> Box:
    rows = []
    c, w, h, n = at
    for _ in range(pixels):
        x, y = w + offset[0], h + offset[1]
        rows.append([index(extent, (c + i, x, y, n), strides) for i in range(channels)])
        w += step[0]
        if w > extent[1] - 1 + upper[0]:
            w, h = lower[0], h + step[1]
            if h > extent[2] - 1 + upper[1]:
                h, n = lower[1], n + 1
    return Box(extent, span, np.array(rows), **more)


def nan_window() -> Box:
    """16-bit floats over the window's edges, with channels past the end."""
    window = ((48, 9, 11, 2), 128, (-1, -1), (-1, -1), 64, 48, (1, 1), (0, 3, 8, 0), (2, 0))
    return im2col(*window, dtype=np.uint16, fill=OUT_OF_BOUNDS)


IMAGES = ((32, 9, 11, 2), 128, (-1, -1), (-1, -1), 32, 48, (1, 1))  # with a 3x3 window and padding 1
WINDOW = (*IMAGES, (0, 3, 8, 0))
STRIDED_WINDOW = ((24, 8, 6, 2), 64, (-2, -1), (-2, -1), 16, 32, (2, 3), (16, 0, 2, 1))
FEW_CHANNELS = ((8, 9, 11, 2), *WINDOW[1:])
ONE_PIXEL = ((32, 1, 1, 3), 128, (-1, -1), (-1, -1), 32, 8, (1, 1), (0, -1, -1, 1))
PHASE = im2col(
    *((32, 4, 4, 2), 128, (0, 0), (0, 0), 32, 24, (1, 1), (0, 1, 2, 0), (0, 0)),
    strides=(1, 64, 14 * 32, 49 * 32),
    words=2 * 49 * 32,
)
PLANES = {
    name: tiled((40, 30), span, (32 if span == 16 else span // 4, 16), (1, 1), (-2, -3))
    for name, span in SPANS.items()
}
PLANE_END = tiled((40, 30), 128, (32, 8), (1, 1), (17, 25))
NAN_PLANE = tiled((88, 30), 128, (64, 8), (1, 1), (45, 25), dtype=np.uint16, fill=OUT_OF_BOUNDS)
OVERLAPPING = tiled((16, 9, 7), 64, (16, 8, 8), (1, 1, 2), (0, 3, -1), strides=(1, 4, 48), words=7 * 48)
VOLUME = tiled((16, 5, 7, 8), 64, (16, 3, 6, 7), (1, 1, 2, 3), (0, 3, 2, 3))
LOADS = {
    **{f"tma_plane_{name}": box for name, box in PLANES.items()},
    "tma_plane_end": PLANE_END,
    "tma_plane_past": tiled((40, 30), 128, (32, 8), (1, 1), (40, 3)),
    "tma_plane_nan": NAN_PLANE,
    "tma_overlapping": OVERLAPPING,
    "tma_volume": VOLUME,
    "tma_window": im2col(*WINDOW, (2, 0)),
    "tma_window_few_channels": im2col(*FEW_CHANNELS, (2, 0)),
    "tma_window_one_pixel": im2col(*ONE_PIXEL, (1, 1)),
    "tma_phase": PHASE,
    "tma_window_past_images": im2col(*IMAGES, (0, -1, -1, 2), (2, 0)),
    "tma_window_past_channels": im2col(*IMAGES, (32, 3, 8, 0), (2, 0)),
    "tma_window_nan_bf16": nan_window(),
    "tma_window_nan_f16": nan_window(),
    "tma_strided_window": im2col(*STRIDED_WINDOW, (3, 2)),
    "tma_plane_multicast": PLANE_END,
    "tma_window_multicast": im2col(*WINDOW, (2, 0)),
}
STORES = {
    "tma_store_plane": PLANE_END,
    "tma_store_volume": VOLUME,
    "tma_store_window": im2col(*WINDOW, (0, 0)),
    "tma_store_few_channels": im2col(*FEW_CHANNELS, (0, 0)),
    "tma_store_phase": PHASE,
    "tma_store_strided_window": im2col(*STRIDED_WINDOW, (0, 0)),
}


def load(name: str, box: Box) -> Case:
    tensor = random_words(name, 1, box.tensor_words)
    blocks = 2 if "multicast" in name else 1
    return Case(name, tensor, np.tile(box.load(tensor[0]), (blocks, 1)), sm_90=True)


def store(name: str, box: Box) -> Case:
    shared = random_words(name, 1, box.places.size)
    places = box.places.reshape(-1)
    inside = places >= 0
    want, defined = np.zeros((1, box.tensor_words), WORD), np.zeros((1, box.tensor_words), bool)
    want[0, places[inside]] = shared[0, box.positions()[inside]]
    defined[0, places[inside]] = True
    return Case(name, shared, want, defined=defined, sm_90=True)


CASES = {
    **{name: load(name, box) for name, box in LOADS.items()},
    **{name: store(name, box) for name, box in STORES.items()},
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", CASES)
def test_box(machine: str, name: str) -> None:
    require(CASES[name], ask(machine, CASES[name]), CASES[name].want)


@pytest.mark.parametrize("name", {**LOADS, **STORES})
def test_every_box_reaches_out_of_its_tensor(name: str) -> None:
    assert ({**LOADS, **STORES}[name].places < 0).any()


@pytest.mark.parametrize("name", STORES)
def test_the_rest_is_left_alone(name: str) -> None:
    """Seen where outputs are known beforehand: the checked build fills them with ones."""
    untouched = ~CASES[name].defined
    assert untouched.any() and (ask("sim_checked", CASES[name])[untouched] == 0xFFFFFFFF).all()
