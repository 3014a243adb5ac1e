"""conv_wgrad of sm_90: which problems take it, with which tile, and random ones that are exact."""

from __future__ import annotations

import random

import pytest
import torch

import resnet_kernels as rk

from . import convolutions as conv
from .cases import CASES, WGRAD_OF_NORM_TMA, WGRAD_TMA, Case
from .problems import DTYPES, Draw, Shape, operators

PRECISIONS = ("bf16", "f16")
PADDED = Shape(4, 136, 14, 11, 8, 1, 1, padding=(1, 0))  # one tap, which sees more than the image


def kernel_of(case: Case, seed: int = 0) -> str:
    """The kernel that the case's convolution ran in the checked build; its answers are exact."""
    with rk.simulator.checked(), rk.simulator.record() as launches:
        case.check(seed)
    (kernel,) = (name for launch in launches if (name := str(launch["kernel"])).startswith("conv_wgrad"))
    return kernel


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", WGRAD_TMA)
def test_each_case_takes_its_tile(name: str, precision: str) -> None:
    kernel = f"conv_wgrad_tma {precision} {name.split(',')[0]}"
    assert kernel_of(CASES[f"conv_wgrad_tma-{precision}-{name}"]) == kernel
    if name in WGRAD_OF_NORM_TMA:
        assert kernel_of(CASES[f"conv_wgrad_of_norm_tma-{precision}-{name}"]) == f"{kernel} of norm"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_tile_of_up_to_256_columns_normalises_on_load(precision: str) -> None:
    tiles = {kernel.split(",")[0] for kernel in WGRAD_TMA}
    assert {name.split(",")[0] for name in WGRAD_OF_NORM_TMA} == {
        tile for tile in tiles if int(tile.split()[0].split("x")[1]) <= 256
    }
    for shape, machine in (WGRAD_TMA["128x384"], WGRAD_TMA["64x576"], (PADDED, 2)):  # who does not
        kernel = kernel_of(Case(str(shape), conv.conv_wgrad_of_norm(precision, shape), machine))
        assert kernel.startswith("conv_wgrad_tma") and not kernel.endswith("of norm")


@pytest.mark.parametrize(
    ("shape", "covered"),
    [
        (Shape(2, 64, 8, 9, 136, 3, 1, (1, 1), (127, 0), (127, 1)), True),  # an offset of 254
        (Shape(2, 64, 8, 9, 136, 3, 1, (1, 1), (128, 0), (128, 1)), False),  # of 256
        (Shape(2, 64, 8, 9, 136, 3, 1, (1, 1), (128, 0), (127, 1)), True),  # a corner at -128
        (Shape(2, 64, 8, 9, 136, 3, 1, (1, 1), (129, 0), (127, 1)), False),  # at -129
        (Shape(2, 64, 129, 4, 136, 129, 1), True),  # the opposite one at -128
        (Shape(2, 64, 130, 4, 136, 130, 1), False),  # at -129
        (Shape(3, 64, 57, 57, 136, 1, 3, (8, 8), (0, 1)), True),  # a step of 8
        (Shape(3, 64, 64, 64, 136, 1, 3, (9, 9), (0, 1)), False),  # of 9
        (Shape(2, 60, 8, 9, 64, 3, 3), False),  # no whole chunks
        (Shape(2, 64, 8, 9, 60, 3, 3), False),
    ],
    ids=str,
)
def test_windows_that_a_map_can_state(shape: Shape, covered: bool) -> None:
    for precision in PRECISIONS:
        kernel = kernel_of(Case(str(shape), conv.conv_wgrad(precision, shape)))
        assert kernel.startswith("conv_wgrad_tma") == covered, kernel


def test_other_machines_and_precisions_take_the_portable_kernel() -> None:
    shape, machine = WGRAD_TMA["64x576"]
    for precision, capability in (("bf16", 80), ("f16", 80), ("tf32", 90), ("f32", 90)):
        case = Case("portable", conv.conv_wgrad(precision, shape), machine, capability)
        assert kernel_of(case).startswith(f"conv_wgrad {precision} ")


def test_problems_too_small_for_large_tiles_take_the_portable_kernel() -> None:
    shape = Shape(1, 64, 8, 8, 64, 3, 3, padding=(1, 1))
    assert kernel_of(Case("tiny", conv.conv_wgrad("bf16", shape), 132)) == "conv_wgrad bf16 64x64"


