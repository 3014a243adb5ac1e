"""The elementwise, reducing and pooling kernels on integers: what they answer beside what they should.

Each function gives a ``run(seed)`` for a `cases.Case`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .convolutions import Run
from .problems import (
    DTYPES,
    Answer,
    Draw,
    bn_gradient,
    channel,
    gradient_sums,
    normalised,
    operators,
    packed,
    shortcut_a,
)


def normalising(precision: str, n: int, c: int, h: int, w: int) -> Run:
    """bn_apply (inference) and bn_normalise: with and without ReLU, mask, residual and its own BatchNorm."""

    def run(seed: int) -> Answer:
        draw = Draw(seed, DTYPES[precision])
        x, skip = draw.image(n, c, h, w), draw.image(n, c, h, w)
        norm, skip_norm = draw.norm(c), draw.norm(c)
        mean, scale, shift, _ = norm
        op = operators()
        plain = normalised(x, norm)
        y = op.bn_apply(x, scale, shift, mean, torch.ones(c), 0.0, skip, False)
        answers = [(y, plain + skip.double())]
        for residual, residual_norm, added in (
            (None, None, 0),
            (skip, None, skip.double()),
            (skip, skip_norm, normalised(skip, skip_norm)),
        ):
            unchanged, nothing = op.bn_normalise(x, norm, residual, residual_norm, False, False)
            activated, mask = op.bn_normalise(x, norm, residual, residual_norm, True, True)
            unmasked, _ = op.bn_normalise(x, norm, residual, residual_norm, True, False)
            want = plain + added
            answers += [(unchanged, want), (nothing, torch.empty(0)), (activated, want.relu())]
            answers += [(mask, packed(want > 0)), (unmasked, want.relu())]
        # Shortcut A: not of whole chunks, of these, and of float32's alone.
        for channels in (max(1, c - 3), c // 2 // 8 * 8 or 1, min(c, 12)):
            narrow = draw.image(n, channels, 2 * h, 2 * w - 1)
            want = plain + shortcut_a(narrow, 2, c)
            activated, mask = op.bn_normalise(x, norm, narrow, None, True, True, [2, 2])
            unmasked, _ = op.bn_normalise(x, norm, narrow, None, False, False, [2, 2])
            answers += [(activated, want.relu()), (mask, packed(want > 0)), (unmasked, want)]
        return answers

    return run


def reducing(precision: str, n: int, c: int, h: int, w: int) -> Run:
    """bn_backward_reduce: for one BatchNorm or two, masked or not, kept or not; bn_backward_apply."""

    def run(seed: int) -> Answer:
        draw = Draw(seed, DTYPES[precision])
        g, x, other = draw.image(n, c, h, w), draw.image(n, c, h, w), draw.image(n, c, h, w)
        norm, other_norm, coefficients = draw.norm(c), draw.norm(c), draw.coefficients(c)
        bits, mask = draw.mask(n, c, h, w)
        h_want = g.double() * bits
        sums_want = gradient_sums(h_want, x, norm[0])
        other_want = gradient_sums(h_want, other, other_norm[0])
        op = operators()
        kept, sums, other_sums = op.bn_backward_reduce(g, mask, x, norm, other, other_norm, True)
        nothing, again, none = op.bn_backward_reduce(g, mask, x, norm, None, None, False)
        copied, unmasked, _ = op.bn_backward_reduce(g, None, x, norm, None, None, True)
        return [
            (kept, h_want),
            (sums, sums_want),
            (other_sums, other_want),
            (nothing, torch.empty(0)),
            (again, sums_want),
            (none, torch.empty(0, c)),
            (copied, g.double()),
            (unmasked, gradient_sums(g, x, norm[0])),
            (op.bn_backward_apply(g, mask, x, coefficients), bn_gradient(h_want, x, coefficients)),
            (op.bn_backward_apply(g, None, x, coefficients), bn_gradient(g, x, coefficients)),
            (op.bn_backward_apply(g, mask, None, coefficients), bn_gradient(h_want, None, coefficients)),
        ]

    return run


def finalizing(precision: str, c: int) -> Run:
    """bn_finalize and bn_backward_finalize, on powers of two so that roots and quotients are exact.

    They know float32 alone; ``precision`` is float32's or TF32's.
    """

    def run(seed: int) -> Answer:
        draw = Draw(seed, DTYPES[precision])
        mean, gamma, beta = draw.vector(c), draw.vector(c), draw.vector(c)
        running_mean, running_var = draw.vector(c), draw.vector(c, 1, 4)
        half = torch.exp2(draw.vector(c, 0, 2))  # the standard deviation
        moments = torch.stack((mean, 2 * half**2))  # of two values
        op = operators()
        norm, new_mean, new_var = op.bn_finalize(
            moments, gamma, beta, 2.0, 0.0, running_mean, running_var, 0.5
        )
        plain, *nothing = op.bn_finalize(moments, None, None, 2.0, 0.0, None, None, 0.5)
        zero = torch.zeros(c)
        sums, local = (torch.stack((draw.vector(c), draw.vector(c))) for _ in range(2))
        coefficients, dgamma, dbeta = op.bn_backward_finalize(norm, sums, local, 4.0, True)
        fixed, *_ = op.bn_backward_finalize(norm, sums, sums, 4.0, False)
        slope = gamma / half
        return [
            (norm, torch.stack((mean, slope, beta, 1 / half)).double()),
            (plain, torch.stack((mean, 1 / half, zero, 1 / half)).double()),
            (new_mean, (running_mean + mean).double() / 2),
            (new_var, (running_var + 2 * half**2).double() / 2),
            *((nobody, torch.empty(0)) for nobody in nothing),
            (coefficients, torch.stack((slope, sums[0] / 4, mean, sums[1] / 4 / half**2)).double()),
            (fixed, torch.stack((slope, zero, mean, zero)).double()),
            (dgamma, (local[1] / half).double()),
            (dbeta, local[0].double()),
        ]

    return run


def pooling(precision: str, n: int, c: int, h: int, w: int) -> Run:
    """max_pool, its indices and gradient; the global average and its gradient, for a power of two pixels."""

    def run(seed: int) -> Answer:
        draw = Draw(seed, DTYPES[precision])
        op = operators()
        x = draw.image(n, c, h, w)
        reference = x.double().requires_grad_()
        want = F.max_pool2d(reference, 3, 2, 1)
        dy = draw.image(*want.shape)
        want.backward(dy.double())
        window = ([3, 3], [2, 2], [1, 1])
        y, indices = op.max_pool_indices(x, *window)
        average_gradient = draw.integers(n, c).to(x.dtype)
        spread = channel(average_gradient.flatten()).view(n, c, 1, 1) / (h * w)
        return [
            (op.max_pool(x, *window), want.detach()),
            (y, want.detach()),
            (op.max_pool_backward(dy, indices, [h, w], *window), reference.grad),
            (op.global_avg_pool(x), x.double().mean((2, 3))),
            (op.global_avg_pool_backward(average_gradient, [h, w]), spread.expand(n, c, h, w)),
        ]

    return run
