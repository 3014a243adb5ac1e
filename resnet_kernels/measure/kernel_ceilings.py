"""Ceilings that kernels of ours measure, because no library has them alone; compute capability 9.0.

L2 to shared   what TMA brings into all shared memories of a tensor that L2 holds, in boxes of 128 pixels of
               64 channels in bfloat16: as a matrix; through the taps of a 3x3 window (im2col); as a matrix in
               clusters of two blocks, each of which loads half of every box for both.  Bytes are counted
               where they land: 2 % of the window's are padding, and multicast reads L2 half as often
wgmma          products of operands that lie in shared memory, m64n256: bfloat16 and TF32

The kernels, csrc/kernels/sm90/ceilings/, do that and nothing else: what is left of a convolution when nothing
waits for anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from .case import Case, Implementation, ceiling
from .inputs import Inputs, generator, normal
from .peers import pytorch
from .roofline import TORCH_DTYPES

FEEDS = {
    "L2 to shared, tiled": "tiled",
    "L2 to shared, im2col": "im2col",
    "L2 to shared, tiled multicast": "multicast",
}
# As csrc/api.h and csrc/kernels/sm90/launchers.h have them; tests hold these to the simulator's counters.
BOX_BYTES = 128 * 64 * 2
ROWS, COLUMNS, ROW_BYTES = 128, 256, 128  # of a product, and of its operands along the depth
MATRICES = ("bfloat16", "tf32")


@dataclass(frozen=True)
class Work:
    """How much a run does: images of the fed tensor, pixels along their edges, copies a block, products."""

    images: int
    edge: int
    copies: int
    repeats: int


# Meant to take about half a millisecond.  16 MB: half of an H200's L2 holds it, and lines may stand in both
# halves.
HARDWARE = Work(images=40, edge=56, copies=1152, repeats=1024)
SIMULATED = Work(images=2, edge=16, copies=20, repeats=2)


def cases(device: torch.device, dtypes: tuple[str, ...]) -> Iterator[Case]:
    """The feeds, then the products in those of `dtypes` that wgmma has; on a CPU small ones, simulated."""
    hardware = device.type == "cuda"
    work = HARDWARE if hardware else SIMULATED
    kernels = torch.ops.resnet_kernels if hardware else torch.ops.resnet_kernels_sim
    blocks = torch.cuda.get_device_properties(device).multi_processor_count // 2 * 2 if hardware else 4

    def case(
        name: str,
        dtype: str,
        make: Callable[[int], Inputs],
        run: pytorch.Function,
        flops: int = 0,
        moved: int = 0,
    ) -> Case:
        bind = pytorch.eager(run)
        ours = Implementation("ours", name, bind, ours=True, absent=_absent(device), memory=False)
        return ceiling(name, dtype, make, ours, flops=flops, moved=moved)

    def feed(boxes: str) -> pytorch.Function:
        return lambda i: (kernels.feed_ceiling(i["x"], boxes, blocks, work.copies),)

    for name, boxes in FEEDS.items():
        images = partial(_images, work, device)
        yield case(name, "bfloat16", images, feed(boxes), moved=blocks * work.copies * BOX_BYTES)
    for dtype in MATRICES:
        if dtype in dtypes:
            depth = ROW_BYTES // TORCH_DTYPES[dtype].itemsize
            yield case(
                "wgmma",
                dtype,
                partial(_operands, dtype, depth, device),
                lambda i: (kernels.matrix_ceiling(i["a"], i["b"], blocks, work.repeats),),
                flops=2 * blocks * work.repeats * ROWS * COLUMNS * depth,
            )


def _absent(device: torch.device) -> str | None:
    if device.type == "cuda" and torch.cuda.get_device_capability(device) != (9, 0):
        return "needs a GPU of compute capability 9.0"
    return None


def _images(work: Work, device: torch.device, seed: int) -> Inputs:
    x = normal(generator(device, seed), work.images, 64, work.edge, work.edge).bfloat16()
    return {"x": x.contiguous(memory_format=torch.channels_last)}


def _operands(dtype: str, depth: int, device: torch.device, seed: int) -> Inputs:
    source = generator(device, seed)
    return {
        name: normal(source, rows, depth).to(TORCH_DTYPES[dtype])
        for name, rows in (("a", ROWS), ("b", COLUMNS))
    }
