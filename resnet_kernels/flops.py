"""What a network costs: multiply-adds, parameters and bytes, for each layer and in all.

    count = rk.flops.count("resnet50", (1, 3, 224, 224))      # from the paper's table, pure arithmetic
    count = rk.flops.count(model, (1, 3, 224, 224))           # any module: ours, torchvision's, fused ones
    count.macs, count.flops, count.params, count.bytes, count.layers

Conventions.  A MAC is one multiply-add; convolutions and fully connected layers alone are counted, as He et
al. 2015 do: the paper's table 1 says "FLOPs" and means MACs.  `flops` is twice that.  BatchNorm, ReLU, add
and pooling have 0 MACs but move bytes.  `bytes` are the distinct bytes that an operator must read and write
once, its weights included: a strided 1x1 convolution reads every second pixel only.  `params` are learnable
values (running statistics are not).

The two ways are independent of each other: the table knows the architecture and no torch, the other executes
the module on fake tensors (no memory, no arithmetic) and looks at each operator that PyTorch dispatches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

PAPER_GMACS = {18: 1.8, 34: 3.6, 50: 3.8, 101: 7.6, 152: 11.3}
"""The last row of He et al. 2015, table 1, in 10^9 multiply-adds (called FLOPs there)."""

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Depth -> residual blocks in the four stages (table 1); bottlenecks from 50 layers on."""

ITEM_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One operator. `kind` joins what it computes with "+": "conv+bn+add+relu"."""

    name: str
    kind: str
    input: Shape
    weight: Shape | None
    output: Shape
    macs: int
    params: int
    bytes: int

    @property
    def stage(self) -> str:
        """The row of the paper's table 1: "conv1", "layer1" .. "layer4" or "head"."""
        root = self.name.split(".")[0]
        return root if root == "conv1" or root.startswith("layer") else "head"


@dataclass(frozen=True)
class Count:
    """The layers in execution order, and their sums."""

    name: str
    input: Shape
    dtype: str
    layers: tuple[Layer, ...]
    params: int
    paper_gmacs: float | None = None

    @property
    def macs(self) -> int:
        """Multiply-adds: the paper's "FLOPs"."""
        return sum(layer.macs for layer in self.layers)

    @property
    def flops(self) -> int:
        """2 x MACs: multiplications and additions."""
        return 2 * self.macs

    @property
    def bytes(self) -> int:
        """Sum of the operators' bytes: what crosses memory if nothing survives between two operators."""
        return sum(layer.bytes for layer in self.layers)

    def by_stage(self) -> dict[str, int]:
        """MACs of each stage, in execution order."""
        stages: dict[str, int] = {}
        for layer in self.layers:
            if layer.macs:
                stages[layer.stage] = stages.get(layer.stage, 0) + layer.macs
        return stages


def count(
    model: Any,
    input_shape: Sequence[int] = (1, 3, 224, 224),
    *,
    dtype: str | None = None,
    stride_in: str = "3x3",
    shortcut: str = "B",
    num_classes: int = 1000,
) -> Count:
    """Count `model`, a name ("resnet50") or a torch.nn.Module, for inputs [N, C, H, W] in evaluation mode.

    A name is counted from the paper's table, one row a fused operator, in `dtype` (default "float32"); the
    three options after it belong to names alone.  A module is counted as it executes, in its own dtype.

    Raises:
        ValueError: unknown name, option, dtype or an input that the network cannot take.
        TypeError: `model` is neither a string nor a module.
    """
    shape = tuple(int(size) for size in input_shape)
    if len(shape) != 4 or min(shape) < 0 or min(shape[1:]) < 1:
        raise ValueError(
            f"count: input_shape must be (N, C, H, W) with C, H, W >= 1, got {tuple(input_shape)}"
        )
    if isinstance(model, str):
        return _paper_network(model, shape, dtype or "float32", stride_in, shortcut, num_classes)
    if not callable(getattr(model, "forward", None)):
        raise TypeError(
            f"count: model must be a network's name or a torch.nn.Module, got {type(model).__name__}"
        )
    return _traced(model, shape)


