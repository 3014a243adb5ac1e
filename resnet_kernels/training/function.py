"""Forward and backward of a chain of convolutions with BatchNorm and ReLU, and a shortcut around it.

    a_0 = x;  y_i = conv(a_{i-1}, w_i);  a_i = relu?(bn_i(y_i))        i = 1 ... L
    out = relu?(bn_L(y_L) + skip)

One layer is a chain of one; a residual block (He et al. 2015, figure 5) a chain of two or three with a skip.

Forward, per unit: convolution with the statistics in its epilogue, the statistics' merge, one elementwise
pass.  Backward, from the last unit to the first: BatchNorm's elementwise pass, the weight's gradient, and the
input's gradient, whose epilogue applies the previous ReLU's mask and sums what the previous BatchNorm needs;
at the first unit it adds the skip's gradient.  So only the chain's end needs a reducing pass of its own.

Kept for backward: x, the raw y_i, the activations a_i and the weights as computed with (with ``recompute``
neither: they are made again from y_i and from the parameters), a bit per element for each ReLU, and vectors.
Not differentiable twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..backend import backend
from .groups import add_up, merge_moments
from .operators import run
from .weights import as_computed, kept_as_computed

PER_UNIT = 5  # tensors: weight, gamma, beta, running mean, running variance


class Unit(NamedTuple):
    """What a unit computes beside its tensors."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    eps: float
    momentum: float
    relu: bool
    batch_stats: bool  # normalise with this batch's statistics; otherwise with the running ones
    weight_dtype: torch.dtype  # of the weight as given, and of its gradient; computed with in x's dtype
    group: Any = None  # the processes whose batches are normalised as one; None: this one's alone

    @property
    def geometry(self) -> tuple[tuple[int, int], ...]:
        return self.stride, self.padding, self.dilation


class Chain(NamedTuple):
    """A chain: its units, then the skip's convolution if there is one.

    skip: "none"; "tensor", given beside x; "input", x itself; "projection", the last unit applied to x;
    "zero_pad", every ``skip_stride``-th pixel of x, and zeros for the channels that are new.
    """

    units: tuple[Unit, ...]
    skip: str
    skip_stride: tuple[int, int]
    tf32: bool
    recompute: bool
    backend: str


class _Kept(NamedTuple):
    """A unit's tensors for backward."""

    x: Tensor | None  # None: computed again from the unit before
    weight: Tensor
    gamma: Tensor | None
    beta: Tensor | None
    y: Tensor
    mean: Tensor
    var: Tensor
    mask: Tensor | None
    values: Tensor | None  # how many per channel in the group, [], where the unit is synchronised


def below_autograd() -> contextlib.AbstractContextManager[Any]:
    """Past the autograd layer: its Python functions cost more than the calls and have nothing to record."""
    if torch.compiler.is_compiling():
        return contextlib.nullcontext()
    return torch._C._AutoDispatchBelowAutograd()


@contextlib.contextmanager
def _switched(name: str) -> Iterator[None]:
    with backend(name):
        yield


def obeying(name: str) -> contextlib.AbstractContextManager[Any]:
    """The backend that forward ran on; a compiled program's operators obey the one chosen at run time."""
    if torch.compiler.is_compiling() or backend.current() == name:
        return contextlib.nullcontext()
    return _switched(name)


def pixels(y: Tensor) -> int:
    """Values per channel."""
    return y.shape[0] * y.shape[2] * y.shape[3]


