"""Memory traffic, counted by the checked simulator, against what a kernel must move and says it moves.

``unique``: distinct 32-byte sectors over the grid, against each tensor read or written once: within 2 %.
``requested``: sectors asked for by warp instructions, against the bytes that lanes use (within 2 % where
channels are multiples of 16) and against the tile formula in the head of csrc/kernels/sm80/conv_gemm.h.
Shared memory: no bank conflicts in the main loops.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import pytest

import resnet_kernels as rk

from .problems import DTYPES, Draw, operators

SECTOR = 32
MAIN_LOOP = ("im2col", "pixel_rows", "prologue", "warp_mma", "warp_ffma", "warp_outer")


@dataclass(frozen=True)
class Layer:
    """A layer whose channels are multiples of 16, on an image small enough for the checked build."""

    n: int
    c: int
    size: int
    k: int
    r: int
    stride: int = 1

    @property
    def padding(self) -> int:
        return self.r // 2

    @property
    def output(self) -> int:
        return (self.size + 2 * self.padding - self.r) // self.stride + 1

    def taps_inside(self) -> int:
        """Pairs (output pixel, tap) of one image whose source lies inside it."""
        axis = sum(
            0 <= p * self.stride - self.padding + r < self.size
            for p in range(self.output)
            for r in range(self.r)
        )
        return axis**2


LAYERS = [
    Layer(2, 64, 14, 64, 1),
    Layer(1, 64, 14, 256, 1),
    Layer(1, 256, 14, 64, 1),
    Layer(1, 64, 14, 64, 3),
    Layer(1, 128, 10, 144, 3),
    Layer(1, 64, 14, 128, 3, stride=2),
    Layer(1, 512, 7, 512, 3),
]


def recorded(call: Callable[[], object]) -> list[dict]:
    with rk.simulator.checked(), rk.simulator.record() as launches:
        call()
    return launches


def fprop(layer: Layer, precision: str, configuration: str | None = None) -> dict:
    """The launch of a convolution with residual: by the portable kernels, or as `configuration` says."""
    draw = Draw(0, DTYPES[precision])
    x, weight = (
        draw.image(layer.n, layer.c, layer.size, layer.size),
        draw.image(layer.k, layer.c, layer.r, layer.r),
    )
    skip = draw.image(layer.n, layer.k, layer.output, layer.output)
    vector = draw.vector(layer.k)
    geometry = ([layer.stride] * 2, [layer.padding] * 2, [1, 1])

    def call() -> None:
        operators().conv_fprop(
            x, weight, vector, vector, None, None, 0.0, skip, *geometry, True, precision == "tf32"
        )

    named = nullcontext() if configuration is None else rk.tuning.forced(configuration)
    with rk.simulator.compute_capability(80 if configuration is None else 90), named:
        (launch,) = recorded(call)
    return launch


def within(value: float, budget: float, share: float = 0.02) -> bool:
    return abs(value - budget) <= share * budget


@pytest.mark.parametrize("precision", ["bf16", "f32"])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_fprop_moves_each_tensor_once(layer: Layer, precision: str) -> None:
    traffic = fprop(layer, precision)["global"]
    size = DTYPES[precision].itemsize
    pixels = layer.n * layer.output**2
    x = layer.n * layer.size**2 * layer.c * size
    skip = y = pixels * layer.k * size
    assert within(traffic["activation"]["unique_read"] * SECTOR, x + skip)
    assert within(traffic["weight"]["unique_read"] * SECTOR, layer.k * layer.c * layer.r**2 * size)
    assert within(traffic["output"]["unique_written"] * SECTOR, y)
    assert traffic["output"]["unique_read"] == 0


@pytest.mark.parametrize("precision", ["bf16", "tf32", "f32"])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_fprop_requests_what_its_tiles_need(layer: Layer, precision: str) -> None:
    launch = fprop(layer, precision)
    size = DTYPES[precision].itemsize
    tile_m, tile_n = map(int, launch["kernel"].split()[-1].split("x"))
    pixels = layer.n * layer.output**2
    column_tiles, row_tiles = -(-layer.k // tile_n), -(-pixels // tile_m)
    operands = column_tiles * layer.n * layer.taps_inside() * layer.c * size
    skip = y = pixels * layer.k * size
    weight = row_tiles * layer.k * layer.c * layer.r**2 * size
    traffic = launch["global"]
    assert within(traffic["activation"]["requested"] * SECTOR, operands + skip)
    assert within(traffic["weight"]["requested"] * SECTOR, weight)
    assert within(traffic["output"]["requested"] * SECTOR, y)
    for role in ("activation", "weight", "output"):
        assert within(traffic[role]["requested"] * SECTOR, traffic[role]["useful"]), role


@pytest.mark.parametrize("tile", ["128x256", "256x128", "128x128", "256x64", "192x64"])
@pytest.mark.parametrize(
    "layer",
    [
        Layer(2, 64, 14, 64, 1),
        Layer(1, 192, 14, 144, 1),
        Layer(1, 64, 14, 64, 3),
        Layer(1, 128, 10, 272, 3),
        Layer(1, 64, 14, 128, 3, stride=2),
    ],
    ids=str,
)
def test_tma_requests_what_its_tiles_need(layer: Layer, tile: str) -> None:
    """fprop on sm_90: the formulas in the heads of csrc/kernels/sm90/conv_gemm.h and conv_narrow.h."""
    kept = tile == "192x64"
    if kept and layer.k > 64:
        pytest.skip("for up to 64 channels")
    launch = fprop(layer, "bf16", f"sm90/{tile}")
    assert launch["kernel"].endswith(tile) and "sm90" in launch["kernel"]
    tile_m, tile_n = map(int, tile.split("x"))
    pixels = layer.n * layer.output**2
    weight, y = layer.k * layer.c * layer.r**2 * 2, pixels * layer.k * 2
    source = -(-layer.k // tile_n) * layer.n * layer.taps_inside() * layer.c * 2
    loads_of_weights = launch["grid"][0] if kept else -(-pixels // (2 * tile_m))  # a block's; a cluster's
    traffic = launch["global"]
    assert traffic["activation"]["requested"] * SECTOR == source + y  # the residual, once
    assert traffic["weight"]["requested"] * SECTOR == loads_of_weights * weight
    assert traffic["output"]["requested"] * SECTOR == y
    for role in ("activation", "weight", "output"):
        assert traffic[role]["useful"] == traffic[role]["requested"] * SECTOR, role
    assert not rk.simulator.conflicts(launch)


@pytest.mark.parametrize(
    ("layer", "machine"),
    [
        (Layer(2, 64, 14, 64, 3), 1),
        (Layer(4, 256, 14, 64, 1), 2),
        (Layer(2, 128, 14, 256, 1), 2),
        (Layer(2, 128, 14, 256, 3), 2),
        (Layer(4, 192, 14, 128, 3, stride=2), 3),
    ],
    ids=str,
)
def test_wgrad_requests_what_its_tiles_need(layer: Layer, machine: int) -> None:
    """On sm_90: the formula in the head of csrc/kernels/sm90/conv_wgrad.h, and nothing but whole sectors."""
    draw = Draw(0, DTYPES["bf16"])
    x = draw.image(layer.n, layer.c, layer.size, layer.size)
    dy = draw.image(layer.n, layer.k, layer.output, layer.output)
    geometry = ([layer.r] * 2, [layer.stride] * 2, [layer.padding] * 2, [1, 1])
    with rk.simulator.multiprocessors(machine):
        launch, reduction = recorded(lambda: operators().conv_wgrad(dy, x, None, *geometry, False))
    kernel, _, tile, *pair = launch["kernel"].split()
    assert kernel == "conv_wgrad_tma"
    assert launch["grid"][0] <= machine
    tile_m, tile_n = map(int, tile.split("x"))
    chunks, weights = layer.r**2 * -(-layer.c // 64), layer.k * layer.c * layer.r**2
    column_tiles, row_tiles = -(-chunks * 64 // tile_n), -(-layer.k // tile_m)
    dy_bytes = column_tiles * dy.numel() * 2
    x_bytes = row_tiles * layer.n * layer.taps_inside() * layer.c * 2 // (2 if pair else 1)
    traffic = launch["global"]
    assert traffic["activation"]["requested"] * SECTOR == dy_bytes + x_bytes
    assert traffic["activation"]["useful"] == dy_bytes + x_bytes
    if layer.stride == 1:
        assert traffic["activation"]["unique_read"] * SECTOR == (x.numel() + dy.numel()) * 2
    partials = traffic["partial"]
    assert partials["unique_written"] % (weights * 4 // SECTOR) == 0
    assert partials["requested"] == partials["unique_written"]
    assert partials["useful"] == partials["requested"] * SECTOR
    assert reduction["global"]["activation"]["unique_read"] == partials["unique_written"]
    assert not rk.simulator.conflicts(launch)


@pytest.mark.parametrize(("columns", "machine"), [(64, 1), (128, 1), (192, 3), (256, 2)])
def test_wgrad_of_norm_has_no_bank_conflicts(columns: int, machine: int) -> None:
    """On sm_90, where it reads and writes x once more in shared memory, and nothing more in global memory."""
    draw = Draw(0, DTYPES["bf16"])
    x, dy = draw.image(4, columns, 14, 14), draw.image(4, 256, 14, 14)
    pointwise = ([1, 1], [1, 1], [0, 0], [1, 1])
    with rk.simulator.multiprocessors(machine):
        plain, _ = recorded(lambda: operators().conv_wgrad(dy, x, None, *pointwise, False))
        launch, _ = recorded(lambda: operators().conv_wgrad(dy, x, draw.norm(columns), *pointwise, False))
    assert launch["kernel"] == f"{plain['kernel']} of norm"
    assert launch["global"]["activation"] == plain["global"]["activation"]
    assert not rk.simulator.conflicts(launch)


@pytest.mark.parametrize("precision", ["bf16", "f16", "tf32", "f32"])
def test_main_loops_have_no_bank_conflicts(precision: str) -> None:
    draw = Draw(0, DTYPES[precision])
    x, weight, dy = draw.image(1, 64, 12, 12), draw.image(136, 64, 3, 3), draw.image(1, 136, 12, 12)
    point, norm, coefficients = draw.image(136, 64, 1, 1), draw.norm(64), draw.coefficients(136)
    geometry, pointwise = ([1, 1], [1, 1], [1, 1]), ([1, 1], [0, 0], [1, 1])
    epilogue = None, None, None, None, None, False, [12, 12]
    tf32 = precision == "tf32"

    def call() -> None:
        op = operators()
        op.conv_fprop(x, weight, None, None, None, None, 0.0, None, *geometry, True, tf32)
        op.conv_fprop_stats(x, norm, None, weight, *geometry, False, tf32)
        op.conv_fprop_stats(x, norm, x, point, *pointwise, True, tf32)
        op.conv_dgrad(dy, None, None, None, weight, *epilogue, *geometry, tf32)
        op.conv_dgrad(dy, None, dy, coefficients, point, *epilogue, *pointwise, tf32)
        op.conv_wgrad(dy, x, None, [3, 3], *geometry, tf32)
        op.conv_wgrad(dy, x, norm, [3, 3], *geometry, tf32)

    for machine in (1, 132):  # the large tiles, then the small ones
        with rk.simulator.multiprocessors(machine), rk.simulator.compute_capability(80):
            launches = recorded(call)
        for launch in launches:
            loop = {
                where: count
                for where, count in rk.simulator.conflicts(launch).items()
                if any(file in where for file in MAIN_LOOP)
            }
            assert not loop, f"{launch['kernel']}: {loop}"


def stem(precision: str) -> dict:
    """The launch on one multiprocessor for an image of whole tiles: 56 x 64 outputs, 28 x 32 pooled."""
    draw = Draw(0, DTYPES[precision])
    x, weight = draw.image(1, 3, 112, 128), draw.image(64, 3, 7, 7)

    def call() -> None:
        operators().conv_bn_relu_maxpool(
            x, weight, None, None, None, None, 0.0, [2, 2], [3, 3], [1, 1], False
        )

    with rk.simulator.multiprocessors(1):
        (launch,) = recorded(call)
    traffic = launch["global"]
    assert within(traffic["activation"]["unique_read"] * SECTOR, x.numel() * 2)
    assert within(traffic["output"]["unique_written"] * SECTOR, 28 * 32 * 64 * 2)
    return launch


@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_stem_computes_each_product_about_once(precision: str) -> None:
    """The portable stem pads its depth from 147 to 176 and its tiles from 224 pixels to 256."""
    with rk.simulator.compute_capability(80):
        launch = stem(precision)
    assert launch["macs"] == 28 * 32 // 56 * 256 * 64 * 176
    assert launch["macs"] <= 1.4 * 56 * 64 * 64 * 147


@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_stem_of_sm90_recomputes_rows_alone(precision: str) -> None:
    """The same depth, 15 rows for 14; y leaves in whole sectors, and shared memory has no conflicts."""
    launch = stem(precision)
    assert launch["kernel"] == f"stem_fprop sm90 {precision}"
    assert launch["macs"] == 56 // 14 * 15 * 64 * 64 * 176
    assert launch["macs"] <= 1.3 * 56 * 64 * 64 * 147
    output = launch["global"]["output"]
    assert output["requested"] == output["unique_written"]
    assert not rk.simulator.conflicts(launch)


@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_stem_in_training_recomputes_nothing(precision: str) -> None:
    draw = Draw(0, DTYPES[precision])
    x, weight = draw.image(1, 3, 64, 128), draw.image(64, 3, 7, 7)

    def call() -> None:
        operators().conv_fprop_stats(x, None, None, weight, [2, 2], [3, 3], [1, 1], False, False)

    launch, _ = recorded(call)
    assert launch["kernel"] == f"stem_statistics sm90 {precision}"
    assert launch["macs"] == 32 * 64 * 64 * 176
    traffic, y = launch["global"], 32 * 64 * 64 * 2
    assert within(traffic["activation"]["unique_read"] * SECTOR, x.numel() * 2)
    assert traffic["output"]["requested"] * SECTOR == y
    assert traffic["partial"]["unique_written"] * SECTOR == 32 // 8 * 64 * 12
    assert not rk.simulator.conflicts(launch)


@pytest.mark.parametrize("precision", ["bf16", "f32"])
def test_elementwise_moves_each_tensor_once(precision: str) -> None:
    draw = Draw(0, DTYPES[precision])
    n, c, size = 2, 64, 16
    x, skip = draw.image(n, c, size, size), draw.image(n, c, size, size)
    vector = draw.vector(c)
    tensor = x.numel() * DTYPES[precision].itemsize
    launches = recorded(lambda: operators().bn_apply(x, vector, vector, None, None, 0.0, skip, True))
    traffic = launches[0]["global"]
    assert within(traffic["activation"]["unique_read"] * SECTOR, 2 * tensor)
    assert within(traffic["activation"]["requested"] * SECTOR, 2 * tensor)
    assert within(traffic["output"]["requested"] * SECTOR, tensor)
    launches = recorded(lambda: operators().max_pool(x, [3, 3], [2, 2], [1, 1]))
    assert within(launches[0]["global"]["activation"]["unique_read"] * SECTOR, tensor)


def test_small_machines_take_large_tiles() -> None:
    """The tile choice: whole waves on the machine decide between shapes."""
    layer = Layer(1, 64, 14, 128, 3)
    with rk.simulator.multiprocessors(1):
        assert fprop(layer, "bf16")["kernel"].endswith("128x128")
    assert fprop(layer, "bf16")["kernel"].endswith("64x64")