# -----------------------------------------------------------------------------
# From the paper's table


def names() -> list[str]:
    """The names `count` knows."""
    return [f"resnet{depth}" for depth in BLOCKS]


def _paper_network(
    name: str, shape: Shape, dtype: str, stride_in: str, shortcut: str, num_classes: int
) -> Count:
    if name not in names():
        raise ValueError(f"count: no network {name!r}; known: {', '.join(names())}")
    for what, got, wanted in (
        ("stride_in", stride_in, ("3x3", "1x1")),
        ("shortcut", shortcut, ("A", "B", "C")),
    ):
        if got not in wanted:
            raise ValueError(f"count: {what} must be one of {', '.join(map(repr, wanted))}, got {got!r}")
    if dtype not in ITEM_BYTES:
        raise ValueError(f"count: dtype must be one of {', '.join(ITEM_BYTES)}, got {dtype!r}")
    if shape[1] != 3:
        raise ValueError(f"count: {name} takes images of 3 channels, got {shape[1]}")
    depth = int(name.removeprefix("resnet"))
    layers = tuple(_paper_layers(depth, shape, ITEM_BYTES[dtype], stride_in, shortcut, num_classes))
    comparable = shape[2:] == (224, 224) and num_classes == 1000 and shortcut == "B"
    return Count(
        name=name,
        input=shape,
        dtype=dtype,
        layers=layers,
        params=sum(layer.params for layer in layers),
        paper_gmacs=PAPER_GMACS[depth] if comparable else None,
    )


