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


CALLS = {  # every operator, and every way through it: name -> operator
    **{operator: operator for operator in SCHEMAS},
    "conv_fprop_stats of norm": "conv_fprop_stats",
    "conv_fprop_stats of a kept sum": "conv_fprop_stats",
    "conv_dgrad of a BatchNorm's gradient": "conv_dgrad",
    "conv_dgrad with shortcut A": "conv_dgrad",
    "conv_wgrad of norm": "conv_wgrad",
    "bn_normalise of two": "bn_normalise",
    "bn_normalise with shortcut A": "bn_normalise",
    "bn_backward_reduce for two": "bn_backward_reduce",
    "bn_backward_apply of constants": "bn_backward_apply",
}


def arguments(call: str, dtype: torch.dtype, layout: torch.memory_format) -> tuple:
    """A small call of the operator."""
    rng = np.random.default_rng(0)
    vectors = torch.float64 if dtype == torch.float64 else torch.float32

    def tensor(*shape: int) -> torch.Tensor:
        return draw(shape, dtype, rng).contiguous(memory_format=layout)

    def vector(*shape: int) -> torch.Tensor:
        return draw(shape, vectors, rng).abs() + 0.5

    x, weight, dy = tensor(2, 4, 6, 5), tensor(8, 4, 3, 3), tensor(2, 8, 3, 5)
    wide, point, odd = tensor(2, 16, 3, 5), tensor(8, 16, 1, 1), tensor(2, 8, 3, 5)
    geometry, pointwise = ([2, 1], [1, 1], [1, 1], False), ([1, 1], [0, 0], [1, 1], False)
    x_mask, mask, wide_mask = (random_mask(t.shape, rng) for t in (x, dy, wide))
    indices = torch.from_numpy(rng.integers(0, 4, (2, 3, 2, 4)).astype(np.uint8))
    before = x, x_mask, x_mask, tensor(2, 4, 6, 5), vector(4, 4), True, [6, 5]
    wide_before = wide, wide_mask, wide_mask, tensor(2, 16, 3, 5), vector(4, 16), True, [3, 5]
    return {
        "conv_fprop_stats": (x, None, None, weight, *geometry[:3], False, False),
        "conv_fprop_stats of norm": (x, vector(4, 4), None, weight, *geometry[:3], False, False),
        "conv_fprop_stats of a kept sum": (
            *(wide, vector(4, 16), tensor(2, 16, 3, 5), point),
            *(*pointwise[:3], True, False),
        ),
        "conv_dgrad": (dy, None, None, None, weight, *before, *geometry),
        "conv_dgrad of a BatchNorm's gradient": (
            *(dy, mask, odd, vector(4, 8), point),
            *(*wide_before, *pointwise),
        ),
        "conv_dgrad with shortcut A": (
            *(dy, None, None, None, weight, dy, mask, None, None, None, False, [6, 5]),
            *(*geometry, [2, 1]),
        ),
        "conv_wgrad": (dy, x, None, [3, 3], *geometry),
        "conv_wgrad of norm": (dy, wide, vector(4, 16), [1, 1], *pointwise),
        "bn_finalize": (vector(2, 8), vector(8), vector(8), 30.0, 1e-5, vector(8), vector(8), 0.1),
        "bn_normalise": (dy, vector(4, 8), odd, None, True, True),
        "bn_normalise with shortcut A": (dy, vector(4, 8), x, None, True, True, [2, 1]),
        "bn_normalise of two": (dy, vector(4, 8), odd, vector(4, 8), False, False),
        "bn_backward_reduce": (dy, None, odd, vector(4, 8), None, None, False),
        "bn_backward_reduce for two": (dy, mask, odd, vector(4, 8), odd, vector(4, 8), True),
        "bn_backward_finalize": (vector(4, 8), vector(2, 8), vector(2, 8), 30.0, True),
        "bn_backward_apply": (dy, mask, odd, vector(4, 8)),
        "bn_backward_apply of constants": (dy, None, None, vector(4, 8)),
        "max_pool_indices": (x, [3, 2], [2, 2], [1, 0]),
        "max_pool_backward": (tensor(2, 4, 3, 2), indices, [6, 4], [2, 2], [2, 2], [0, 0]),
        "global_avg_pool_backward": (tensor(2, 4, 1, 1)[:, :, 0, 0], [3, 2]),
    }[call]


DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
CASES = [
    pytest.param(*case, marks=NEEDS_SIMULATOR if case[0] == "simulator" else ())
    for case in itertools.product(
        ("aten", "simulator"), CALLS, DTYPES, (torch.contiguous_format, torch.channels_last)
    )
    if case[::2][:2] != ("simulator", torch.float64)
]


