"""Weights from files: torchvision's and timm's checkpoints (``.pth``) and safetensors.

A file is read without executing anything in it, judged as a whole, and only then copied into the network: a
file that is truncated, foreign or of another network leaves the network as it was.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)

_WRAPPERS = ("state_dict", "model")  # under which training scripts (torchvision's, timm's) nest the weights
_OPTIONAL = "num_batches_tracked"  # absent from files older than PyTorch 0.4.1; evaluation does not read it
_LISTED = 8  # keys named in a message

# What torch.load raises on bytes that are no checkpoint, besides UnpicklingError.
_DAMAGE = (RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError)


class WeightsError(ValueError):
    """A file of weights cannot be read, or does not fit the network; the network is unchanged."""


def load_weights(model: Model, path: str | os.PathLike[str], *, classifier: bool = True) -> Model:
    """Copy the weights in the file `path` into `model`, in place, and return it.

    The format is told from the content: PyTorch's (read with ``weights_only=True``) or safetensors.  Weights
    nested under "state_dict" or "model", and keys that all begin with "module."
    (DistributedDataParallel), are unwrapped.

    Args:
        model: the network.
        path: the file.
        classifier: False leaves out ``fc.*``, the file's and the model's: for another number of classes.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: the file is truncated, foreign, or of another network; the message says which keys or
            shapes differ, and `model` is unchanged.
        ImportError: the file is safetensors and that package is absent.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"load_weights: model must be a torch.nn.Module, got {type(model).__name__}")
    weights, own = _unwrap(_read(path), path), model.state_dict()
    if not classifier:
        weights, own = ({k: v for k, v in of.items() if not k.startswith("fc.")} for of in (weights, own))
    _judge(model, own, weights, path)
    model.load_state_dict(weights, strict=False)  # strict but for `_OPTIONAL`, by _judge
    return model


def _read(path: str | os.PathLike[str]) -> object:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"load_weights: there is no file {os.fspath(path)!r}")
    with open(path, "rb") as file:
        head = file.read(9)
    if not head:
        raise WeightsError(f"load_weights: {os.fspath(path)!r} is empty")
    if len(head) == 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return _read_safetensors(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"load_weights: {os.fspath(path)!r} is no file of weights, or holds more than tensors and plain "
            f"containers, which is not read because it could execute code ({_first_line(error)})"
        ) from error
    except _DAMAGE as error:
        raise WeightsError(
            f"load_weights: {os.fspath(path)!r} is truncated, damaged or no file of weights "
            f"({_first_line(error)})"
        ) from error


def _read_safetensors(path: str | os.PathLike[str]) -> object:
    try:
        import safetensors
        import safetensors.torch
    except ImportError as error:
        raise ImportError(
            f"load_weights: {os.fspath(path)!r} is a safetensors file: install safetensors to read it"
        ) from error
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"load_weights: {os.fspath(path)!r} is truncated or damaged ({_first_line(error)})"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _unwrap(content: object, path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The mapping name -> tensor in what a file held."""
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        kind = type(content).__name__
        raise WeightsError(
            f"load_weights: {os.fspath(path)!r} holds a {kind}, not a mapping from names to tensors"
        )
    foreign = [
        key for key, value in content.items() if not (isinstance(key, str) and isinstance(value, Tensor))
    ]
    if foreign:
        raise WeightsError(
            f"load_weights: {os.fspath(path)!r} is no state_dict: not a tensor under a name: {_some(foreign)}"
        )
    if content and all(key.startswith("module.") for key in content):
        return {key.removeprefix("module."): value for key, value in content.items()}
    return dict(content)


def _judge(
    model: nn.Module, own: dict[str, Tensor], weights: dict[str, Tensor], path: str | os.PathLike[str]
) -> None:
    """Raise a WeightsError that names every key and shape in which `weights` and `model`'s `own` differ."""
    faults = []
    missing = [key for key in own if key not in weights and not key.endswith(_OPTIONAL)]
    unexpected = [key for key in weights if key not in own]
    shapes = [key for key in own if key in weights and own[key].shape != weights[key].shape]
    kinds = [
        key
        for key in own
        if key in weights and own[key].is_floating_point() != weights[key].is_floating_point()
    ]
    if missing:
        faults.append(f"{len(missing)} keys are missing: {_some(missing)}")
    if unexpected:
        faults.append(f"{len(unexpected)} keys are unknown to the model: {_some(unexpected)}")
    heads = [key for key in shapes if key in ("fc.weight", "fc.bias")]
    others = [key for key in shapes if key not in heads]
    if heads and weights[heads[0]].shape[1:] == own[heads[0]].shape[1:]:
        theirs, ours = weights[heads[0]].shape[0], own[heads[0]].shape[0]
        faults.append(
            f"the file's classifier has {theirs} classes, the model's {ours}: make the model with "
            f"num_classes={theirs}, load, then replace model.fc"
        )
    else:
        others = shapes
    if others:
        described = [f"{key} {tuple(weights[key].shape)} for {tuple(own[key].shape)}" for key in others]
        faults.append(f"{len(others)} shapes differ: {_some(described)}")
    if kinds:
        described = [f"{key} {weights[key].dtype} for {own[key].dtype}" for key in kinds]
        faults.append(f"{len(kinds)} dtypes differ in kind: {_some(described)}")
    if faults:
        raise WeightsError(
            f"load_weights: {os.fspath(path)!r} does not fit {type(model).__name__}, which is unchanged: "
            + "; ".join(faults)
        )


def _some(items: list[object] | list[str]) -> str:
    shown = ", ".join(str(item) for item in items[:_LISTED])
    return shown if len(items) <= _LISTED else f"{shown} and {len(items) - _LISTED} more"