@pytest.mark.parametrize("name", ["128x384 pair", "128x256, point, split", "64x576"])
def test_nans_and_infinities_reach_what_they_reach_in_the_portable_kernel(name: str) -> None:
    """The last pixels' too: behind them lies padding of both operands."""
    shape, machine = WGRAD_TMA[name]
    draw = Draw(0, DTYPES["bf16"])
    x, dy = draw.image(*shape.x), draw.image(*shape.y)
    x[0, 5, 1, 1] = torch.inf
    x[-1, -1, -1, -1] = torch.nan
    dy[-1, 3, -1, -1] = -torch.inf
    answers = []
    for capability in (80, 90):
        with rk.simulator.multiprocessors(machine), rk.simulator.compute_capability(capability):
            geometry = ([shape.r, shape.s], *shape.geometry)
            answers.append(operators().conv_wgrad(dy, x, None, *geometry, False))
    portable, tma = answers
    assert bool(((portable == tma) | (portable.isnan() & tma.isnan())).all())
    assert bool(tma.isnan().any() and tma.isinf().any() and tma.isfinite().any())


@pytest.mark.parametrize("name", WGRAD_TMA)
def test_normalised_on_load_is_normalised_before_to_the_bit(name: str) -> None:
    """An infinite shift meets no zero of dy, unless what lies behind the last pixel is normalised too."""
    shape, machine = WGRAD_TMA[name]
    generator = torch.Generator().manual_seed(1)
    like = {"dtype": torch.bfloat16, "memory_format": torch.channels_last}
    x, dy = (torch.randn(size, generator=generator).to(**like) for size in (shape.x, shape.y))
    dy = dy.abs() + 1
    norm = torch.randn(4, shape.c, generator=generator)
    norm[2, 0] = torch.inf
    arguments = [shape.r, shape.s], *shape.geometry, False
    op = operators()
    with rk.simulator.multiprocessors(machine):
        a, _ = op.bn_normalise(x, norm, None, None, True, False)
        wanted = op.conv_wgrad(dy, a, None, *arguments)
        assert torch.equal(op.conv_wgrad(dy, x, norm, *arguments), wanted)
    assert name not in WGRAD_OF_NORM_TMA or bool(wanted.isinf().any() and not wanted.isnan().any())


def random_problem(generator: random.Random, windows: bool) -> tuple[Shape, int]:
    """A convolution with an output, small enough to simulate, and a machine of a few multiprocessors."""
    draw = generator.choice
    while True:
        r, s = (1, 1)
        if windows:
            r, s = draw([(1, 1), (1, 1), (1, 3), (2, 2), (2, 1), (3, 3), (3, 3), (5, 4), (7, 7)])
        shape = Shape(
            *(draw([1, 2, 3, 5]), 8 * draw([1, 3, 5, 8, 9, 16, 17, 25, 32])),
            *(draw([1, 3, 8, 11, 14]), draw([2, 7, 13, 16])),
            *(8 * draw([1, 3, 5, 8, 9, 16, 17, 25, 32, 33]), r, s),
            stride=(draw([1, 1, 1, 2, 3]), draw([1, 1, 1, 2, 5])),
            padding=(draw(range(r)), draw(range(s))),
            dilation=(draw([1, 1, 2, 3]), draw([1, 1, 2, 4])),
        )
        extents = zip((shape.h, shape.w), (r, s), shape.padding, shape.dilation, strict=True)
        if any(e + 2 * p <= d * (t - 1) for e, t, p, d in extents):
            continue
        _, k, p, q = shape.y
        if shape.n * p * q * k * shape.c * r * s <= 6e7:
            return shape, draw([1, 2, 2, 3, 4, 5])


@pytest.mark.parametrize("seed", range(4))
def test_random_problems_are_exact(seed: int) -> None:
    """In the fast build and, each under a schedule of its own, in the checked one."""
    generator = random.Random(seed)
    taken = number = 0
    while taken < 8:
        number += 1
        kernel = generator.choice([conv.conv_wgrad, conv.conv_wgrad_of_norm])
        shape, machine = random_problem(generator, windows=kernel is conv.conv_wgrad)
        case = Case(str(shape), kernel(generator.choice(PRECISIONS), shape), machine)
        case.check(number)
        kind = generator.choice([rk.simulator.random_schedule, rk.simulator.pct_schedule])
        with rk.simulator.checked(), rk.simulator.schedule(kind(number)):
            taken += kernel_of(case, number).startswith("conv_wgrad_tma")
