"""The yardstick itself: what it lets pass and what it catches."""

import numpy as np
import pytest
import torch

from .error_budget import DTYPE, check_error, check_rms


def answer(precision: str, size: int = 4096):
    """(the oracle's answer, the same rounded to the precision's dtype); as if each were a sum of one term."""
    ref = np.random.default_rng(0).standard_normal((1, 1, 1, size))
    return ref, torch.from_numpy(ref).to(DTYPE[precision])


@pytest.mark.parametrize("precision", ("bf16", "f16", "f32"))
def test_one_rounding_passes_and_two_units_fail(precision):
    ref, y = answer(precision)
    assert 0 < check_error(y, ref, np.abs(ref), 1, precision) <= 1
    units = 2 if precision != "f32" else 16  # float32's bound leaves room for the sum as well
    y[0, 0, 0, 7] *= 1 + units * torch.finfo(y.dtype).eps
    with pytest.raises(AssertionError, match=r"1 of 4096 outputs beyond the bound; worst at \(0, 0, 0, 7\)"):
        check_error(y, ref, np.abs(ref), 1, precision)


@pytest.mark.parametrize("value", (torch.nan, torch.inf))
def test_misplaced_nan_and_infinity_fail(value):
    ref, y = answer("f32")
    y[0, 0, 0, 7] = value
    with pytest.raises(AssertionError):
        check_error(y, ref, np.abs(ref), 1, "f32")
    ref[0, 0, 0, 7] = value
    check_error(y, ref, np.abs(ref), 1, "f32")
    y[0, 0, 0, 7] = -value if value == value else 0.0
    with pytest.raises(AssertionError):
        check_error(y, ref, np.abs(ref), 1, "f32")


def test_wrong_dtype_and_shape_fail():
    ref, y = answer("f32")
    with pytest.raises(AssertionError, match=r"want torch\.bfloat16"):
        check_error(y, ref, np.abs(ref), 1, "bf16")
    with pytest.raises(AssertionError, match=r"want .*4096"):
        check_error(y[..., :-1], ref, np.abs(ref), 1, "f32")


def test_rms_is_compared_with_the_peers():
    ref, peer = answer("bf16")
    exact, coarse = torch.from_numpy(ref), torch.from_numpy(ref) * (1 + 2.0**-7)
    assert check_rms(peer, peer, ref) == 1.0 and check_rms(exact, peer, ref) == 0.0
    with pytest.raises(AssertionError, match="PyTorch's own"):
        check_rms(coarse, peer, ref)
    assert check_rms(coarse[..., :100], peer[..., :100], ref[..., :100]) is None
