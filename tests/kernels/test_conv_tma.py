"""sm_90's convolutions: what runs them, random problems that are exact, every layer of the networks."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F

import resnet_kernels as rk
from resnet_kernels.measure import problems as networks

from . import convolutions as conv
from .cases import CASES, CONV_TMA, Case
from .problems import DTYPES, Draw, Shape, operators

PRECISIONS = ("bf16", "f16")
TILES = tuple(CONV_TMA)
NAMES = [name for name in CASES if "-tma " in name and "conv_wgrad" not in name]


def kernels_of(case: Case, seed: int = 0) -> list[str]:
    """The convolutions that a case ran in the checked build; its answers are exact."""
    with rk.simulator.checked(), rk.simulator.record() as launches:
        case.check(seed)
    return [name for launch in launches if (name := str(launch["kernel"])).startswith("conv_")]


@pytest.mark.parametrize("name", NAMES)
def test_each_case_runs_its_kernel(name: str) -> None:
    operator, precision, tile = name.split("-")
    (kernel,) = kernels_of(CASES[name])
    direction = "conv_dgrad sm90" if "dgrad" in operator else "conv_fprop sm90"
    assert kernel.startswith(direction)
    assert f"{precision} {tile.split()[1]}" in kernel
    assert ("of norm + residual" in kernel) == ("of_sum" in operator)
    assert ("of norm" in kernel) == ("of_norm" in operator or "of_sum" in operator)
    assert ("of bn gradient" in kernel) == ("of_bn" in operator)


def random_problem(generator: random.Random) -> tuple[Case, int]:
    """A case of a drawn operator, shape, tile and machine, whichever kernel the tile turns out to allow."""
    draw = generator.choice
    on_load = conv.conv_fprop_of_norm, conv.conv_fprop_of_sum, conv.conv_dgrad_of_bn
    operator = draw([conv.conv_fprop, conv.conv_fprop_stats, conv.conv_dgrad, *on_load])
    tile = draw(TILES)
    pointwise = operator in on_load
    while True:
        source = 64 * draw([1, 2, 3, 5]) if pointwise else 8 * draw([1, 3, 5, 8, 9, 16, 17, 24])
        output = 8 * draw([1, 3, 8, 9, 16, 20, 32, 33]) if tile[-3:] != "x64" else 8 * draw([1, 3, 5, 8, 9])
        r, s = (1, 1) if pointwise else draw([(1, 1), (3, 3), (3, 3), (1, 3), (2, 2), (5, 4), (7, 7)])
        backward = operator in (conv.conv_dgrad, conv.conv_dgrad_of_bn)
        window = {} if pointwise else {
            "stride": (draw([1, 1, 1, 2]), draw([1, 1, 2])),
            "padding": (draw(range(r + 1)), draw(range(s + 1))),
            "dilation": (draw([1, 1, 2, 3]), draw([1, 1, 2, 4])),
        }  # fmt: skip
        c, k = (output, source) if backward else (source, output)
        shape = Shape(draw([1, 2, 3]), c, draw([1, 5, 8, 14, 17]), draw([2, 7, 13, 16]), k, r, s, **window)
        extents = zip((shape.h, shape.w), (r, s), shape.padding, shape.dilation, strict=True)
        if any(e + 2 * p <= d * (t - 1) for e, t, p, d in extents):
            continue
        _, _, p, q = shape.y
        if shape.n * p * q * k * c * r * s <= 6e7:
            break
    precision, machine, seed = draw(PRECISIONS), draw([1, 2, 2, 4, 7]), generator.randrange(1000)
    name = f"{operator.__name__} {precision} {tile} {machine} {shape}"
    return Case(name, operator(precision, shape), machine, configuration=f"sm90/{tile}"), seed


@pytest.mark.parametrize("seed", range(10))
def test_random_problems_are_exact(seed: int) -> None:
    """Twenty in the fast build and, each under a schedule of its own, three of them in the checked one."""
    generator = random.Random(seed)
    taken = 0
    for number in range(20):
        case, inputs = random_problem(generator)
        case.check(inputs)
        if number < 3:
            kind = generator.choice([rk.simulator.random_schedule, rk.simulator.pct_schedule])
            with rk.simulator.checked(), rk.simulator.schedule(kind(inputs)):
                taken += "sm90" in kernels_of(case, inputs)[-1]
    assert taken >= 1


def layers() -> list[Shape]:
    """Every convolution of the networks but the first, on an image of two to seven tiles of pixels."""
    found = {}
    for layer in networks.convolutions(["resnet18", "resnet50"]):
        if layer.c > 3:
            size = 14 if layer.c * layer.k * layer.kernel**2 <= 256 * 256 else 7
            shape = Shape(
                *(2, layer.c, size, size, layer.k, layer.kernel, layer.kernel),
                stride=(layer.stride, layer.stride),
                padding=(layer.kernel // 2, layer.kernel // 2),
            )
            found[shape] = None
    return list(found)


def tiles_for(columns: int) -> list[str]:
    return (
        ["256x64", "192x64"] if columns <= 64 else ["256x128", "128x128"] if columns <= 128 else ["128x256"]
    )


def run(shape: Shape, configuration: str, product: str, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    x, weight, dy = inputs
    op = operators()
    with rk.tuning.forced(configuration):
        if product == "wgrad":
            return op.conv_wgrad(dy, x, None, [shape.r, shape.s], *shape.geometry, False)
        if product == "dgrad":
            epilogue = None, None, None, None, None, False, [shape.h, shape.w]
            dx, _, _ = op.conv_dgrad(dy, None, None, None, weight, *epilogue, *shape.geometry, False)
            return dx
        vectors = None, None, None, None, 0.0
        return op.conv_fprop(x, weight, *vectors, None, *shape.geometry, False, False)


@pytest.mark.parametrize("shape", layers(), ids=str)
def test_every_layer_of_the_networks(shape: Shape) -> None:
    """As close to float64 as the portable kernels: both sum in float32 and round once."""
    generator = torch.Generator().manual_seed(shape.c * shape.k)
    like = {"dtype": torch.bfloat16, "memory_format": torch.channels_last}
    x, weight, dy = (
        torch.randn(size, generator=generator).to(**like) for size in (shape.x, shape.weight, shape.y)
    )
    x_wide, weight_wide = (t.double().requires_grad_() for t in (x, weight))
    y = F.conv2d(x_wide, weight_wide, None, *shape.geometry)
    y.backward(dy.double())
    taps, pixels = shape.r * shape.s, dy.numel() // shape.k
    answers = (
        ("fprop", y.detach(), taps * shape.c, tiles_for(shape.k)),
        ("dgrad", x_wide.grad, taps * shape.k, tiles_for(shape.c)),
        ("wgrad", weight_wide.grad, pixels, ["wgrad"]),
    )
    for product, want, deep, tiles in answers:
        bound = 2**-8 * want.abs() + 2**-22 * deep  # one rounding to bf16; float32 sums of that many products
        for configuration in ("sm80/128x128", *(f"sm90/{tile}" for tile in tiles)):
            got = run(shape, configuration, product, (x, weight, dy))
            assert ((got - want).abs() <= bound).all(), f"{product} {configuration}"


@pytest.mark.parametrize("tile", ["128x256", "192x64"])
def test_nans_and_infinities_reach_what_they_reach_in_the_portable_kernel(tile: str) -> None:
    shape = Shape(2, 64, 13, 11, 40, 3, 3, padding=(1, 1))
    draw = Draw(0, DTYPES["bf16"])
    x, weight, skip = draw.image(*shape.x), draw.image(*shape.weight), draw.image(*shape.y)
    x[0, 5, 1, 1] = torch.inf
    x[-1, -1, -1, -1] = torch.nan
    skip[0, 3, 7, 7] = -torch.inf
    vectors = None, None, None, None, 0.0
    answers = []
    for configuration in ("sm80/64x64", f"sm90/{tile}"):
        with rk.tuning.forced(configuration):
            got = operators().conv_fprop(x, weight, *vectors, skip, *shape.geometry, True, False)
        answers.append(got)
    portable, tma = answers
    assert bool(((portable == tma) | (portable.isnan() & tma.isnan())).all())
    assert bool(tma.isnan().any() and tma.isinf().any() and tma.isfinite().any())


@pytest.mark.parametrize("name", [n for n in NAMES if "-bf16-" in n and n.endswith("0")])
def test_the_grid_changes_no_bit(name: str) -> None:
    """Tiles are independent: as many clusters as the machine has take them in turn, with the same sums."""
    case = CASES[name]
    first, *others = (
        Case(name, case.run, machine, configuration=case.configuration).answers(0) for machine in (1, 3, 132)
    )
    for other in others:
        for (got, _), (again, _) in zip(first, other, strict=True):
            assert (got == again).all()
