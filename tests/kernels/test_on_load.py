"""What a convolution makes of its source on load is what an elementwise pass would have written, bit for bit.

On normal numbers with a few NaNs and infinities, wherever chunks and geometry allow it and where they do not;
on sm_90 with one tile for both, because the choice may differ between the two, and with it the order of sums.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import resnet_kernels as rk

from .cases import LIGHT, NARROW, ODD, POINT, RAGGED, THIN
from .problems import DTYPES, Draw, Shape, operators

PADDED = {"same": LIGHT, "strided": NARROW, "ragged": RAGGED}
POINTWISE = {"thin": THIN, "point": POINT, "odd": ODD}
SMALL = Shape(2, 72, 7, 6, 40, 3, 3, padding=(1, 1))


class Random(Draw):
    """Normal numbers in the place of integers."""

    def image(self, *shape: int) -> Tensor:
        values = torch.randn(shape, generator=self.generator)
        return values.to(self.dtype).contiguous(memory_format=torch.channels_last)

    def sick(self, *shape: int) -> Tensor:
        """An image in which one number in a thousand is NaN or infinite."""
        image = self.image(*shape)
        odd = torch.tensor([torch.nan, torch.inf, -torch.inf]).to(self.dtype)
        where = torch.rand(image.shape, generator=self.generator) < 1e-3
        kinds = self.integers(*image.shape, low=0, high=2)
        return torch.where(where, odd[kinds], image).contiguous(memory_format=torch.channels_last)

    def vectors(self, rows: int, channels: int) -> Tensor:
        return torch.randn((rows, channels), generator=self.generator)


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Equal, NaN equal to NaN."""
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


def on_load(launches: list[dict]) -> list[str]:
    """The kernels that transformed their source."""
    return [launch["kernel"] for launch in launches if " of " in launch["kernel"]]


@pytest.mark.parametrize("machine", (1, 132))
@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("name", (*PADDED, *POINTWISE))
def test_normalised(name: str, precision: str, machine: int) -> None:
    """conv_fprop_stats and conv_wgrad of norm(x), by the kernels that multiply either: those of sm_80."""
    shape, draw, tf32 = {**PADDED, **POINTWISE}[name], Random(1, DTYPES[precision]), precision == "tf32"
    x, weight, dy = draw.sick(*shape.x), draw.image(*shape.weight), draw.image(*shape.y)
    norm, kernel = draw.vectors(4, shape.c), [shape.r, shape.s]
    op = operators()
    with rk.simulator.multiprocessors(machine), rk.simulator.compute_capability(80):
        a, _ = op.bn_normalise(x, norm, None, None, True, False)
        y, moments, _, _ = op.conv_fprop_stats(x, norm, None, weight, *shape.geometry, False, tf32)
        y_want, moments_want, _, _ = op.conv_fprop_stats(a, None, None, weight, *shape.geometry, False, tf32)
        dw = op.conv_wgrad(dy, x, norm, kernel, *shape.geometry, tf32)
        dw_want = op.conv_wgrad(dy, a, None, kernel, *shape.geometry, tf32)
    assert same_bits(y, y_want) and same_bits(moments, moments_want)
    assert same_bits(dw, dw_want)


@pytest.mark.parametrize("machine", (1, 132))
@pytest.mark.parametrize("keep", (False, True))
@pytest.mark.parametrize("residual", (False, True))
@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("name", (*POINTWISE, "same"))
def test_added_and_kept(name: str, precision: str, residual: bool, keep: bool, machine: int) -> None:
    """conv_fprop_stats of relu(norm(x) + residual), which is also written with its mask."""
    shape = {**POINTWISE, "same": SMALL}[name]
    draw, tf32 = Random(2, DTYPES[precision]), precision == "tf32"
    x, weight = draw.sick(*shape.x), draw.image(*shape.weight)
    skip = draw.sick(*shape.x) if residual else None
    norm = draw.vectors(4, shape.c)
    op = operators()
    with rk.simulator.multiprocessors(machine), rk.simulator.compute_capability(80):
        a_want, mask_want = op.bn_normalise(x, norm, skip, None, True, True)
        y, moments, a, mask = op.conv_fprop_stats(x, norm, skip, weight, *shape.geometry, keep, tf32)
        y_want, moments_want, *_ = op.conv_fprop_stats(
            a_want, None, None, weight, *shape.geometry, False, tf32
        )
    assert same_bits(y, y_want) and same_bits(moments, moments_want)
    if keep:
        assert same_bits(a, a_want) and torch.equal(mask, mask_want)
    else:
        assert a.numel() == mask.numel() == 0


