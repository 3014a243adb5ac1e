"""What the simulator's checked build counts on a few layers: bytes, bank conflicts, multiply-adds.

The checked build watches every access of every thread and is slow, so it gets a sample: one layer of each
kind, on a crop of the activations that reach it. The same launches are also searched for races, out-of-bounds
accesses and uninitialised reads; a finding raises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .. import _native, backend, ops, reference
from .networks import Networks, to_numpy

SECTOR = 32  # bytes of a global-memory sector
CROP = 16  # pixels a side: 256 output positions, whole tiles of every kernel
STEM_CROP = 64


@dataclass(frozen=True)
class Row:
    """One layer.

    touched, tensors: bytes of the distinct sectors read and written, and of the operands and the result.
    requested, useful: bytes of the sectors that warps ask for, and those that their lanes want, of
        activations, weights and outputs; vectors_*: of per-channel vectors.
    wavefronts, conflict_free: of shared memory, as they were and without bank conflicts.
    macs_issued, macs_needed: multiply-adds of the tensor cores, and of the layer.
    """

    layer: str
    shape: str
    kernel: str
    touched: int
    tensors: int
    requested: int
    useful: int
    vectors_requested: int
    vectors_useful: int
    wavefronts: int
    conflict_free: int
    macs_issued: int
    macs_needed: int

    def ratios(self) -> tuple[str, ...]:
        """Done over needed, 1 is ideal: bytes, requests, those of vectors, wavefronts, MACs."""
        pairs = (
            (self.touched, self.tensors),
            (self.requested, self.useful),
            (self.vectors_requested, self.vectors_useful),
            (self.wavefronts, self.conflict_free),
            (self.macs_issued, self.macs_needed),
        )
        return tuple(f"{done / ideal:.3f}" if done and ideal else "-" for done, ideal in pairs)


@dataclass(frozen=True)
class Counters:
    """The rows, and a sentence (without full stop) on what they are, or why there are none."""

    rows: tuple[Row, ...]
    note: str


def sample(
    networks: Networks, image: torch.Tensor, begin: Callable[[str, int], Callable[[str], None]]
) -> Counters:
    """Count on `image` [1, 3, S, S]; `begin` and what it returns report progress."""
    if not _native.simulator_built(checked=True):
        return Counters((), "the simulator's checked build is not there (`make build` makes it)")
    from .. import simulator

    chosen = _chosen(networks)
    step = begin("counters, in the checked simulator", len(chosen))
    rows = []
    with torch.no_grad(), backend("simulator"), simulator.checked():
        for layer in reference.steps(networks.state, to_numpy(image)):
            if layer.name not in chosen:
                continue
            step(layer.name)
            call, operands, needed = _call(layer, networks.dtype)
            with simulator.record() as launches:
                y = call()
            tensors = sum(t.numel() * t.element_size() for t in [*operands, y])
            shape = " x ".join(str(size) for size in operands[0].shape[1:])
            rows.append(_row(layer.name, shape, launches, tensors, needed))
            if len(rows) == len(chosen):
                break
    return Counters(
        tuple(rows),
        f"A sample: {len(rows)} layers, convolutions on crops of {CROP} x {CROP} pixels (the stem's "
        f"{STEM_CROP} x {STEM_CROP}), in the simulator's checked build, which found no race, no access out "
        "of bounds and "
        "no uninitialised read",
    )


def _chosen(networks: Networks) -> tuple[str, ...]:
    """One layer of each kind."""
    block: tuple[str, ...] = ("layer1.1.conv1", "layer1.1.conv2")
    if "layer1.1.conv3.weight" in networks.state:
        block += ("layer1.1.conv3",)
    return ("conv1", *block, "avgpool", "fc")


def _call(
    layer: reference.Step, dtype: torch.dtype
) -> tuple[Callable[[], torch.Tensor], list[torch.Tensor], int]:
    """(the operator's call on a crop of the layer's input, its operands, multiply-adds needed)."""
    if layer.kind == "global_avg_pool":
        x = _tensor(layer.x, dtype)
        return lambda: ops.global_avg_pool(x), [x], 0
    if layer.kind == "linear":
        x, weight = _tensor(layer.x, dtype), _tensor(layer.weight, dtype)
        bias = _tensor(layer.bias, torch.float32)
        return lambda: ops.linear(x, weight, bias), [x, weight, bias], x.shape[0] * weight.numel()
    stem = layer.name == "conv1"
    crop = STEM_CROP if stem else CROP
    x, weight = _tensor(layer.x[:, :, :crop, :crop], dtype), _tensor(layer.weight, dtype)
    assert layer.bn is not None
    vectors: dict[str, Any] = {name: _tensor(layer.bn[name], torch.float32) for name in ("mean", "var")}
    vectors |= {
        "scale": _tensor(layer.bn["weight"], torch.float32),
        "shift": _tensor(layer.bn["bias"], torch.float32),
    }
    size = [reference.output_size(side, weight.shape[2], layer.stride, layer.padding) for side in x.shape[2:]]
    needed = size[0] * size[1] * weight.numel()
    window: dict[str, Any] = {"stride": layer.stride, "padding": layer.padding}
    if stem:
        return (
            lambda: ops.conv_bn_relu_maxpool(x, weight, **vectors, **window),
            [x, weight, *vectors.values()],
            needed,
        )
    residual = None if layer.residual is None else _tensor(layer.residual[:, :, : size[0], : size[1]], dtype)
    operands = [x, weight, *vectors.values()] + ([] if residual is None else [residual])
    return (
        lambda: ops.conv_bn_act(x, weight, residual=residual, **vectors, **window, relu=layer.relu),
        operands,
        needed,
    )


def _tensor(array: Any, dtype: torch.dtype) -> torch.Tensor:
    tensor = torch.from_numpy(array.copy()).to(dtype)
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def _row(name: str, shape: str, launches: list[dict[str, Any]], tensors: int, needed: int) -> Row:
    """The record of one layer, whose launches (split sums have two) are added."""
    everything = [role for launch in launches for role in launch["global"].values()]
    vectors = [launch["global"]["vector"] for launch in launches]
    others = [role for launch in launches for key, role in launch["global"].items() if key != "vector"]
    return Row(
        layer=name,
        shape=shape,
        kernel=" + ".join(launch["kernel"] for launch in launches),
        touched=SECTOR * sum(role["unique_read"] + role["unique_written"] for role in everything),
        tensors=tensors,
        requested=SECTOR * sum(role["requested"] for role in others),
        useful=sum(role["useful"] for role in others),
        vectors_requested=SECTOR * sum(role["requested"] for role in vectors),
        vectors_useful=sum(role["useful"] for role in vectors),
        wavefronts=sum(launch["shared"]["wavefronts"] for launch in launches),
        conflict_free=sum(launch["shared"]["conflict_free"] for launch in launches),
        macs_issued=sum(launch["macs"] for launch in launches),
        macs_needed=needed,
    )
