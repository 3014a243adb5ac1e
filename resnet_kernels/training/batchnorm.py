"""Synchronised BatchNorm by itself, for where no fused convolution stands before it.

Moments by PyTorch, the merge over the processes, one elementwise pass; backward the two passes of
`bn_backward_reduce` and `bn_backward_apply` with the group's sum between them.  Kept: x and four vectors.
Not differentiable twice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .. import _aten, _checks
from ..backend import backend
from .forward import finalize
from .function import below_autograd, obeying
from .groups import add_up, merge_moments, shared_group
from .operators import run
from .stage import pixels


class _SyncBatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gamma: Tensor | None,
        beta: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
        group: Any,
    ) -> tuple[Tensor, ...]:
        with below_autograd():
            wide = x.to(_aten.accumulate_dtype(x.dtype))
            if x.shape[0]:
                var, mean = torch.var_mean(wide, (0, 2, 3), correction=0)
            else:
                mean = var = wide.new_zeros(x.shape[1])
            moments, count = merge_moments(torch.stack((mean, var * pixels(x))), pixels(x), group)
            norm, *running = finalize(moments, gamma, beta, count, eps, running_mean, running_var, momentum)
            y, _ = run("bn_normalise", x, norm, None, None, False, False)
        ctx.save_for_backward(x, norm, count)
        ctx.group, ctx.backend = group, backend.current()
        ctx.mark_non_differentiable(*running)
        return y, *running

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, norm, count = ctx.saved_tensors
        g = g.contiguous(memory_format=torch.channels_last)
        with below_autograd(), obeying(ctx.backend):
            _, sums, _ = run("bn_backward_reduce", g, None, x, norm, None, None, False)
            scaled = add_up(sums, ctx.group) / count
            coefficients, dgamma, dbeta = run("bn_backward_finalize", norm, scaled, sums, 1.0, True)
            dx = run("bn_backward_apply", g, None, x, coefficients)
        needs = ctx.needs_input_grad
        gradients = dx if needs[0] else None, dgamma if needs[1] else None, dbeta if needs[2] else None
        return *gradients, None, None, None, None, None


def sync_batch_norm_train(
    x: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    *,
    momentum: float,
    eps: float,
    process_group: Any,
) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
    """BatchNorm with the statistics of all processes of the group: (y, new running statistics or None).

    x: [N, C, H, W], N different in every process or 0; the vectors [C]; y in x's dtype.

    Raises:
        TypeError, ValueError: an argument that cannot be right; the group holds no other process.
    """
    op = "sync_batch_norm_train"
    group = shared_group(op, process_group)
    if group is None:
        raise ValueError(f"{op}: process_group must hold other processes: alone, use torch.nn.BatchNorm2d")
    _checks.activation(op, "x", x, 4, "[N, C, H, W]")
    _checks.sizes(op, "x", x, "C, H and W")
    given = {"gamma": gamma, "beta": beta, "running_mean": running_mean, "running_var": running_var}
    vectors = [_checks.vector(op, name, value, x.shape[1], x) for name, value in given.items()]
    x = x.contiguous(memory_format=torch.channels_last)
    y, *running = _SyncBatchNorm.apply(x, *vectors, momentum, _checks.epsilon(op, eps), group)
    return y, (running[0], running[1]) if running else None