def _activate(unit: Unit, kept: _Kept, residual: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """(relu?(bn(y) + residual), its mask or None)."""
    vectors = kept.gamma, kept.beta, kept.mean, kept.var, unit.eps, residual
    if unit.relu:
        return run("bn_relu_mask", kept.y, *vectors)
    return run("bn_apply", kept.y, *vectors, False), None


def finalize(
    moments: Tensor,
    count: int | Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
) -> tuple[Tensor, ...]:
    """(mean, biased variance, new running mean, new running variance)."""
    if not isinstance(count, Tensor) and not torch.compiler.is_compiling():
        mean, var, *running = run("bn_finalize", moments, float(count), running_mean, running_var, momentum)
        return (mean, var) if running_mean is None else (mean, var, *running)
    # An operator's float makes a dynamic batch a constant of the compiled program (which fuses these anyway),
    # and a group's count would have to come from the device.
    mean, var = moments[0].clone(), moments[1] / count
    if running_mean is None or running_var is None:
        return mean, var
    new_mean = running_mean * (1 - momentum) + mean * momentum
    return mean, var, new_mean, running_var * (1 - momentum) + moments[1] / (count - 1) * momentum


def _forward_unit(
    chain: Chain, unit: Unit, x: Tensor, tensors: tuple[Tensor | None, ...], residual: Tensor | None
) -> tuple[Tensor, _Kept, list[Tensor]]:
    """(activation, what backward needs, new running statistics)."""
    weight, gamma, beta, running_mean, running_var = tensors
    assert weight is not None
    weight = as_computed(weight, x) if chain.recompute else kept_as_computed(weight, x)
    running: list[Tensor] = []
    values = None
    if unit.batch_stats:
        y, moments = run("conv_fprop_stats", x, weight, *unit.geometry, chain.tf32)
        if unit.group is not None:
            moments, values = merge_moments(moments, pixels(y), unit.group)
        count = pixels(y) if values is None else values
        mean, var, *running = finalize(moments, count, running_mean, running_var, unit.momentum)
    else:
        assert running_mean is not None and running_var is not None
        y = run("conv_fprop", x, weight, None, None, None, None, 0.0, None, *unit.geometry, False, chain.tf32)
        mean, var = running_mean, running_var
    kept = _Kept(x, weight, gamma, beta, y, mean, var, None, values)
    a, mask = _activate(unit, kept, residual)
    return a, kept._replace(mask=mask), running


def _zero_pad(x: Tensor, stride: tuple[int, int], channels: int) -> Tensor:
    """Every stride-th pixel of x, and zeros for the new channels (the paper's shortcut A)."""
    x = x[:, :, :: stride[0], :: stride[1]]
    padded = torch.nn.functional.pad(x, (0, 0, 0, 0, 0, channels - x.shape[1]))
    return padded.contiguous(memory_format=torch.channels_last)


def _zero_pad_backward(h: Tensor, stride: tuple[int, int], like: Tensor) -> Tensor:
    dx = torch.zeros_like(like, memory_format=torch.channels_last)
    dx[:, :, :: stride[0], :: stride[1]] = h[:, : like.shape[1]]
    return dx


def _backward_bn(unit: Unit, kept: _Kept, h: Tensor, sums: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(gradient of y, of gamma, of beta) from h and its sums."""
    vectors = kept.gamma, kept.mean, kept.var, unit.eps
    if kept.values is not None:
        scaled = add_up(sums, unit.group) / kept.values, sums, 1.0
    elif torch.compiler.is_compiling():  # as in `finalize`
        scaled = sums / pixels(kept.y), sums, 1.0
    else:
        scaled = sums, sums, float(pixels(kept.y))
    return run("bn_backward_apply", h, kept.y, *vectors, *scaled, unit.batch_stats)


class _Backward:
    """One backward pass; ``needs`` says of every argument of the function whether its gradient is wanted."""

    def __init__(self, chain: Chain, kept: list[_Kept], needs: tuple[bool, ...]) -> None:
        self.chain, self.kept, self.needs = chain, kept, needs
        self.body = len(kept) - (chain.skip == "projection")
        self.gradients: list[Tensor | None] = [None] * len(needs)

    def wanted(self, i: int) -> tuple[bool, ...]:
        """Which of unit i's weight, gamma and beta want a gradient."""
        first = 3 + PER_UNIT * i
        return self.needs[first : first + 3]

    def parameters(self, i: int, x: Tensor, h: Tensor, sums: Tensor) -> Tensor:
        """Write the gradients of unit i's parameters; return that of its convolution's output."""
        unit, kept = self.chain.units[i], self.kept[i]
        dy, dgamma, dbeta = _backward_bn(unit, kept, h, sums)
        wants = self.wanted(i)
        kernel = kept.weight.shape[2:]
        dw = None
        if wants[0]:
            dw = run("conv_wgrad", dy, x, list(kernel), *unit.geometry, self.chain.tf32).to(unit.weight_dtype)
        first = 3 + PER_UNIT * i
        self.gradients[first : first + 3] = [dw, dgamma if wants[1] else None, dbeta if wants[2] else None]
        return dy

    def dgrad(self, i: int, dy: Tensor, size: torch.Size, *epilogue: Tensor | None) -> tuple[Tensor, Tensor]:
        """Gradient of unit i's input; epilogue: residual, mask, bn_input, bn_mean."""
        unit = self.chain.units[i]
        args = list(size[2:]), *unit.geometry, self.chain.tf32
        return run("conv_dgrad", dy, as_computed(self.kept[i].weight, dy), *epilogue, *args)

    def run(self, g: Tensor) -> list[Tensor | None]:
        """Gradients of the function's arguments from that of its result."""
        last = self.kept[self.body - 1]
        g = g.contiguous(memory_format=torch.channels_last)
        h, sums = run("bn_backward_reduce", g, last.y, last.mean, last.mask)
        if last.mask is None:
            h = g
        skip = h
        if self.chain.skip == "tensor" and self.needs[2]:
            self.gradients[2] = h
        for i in range(self.body - 1, 0, -1):
            before = self.kept[i - 1]
            x, mask = self.kept[i].x, before.mask
            if x is None:
                x, mask = _activate(self.chain.units[i - 1], before, None)
            dy = self.parameters(i, x, h, sums)
            if not (self.needs[1] or any(any(self.wanted(j)) for j in range(i))):
                return self.finish_skip(skip)
            h, sums = self.dgrad(i, dy, x.shape, None, mask, before.y, before.mean)
        x = self.kept[0].x
        assert x is not None
        dy = self.parameters(0, x, h, sums)
        self.finish_skip(skip)
        if self.needs[1]:
            self.gradients[1], _ = self.dgrad(0, dy, x.shape, self.gradients[1], None, None, None)
        return self.gradients

    def finish_skip(self, h: Tensor) -> list[Tensor | None]:
        """The skip's share of the gradients, that of x in its place among them."""
        x, kind = self.kept[0].x, self.chain.skip
        assert x is not None
        if kind == "input" and self.needs[1]:
            self.gradients[1] = h
        elif kind == "zero_pad" and self.needs[1]:
            self.gradients[1] = _zero_pad_backward(h, self.chain.skip_stride, x)
        elif kind == "projection" and (self.needs[1] or any(self.wanted(self.body))):
            kept = self.kept[self.body]
            _, sums = run("bn_backward_reduce", h, kept.y, kept.mean, None)
            dy = self.parameters(self.body, x, h, sums)
            if self.needs[1]:
                self.gradients[1], _ = self.dgrad(self.body, dy, x.shape, None, None, None, None)
        return self.gradients


class _OnlyOnce(torch.autograd.Function):
    """Hands gradients through; being differentiated raises."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor | None) -> tuple[Tensor | None, ...]:
        return tuple(None if t is None else t.view_as(t) for t in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        raise RuntimeError(
            "resnet_kernels: the fused training layers are differentiable once; for gradients of gradients "
            "choose rk.backend('aten') on a CPU or unfuse the model"
        )


class ChainFunction(torch.autograd.Function):
    """(out, new running statistics ...) of (chain, x, residual, tensors of the units ...)."""

    @staticmethod
    def forward(
        ctx: Any, chain: Chain, x: Tensor, residual: Tensor | None, *tensors: Tensor | None
    ) -> tuple[Tensor, ...]:
        units = chain.units
        each = [tensors[PER_UNIT * i : PER_UNIT * (i + 1)] for i in range(len(units))]
        body = len(units) - (chain.skip == "projection")
        kept: list[_Kept] = []
        running: list[Tensor] = []
        projected: list[Tensor] = []
        skip, skip_kept = residual, None
        with below_autograd():
            if chain.skip == "input":
                skip = x
            elif chain.skip == "zero_pad":
                skip = _zero_pad(x, chain.skip_stride, each[body - 1][0].shape[0])  # type: ignore[union-attr]
            elif chain.skip == "projection":
                skip, skip_kept, projected = _forward_unit(chain, units[body], x, each[body], None)
            a = x
            for i in range(body):
                residual = skip if i == body - 1 else None
                a, saved, new = _forward_unit(chain, units[i], a, each[i], residual)
                kept.append(saved)
                running += new
        if skip_kept is not None:
            kept.append(skip_kept)
        if chain.recompute:
            for i, unit in enumerate(kept):
                inside = 0 < i < body
                mask = None if i < body - 1 else unit.mask
                kept[i] = unit._replace(x=None if inside else unit.x, weight=each[i][0], mask=mask)  # type: ignore
        running += projected
        ctx.save_for_backward(*(tensor for unit in kept for tensor in unit))
        ctx.chain = chain
        ctx.mark_non_differentiable(*running)
        ctx.set_materialize_grads(False)
        return a, *running

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        chain, saved = ctx.chain, ctx.saved_tensors
        if g is None:
            return (None,) * (3 + PER_UNIT * len(chain.units))
        fields = len(_Kept._fields)
        kept = [_Kept(*saved[fields * i : fields * (i + 1)]) for i in range(len(chain.units))]
        with torch.no_grad(), below_autograd(), obeying(chain.backend):
            gradients = _Backward(chain, kept, ctx.needs_input_grad).run(g)
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return _OnlyOnce.apply(len(gradients), *gradients, g, *saved)
        return tuple(gradients)