@pytest.mark.parametrize("machine,call,dtype,layout", CASES)
def test_opcheck(machine, call, dtype, layout):
    tests = ["test_schema", "test_autograd_registration", "test_faketensor"]
    if dtype == torch.float32 and layout == torch.channels_last:
        tests.append("test_aot_dispatch_dynamic")
    with rk.backend(machine):
        function = getattr(OPS, CALLS[call]).default
        torch.library.opcheck(function, arguments(call, dtype, layout), test_utils=tests)


def results(call: str, dtype: torch.dtype, layout: torch.memory_format) -> list[torch.Tensor]:
    answer = getattr(OPS, CALLS[call])(*arguments(call, dtype, layout))
    return [answer] if isinstance(answer, torch.Tensor) else list(answer)


@pytest.mark.parametrize("dtype", DTYPES[:3])
@pytest.mark.parametrize("call", CALLS)
def test_kernels_and_compositions_agree(call, dtype, simulator):
    """Results, shapes and strides, in both layouts; the kernels repeat bit by bit."""
    for layout in (torch.contiguous_format, torch.channels_last):
        ours, again = (results(call, dtype, layout) for _ in range(2))
        with rk.backend("aten"):
            theirs = results(call, dtype, layout)
        for a, b, c in zip(ours, again, theirs, strict=True):
            assert torch.equal(a, b)
            assert a.shape == c.shape and a.dtype == c.dtype and a.stride() == c.stride()
            tolerance = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
            size = float(c.double().abs().max()) if c.numel() else 0.0
            torch.testing.assert_close(a.double(), c.double(), rtol=tolerance, atol=tolerance * size)


@pytest.mark.parametrize("operator", SCHEMAS)
def test_schemas_agree_between_the_namespaces(operator):
    namespaces = (_register.NAMESPACE, _register.SIMULATOR, _register.SIMULATOR_CHECKED)
    packets = [getattr(getattr(torch.ops, name), operator).default for name in namespaces]
    assert len({str(packet._schema).split("::")[1] for packet in packets}) == 1
    assert all(torch.Tag.needs_exact_strides in packet.tags for packet in packets)


@pytest.mark.parametrize("call", CALLS)
def test_float64_names_the_way_out(call, simulator):
    with pytest.raises(TypeError, match=r"float64.*rk.backend\('aten'\)"):
        run(CALLS[call], *arguments(call, torch.float64, torch.channels_last))


# (call, place of the argument, what stands there instead, what the error says)
WRONG = (
    ("conv_fprop_stats", 2, lambda t: t[0], "residual and keep need a norm"),
    ("conv_fprop_stats of norm", 1, lambda t: t[1][:3], "norm"),
    ("conv_fprop_stats of a kept sum", 2, lambda t: t[2][:, :, :1], "residual"),
    ("conv_fprop_stats of a kept sum", 3, lambda t: t[3].half(), "weight"),
    ("conv_dgrad", 0, lambda t: t[0][:, :, :, 1:], "g is not an output"),
    ("conv_dgrad", 1, lambda t: t[7], "y and g_mask need coefficients"),
    ("conv_dgrad", 8, lambda t: None, "bn_input and norm come together"),
    ("conv_dgrad", 6, lambda t: t[6][:1], "mask"),
    ("conv_dgrad of a BatchNorm's gradient", 3, lambda t: t[3][:, 1:], "coefficients"),
    ("conv_dgrad of a BatchNorm's gradient", 2, lambda t: t[2][:, 1:], "y"),
    ("conv_wgrad of norm", 2, lambda t: t[2].double(), "norm"),
    ("conv_wgrad", 0, lambda t: t[0][:, :, 1:], "dy is not an output"),
    ("bn_finalize", 5, lambda t: None, "running_mean and running_var come together"),
    ("bn_normalise of two", 2, lambda t: None, "residual_norm needs a residual"),
    ("bn_normalise", 4, lambda t: False, "only a ReLU has a mask"),
    ("bn_backward_reduce for two", 5, lambda t: None, "other_x and other_norm come together"),
    ("bn_backward_reduce for two", 1, lambda t: t[1].float(), "mask"),
    ("bn_backward_finalize", 1, lambda t: t[1][:1], "sums"),
    ("bn_backward_apply", 3, lambda t: t[3][:2], "coefficients"),
)


@pytest.mark.parametrize("call,place,instead,words", WRONG, ids=[f"{w[0]}: {w[3]}" for w in WRONG])
def test_kernels_name_what_is_wrong(call, place, instead, words, simulator):
    given = list(arguments(call, torch.float32, torch.channels_last))
    given[place] = instead(given)
    with pytest.raises(RuntimeError, match=rf"{CALLS[call]}.*{words}"):
        getattr(OPS, CALLS[call])(*given)


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


def per_channel(v: torch.Tensor) -> torch.Tensor:
    return v.double().view(1, -1, 1, 1)


