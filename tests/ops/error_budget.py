"""The error an operator may make, element by element and on the whole, beside PyTorch's own.

    |y - ref| <= u_out |ref| + (2^-22 sqrt(K) + n u) T

ref is the float64 oracle on the very inputs the operator saw (rounded to TF32 for TF32), T the oracle on
absolute values, K the length of the sum and n the number of intermediates of unit roundoff u.  From 4,096
outputs on, the RMS error must also stay within twice that of PyTorch's own composition in the same dtype.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from resnet_kernels import reference

# How a problem is computed: the tensors' dtype, and whether float32 products use TF32.
PRECISIONS = ("bf16", "f16", "f32", "tf32")
DTYPE = {
    "bf16": torch.bfloat16,
    "f16": torch.float16,
    "f32": torch.float32,
    "tf32": torch.float32,
    "f64": torch.float64,
}
# Half the distance between a format's subnormals: the error of rounding a number below its normal range.
_HALF_SUBNORMAL = {"bf16": 2.0**-134, "f16": 2.0**-25, "f32": 2.0**-150, "f64": 0.0}
# Outputs from which the RMS is compared.
RMS_FROM = 4096


def to_numpy(tensor: Tensor | None) -> np.ndarray | None:
    """float64 copy of a tensor, exactly."""
    return None if tensor is None else tensor.detach().double().numpy()


def operand(tensor: Tensor, precision: str) -> np.ndarray:
    """A factor of the products as the hardware sees it: rounded to TF32 for "tf32"."""
    exact = to_numpy(tensor)
    return reference.round_tf32(exact) if precision == "tf32" else exact


def check_error(
    y: Tensor,
    ref: np.ndarray,
    scale: np.ndarray,
    terms: int,
    precision: str,
    *,
    intermediates: int = 0,
    what: str = "",
) -> float:
    """Assert the bound for every element and return the largest error as a share of what is allowed.

    Args:
        y: what the operator gave, of ``precision``'s dtype.
        ref: the oracle's answer.
        scale: its answer on absolute values (T).
        terms: the length of the sum (K).
        intermediates: roundings to the dtype before the last (n); PyTorch's composition has one.
    """
    assert y.dtype == DTYPE[precision], f"{what}: got {y.dtype}, want {DTYPE[precision]}"
    assert tuple(y.shape) == ref.shape, f"{what}: got shape {tuple(y.shape)}, want {ref.shape}"
    out = "f32" if precision == "tf32" else precision
    u = reference.UNIT_ROUNDOFF[out]
    got = to_numpy(y)
    if precision == "f64":
        allowed = 2.0**-50 * np.sqrt(terms) * scale
    else:
        allowed = (
            reference.allowed_error(ref, scale, terms, u_out=u, intermediates=intermediates, u_intermediate=u)
            + (intermediates + 1) * _HALF_SUBNORMAL[out]
        )
    finite = np.isfinite(ref)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(ref), err_msg=f"{what}: positions of NaN")
    np.testing.assert_array_equal(got[~finite], ref[~finite], err_msg=f"{what}: infinities")
    error = np.abs(np.where(finite, got - ref, 0.0))
    share = np.divide(error, allowed, out=np.zeros_like(error), where=error > 0)
    worst = float(share.max(initial=0.0))
    if worst > 1.0:
        at = tuple(int(i) for i in np.unravel_index(np.argmax(share), share.shape))
        raise AssertionError(
            f"{what} ({precision}): {int((share > 1).sum())} of {share.size} outputs beyond the bound; "
            f"worst at {at}: got {got[at]!r}, want {ref[at]!r}, error {error[at]:.3e}, "
            f"allowed {allowed[at]:.3e} ({worst:.2f} times)"
        )
    return worst


def check_rms(
    y: Tensor, peer: Tensor, ref: np.ndarray, *, ratio: float = 2.0, what: str = ""
) -> float | None:
    """Assert an RMS error of at most ``ratio`` times the peer's, PyTorch's own.

    Returns what the ratio is; None below 4,096 outputs, where nothing is compared.
    """
    if ref.size < RMS_FROM:
        return None
    ours, theirs = reference.rms(to_numpy(y) - ref), reference.rms(to_numpy(peer) - ref)
    assert ours <= ratio * theirs, f"{what}: RMS error {ours:.3e}, PyTorch's own {theirs:.3e}"
    return ours / theirs if theirs else 0.0
