"""A count from an execution on fake tensors: no memory, no arithmetic, every operator PyTorch dispatches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from typing import Any

from .layers import Count, Layer, Shape, touched


def traced(model: Any, shape: Shape) -> Count:
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
    "constant_pad_nd": "zero_pad",
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
            read = _conv_read(x, weight, given) - _untouched(given.get("residual"), out)
            return "conv" + epilogue, weight, macs, read
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


def _untouched(residual: Any, out: Any) -> int:
    """Bytes of a residual between the pixels that a strided shortcut takes."""
    if residual is None:
        return 0
    taken = out.numel() // out.shape[1] * residual.shape[1]
    return (residual.numel() - taken) * residual.element_size()


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
    read = 1
    for i in (0, 1):
        geometry = (given[key][i] for key in ("stride", "padding", "dilation"))
        read *= touched(x.shape[2 + i], weight.shape[2 + i], *geometry)
    return x.shape[0] * x.shape[1] * read * x.element_size()