def drawn(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Three images of the shape and two norms [4, C]."""
    rng = np.random.default_rng(sum(shape))
    images = [draw(shape, dtype, rng) for _ in range(3)]
    return images, [draw((4, shape[1]), torch.float32, rng) for _ in range(2)]


@pytest.mark.parametrize("channels", (1, 12, 200))
def test_finalizing_operators(channels, simulator):
    """bn_finalize and bn_backward_finalize in float32 beside float64."""
    rng = np.random.default_rng(channels)
    moments, running, affine, sums, local = (draw((2, channels), torch.float32, rng) for _ in range(5))
    moments[1], running[1] = moments[1].abs() * 30, running[1].abs()
    for given in ((*affine, 30.0, 1e-3, *running, 0.3), (None, None, 30.0, 1e-3, None, None, 0.3)):
        got = run("bn_finalize", moments, *given)
        wide = [t.double() if isinstance(t, torch.Tensor) else t for t in given]
        want = compositions.bn_finalize(moments.double(), *wide)
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a.double(), b, rtol=1e-6, atol=1e-6)
    norm = got[0]
    for batch_stats in (False, True):
        got = run("bn_backward_finalize", norm, sums, local, 30.0, batch_stats)
        wide = norm.double(), sums.double(), local.double()
        want = compositions.bn_backward_finalize(*wide, 30.0, batch_stats)
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a.double(), b, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", DTYPES[:3])
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_normalising(shape, dtype, simulator):
    """bn_normalise, element by element: with a residual that has a BatchNorm of its own, or not."""
    (x, residual, _), (norm, other) = drawn(shape, dtype)

    def linear(t, norm):
        mean, scale, shift, _ = map(per_channel, norm)
        size = (exact(t).abs() + mean.abs()) * scale.abs() + shift.abs()
        return (exact(t) - mean) * scale + shift, size

    for skip, skip_norm in ((None, None), (residual, None), (residual, other)):
        want, size = linear(x, norm)
        if skip is not None:
            added = linear(skip, skip_norm) if skip_norm is not None else (exact(skip), exact(skip).abs())
            want, size = want + added[0], size + added[1]
        plain, nothing = run("bn_normalise", x, norm, skip, skip_norm, False, False)
        y, mask = run("bn_normalise", x, norm, skip, skip_norm, True, True)
        within(plain, want, 3, size, "bn_normalise without ReLU")
        assert torch.equal(y, plain.relu()) and nothing.numel() == 0
        assert torch.equal(compositions.unpack_mask(mask, shape[1]), y > 0)


@pytest.mark.parametrize("dtype", DTYPES[:3])
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_reducing(shape, dtype, simulator):
    """bn_backward_reduce: masked or not, for one BatchNorm or two, h kept or not."""
    (g, x, other), (norm, other_norm) = drawn(shape, dtype)
    mask = random_mask(shape, np.random.default_rng(1))
    passing = torch.where(compositions.unpack_mask(mask, shape[1]), g, 0)
    for given, h in ((mask, passing), (None, g)):
        kept, first, second = run("bn_backward_reduce", g, given, x, norm, other, other_norm, True)
        nothing, alone, none = run("bn_backward_reduce", g, given, x, norm, None, None, False)
        assert torch.equal(kept, h) and nothing.numel() == 0 and none.shape == (0, shape[1])
        assert torch.equal(first, alone)
        for sums, of, mean in ((first, x, norm[0]), (second, other, other_norm[0])):
            products = exact(h) * (exact(of) - per_channel(mean))
            for a, terms in zip(sums, (exact(h), products), strict=True):
                bound = 2**-20 * terms.abs().sum((0, 2, 3)) + 1e-30
                assert ((a - terms.sum((0, 2, 3))).abs() <= bound).all()


@pytest.mark.parametrize("dtype", DTYPES[:3])
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_applying(shape, dtype, simulator):
    """bn_backward_apply, element by element: masked or not, with batch statistics or constants."""
    (g, x, _), (coefficients, _) = drawn(shape, dtype)
    slope, offset, mean, tilt = map(per_channel, coefficients)
    mask = random_mask(shape, np.random.default_rng(1))
    for given in (mask, None):
        h = exact(g) if given is None else exact(g).where(compositions.unpack_mask(mask, shape[1]), 0.0)
        constants = run("bn_backward_apply", g, given, None, coefficients)
        within(constants, slope * h, 1, (slope * h).abs(), "bn_backward_apply of constants")
        dx = run("bn_backward_apply", g, given, x, coefficients)
        inner = h - offset - (exact(x) - mean) * tilt
        size = h.abs() + offset.abs() + (exact(x).abs() + mean.abs()) * tilt.abs()
        within(dx, slope * inner, 4, slope.abs() * size, "bn_backward_apply")


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
