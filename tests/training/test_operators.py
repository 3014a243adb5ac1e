"""The training operators as operators: schemas, opcheck, FLOPs, and kernels beside float64 compositions."""

import itertools

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import resnet_kernels as rk
from resnet_kernels import _register
from resnet_kernels.training import compositions
from resnet_kernels.training.operators import SCHEMAS, run

from .conftest import NEEDS_SIMULATOR
from .problems import draw, exact, random_mask, within

OPS = torch.ops.resnet_kernels


def arguments(operator: str, dtype: torch.dtype, layout: torch.memory_format) -> tuple:
    """A small call of the operator."""
    rng = np.random.default_rng(0)
    vectors = torch.float64 if dtype == torch.float64 else torch.float32

    def tensor(*shape: int) -> torch.Tensor:
        return draw(shape, dtype, rng).contiguous(memory_format=layout)

    def vector(*shape: int) -> torch.Tensor:
        return draw(shape, vectors, rng).abs() + 0.5

    x, weight, dy = tensor(2, 4, 6, 5), tensor(8, 4, 3, 3), tensor(2, 8, 3, 5)
    mask, geometry = random_mask(dy.shape, rng), ([2, 1], [1, 1], [1, 1])
    indices = torch.from_numpy(rng.integers(0, 4, (2, 3, 2, 4)).astype(np.uint8))
    return {
        "conv_fprop_stats": (x, weight, *geometry, False),
        "conv_dgrad": (
            *(dy, weight, tensor(2, 4, 6, 5), random_mask(x.shape, rng), tensor(2, 4, 6, 5), vector(4)),
            *([6, 5], *geometry, False),
        ),
        "conv_wgrad": (dy, x, [3, 3], *geometry, False),
        "bn_finalize": (vector(2, 8), 30.0, vector(8), vector(8), 0.1),
        "bn_relu_mask": (dy, vector(8), vector(8), vector(8), vector(8), 1e-5, tensor(2, 8, 3, 5)),
        "bn_backward_reduce": (dy, tensor(2, 8, 3, 5), vector(8), mask),
        "bn_backward_apply": (
            *(dy, tensor(2, 8, 3, 5), vector(8), vector(8), vector(8), 1e-5),
            *(vector(2, 8), vector(2, 8), 30.0, True),
        ),
        "max_pool_indices": (x, [3, 2], [2, 2], [1, 0]),
        "max_pool_backward": (tensor(2, 4, 3, 2), indices, [6, 4], [2, 2], [2, 2], [0, 0]),
        "global_avg_pool_backward": (tensor(2, 4, 1, 1)[:, :, 0, 0], [3, 2]),
    }[operator]


DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
CASES = [
    pytest.param(*case, marks=NEEDS_SIMULATOR if case[0] == "simulator" else ())
    for case in itertools.product(
        ("aten", "simulator"), SCHEMAS, DTYPES, (torch.contiguous_format, torch.channels_last)
    )
    if case[::2][:2] != ("simulator", torch.float64)
]


@pytest.mark.parametrize("machine,operator,dtype,layout", CASES)
def test_opcheck(machine, operator, dtype, layout):
    tests = ["test_schema", "test_autograd_registration", "test_faketensor"]
    if dtype == torch.float32 and layout == torch.channels_last:
        tests.append("test_aot_dispatch_dynamic")
    with rk.backend(machine):
        function = getattr(OPS, operator).default
        torch.library.opcheck(function, arguments(operator, dtype, layout), test_utils=tests)


@pytest.mark.parametrize("operator", SCHEMAS)
def test_schemas_agree_between_the_namespaces(operator):
    namespaces = (_register.NAMESPACE, _register.SIMULATOR, _register.SIMULATOR_CHECKED)
    packets = [getattr(getattr(torch.ops, name), operator).default for name in namespaces]
    assert len({str(packet._schema).split("::")[1] for packet in packets}) == 1
    assert all(torch.Tag.needs_exact_strides in packet.tags for packet in packets)


@pytest.mark.parametrize("operator", SCHEMAS)
def test_float64_names_the_way_out(operator, simulator):
    with pytest.raises(TypeError, match=r"float64.*rk.backend\('aten'\)"):
        run(operator, *arguments(operator, torch.float64, torch.channels_last))


