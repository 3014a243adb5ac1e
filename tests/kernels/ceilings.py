"""The ceilings' kernels: which bytes landed last in shared memory, by their hash; products many times added.

Each function gives a ``run(seed)`` for a `cases.Case`.  The models are written from the head of each kernel's
file and from what PTX says of boxes, in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .problems import DTYPES, Answer, Draw, operators

Run = Callable[[int], Answer]
PIXELS = 128  # of a box
WORD = np.uint32


def boxes_of(x: np.ndarray, boxes: str, block: int, blocks: int, copies: int) -> np.ndarray:
    """The last box that a block loads of x [N, H, W, 64], as uint16 [128 pixels, 64 channels]."""
    n, h, w, channels = x.shape
    window, cluster = (3 if boxes == "im2col" else 1), (2 if boxes == "multicast" else 1)
    tap = (copies - 1) % window**2
    turn = (copies - 1) // window**2
    first = (block // cluster + turn * (blocks // cluster)) % (n * h * w // PIXELS) * PIXELS
    edge = window // 2
    padded = np.pad(x, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
    down, right = divmod(tap, window)
    seen = padded[:, down : down + h, right : right + w].reshape(-1, channels)
    return seen[first : first + PIXELS]


def checksums(box: np.ndarray) -> np.ndarray:
    """FNV-1a of every lane's chunks of 16 bytes, with chunk c of row r at chunk c ^ (r % 8)."""
    chunks = np.ascontiguousarray(box).view(WORD).reshape(PIXELS, 8, 4)
    rows = np.arange(PIXELS)[:, None]
    lying = np.empty_like(chunks)
    lying[rows, np.arange(8) ^ rows % 8] = chunks
    hashes = np.full(32, 2166136261, WORD)
    for lanes in lying.reshape(-1, 32, 4):
        for i in range(4):
            hashes = (hashes ^ lanes[:, i]) * WORD(16777619)
    return hashes


def feed_answer(namespace: Any, x: Tensor, boxes: str, blocks: int, copies: int) -> tuple[Tensor, Tensor]:
    """What the operator gives for x beside the model."""
    values = x.cpu().permute(0, 2, 3, 1).contiguous().view(torch.int16).numpy().view(np.uint16)
    want = [checksums(boxes_of(values, boxes, block, blocks, copies)) for block in range(blocks)]
    got = namespace.feed_ceiling(x, boxes, blocks, copies).cpu()
    return got, torch.from_numpy(np.stack(want).view(np.int32))


def matrix_answer(namespace: Any, a: Tensor, b: Tensor, blocks: int, repeats: int) -> tuple[Tensor, Tensor]:
    """The same of products of integers."""
    product = repeats * (a.cpu().double().numpy() @ b.cpu().double().numpy().T)
    want = torch.from_numpy(np.broadcast_to(product, (blocks, *product.shape)).copy())
    return namespace.matrix_ceiling(a, b, blocks, repeats).cpu(), want


def image(seed: int, *shape: int) -> Tensor:
    """Random values, [N, 64, H, W] in bfloat16: no two boxes are alike."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()
    return values.contiguous(memory_format=torch.channels_last)


def operands(precision: str, seed: int) -> tuple[Tensor, Tensor]:
    """a [128, depth] and b [256, depth] of small integers."""
    draw, dtype = Draw(seed, DTYPES[precision]), DTYPES[precision]
    depth = 128 // dtype.itemsize
    return draw.integers(128, depth).to(dtype), draw.integers(256, depth).to(dtype)


def feed_ceiling(boxes: str, shape: tuple[int, int, int], blocks: int, copies: int) -> Run:
    """``shape``: images, height and width.  The last box of so many copies, of one less, and the first."""

    def run(seed: int) -> Answer:
        n, h, w = shape
        x = image(seed, n, 64, h, w)
        return [feed_answer(operators(), x, boxes, blocks, each) for each in (copies, copies - 1, 1)]

    return run


def matrix_ceiling(precision: str, blocks: int, repeats: int) -> Run:
    def run(seed: int) -> Answer:
        return [matrix_answer(operators(), *operands(precision, seed), blocks, repeats)]

    return run
