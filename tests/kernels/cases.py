"""One small problem for every kernel and every way through it, with answers known exactly.

Inputs are small integers (`problems`), so that a right kernel gives the oracle's answer bit for bit.  Each
case runs on a simulated GPU of one or two multiprocessors (`rk.simulator.multiprocessors`), where persistent
kernels take several tiles a block and tile choices are those of large problems.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import resnet_kernels as rk

from . import ceilings, passes
from . import convolutions as conv
from .problems import DTYPES, Answer, Shape


@dataclass(frozen=True)
class Case:
    """``run(seed)`` calls the operators and gives what they answered beside what they should.

    configuration: that of `rk.tuning.forced`, or None for what is chosen.
    """

    name: str
    run: Callable[[int], Answer]
    multiprocessors: int = 1
    capability: int = 90
    configuration: str | None = None

    def answers(self, seed: int = 0) -> Answer:
        with (
            rk.simulator.multiprocessors(self.multiprocessors),
            rk.simulator.compute_capability(self.capability),
            nullcontext() if self.configuration is None else rk.tuning.forced(self.configuration),
        ):
            return self.run(seed)

    def check(self, seed: int = 0) -> None:
        """Assert that every answer is exact (NaN is never right)."""
        answers = self.answers(seed)
        for i, (got, wanted) in enumerate(answers):
            want = wanted.to(got.dtype)
            assert got.shape == want.shape, (
                f"{self.name}[{i}]: shape {tuple(got.shape)}, want {tuple(want.shape)}"
            )
            wrong = ~(got == want)
            assert not bool(wrong.any()), f"{self.name}[{i}]: {int(wrong.sum())} of {got.numel()} wrong"


LARGE = Shape(1, 64, 12, 12, 136, 3, 3, padding=(1, 1))  # tiles of 128 filters, and a ragged second
LIGHT = Shape(1, 32, 10, 13, 72, 3, 3, padding=(1, 1))  # FFMA is slow to simulate
SMALL = Shape(1, 72, 6, 12, 72, 3, 3, padding=(1, 1))
# Eleven stages: the last lies where the epilogue's panel will.
NARROW = Shape(1, 72, 12, 12, 64, 3, 3, stride=(2, 1), padding=(1, 1))
# The same for the stages of half as many 32-bit elements: sixteen, and four of pixels in wgrad.
NARROW_32 = Shape(1, 56, 12, 18, 64, 3, 3, stride=(2, 1), padding=(1, 1))
RAGGED = Shape(2, 9, 7, 6, 9, 3, 2, stride=(2, 1), padding=(1, 2), dilation=(1, 2))
STEM = Shape(2, 3, 63, 56, 72, 7, 7, stride=(2, 2), padding=(3, 3))  # whole units of rows, not of columns
FEW = Shape(2, 3, 9, 7, 16, 3, 3, stride=(2, 2), padding=(1, 1))  # channels padded to a chunk
WIDE = Shape(1, 264, 11, 12, 136, 1, 1)  # pointwise: more stages than the ring, ragged words of the mask
DEEP = Shape(1, 136, 11, 12, 264, 1, 1)  # the same for dgrad
THIN = Shape(1, 72, 11, 12, 72, 1, 1)
POINT = Shape(2, 40, 6, 7, 24, 1, 1)
POINT_32 = Shape(2, 200, 6, 7, 24, 1, 1)  # seven stages, in rings of two and of three
ODD = Shape(2, 9, 5, 7, 11, 1, 1)

# conv_wgrad of sm_90, by the tile that each problem takes on so many multiprocessors (test_wgrad_tma.py holds
# that it does): ragged filters and channels, tiles that span taps and end behind the last, steps of two and
# spread taps, matrices (point), several ranges (split), more stages than the ring in all but 7x7.
WGRAD_TMA = {
    "128x384 pair": (Shape(3, 64, 14, 13, 200, 2, 3, (1, 2), (1, 1)), 2),
    "128x384 pair, 7x7": (Shape(1, 64, 5, 11, 200, 7, 7, (1, 2), (2, 1)), 6),
    "128x256 pair": (Shape(3, 200, 12, 13, 136, 2, 1, (1, 2), (2, 0), (2, 1)), 2),
    "128x256 pair, point, split": (Shape(4, 200, 12, 11, 200, 1, 1), 5),
    "128x192 pair": (Shape(2, 64, 10, 13, 200, 3, 3, (1, 1), (0, 1)), 2),
    "128x192 pair, split": (Shape(9, 128, 14, 13, 136, 1, 1, (1, 2)), 4),
    "128x384": (Shape(3, 264, 12, 11, 136, 1, 1, (2, 1)), 1),
    "128x256": (Shape(3, 200, 12, 13, 72, 2, 1, (2, 1), (1, 0), (2, 1)), 1),
    "128x256, point, split": (Shape(3, 200, 14, 13, 72, 1, 1), 2),
    "128x192": (Shape(2, 192, 10, 8, 72, 3, 1, (1, 1), (3, 0), (2, 1)), 1),
    "128x192, point, split": (Shape(10, 128, 9, 11, 72, 1, 1), 3),
    "256x128": (Shape(2, 200, 12, 13, 136, 2, 1, (2, 1)), 1),
    "256x128, point, split": (Shape(4, 8, 14, 13, 256, 1, 1), 2),
    "64x256": (Shape(3, 200, 14, 8, 40, 2, 3, (1, 2), (1, 2), (2, 1)), 2),
    "64x256, point, split": (Shape(6, 136, 14, 11, 8, 1, 1), 2),
    "64x576": (Shape(2, 200, 14, 8, 8, 3, 3, (2, 1), (1, 2), (2, 1)), 1),
    "64x576, split": (Shape(3, 64, 10, 13, 40, 3, 3), 2),
}


# What of them the kernel normalises on load: one tap, and tiles of up to 256 columns.
WGRAD_OF_NORM_TMA = {
    name: problem
    for name, problem in WGRAD_TMA.items()
    if problem[0].r * problem[0].s == 1 and not name.startswith("128x384")
}


def wgrad_tma(precision: str) -> list[Case]:
    return [
        Case(f"{kernel.__name__}_tma-{precision}-{name}", kernel(precision, shape), machine)
        for kernel, problems in ((conv.conv_wgrad, WGRAD_TMA), (conv.conv_wgrad_of_norm, WGRAD_OF_NORM_TMA))
        for name, (shape, machine) in problems.items()
    ]


# fprop and dgrad of sm_90. More tiles than blocks in all, so that rings go round and boxes are used again; an
# odd number of row tiles, so that one of a cluster has none; a last tile of columns that lacks boxes. Phases
# of dgrad: four of different depths, and of a 1x1 convolution three that have no taps.
BLOCK_3X3 = Shape(1, 136, 17, 18, 200, 3, 3, (1, 1), (1, 1))
STEPPED = Shape(2, 72, 18, 17, 200, 3, 3, (2, 2), (1, 1))
EVERY_OTHER = Shape(3, 136, 15, 13, 72, 1, 1, (2, 2))
SPREAD = Shape(2, 200, 13, 12, 72, 2, 3, (1, 3), (2, 1), (3, 2))
NORMED = Shape(3, 320, 11, 12, 200, 1, 1)
ADDED = Shape(3, 384, 11, 12, 200, 1, 1)
GRADED = Shape(3, 200, 11, 12, 384, 1, 1)
KEPT = Shape(4, 64, 14, 13, 40, 3, 3, (1, 1), (1, 1))
KEPT_BACK = Shape(4, 40, 14, 13, 64, 3, 3, (1, 1), (1, 1))
KEPT_STEPPED = Shape(7, 64, 15, 13, 64, 3, 3, (2, 2), (1, 1))
CONV_TMA: dict[str, dict[Callable[[str, Shape], conv.Run], tuple[Shape, ...]]] = {
    **{
        tile: {
            conv.conv_fprop: (BLOCK_3X3, STEPPED, SPREAD),
            conv.conv_fprop_stats: (BLOCK_3X3, EVERY_OTHER),
            conv.conv_dgrad: (BLOCK_3X3, STEPPED, EVERY_OTHER, SPREAD),
        }
        for tile in ("128x256", "256x128", "128x128", "256x64")
    },
    "192x64": {
        conv.conv_fprop: (KEPT,),
        conv.conv_fprop_stats: (KEPT,),
        conv.conv_dgrad: (KEPT_BACK, KEPT_STEPPED),
    },
    "128x64": {
        conv.conv_fprop_of_norm: (NORMED,),
        conv.conv_fprop_of_sum: (ADDED,),
        conv.conv_dgrad_of_bn: (GRADED,),
    },
}
for _tile in ("128x256", "128x128"):
    CONV_TMA[_tile][conv.conv_fprop_of_norm] = (NORMED,)
CONV_TMA["128x128"][conv.conv_fprop_of_sum] = (ADDED,)
CONV_TMA["128x128"][conv.conv_dgrad_of_bn] = (GRADED,)


def conv_tma(precision: str) -> list[Case]:
    return [
        Case(
            f"{kernel.__name__}-{precision}-tma {tile} {i}",
            kernel(precision, shape),
            multiprocessors=8 if shape is EVERY_OTHER else 2,  # a cluster that has only a phase without taps
            configuration=f"sm90/{tile}",
        )
        for tile, kernels in CONV_TMA.items()
        for kernel, shapes in kernels.items()
        for i, shape in enumerate(shapes)
    ]


def of_ceilings() -> list[Case]:
    """Three rounds of the ring, more turns than the tensor has boxes, boxes that span rows and images."""
    plan = {
        "tiled": ((2, 16, 16), 3, 31),
        "im2col": ((4, 8, 20), 2, 58),
        "multicast": ((2, 16, 16), 4, 31),
    }
    return [
        *(
            Case(f"feed_ceiling-bf16-{boxes}", ceilings.feed_ceiling(boxes, *rest))
            for boxes, rest in plan.items()
        ),
        *(Case(f"matrix_ceiling-{p}", ceilings.matrix_ceiling(p, 2, 3)) for p in ("bf16", "tf32")),
    ]


def convolutions(precision: str) -> list[Case]:
    """Each convolution and each prologue, on every tile of the portable kernels."""
    ffma = precision == "f32"
    large = "large", LIGHT if ffma else LARGE, 1
    wide, deep = (("pointwise", THIN if ffma else shape, 1) for shape in (WIDE, DEEP))
    words = DTYPES[precision].itemsize == 4
    small, narrow = ("small", SMALL, 132), ("narrow", NARROW_32 if words else NARROW, 1)
    point, odd = ("pointwise-small", POINT_32 if words else POINT, 132), ("pointwise-odd", ODD, 1)
    ragged, few = ("ragged", RAGGED, 1), ("few", FEW, 1)
    plain = large, small, narrow, ragged, few
    plan: dict[Callable[[str, Shape], conv.Run], tuple[tuple[str, Shape, int], ...]] = {
        conv.conv_fprop: plain,
        conv.conv_fprop_stats: plain,
        conv.conv_dgrad: plain,
        conv.conv_wgrad: plain,
        conv.conv_fprop_with_shortcut_a: (large, narrow, ragged),
        conv.conv_dgrad_with_shortcut_a: (large, narrow, ragged),
        conv.conv_fprop_of_norm: (large, small, narrow, ragged, few, wide, point),
        conv.conv_fprop_of_sum: (wide, point, odd),
        conv.conv_dgrad_of_bn: (deep, point, odd, narrow, ragged),
        conv.conv_dgrad_of_fixed_bn: (point, odd),
        conv.conv_wgrad_of_norm: (large, small, narrow, ragged, wide, point),
    }
    return [
        Case(f"{kernel.__name__}-{precision}-{name}", kernel(precision, shape), machine, capability=80)
        for kernel, problems in plan.items()
        for name, shape, machine in problems
    ]


def cases() -> list[Case]:
    """Every kernel, precision and tile; names say which."""
    found = [case for precision in ("bf16", "f16", "tf32", "f32") for case in convolutions(precision)]
    for precision in ("bf16", "f16"):
        found += [*conv_tma(precision), *wgrad_tma(precision)]
        found.append(Case(f"stem-{precision}", conv.stem(precision, 1, 64, 62, 72)))
        # Rows of x in whole chunks, for sm_90: two bands in each of two images, more strips than the rings
        # have stages; and units that start a strip early.
        found.append(Case(f"stem-{precision}-rows", conv.stem(precision, 2, 61, 48, 40)))
        found.append(Case(f"stem-{precision}-segments", conv.stem(precision, 1, 33, 72, 72), 8))
        found.append(Case(f"stem_statistics-{precision}", conv.conv_fprop_stats(precision, STEM)))
    for precision in ("bf16", "f16", "f32"):
        for kernel in (passes.normalising, passes.reducing):
            name = f"{kernel.__name__}-{precision}"
            found.append(Case(name, kernel(precision, 2, 40, 8, 8), 2))
            found.append(Case(f"{name}-ragged", kernel(precision, 2, 5, 7, 3), 2))
            found.append(Case(f"{name}-wide", kernel(precision, 1, 272, 4, 4), 2))
        found.append(Case(f"pooling-{precision}", passes.pooling(precision, 2, 72, 8, 8)))
        found.append(Case(f"pooling-{precision}-ragged", passes.pooling(precision, 1, 3, 4, 4)))
    found.append(Case("finalizing-f32", passes.finalizing("f32", 150)))
    found += of_ceilings()
    return found


CASES = {case.name: case for case in cases()}