@pytest.mark.parametrize("machine", (1, 132))
@pytest.mark.parametrize("masked", (False, True))
@pytest.mark.parametrize("batch_stats", (False, True))
@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("name", (*POINTWISE, "same"))
def test_batchnorms_gradient(
    name: str, precision: str, batch_stats: bool, masked: bool, machine: int
) -> None:
    """conv_dgrad of bn_backward_apply, whose result it returns too."""
    shape = {**POINTWISE, "same": SMALL}[name]
    draw, tf32 = Random(3, DTYPES[precision]), precision == "tf32"
    g, weight = draw.sick(*shape.y), draw.image(*shape.weight)
    y = draw.sick(*shape.y) if batch_stats else None
    mask = draw.mask(*shape.y)[1] if masked else None
    coefficients, norm = draw.vectors(4, shape.k), draw.vectors(4, shape.c)
    bn_input = draw.image(*shape.x)
    epilogue = weight, None, None, None, bn_input, norm, True, [shape.h, shape.w], *shape.geometry, tf32
    op = operators()
    with rk.simulator.multiprocessors(machine), rk.simulator.compute_capability(80):
        dy_want = op.bn_backward_apply(g, mask, y, coefficients)
        dx, sums, dy = op.conv_dgrad(g, mask, y, coefficients, *epilogue)
        dx_want, sums_want, _ = op.conv_dgrad(dy_want, None, None, None, *epilogue)
    assert same_bits(dy, dy_want)
    assert same_bits(dx, dx_want) and same_bits(sums, sums_want)


@pytest.mark.parametrize("tile", ("128x128", "128x256"))
@pytest.mark.parametrize("precision", ("bf16", "f16"))
def test_sm_90(precision: str, tile: str) -> None:
    """The same of fragments; what goes through registers and what wgmma reads itself is summed alike."""
    shape, draw = Shape(3, 192, 11, 9, 128, 1, 1), Random(5, DTYPES[precision])
    x, skip, weight = draw.sick(*shape.x), draw.sick(*shape.x), draw.image(*shape.weight)
    g, y = draw.sick(*shape.y), draw.sick(*shape.y)
    mask, coefficients = draw.mask(*shape.y)[1], draw.vectors(4, shape.k)
    norm, bn_input = draw.vectors(4, shape.c), draw.image(*shape.x)
    epilogue = weight, None, None, None, bn_input, norm, True, [shape.h, shape.w], *shape.geometry, False
    op = operators()
    adds = tile == "128x128"  # there is no room for a second source beside 256 columns
    with rk.tuning.forced(f"sm90/{tile}"):
        for residual in (None, skip) if adds else (None,):
            a_want, mask_want = op.bn_normalise(x, norm, residual, None, True, True)
            y_made, moments, a, a_mask = op.conv_fprop_stats(
                x, norm, residual, weight, *shape.geometry, True, False
            )
            y_want, moments_want, *_ = op.conv_fprop_stats(
                a_want, None, None, weight, *shape.geometry, False, False
            )
            assert same_bits(y_made, y_want) and same_bits(moments, moments_want)
            assert same_bits(a, a_want) and torch.equal(a_mask, mask_want)
        if adds:
            dy_want = op.bn_backward_apply(g, mask, y, coefficients)
            dx, sums, dy = op.conv_dgrad(g, mask, y, coefficients, *epilogue)
            dx_want, sums_want, _ = op.conv_dgrad(dy_want, None, None, None, *epilogue)
            assert same_bits(dy, dy_want)
            assert same_bits(dx, dx_want) and same_bits(sums, sums_want)


