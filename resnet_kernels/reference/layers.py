"""The operators of a residual network in float64, each as its textbook formula.

    conv2d            y[n,k,p,q] = sum_{c,r,s} x[n, c, p sh - ph + r dh, q sw - pw + s dw] w[k,c,r,s]
                      (x is 0 outside)
    batch_norm        y = (x - mean) / sqrt(var + eps) * weight + bias   (running statistics)
    relu              max(x, 0), NaN stays NaN
    max_pool          maximum over the window, -inf outside, a NaN in the window wins

Convolution gathers its taps into a matrix (im2col) of bounded size and leaves the sum to BLAS.
"""

from __future__ import annotations

from .arrays import Array, array_module, float64, pair

Pair = int | tuple[int, int]

COLUMN_BYTES = 64 << 20  # the im2col matrix never exceeds this, unless one output row alone does


def output_size(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """floor((size + 2 padding - dilation (kernel - 1) - 1) / stride) + 1; ValueError where the window does
    not fit.
    """
    extent = dilation * (kernel - 1) + 1
    if size + 2 * padding < extent:
        raise ValueError(f"a window of {extent} does not fit in {size} + 2*{padding} padded elements")
    return (size + 2 * padding - extent) // stride + 1


def conv2d(
    x: Array,
    weight: Array,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    column_bytes: int = COLUMN_BYTES,
) -> Array:
    """x [N,C,H,W], weight [K,C,R,S] -> [N,K,P,Q]. Strides, padding and dilation: an int or (h, w)."""
    xp = array_module(x, weight)
    x, weight = float64(xp, x, "x", 4), float64(xp, weight, "weight", 4)
    (sh, sw), (dh, dw) = pair(stride, "stride", 1), pair(dilation, "dilation", 1)
    ph, pw = pair(padding, "padding", 0)
    n, c, h, w = x.shape
    k, c_weight, r, s = weight.shape
    if c != c_weight:
        raise ValueError(f"x has {c} channels, weight {tuple(weight.shape)} wants {c_weight}")
    p, q = output_size(h, r, sh, ph, dh), output_size(w, s, sw, pw, dw)

    y = xp.empty((n, k, p, q), dtype=xp.float64)
    filters = weight.reshape(k, c * r * s)
    if (r, s, sh, sw, ph, pw) == (1, 1, 1, 1, 0, 0):  # the columns are x itself
        for i in range(n):
            y[i] = (filters @ x[i].reshape(c, h * w)).reshape(k, p, q)
        return y

    rows = max(1, min(p, column_bytes // max(1, 8 * c * r * s * q)))  # output rows whose columns fit
    for i in range(n):
        image = xp.pad(x[i], ((0, 0), (ph, ph), (pw, pw)))
        for p0 in range(0, p, rows):
            p1 = min(p, p0 + rows)
            columns = xp.empty((c, r, s, p1 - p0, q), dtype=xp.float64)
            for tap_r in range(r):
                top = p0 * sh + tap_r * dh
                for tap_s in range(s):
                    left = tap_s * dw
                    columns[:, tap_r, tap_s] = image[
                        :, top : top + (p1 - p0 - 1) * sh + 1 : sh, left : left + (q - 1) * sw + 1 : sw
                    ]
            y[i, :, p0:p1] = (filters @ columns.reshape(c * r * s, -1)).reshape(k, p1 - p0, q)
    return y


def affine(x: Array, scale: Array | None = None, shift: Array | None = None) -> Array:
    """x * scale + shift, one value a channel (axis 1); None: 1 and 0."""
    xp = array_module(x, scale, shift)
    y = xp.asarray(x, dtype=xp.float64)
    if scale is not None:
        y = y * _per_channel(xp, scale, y, "scale")
    if shift is not None:
        y = y + _per_channel(xp, shift, y, "shift")
    return y


def batch_norm_affine(
    weight: Array | None, bias: Array | None, mean: Array, var: Array, eps: float = 1e-5
) -> tuple[Array, Array]:
    """(scale, shift) with affine(x, scale, shift) = batch_norm(x): scale = weight / sqrt(var + eps), shift
    = bias - mean * scale.
    """
    xp = array_module(weight, bias, mean, var)
    mean, var = float64(xp, mean, "mean", 1), float64(xp, var, "var", 1)
    scale = 1.0 / xp.sqrt(var + eps)
    if weight is not None:
        scale = scale * float64(xp, weight, "weight", 1)
    shift = -mean * scale
    if bias is not None:
        shift = shift + float64(xp, bias, "bias", 1)
    return scale, shift


def batch_norm(
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    """torch.nn.BatchNorm2d in eval mode: (x - mean) / sqrt(var + eps) * weight + bias."""
    xp = array_module(x, mean, var, weight, bias)
    x = xp.asarray(x, dtype=xp.float64)
    centred = x - _per_channel(xp, mean, x, "mean")
    y = centred / xp.sqrt(_per_channel(xp, var, x, "var") + eps)
    return affine(y, weight, bias)


def relu(x: Array) -> Array:
    """max(x, 0); NaN stays NaN (reported upstream as pytorch #7999 where it did not)."""
    xp = array_module(x)
    return xp.maximum(xp.asarray(x, dtype=xp.float64), 0.0)


def add(x: Array, y: Array) -> Array:
    """The shortcut: x + y, of one shape (no broadcasting, as in the network)."""
    xp = array_module(x, y)
    x, y = xp.asarray(x, dtype=xp.float64), xp.asarray(y, dtype=xp.float64)
    if x.shape != y.shape:
        raise ValueError(f"add wants one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    return x + y


def max_pool(x: Array, kernel: Pair, stride: Pair | None = None, padding: Pair = 0) -> Array:
    """x [N,C,H,W] -> [N,C,P,Q]: maximum over the window, -inf outside, NaN propagates; stride None: the
    kernel's size.
    """
    xp = array_module(x)
    x = float64(xp, x, "x", 4)
    r, s = pair(kernel, "kernel", 1)
    sh, sw = pair(kernel if stride is None else stride, "stride", 1)
    ph, pw = pair(padding, "padding", 0)
    if 2 * ph > r or 2 * pw > s:
        raise ValueError(
            f"padding must be at most half the kernel, got padding {(ph, pw)} and kernel {(r, s)}"
        )
    p, q = output_size(x.shape[2], r, sh, ph), output_size(x.shape[3], s, sw, pw)
    padded = xp.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=-xp.inf)
    y = xp.full((*x.shape[:2], p, q), -xp.inf)
    for tap_r in range(r):
        for tap_s in range(s):
            tap = padded[:, :, tap_r : tap_r + (p - 1) * sh + 1 : sh, tap_s : tap_s + (q - 1) * sw + 1 : sw]
            y = xp.maximum(y, tap)  # NaN in either argument gives NaN
    return y


def global_avg_pool(x: Array) -> Array:
    """x [N,C,H,W] -> [N,C]: the mean over H and W."""
    xp = array_module(x)
    return float64(xp, x, "x", 4).mean(axis=(2, 3))


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """x [N,C], weight [K,C], bias [K] -> x weight^T + bias [N,K]."""
    xp = array_module(x, weight, bias)
    x, weight = float64(xp, x, "x", 2), float64(xp, weight, "weight", 2)
    if x.shape[1] != weight.shape[1]:
        raise ValueError(f"x has {x.shape[1]} features, weight {tuple(weight.shape)} wants {weight.shape[1]}")
    return affine(x @ weight.T, None, bias)


def softmax(x: Array, axis: int = -1) -> Array:
    """exp(x - max) / sum exp(x - max) along `axis`."""
    xp = array_module(x)
    x = xp.asarray(x, dtype=xp.float64)
    e = xp.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _per_channel(xp, vector: Array, like: Array, name: str) -> Array:
    """`vector` [C] shaped to broadcast along axis 1 of `like`."""
    vector = float64(xp, vector, name, 1)
    if like.ndim < 2 or vector.shape[0] != like.shape[1]:
        raise ValueError(f"{name} has {vector.shape[0]} values, x {tuple(like.shape)} wants one a channel")
    return vector.reshape((1, -1) + (1,) * (like.ndim - 2))
