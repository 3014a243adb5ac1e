"""The rounding helpers against torch's conversions and against the formats' own definitions."""

import numpy as np
import pytest
import torch

from resnet_kernels import reference as ref

FORMATS = {
    "bf16": (ref.round_bf16, torch.bfloat16),
    "f16": (ref.round_f16, torch.float16),
    "f32": (ref.round_f32, torch.float32),
}


def every_kind_of_float32():
    """Random bit patterns: all exponents, both signs, subnormals, infinities, NaN; and all halfway patterns
    of the short formats.
    """
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 400_000, dtype=np.uint32)
    ties = (bits[:100_000] & np.uint32(0xFFFF0000)) | np.uint32(0x8000)
    f16_ties = (bits[:100_000] & np.uint32(0xFFFFE000)) | np.uint32(0x1000)
    edges = np.array(
        [0, 1, 0x80000000, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000, 0x00800000, 0x007FFFFF], np.uint32
    )
    return np.concatenate([bits, ties, f16_ties, edges]).view(np.float32)


@pytest.mark.parametrize("name", FORMATS)
def test_rounding_of_float32_is_torchs(name):
    rounding, dtype = FORMATS[name]
    x = every_kind_of_float32()
    got, want = rounding(x), torch.from_numpy(x).to(dtype).float().numpy()
    assert got.dtype == np.float32
    numbers = ~np.isnan(x)
    assert np.array_equal(got[numbers].view(np.uint32), want[numbers].view(np.uint32))
    assert np.isnan(got[~numbers]).all()


def test_rounding_of_float64_rounds_once():
    """float64 -> f16 directly: 1 + 2^-11 + 2^-40 is above the halfway point, though its float32 value lies
    on it.
    """
    x = np.array([1 + 2.0**-11 + 2.0**-40, 1 + 2.0**-11 - 2.0**-40, 1 + 2.0**-11])
    assert ref.round_f16(x).tolist() == [1 + 2.0**-10, 1.0, 1.0]
    rng = np.random.default_rng(1)
    y = rng.standard_normal(100_000) * 10.0 ** rng.integers(-46, 39, 100_000)
    with np.errstate(over="ignore"):
        assert np.array_equal(ref.round_f32(y), y.astype(np.float32).astype(np.float64))
        assert np.array_equal(ref.round_f16(y), y.astype(np.float16).astype(np.float64))


def test_tf32_is_nearest_with_ties_away():
    """cvt.rna.tf32.f32 on the bits of a float32: add half a step to the magnitude, cut 13 bits."""
    x = every_kind_of_float32()
    x = x[~np.isnan(x)]
    bits = x.view(np.uint32)
    finite = np.isfinite(x)
    want = np.where(finite, (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000), bits).astype(np.uint32)
    assert np.array_equal(ref.round_tf32(x).view(np.uint32), want)
    assert ref.round_tf32(np.array([1 + 2.0**-11, -1 - 2.0**-11])).tolist() == [1 + 2.0**-10, -1 - 2.0**-10]


@pytest.mark.parametrize("rounding", [ref.round_bf16, ref.round_f16, ref.round_tf32, ref.round_f32])
def test_rounding_is_idempotent_and_keeps_shape(rounding):
    x = np.random.default_rng(2).standard_normal((3, 4, 5))
    once = rounding(x)
    assert once.shape == x.shape and np.array_equal(rounding(once), once)
    assert rounding(np.zeros((0, 2))).shape == (0, 2) and rounding(np.float64(0.1)).shape == ()
    assert np.array_equal(rounding(x[:, ::2, ::-1]), once[:, ::2, ::-1])


@pytest.mark.parametrize("name", ["bf16", "f16", "tf32", "f32"])
def test_unit_roundoff_is_the_largest_relative_error(name):
    rounding = {"bf16": ref.round_bf16, "f16": ref.round_f16, "tf32": ref.round_tf32, "f32": ref.round_f32}[
        name
    ]
    x = 1 + np.random.default_rng(3).random(100_000)
    error = np.abs(rounding(x) - x) / x
    assert 0.9 * ref.UNIT_ROUNDOFF[name] < error.max() <= ref.UNIT_ROUNDOFF[name]
