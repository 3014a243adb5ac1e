"""The oracle's gradients against torch's autograd in float64, on shapes drawn at random."""

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_kernels import reference as ref

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 2),
    c=st.sampled_from([1, 3, 8]),
    k=st.sampled_from([1, 4, 7]),
    extra=st.tuples(st.integers(0, 7), st.integers(0, 7)),
    kernel=pairs,
    stride=pairs,
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=pairs,
    seed=st.integers(0, 2**31),
)
def test_convolution(n, c, k, extra, kernel, stride, padding, dilation, seed):
    rng = np.random.default_rng(seed)
    h, w = (
        max(1, d * (r - 1) + 1 - 2 * p) + e
        for d, r, p, e in zip(dilation, kernel, padding, extra, strict=True)
    )
    x = torch.from_numpy(rng.standard_normal((n, c, h, w))).requires_grad_()
    weight = torch.from_numpy(rng.standard_normal((k, c, *kernel))).requires_grad_()
    y = F.conv2d(x, weight, None, stride, padding, dilation)
    dy = rng.standard_normal(tuple(y.shape))
    dx, dw = torch.autograd.grad(y, (x, weight), torch.from_numpy(dy))
    geometry = {"stride": stride, "padding": padding, "dilation": dilation}
    got = ref.conv2d_input_gradient(dy, weight.detach().numpy(), (h, w), **geometry)
    np.testing.assert_allclose(got, dx.numpy(), rtol=1e-12, atol=1e-12)
    got = ref.conv2d_weight_gradient(dy, x.detach().numpy(), kernel, **geometry)
    np.testing.assert_allclose(got, dw.numpy(), rtol=1e-12, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(kernel=pairs, stride=pairs, pad=st.booleans(), seed=st.integers(0, 2**31))
def test_max_pool(kernel, stride, pad, seed):
    """With ties: the first maximum gets the gradient."""
    rng = np.random.default_rng(seed)
    padding = tuple(extent // 2 for extent in kernel) if pad else (0, 0)
    x = torch.from_numpy(rng.integers(-2, 3, (2, 3, 7, 6)).astype(np.float64)).requires_grad_()
    y = F.max_pool2d(x, kernel, stride, padding)
    dy = rng.standard_normal(tuple(y.shape))
    (dx,) = torch.autograd.grad(y, x, torch.from_numpy(dy))
    got = ref.max_pool_gradient(dy, x.detach().numpy(), kernel, stride, padding)
    np.testing.assert_allclose(got, dx.numpy(), rtol=1e-12, atol=1e-12)


def test_sums_over_pixels():
    rng = np.random.default_rng(0)
    x, h, mean = rng.standard_normal((3, 4, 5, 6)), rng.standard_normal((3, 4, 5, 6)), rng.standard_normal(4)
    moments = np.stack((x.mean((0, 2, 3)), x.var((0, 2, 3)) * 90))
    np.testing.assert_allclose(ref.batch_norm_moments(x), moments, rtol=1e-12)
    products = np.einsum("nchw,nchw->c", h, x) - mean * h.sum((0, 2, 3))
    np.testing.assert_allclose(ref.batch_norm_sums(h, x, mean), (h.sum((0, 2, 3)), products), rtol=1e-11)
