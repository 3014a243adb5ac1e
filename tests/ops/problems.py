"""Problems for the operators: geometry, tensors drawn from a seed, the oracle's answer and the operator's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

import resnet_kernels as rk
from resnet_kernels import reference

from .error_budget import DTYPE, check_error, check_rms, operand, to_numpy

Pair = tuple[int, int]
EPS = 1e-5


@contextlib.contextmanager
def tf32(enabled: bool) -> Iterator[None]:
    """PyTorch's TF32 switches for convolutions and matrix products, on or off inside the block."""
    conv, matmul = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    saved = conv.fp32_precision, matmul.fp32_precision
    conv.fp32_precision = matmul.fp32_precision = "tf32" if enabled else "ieee"
    try:
        yield
    finally:
        conv.fp32_precision, matmul.fp32_precision = saved


@dataclass(frozen=True)
class Conv:
    """A convolution with its epilogue: ``affine`` is "none", "bias", "scale" (and shift) or "bn"."""

    n: int
    c: int
    h: int
    w: int
    k: int
    r: int = 3
    s: int = 3
    stride: Pair = (1, 1)
    padding: Pair = (1, 1)
    dilation: Pair = (1, 1)
    affine: str = "bn"
    residual: bool = False
    relu: bool = True

    @property
    def size(self) -> Pair:
        """(P, Q)."""
        return tuple(
            reference.output_size(size, kernel, *geometry)
            for size, kernel, *geometry in zip(
                (self.h, self.w), (self.r, self.s), self.stride, self.padding, self.dilation, strict=True
            )
        )

    @property
    def geometry(self) -> dict[str, Pair]:
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}

    @property
    def terms(self) -> int:
        """The length of an output's sum."""
        return self.c * self.r * self.s

    def shrunk(self, n: int, size: int) -> Conv:
        """The same layer for a smaller batch and image."""
        return replace(self, n=n, h=min(self.h, size), w=min(self.w, size))


@dataclass
class Tensors:
    """The arguments of a call; absent ones are None."""

    x: Tensor
    weight: Tensor
    scale: Tensor | None = None
    shift: Tensor | None = None
    mean: Tensor | None = None
    var: Tensor | None = None
    residual: Tensor | None = None

    @property
    def affine(self) -> dict[str, Tensor | None]:
        return {"scale": self.scale, "shift": self.shift, "mean": self.mean, "var": self.var}


def draw(conv: Conv, precision: str, seed: int = 0, integers: bool = False) -> Tensors:
    """Tensors for ``conv``: normal, scaled to give outputs of order 1, or small integers."""
    rng = np.random.default_rng(seed)
    dtype = DTYPE[precision]
    vector_dtype = torch.float64 if dtype == torch.float64 else torch.float32

    def tensor(shape: tuple[int, ...], std: float, low: int, high: int) -> Tensor:
        values = rng.integers(low, high + 1, shape) if integers else rng.standard_normal(shape) * std
        made = torch.from_numpy(np.asarray(values, dtype=np.float64)).to(dtype)
        return made.to(memory_format=torch.channels_last)

    def vector(low: float, high: float) -> Tensor:
        values = rng.integers(-2, 3, conv.k) if integers else rng.uniform(low, high, conv.k)
        return torch.from_numpy(np.asarray(values, dtype=np.float64)).to(vector_dtype)

    t = Tensors(
        x=tensor((conv.n, conv.c, conv.h, conv.w), 1.0, -2, 2),
        weight=tensor((conv.k, conv.c, conv.r, conv.s), conv.terms**-0.5, -1, 1),
    )
    if conv.affine in ("scale", "bn"):
        t.scale = vector(0.5, 1.5)
    if conv.affine != "none":
        t.shift = vector(-1.0, 1.0)
    if conv.affine == "bn" and not integers:
        t.mean, t.var = vector(-1.0, 1.0), vector(0.2, 2.0)
    if conv.residual:
        t.residual = tensor((conv.n, conv.k, *conv.size), 1.0, -2, 2)
    return t


def on_machine(t: Tensors) -> Tensors:
    """``t`` where the chosen backend computes: on the GPU for "cuda"."""
    if rk.backend.current() != "cuda":
        return t
    return Tensors(**{name: None if value is None else value.cuda() for name, value in vars(t).items()})


def call(conv: Conv, t: Tensors) -> Tensor:
    """`ops.conv_bn_act` on the chosen backend; the answer on the CPU."""
    t = on_machine(t)
    norm = {"mean": t.mean, "var": t.var, "eps": EPS}
    y = rk.ops.conv_bn_act(
        t.x, t.weight, t.scale, t.shift, t.residual, **norm, relu=conv.relu, **conv.geometry
    )
    return y.cpu()


def oracle(conv: Conv, t: Tensors, precision: str) -> tuple[np.ndarray, np.ndarray]:
    """(the float64 answer, the same on absolute values) for the tensors as given."""
    x, weight = operand(t.x, precision), operand(t.weight, precision)
    vectors = {name: to_numpy(vector) for name, vector in t.affine.items()}
    y = reference.conv2d(x, weight, **conv.geometry)
    if t.mean is not None:
        y = reference.batch_norm(y, vectors["mean"], vectors["var"], vectors["scale"], vectors["shift"], EPS)
    else:
        y = reference.affine(y, vectors["scale"], vectors["shift"])
    residual = to_numpy(t.residual)
    if residual is not None:
        y = reference.add(y, residual)
    if conv.relu:
        y = reference.relu(y)
    scale = reference.conv_error_scale(
        x, weight, vectors["scale"], vectors["shift"], residual, mean=vectors["mean"], var=vectors["var"],
        eps=EPS, **conv.geometry,
    )  # fmt: skip
    return y, scale


def has_epilogue(conv: Conv) -> bool:
    """Is there an affine or a residual, behind which PyTorch's composition rounds a second time?"""
    return conv.affine != "none" or conv.residual


def check(conv: Conv, precision: str, machine: str, seed: int = 0) -> tuple[float, float | None]:
    """Run ``conv`` on ``machine``, hold it to the budget: (share of the bound used, RMS beside PyTorch's)."""
    t = draw(conv, precision, seed)
    ref, scale = oracle(conv, t, precision)
    with tf32(precision == "tf32"), rk.backend(machine):
        y = call(conv, t)
    rounds_twice = machine == "aten" and has_epilogue(conv)
    what = f"{conv} on {machine}, seed {seed}"
    share = check_error(y, ref, scale, conv.terms, precision, intermediates=int(rounds_twice), what=what)
    ratio = None
    if machine != "aten" and precision != "tf32":
        with rk.backend("aten"):
            ratio = check_rms(y, call(conv, t), ref, what=what)
    return share, ratio


def check_exact(conv: Conv, precision: str, machine: str, seed: int = 0) -> None:
    """Small integers, whose sums every format here holds: the oracle's answer, rounded once, exactly."""
    t = draw(conv, precision, seed, integers=True)
    ref, _ = oracle(conv, t, precision)
    with tf32(precision == "tf32"), rk.backend(machine):
        y = call(conv, t)
    expected = torch.from_numpy(ref).to(y.dtype)
    wrong = (y != expected).sum().item()
    assert wrong == 0, (
        f"{conv} ({precision}) on {machine}, seed {seed}: {wrong} of {y.numel()} outputs differ"
    )
