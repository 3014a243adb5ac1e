"""The oracle against torch in float64, on shapes drawn at random: two independent derivations of each
formula.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_kernels import reference as ref

TOLERANCE = 1e-13  # of the error scale: a few float64 roundings


def draw(rng, *shape):
    return rng.standard_normal(shape)


def to_torch(*arrays):
    return [None if a is None else torch.from_numpy(np.ascontiguousarray(a)) for a in arrays]


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(0, 2),
    c=st.sampled_from([1, 3, 5, 8, 24]),
    k=st.sampled_from([1, 4, 7]),
    h=st.integers(1, 11),
    w=st.integers(1, 11),
    kernel=pairs,
    stride=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=pairs,
    seed=st.integers(0, 2**31),
)
def test_conv2d(n, c, k, h, w, kernel, stride, padding, dilation, seed):
    rng = np.random.default_rng(seed)
    x, weight = draw(rng, n, c, h, w), draw(rng, k, c, *kernel)
    fits = all(
        a + 2 * p >= d * (r - 1) + 1 for a, p, d, r in zip((h, w), padding, dilation, kernel, strict=True)
    )
    if not fits:
        with pytest.raises(ValueError, match="does not fit"):
            ref.conv2d(x, weight, stride=stride, padding=padding, dilation=dilation)
        return
    y = ref.conv2d(x, weight, stride=stride, padding=padding, dilation=dilation)
    want = F.conv2d(*to_torch(x, weight), None, stride, padding, dilation).numpy()
    assert y.dtype == np.float64 and y.shape == want.shape
    scale = ref.conv_error_scale(x, weight, stride=stride, padding=padding, dilation=dilation)
    assert np.all(np.abs(y - want) <= TOLERANCE * (scale + 1e-300))


@pytest.mark.parametrize("column_bytes", [1, 5000, 1 << 26])
def test_conv2d_in_strips_is_the_same(column_bytes):
    """Bounding the im2col matrix changes memory, not results."""
    rng = np.random.default_rng(0)
    x, weight = draw(rng, 2, 3, 17, 13), draw(rng, 4, 3, 3, 3)
    y = ref.conv2d(x, weight, stride=(2, 1), padding=1, column_bytes=column_bytes)
    want = F.conv2d(*to_torch(x, weight), None, (2, 1), 1).numpy()
    np.testing.assert_allclose(y, want, atol=1e-12)


def test_conv2d_of_small_integers_is_exact():
    rng = np.random.default_rng(1)
    x, weight = rng.integers(-4, 5, (2, 24, 9, 7)), rng.integers(-4, 5, (16, 24, 3, 3))
    want = F.conv2d(*to_torch(x.astype(np.float64), weight.astype(np.float64)), None, 1, 1)
    assert np.array_equal(ref.conv2d(x, weight, padding=1), want.numpy())


@pytest.mark.parametrize("eps", [1e-5, 1e-3])
@pytest.mark.parametrize("with_weight", [True, False])
def test_batch_norm_and_its_folded_form(eps, with_weight):
    rng = np.random.default_rng(2)
    x, mean, var = draw(rng, 3, 5, 4, 6), draw(rng, 5), rng.random(5) + 0.1
    weight, bias = (draw(rng, 5), draw(rng, 5)) if with_weight else (None, None)
    y = ref.batch_norm(x, mean, var, weight, bias, eps)
    tx, tm, tv, tw, tb = to_torch(x, mean, var, weight, bias)
    np.testing.assert_allclose(y, F.batch_norm(tx, tm, tv, tw, tb, eps=eps).numpy(), atol=1e-13)
    np.testing.assert_allclose(
        y, ref.affine(x, *ref.batch_norm_affine(weight, bias, mean, var, eps)), atol=1e-12
    )


@settings(max_examples=100, deadline=None)
@given(
    n=st.integers(0, 2),
    h=st.integers(3, 12),
    w=st.integers(3, 12),
    kernel=st.tuples(st.integers(2, 4), st.integers(2, 4)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    nans=st.integers(0, 3),
    seed=st.integers(0, 2**31),
)
def test_max_pool(n, h, w, kernel, stride, padding, nans, seed):
    if kernel[0] > h + 2 * padding[0] or kernel[1] > w + 2 * padding[1]:
        return
    rng = np.random.default_rng(seed)
    x = draw(rng, n, 3, h, w)
    if n:
        x.reshape(-1)[rng.integers(0, x.size, nans)] = np.nan
    want = F.max_pool2d(torch.from_numpy(x), kernel, stride, padding).numpy() if n else None
    y = ref.max_pool(x, kernel, stride, padding)
    if n:
        np.testing.assert_array_equal(y, want)
    else:
        assert y.shape[:2] == (0, 3)


def test_max_pool_default_stride_and_bad_padding():
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    np.testing.assert_array_equal(ref.max_pool(x, 2), [[[[5, 7], [13, 15]]]])
    with pytest.raises(ValueError, match="half the kernel"):
        ref.max_pool(x, 3, 1, 2)


def test_relu_keeps_nan_and_infinity():
    x = np.array([np.nan, -np.inf, np.inf, -1.0, 2.0])
    np.testing.assert_array_equal(ref.relu(x), [np.nan, 0, np.inf, 0, 2])


def test_pool_linear_softmax_add():
    rng = np.random.default_rng(3)
    x, weight, bias = draw(rng, 4, 7, 3, 5), draw(rng, 6, 7), draw(rng, 6)
    pooled = ref.global_avg_pool(x)
    np.testing.assert_allclose(pooled, x.mean((2, 3)))
    y = ref.linear(pooled, weight, bias)
    np.testing.assert_allclose(y, F.linear(*to_torch(pooled, weight, bias)).numpy(), atol=1e-13)
    np.testing.assert_allclose(
        ref.softmax(y + 1e4), torch.softmax(torch.from_numpy(y), -1).numpy(), atol=1e-11
    )
    np.testing.assert_array_equal(ref.add(x, x), 2 * x)
    with pytest.raises(ValueError, match="one shape"):
        ref.add(x, x[:1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ref.conv2d(np.zeros((2, 3, 4)), np.zeros((1, 3, 1, 1))), "x must have 4 dimensions"),
        (lambda: ref.conv2d(np.zeros((1, 3, 4, 4)), np.zeros((1, 2, 1, 1))), "3 channels"),
        (lambda: ref.conv2d(np.zeros((1, 3, 4, 4)), np.zeros((1, 3, 1, 1)), stride=0), "stride"),
        (lambda: ref.conv2d(np.zeros((1, 3, 4, 4)), np.zeros((1, 3, 1, 1)), padding=-1), "padding"),
        (lambda: ref.affine(np.zeros((1, 3, 4, 4)), np.zeros(4)), "scale has 4 values"),
        (lambda: ref.linear(np.zeros((1, 3)), np.zeros((5, 4))), "3 features"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_error_scale_bounds_the_result_and_a_float32_run_meets_the_budget():
    rng = np.random.default_rng(4)
    x, weight, residual = draw(rng, 2, 16, 9, 9), draw(rng, 8, 16, 3, 3), draw(rng, 2, 8, 9, 9)
    bn = {"mean": draw(rng, 8), "var": rng.random(8) + 0.5}
    gamma, beta = draw(rng, 8), draw(rng, 8)
    y = ref.batch_norm(ref.conv2d(x, weight, padding=1), bn["mean"], bn["var"], gamma, beta) + residual
    t = ref.conv_error_scale(x, weight, gamma, beta, residual, padding=1, **bn)
    assert np.all(np.abs(y) <= t)
    x32, w32 = x.astype(np.float32), weight.astype(np.float32)
    exact = ref.conv2d(x32, w32, padding=1)
    got = F.conv2d(*to_torch(x32, w32), padding=1).numpy().astype(np.float64)
    allowed = ref.allowed_error(exact, ref.conv_error_scale(x32, w32, padding=1), 16 * 9, u_out=2.0**-24)
    assert np.all(np.abs(got - exact) <= allowed)
    assert 0 < ref.rms(got - exact) < 1e-5 and ref.rms(np.zeros(0)) == 0