def test_flops_of_a_step_are_three_times_the_forward_pass(machine):
    x, weight = torch.randn(2, 4, 6, 5, requires_grad=True), torch.randn(8, 4, 3, 3, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        rk.training.conv_bn_act_train(x, weight, stride=(2, 1), padding=1)[0].sum().backward()
    assert counter.get_total_flops() == 3 * 2 * (2 * 8 * 3 * 5) * (4 * 3 * 3)


@pytest.mark.parametrize("channels", (1, 4, 31, 32, 33, 64, 100))
def test_masks_are_a_bit_a_channel(channels):
    passes = torch.rand(2, channels, 3, 5) < 0.5
    mask = compositions.pack_mask(passes)
    assert mask.dtype == torch.int32 and mask.shape == (2, 3, 5, (channels + 31) // 32)
    assert torch.equal(compositions.unpack_mask(mask, channels), passes)
    last = mask[..., -1].long() & 0xFFFFFFFF
    assert (last < 2 ** ((channels - 1) % 32 + 1)).all(), "channels that do not exist pass nothing"


SIZES = ((2, 1, 3, 3), (1, 4, 5, 7), (3, 12, 4, 5), (2, 33, 3, 4), (2, 64, 6, 6), (1, 200, 2, 3))


@pytest.mark.parametrize("dtype", DTYPES[:3])
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_batchnorm_operators(shape, dtype, simulator):
    """bn_finalize, bn_relu_mask, bn_backward_reduce, bn_backward_apply, element by element."""
    rng = np.random.default_rng(sum(shape))
    channels, pixels = shape[1], shape[0] * shape[2] * shape[3]
    x, residual, g = (draw(shape, dtype, rng) for _ in range(3))
    scale, shift, mean = (draw((channels,), torch.float32, rng) for _ in range(3))
    var = draw((channels,), torch.float32, rng).abs() + 0.1
    moments = torch.stack((mean, var * pixels))

    got = run("bn_finalize", moments, float(pixels), shift, scale.abs(), 0.3)
    want = compositions.bn_finalize(
        moments.double(), float(pixels), shift.double(), scale.abs().double(), 0.3
    )
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-6, atol=1e-6)

    def per_channel(v):
        return v.double().view(1, -1, 1, 1)

    rstd = (var.double() + 1e-3).rsqrt()
    deviation = exact(x) - per_channel(mean)
    y, mask = run("bn_relu_mask", x, scale, shift, mean, var, 1e-3, residual)
    gain = per_channel(scale.double() * rstd)
    linear = deviation * gain + per_channel(shift) + exact(residual)
    size = (exact(x).abs() + per_channel(mean).abs()) * gain.abs() + per_channel(shift).abs()
    within(y, linear.clamp(min=0), 1, size + exact(residual).abs(), "bn_relu_mask")
    assert torch.equal(compositions.unpack_mask(mask, channels), y > 0)

    h, sums = run("bn_backward_reduce", g, x, mean, mask)
    assert torch.equal(h, torch.where(y > 0, g, 0))
    unmasked, whole = run("bn_backward_reduce", g, x, mean, None)
    assert unmasked.numel() == 0
    for part, of in ((sums, h), (whole, g)):
        for a, terms in zip(part, (exact(of), exact(of) * deviation), strict=True):
            bound = 2**-20 * terms.abs().sum((0, 2, 3)) + 1e-30
            assert ((a - terms.sum((0, 2, 3))).abs() <= bound).all()

    for batch_stats in (False, True):
        dx, dscale, dshift = run(
            "bn_backward_apply", h, x, scale, mean, var, 1e-3, sums, sums, float(pixels), batch_stats
        )
        common = per_channel(sums[0]) / pixels, deviation * per_channel(rstd.square() * sums[1] / pixels)
        inner = exact(h) - sum(common) if batch_stats else exact(h)
        size = (exact(h).abs() + sum(t.abs() for t in common)) * gain.abs()
        within(dx, inner * gain, 4, size, f"bn_backward_apply, batch_stats={batch_stats}")
        torch.testing.assert_close(dscale.double(), sums[1] * rstd, rtol=1e-6, atol=1e-6)
        assert torch.equal(dshift, sums[0])


@pytest.mark.parametrize("dtype", DTYPES[:3])
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_pooling_operators(shape, dtype, simulator):
    """Forward as PyTorch's; backward sums every window's gradient in float32 and rounds once."""
    rng = np.random.default_rng(sum(shape))
    x = draw(shape, dtype, rng, integers=2)  # ties
    for kernel, stride, padding in (
        ((3, 3), (2, 2), (1, 1)),
        ((2, 1), (1, 3), (1, 0)),
        ((1, 2), (2, 1), (0, 1)),
    ):
        window = list(kernel), list(stride), list(padding)
        y, indices = run("max_pool_indices", x, *window)
        with rk.backend("aten"):
            wanted, places = run("max_pool_indices", x, *window)
        assert torch.equal(y, wanted) and torch.equal(indices, places)
        dy = draw(tuple(y.shape), dtype, rng)
        dx = run("max_pool_backward", dy, indices, list(shape[2:]), *window)
        ref, size = (
            compositions.max_pool_backward(d, indices, list(shape[2:]), *window)
            for d in (exact(dy), exact(dy).abs())
        )
        within(dx, ref, 9, size, "max_pool_backward")
    dy = draw(shape[:2], dtype, rng)
    dx = run("global_avg_pool_backward", dy, list(shape[2:]))
    ref = compositions.global_avg_pool_backward(exact(dy), list(shape[2:]))
    within(dx, ref, 1, ref.abs(), "global_avg_pool_backward")