def _paper_layers(
    depth: int, shape: Shape, item: int, stride_in: str, shortcut: str, num_classes: int
) -> Iterator[Layer]:
    """The fused operators of a residual network, stem to classifier."""

    def conv(
        name: str, x: Shape, k: int, kernel: int, stride: int, *, add: bool = False, relu: bool = True
    ) -> Layer:
        n, c, h, w = x
        pad = kernel // 2
        p, q = ((size + 2 * pad - kernel) // stride + 1 for size in (h, w))
        read = n * c * _touched(h, kernel, stride, pad, 1) * _touched(w, kernel, stride, pad, 1)
        return Layer(
            name=name,
            kind="conv+bn" + "+add" * add + "+relu" * relu,
            input=x,
            weight=(k, c, kernel, kernel),
            output=(n, k, p, q),
            macs=n * k * p * q * c * kernel * kernel,
            params=k * c * kernel * kernel + 2 * k,
            bytes=item * (read + k * c * kernel * kernel + (2 if add else 1) * n * k * p * q) + 4 * 4 * k,
        )

    n = shape[0]
    stem = conv("conv1", shape, 64, 7, 2)
    pooled = (n, 64, *((size - 1) // 2 + 1 for size in stem.output[2:]))
    saved = item * (prod(stem.output) - prod(pooled))  # the stem's own output never reaches memory
    yield _replace(stem, kind="conv+bn+relu+maxpool", output=pooled, bytes=stem.bytes - saved)

    bottleneck = depth >= 50
    x: Shape = pooled
    for stage, (width, blocks) in enumerate(zip((64, 128, 256, 512), BLOCKS[depth], strict=True), 1):
        out = 4 * width if bottleneck else width
        for index in range(blocks):
            name, stride = f"layer{stage}.{index}", 2 if stage > 1 and index == 0 else 1
            if shortcut == "C" or (shortcut == "B" and (stride != 1 or x[1] != out)):
                yield conv(f"{name}.downsample.0", x, out, 1, stride, relu=False)
            if bottleneck:
                first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
                steps: tuple[tuple[int, int, int], ...] = ((width, 1, first), (width, 3, second), (out, 1, 1))
            else:
                steps = ((width, 3, stride), (out, 3, 1))
            for i, (k, kernel, step) in enumerate(steps, 1):
                layer = conv(f"{name}.conv{i}", x, k, kernel, step, add=i == len(steps))
                yield layer
                x = layer.output
    pool = (n, x[1])
    yield Layer("global_avg_pool", "global_avg_pool", x, None, pool, 0, 0, item * (prod(x) + prod(pool)))
    weight = (num_classes, x[1])
    moved = item * (prod(pool) + prod(weight) + n * num_classes) + 4 * num_classes
    params = prod(weight) + num_classes
    yield Layer("fc", "linear", pool, weight, (n, num_classes), n * prod(weight), params, moved)


def _replace(layer: Layer, **changes: Any) -> Layer:
    return Layer(**{**layer.__dict__, **changes})


def _touched(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """How many of the `size` positions along one axis some window reads."""
    windows = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    read = {p * stride - padding + r * dilation for p in range(windows) for r in range(kernel)}
    return sum(0 <= position < size for position in read)


# -----------------------------------------------------------------------------
# From an execution on fake tensors


def _traced(model: Any, shape: Shape) -> Count:
    """Run `model` on fake tensors in evaluation mode and record every operator that moves data."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    first = next((t for t in tensors.values() if t.is_floating_point()), None)
    dtype = torch.float32 if first is None else first.dtype
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with FakeTensorMode(allow_non_fake_inputs=True) as fake, torch.no_grad():
            names = {}
            fakes: dict[str, torch.Tensor] = {}
            for name, tensor in tensors.items():
                fakes[name] = fake.from_tensor(tensor.detach())
                names[id(fakes[name])] = name
            x = torch.empty(shape, dtype=dtype, device=first.device if first is not None else "cpu")
            x = x.contiguous(memory_format=torch.channels_last)
            recorder = _recorder(names, set(dict(model.named_parameters())))
            with recorder:
                torch.func.functional_call(model, fakes, (x,))
    except (RuntimeError, TypeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"count: {type(model).__name__} does not take an input {shape}: {reason}") from error
    finally:
        for module, training in modes.items():
            module.training = training
    params = sum(parameter.numel() for parameter in model.parameters())
    return Count(
        type(model).__name__, shape, str(dtype).removeprefix("torch."), tuple(recorder.layers), params
    )


def _recorder(names: dict[int, str], learnable: set[str]) -> Any:
    """A dispatch mode: its `layers` grows by one Layer an operator; `names`: id of a tensor -> its name."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Recorder(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.layers: list[Layer] = []
            self.seen: set[str] = set()  # parameters that have been counted
            self.where = ""  # the module that the last operator with a weight belongs to
            self.alive: list[Any] = []  # so that no id in `names` is reused

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            inputs = [a for a in _flat(args) if isinstance(a, torch.Tensor)]
            outputs = [a for a in _flat([result]) if isinstance(a, torch.Tensor)]
            free = func.is_view or func.namespace == "prim" or _base_name(func) in _FREE
            if inputs and outputs:
                if (free or _base_name(func) in _COPIES) and id(inputs[-1]) in names:  # still that weight
                    names[id(outputs[0])] = names[id(inputs[-1])]
                self.alive += outputs
                if not free:
                    self.layers.append(self.layer(func, args, inputs, outputs))
            return result

        def layer(self, func, args, inputs, outputs) -> Layer:
            kind, weight, macs, read = _describe(func, args, inputs, outputs)
            used = [names[id(t)] for t in inputs if id(t) in names]
            fresh = {n: t for t in inputs if (n := names.get(id(t))) in learnable - self.seen}
            self.seen |= set(fresh)
            if used:
                name = used[0].rpartition(".")[0] or used[0]
                parts = name.split(".")
                self.where = ".".join(parts[: -2 if parts[-1].isdigit() else -1])  # past a Sequential
            else:
                name = kind if "pool" in kind else ".".join(filter(None, (self.where, kind)))
            if kind == "linear" and func.namespace == "aten":  # addmm(bias, x, weight^T)
                inputs = [*inputs[-2:], *inputs[:-2]]
            moved = read + sum(t.numel() * t.element_size() for t in [*inputs[1:], *outputs])
            return Layer(
                name=name,
                kind=kind,
                input=tuple(inputs[0].shape),
                weight=None if weight is None else tuple(weight.shape),
                output=tuple(outputs[0].shape),
                macs=macs,
                params=sum(t.numel() for t in fresh.values()),
                bytes=moved,
            )

    return Recorder()


# Operators that move nothing: they make views or uninitialised memory.
_FREE = {"empty", "empty_like", "empty_strided", "new_empty", "detach", "alias", "lift_fresh", "_unsafe_view"}
_FREE |= {"as_strided_", "resize_", "transpose_", "set_"}
_COPIES = {"clone", "_to_copy", "copy_", "contiguous"}
_KINDS = {
    "_native_batch_norm_legit_no_training": "bn",
    "native_batch_norm": "bn",
    "cudnn_batch_norm": "bn",
    "relu": "relu",
    "relu_": "relu",
    "add": "add",
    "add_": "add",
    "max_pool2d_with_indices": "max_pool",
    "max_pool2d": "max_pool",
    "_adaptive_avg_pool2d": "global_avg_pool",
    "mean": "global_avg_pool",
    "clone": "copy",
    "_to_copy": "copy",
    "copy_": "copy",
}


def _base_name(func: Any) -> str:
    return func._schema.name.split("::")[-1]


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _flat(value)
        else:
            yield value


def _describe(func: Any, args: Any, inputs: list[Any], outputs: list[Any]) -> tuple[str, Any, int, int]:
    """(kind, weight or None, MACs, bytes read of the first input)."""
    name = _base_name(func)
    given = {a.name: v for a, v in zip(func._schema.arguments, args, strict=False)}
    x, whole = inputs[0], inputs[0].numel() * inputs[0].element_size()

    if func.namespace.startswith("resnet_kernels"):
        epilogue = (
            "+bn" if given.get("mean") is not None else "+affine" * (given.get("scale") is not None)
        ) + ("+add" * (given.get("residual") is not None) + "+relu" * bool(given.get("relu")))
        if name == "conv_fprop":
            weight, out = given["weight"], outputs[0]
            macs = out.numel() * prod(weight.shape[1:])
            return "conv" + epilogue, weight, macs, _conv_read(x, weight, given)
        if name == "conv_bn_relu_maxpool":
            weight = given["weight"]
            macs = x.shape[0] * weight.numel() * prod(_conv_size(x, weight, given))
            return "conv+bn+relu+maxpool", weight, macs, _conv_read(x, weight, given)
        if name == "linear":
            return "linear", given["weight"], x.shape[0] * given["weight"].numel(), whole
        return (epilogue.lstrip("+") or name) if name == "bn_apply" else name, None, 0, whole

    if name == "convolution":
        weight = given["weight"]
        if given["transposed"]:
            return "conv_transposed", weight, x.numel() * prod(weight.shape[1:]), whole
        return "conv", weight, outputs[0].numel() * prod(weight.shape[1:]), _conv_read(x, weight, given)
    if name in ("addmm", "mm"):
        a, b = inputs[-2:]
        return "linear", b.t(), a.shape[0] * b.numel(), a.numel() * a.element_size()
    if name == "bmm":
        return "matmul", None, inputs[0].numel() * inputs[1].shape[-1], whole
    return _KINDS.get(name, name), None, 0, whole


def _conv_size(x: Any, weight: Any, given: dict[str, Any]) -> list[int]:
    return [
        (x.shape[2 + i] + 2 * given["padding"][i] - given["dilation"][i] * (weight.shape[2 + i] - 1) - 1)
        // given["stride"][i]
        + 1
        for i in (0, 1)
    ]


def _conv_read(x: Any, weight: Any, given: dict[str, Any]) -> int:
    """Bytes of x [N,C,H,W] that some window of the convolution reads."""
    if x.dim() != 4:
        return x.numel() * x.element_size()
    touched = 1
    for i in (0, 1):
        geometry = (given[key][i] for key in ("stride", "padding", "dilation"))
        touched *= _touched(x.shape[2 + i], weight.shape[2 + i], *geometry)
    return x.shape[0] * x.shape[1] * touched * x.element_size()
