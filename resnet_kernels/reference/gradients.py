"""Gradients of the network's operators in float64, each as its formula.

conv2d_input_gradient    dx[n,c,h,w] = sum over k, r, s of dy[n,k,p,q] w[k,c,r,s],  h = p sh - ph + r dh, ...
conv2d_weight_gradient   dw[k,c,r,s] = sum over n, p, q of dy[n,k,p,q] x[n, c, p sh - ph + r dh, ...]
batch_norm_moments       mean and sum of squared deviations over N, H and W
batch_norm_sums          sum h and sum h (x - mean) over N, H and W
max_pool_gradient        dy of every window at its first maximum
"""

from __future__ import annotations

from .arrays import Array, array_module, float64, pair
from .layers import Pair

PIXELS = (0, 2, 3)


def _taps(size: tuple[int, ...], output: tuple[int, ...], stride: Pair, dilation: Pair) -> list[tuple]:
    """(r, s, slice of rows, slice of columns) of every tap of a window [R, S] in the padded image."""
    (sh, sw), (dh, dw) = pair(stride, "stride", 1), pair(dilation, "dilation", 1)
    p, q = output
    return [
        (
            r,
            s,
            slice(r * dh, r * dh + (p - 1) * sh + 1, sh),
            slice(s * dw, s * dw + (q - 1) * sw + 1, sw),
        )
        for r in range(size[0])
        for s in range(size[1])
    ]


def conv2d_input_gradient(
    dy: Array,
    weight: Array,
    input_size: Pair,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
) -> Array:
    """dy [N,K,P,Q], weight [K,C,R,S] -> [N,C,H,W] with (H, W) = input_size."""
    xp = array_module(dy, weight)
    dy, weight = float64(xp, dy, "dy", 4), float64(xp, weight, "weight", 4)
    (h, w), (ph, pw) = pair(input_size, "input_size", 1), pair(padding, "padding", 0)
    dx = xp.zeros((dy.shape[0], weight.shape[1], h + 2 * ph, w + 2 * pw))
    for r, s, rows, columns in _taps(weight.shape[2:], dy.shape[2:], stride, dilation):
        dx[:, :, rows, columns] += xp.einsum("nkpq,kc->ncpq", dy, weight[:, :, r, s], optimize=True)
    return dx[:, :, ph : ph + h, pw : pw + w]


def conv2d_weight_gradient(
    dy: Array, x: Array, kernel: Pair, *, stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1
) -> Array:
    """dy [N,K,P,Q], x [N,C,H,W] -> [K,C,R,S] with (R, S) = kernel."""
    xp = array_module(dy, x)
    dy, x = float64(xp, dy, "dy", 4), float64(xp, x, "x", 4)
    size, (ph, pw) = pair(kernel, "kernel", 1), pair(padding, "padding", 0)
    padded = xp.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    dw = xp.empty((dy.shape[1], x.shape[1], *size))
    for r, s, rows, columns in _taps(size, dy.shape[2:], stride, dilation):
        dw[:, :, r, s] = xp.einsum("nkpq,ncpq->kc", dy, padded[:, :, rows, columns], optimize=True)
    return dw


def batch_norm_moments(x: Array) -> Array:
    """x [N,C,H,W] -> [2,C]: the mean and the sum of squared deviations from it."""
    xp = array_module(x)
    x = float64(xp, x, "x", 4)
    mean = x.mean(PIXELS)
    return xp.stack((mean, ((x - mean.reshape(1, -1, 1, 1)) ** 2).sum(PIXELS)))


def batch_norm_sums(h: Array, x: Array, mean: Array) -> Array:
    """h and x [N,C,H,W], mean [C] -> [2,C]: sum h and sum h (x - mean)."""
    xp = array_module(h, x, mean)
    h, x, mean = float64(xp, h, "h", 4), float64(xp, x, "x", 4), float64(xp, mean, "mean", 1)
    return xp.stack((h.sum(PIXELS), (h * (x - mean.reshape(1, -1, 1, 1))).sum(PIXELS)))


def max_pool_gradient(dy: Array, x: Array, kernel: Pair, stride: Pair, padding: Pair = 0) -> Array:
    """dy [N,C,P,Q], x [N,C,H,W] -> [N,C,H,W]: every window hands its gradient to its first maximum."""
    xp = array_module(dy, x)
    dy, x = float64(xp, dy, "dy", 4), float64(xp, x, "x", 4)
    size, (ph, pw) = pair(kernel, "kernel", 1), pair(padding, "padding", 0)
    edges = ((0, 0), (0, 0), (ph, ph), (pw, pw))
    padded = xp.pad(x, edges, constant_values=-xp.inf)
    dx = xp.zeros_like(padded)
    taps = _taps(size, dy.shape[2:], stride, 1)
    windows = xp.stack([padded[:, :, rows, columns] for _, _, rows, columns in taps])
    first = windows.argmax(0)
    for tap, (_, _, rows, columns) in enumerate(taps):
        dx[:, :, rows, columns] += xp.where(first == tap, dy, 0.0)
    return dx[:, :, ph : ph + x.shape[2], pw : pw + x.shape[3]]
