"""The stem's kernels, for sm_90 and portable: which of them takes a problem, exactness on many shapes, NaN
and infinity, and random problems held to the error budget.  In training the convolution with statistics.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import resnet_kernels as rk
from resnet_kernels import reference

from ..conftest import FUZZ
from ..ops.error_budget import check_error
from ..ops.problems import EPS, Conv, draw, oracle
from .convolutions import conv_fprop_stats, stem
from .problems import DTYPES, Draw, Shape, moments_are_right, operators

BATCHES = 10


def call(x: Tensor, weight: Tensor, *affine: Tensor | None, eps: float = 0.0, padding: int = 3) -> Tensor:
    vectors = (*affine, None, None, None, None)[:4]
    geometry = [2, 2], [padding, padding], [1, 1]
    return operators().conv_bn_relu_maxpool(x, weight, *vectors, eps, *geometry, False)


def train(x: Tensor, weight: Tensor, padding: int = 3) -> tuple[Tensor, Tensor]:
    """The convolution and its moments [2, K]."""
    geometry = [2, 2], [padding, padding], [1, 1]
    return operators().conv_fprop_stats(x, None, None, weight, *geometry, False, False)[:2]


def kernel(x: Tensor, weight: Tensor, padding: int = 3, training: bool = False) -> str:
    """The name of the first kernel that ran."""
    with rk.simulator.checked(), rk.simulator.record() as launches:
        (train if training else call)(x, weight, padding=padding)
    assert training or len(launches) == 1
    return launches[0]["kernel"]


def shifted(x: Tensor) -> Tensor:
    """``x`` two bytes further on in memory."""
    flat = torch.empty(x.numel() + 1, dtype=x.dtype)[1:]
    return flat.as_strided(x.shape, x.stride()).copy_(x)


@pytest.mark.parametrize("precision", ("bf16", "f16"))
def test_which_kernel(precision: str) -> None:
    """That of sm_90 takes whole 16-byte rows of x and pixels of y, both aligned, and padding 3."""
    draw = Draw(0, DTYPES[precision])
    x, weight = draw.image(1, 3, 16, 16), draw.image(8, 3, 7, 7)
    portable, hopper = f"stem_fprop {precision}", f"stem_fprop sm90 {precision}"
    assert kernel(x, weight) == hopper
    with rk.simulator.compute_capability(80):
        assert kernel(x, weight) == portable
    assert kernel(x, weight, padding=2) == portable
    assert kernel(draw.image(1, 3, 16, 20), weight) == portable
    assert kernel(x, draw.image(12, 3, 7, 7)) == portable
    assert kernel(shifted(x), weight) == portable


@pytest.mark.parametrize("precision", ("bf16", "f16"))
def test_which_kernel_in_training(precision: str) -> None:
    """The same, and 16 rows of outputs in a unit; elsewhere channels are padded."""
    draw = Draw(0, DTYPES[precision])
    x, weight = draw.image(1, 3, 32, 16), draw.image(8, 3, 7, 7)
    padded = f"pad_channels {precision}"
    assert kernel(x, weight, training=True) == f"stem_statistics sm90 {precision}"
    with rk.simulator.compute_capability(80):
        assert kernel(x, weight, training=True) == padded
    assert kernel(x, weight, padding=2, training=True) == padded
    assert kernel(draw.image(1, 3, 34, 16), weight, training=True) == padded
    assert kernel(draw.image(1, 3, 32, 20), weight, training=True) == padded
    assert kernel(x, draw.image(12, 3, 7, 7), training=True) == padded
    assert kernel(shifted(x), weight, training=True) == padded


def test_an_empty_batch_has_no_statistics() -> None:
    x, weight = torch.empty(0, 3, 32, 16, dtype=torch.bfloat16), torch.empty(8, 3, 7, 7, dtype=torch.bfloat16)
    channels_last = {"memory_format": torch.channels_last}
    with pytest.raises(RuntimeError, match="empty output"):
        train(x.contiguous(**channels_last), weight.contiguous(**channels_last))


SHAPES = (
    (1, 64, 62, 64),  # rows of x in no whole chunks
    (2, 33, 48, 72),  # the last row of outputs is the middle of its pool, the last column not
    (1, 62, 64, 64),
    (3, 7, 8, 8),
    (1, 1, 8, 128),
    (1, 130, 24, 40),
    (2, 9, 200, 136),
    (1, 31, 33, 72),
)


@pytest.mark.parametrize("capability", (80, 90))
@pytest.mark.parametrize("multiprocessors", (1, 5, 132))
@pytest.mark.parametrize("precision", ("bf16", "f16"))
def test_exact_on_many_shapes(precision: str, multiprocessors: int, capability: int) -> None:
    with rk.simulator.multiprocessors(multiprocessors), rk.simulator.compute_capability(capability):
        for shape in SHAPES:
            ((got, want),) = stem(precision, *shape)(1)
            assert torch.equal(got.double(), want), shape


@pytest.mark.parametrize("precision", ("bf16", "f16"))
def test_exact_on_an_image_of_the_paper(precision: str) -> None:
    ((got, want),) = stem(precision, 1, 224, 224, 64)(2)
    assert torch.equal(got.double(), want)


@pytest.mark.parametrize("capability", (80, 90))
@pytest.mark.parametrize("value", (torch.nan, torch.inf, -torch.inf))
@pytest.mark.parametrize("precision", ("bf16", "f16"))
def test_nan_and_infinity_reach_their_windows_alone(precision: str, value: float, capability: int) -> None:
    """Zeros among the weights, too: every place of an image's corner and of where tiles meet, one by one."""
    draw = Draw(3, DTYPES[precision])
    clean, weight = draw.image(1, 3, 62, 32), draw.image(8, 3, 7, 7)
    places = [
        (h, w) for h in (0, 1, 26, 27, 28, 29, 30, 53, 54, 61) for w in (0, 1, 13, 14, 15, 16, 17, 30, 31)
    ]
    with rk.simulator.multiprocessors(1), rk.simulator.compute_capability(capability):
        for i, (h, w) in enumerate(places):
            x = clean.clone(memory_format=torch.channels_last)
            x[0, i % 3, h, w] = value
            want = F.max_pool2d(F.conv2d(x.double(), weight.double(), None, 2, 3).relu(), 3, 2, 1)
            torch.testing.assert_close(call(x, weight).double(), want, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("multiprocessors", (1, 5, 132))
@pytest.mark.parametrize("precision", ("bf16", "f16"))
def test_training_is_exact_on_many_shapes(precision: str, multiprocessors: int) -> None:
    with rk.simulator.multiprocessors(multiprocessors):
        for n, h, w, k in ((1, 31, 8, 8), (3, 32, 40, 64), (1, 96, 224, 136), (2, 63, 24, 40)):
            shape = Shape(n, 3, h, w, k, 7, 7, stride=(2, 2), padding=(3, 3))
            for got, want in conv_fprop_stats(precision, shape)(1):
                assert torch.equal(got.double(), want), shape


@pytest.mark.parametrize("value", (torch.nan, torch.inf, -torch.inf))
@pytest.mark.parametrize("precision", ("bf16", "f16"))
def test_nan_and_infinity_in_training(precision: str, value: float) -> None:
    draw = Draw(4, DTYPES[precision])
    clean, weight = draw.image(1, 3, 32, 24), draw.image(8, 3, 7, 7)
    for i, (h, w) in enumerate((h, w) for h in (0, 14, 15, 16, 17, 31) for w in (0, 15, 16, 17, 23)):
        x = clean.clone(memory_format=torch.channels_last)
        x[0, i % 3, h, w] = value
        y, moments = train(x, weight)
        want = F.conv2d(x.double(), weight.double(), None, 2, 3)
        torch.testing.assert_close(y.double(), want, rtol=0, atol=0, equal_nan=True)
        # A filter without a weight for this pixel has no infinity, but NaN: zero times it.
        assert not moments.isfinite().any()


@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_problems(batch: int) -> None:
    for seed in range(batch, FUZZ, BATCHES):
        rng = np.random.default_rng((20151210, seed))
        conv = Conv(
            n=int(rng.integers(1, 4)), c=3, h=int(rng.integers(1, 72)), w=8 * int(rng.integers(1, 8)),
            k=8 * int(rng.integers(1, 18)), r=7, s=7, stride=(2, 2), padding=(3, 3),
            affine=str(rng.choice(("none", "bias", "scale", "bn"))),
        )  # fmt: skip
        precision = str(rng.choice(("bf16", "f16")))
        t = draw(conv, precision, seed)
        ref, scale = oracle(conv, t, precision)
        with rk.simulator.multiprocessors(int(rng.choice((1, 2, 3, 7, 132)))):
            y = call(t.x, t.weight, t.scale, t.shift, t.mean, t.var, eps=EPS)
        pooled = reference.max_pool(ref, 3, 2, 1), reference.max_pool(scale, 3, 2, 1)
        check_error(y, *pooled, conv.terms, precision, what=f"{conv}, seed {seed}")


@pytest.mark.parametrize("mean", (0.0, 100.0))
@pytest.mark.parametrize("precision", ("bf16", "f16"))
def test_random_statistics(precision: str, mean: float) -> None:
    """Of images far from zero, too; the moments are those of the y that was rounded."""
    for seed in range(8):
        rng = np.random.default_rng((20151210, seed))
        conv = Conv(
            n=int(rng.integers(1, 4)), c=3, h=32 * int(rng.integers(1, 4)), w=8 * int(rng.integers(1, 12)),
            k=8 * int(rng.integers(1, 18)), r=7, s=7, stride=(2, 2), padding=(3, 3),
            affine="none", relu=False,
        )  # fmt: skip
        t = draw(conv, precision, seed)
        t.x += mean
        ref, scale = oracle(conv, t, precision)
        with rk.simulator.multiprocessors(int(rng.choice((1, 3, 132)))):
            y, moments = train(t.x, t.weight)
        check_error(y, ref, scale, conv.terms, precision, what=f"{conv}, seed {seed}")
        right, _ = moments_are_right(y, moments)
        assert right.all(), f"{conv}, seed {seed}: moments of filters {(right == 0).nonzero().flatten()}"