@pytest.mark.parametrize("precision", ("bf16", "f32"))
def test_chunks_and_geometry_decide(precision: str) -> None:
    """Which of these convolutions transform on load, and which leave it to an elementwise kernel."""
    draw, tf32 = Random(4, DTYPES[precision]), False
    expected = {"point": 4, "odd": 0, "padded": 2}
    for name, shape in {"point": POINT, "odd": ODD, "padded": SMALL}.items():
        x, weight, dy = draw.image(*shape.x), draw.image(*shape.weight), draw.image(*shape.y)
        norm, coefficients = draw.vectors(4, shape.c), draw.vectors(4, shape.k)
        skip, y = draw.image(*shape.x), draw.image(*shape.y)
        size, geometry = [shape.h, shape.w], shape.geometry
        with rk.simulator.checked(), rk.simulator.record() as launches:
            op = operators()
            op.conv_fprop_stats(x, norm, None, weight, *geometry, False, tf32)
            op.conv_fprop_stats(x, norm, skip, weight, *geometry, True, tf32)
            op.conv_wgrad(dy, x, norm, [shape.r, shape.s], *geometry, tf32)
            op.conv_dgrad(
                *(dy, None, y, coefficients, weight, None, None, None, None, None, False),
                *(size, *geometry, tf32),
            )
        assert len(on_load(launches)) == expected[name], (name, [launch["kernel"] for launch in launches])


def pointwise(x: Tensor, skip: Tensor, g: Tensor, y: Tensor, weight: Tensor) -> list[Tensor]:
    """What every convolution answers that transforms on load."""
    draw, (k, c, *_) = Random(6, x.dtype), weight.shape
    norm, coefficients, geometry = draw.vectors(4, c), draw.vectors(4, k), ([1, 1], [0, 0], [1, 1])
    rest = weight, None, None, None, None, None, False, list(x.shape[2:]), *geometry, False
    op = operators()
    with rk.simulator.multiprocessors(1):
        return [
            *op.conv_fprop_stats(x, norm, skip, weight, *geometry, True, False),
            *op.conv_dgrad(g, None, y, coefficients, *rest),
            op.conv_wgrad(g, x, norm, [1, 1], *geometry, False),
        ]


@pytest.mark.parametrize("precision", ("bf16", "f32"))
def test_both_sources_may_be_one_tensor(precision: str) -> None:
    """relu(norm(x) + x), and BatchNorm's gradient of its own input."""
    draw = Random(5, DTYPES[precision])
    x, g, weight = draw.image(*POINT.x), draw.image(*POINT.y), draw.image(*POINT.weight)
    with rk.simulator.checked():
        one, two = pointwise(x, x, g, g, weight), pointwise(x, x.clone(), g, g.clone(), weight)
    assert all(map(same_bits, one, two))


@pytest.mark.parametrize("precision", ("bf16", "f32"))
def test_unaligned_tensors_give_the_same(precision: str) -> None:
    """A tensor that starts in the middle of a chunk is read element by element, transformed elementwise."""
    draw = Random(5, DTYPES[precision])
    tensors = [draw.image(*size) for size in (POINT.x, POINT.x, POINT.y, POINT.y, POINT.weight)]
    whole = pointwise(*tensors)
    for i, tensor in enumerate(tensors):
        n, c, h, w = tensor.shape
        room = torch.empty(tensor.numel() + 1, dtype=tensor.dtype)[1:]
        moved = room.view(n, h, w, c).permute(0, 3, 1, 2).copy_(tensor)
        for got, want in zip(pointwise(*tensors[:i], moved, *tensors[i + 1 :]), whole, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
