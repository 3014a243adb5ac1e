"""Cases of the whole training step: forward, cross-entropy, backward and SGD with momentum, under autocast.

Weights are float32, as usual; float16's loss is scaled by a constant.  The same step for every network of the
paper's section 4.2, 20 to 1202 layers, shows how time and memory grow with depth.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import plain
from .case import Bind, Case, Implementation, Ours, Outputs
from .inputs import Inputs, generator, normal
from .match import Verdict, distance, relative
from .networks import ours_and_peers
from .peers import Choice, pytorch
from .problems import layers
from .roofline import TORCH_DTYPES, item_bytes

RATE, MOMENTUM, DECAY = 1e-3, 0.9, 1e-4
SCALE = {"float16": 1024.0}  # of the loss
JUDGED = 8  # images of the batch whose gradients are compared with float64


def case(name: str, batch: int, dtype: str, choice: Choice, ours: Ours, image: int | None = None) -> Case:
    """One step on random images and labels."""
    size = image or plain.image_size(name)
    parts = _parts(name, batch, dtype, size)
    return Case(
        suite="training",
        name=name if size == plain.image_size(name) else f"{name} {size}x{size}",
        dtype=dtype,
        batch=batch,
        direction="step",
        make=partial(_make, batch, size, plain.classes(name), choice.device),
        implementations=partial(_implementations, name, dtype, choice, ours),
        problem={"image": size, "classes": plain.classes(name)},
        networks=[name],
        flops=sum(work for work, _ in parts),
        bytes=sum(moved for _, moved in parts),
        parts=tuple(parts),
        judge=partial(_judge, name, dtype, choice.device),
        match_note="judged as the eager form of the same step",
        cache="steady",
        images=True,
        hidden=False,
    )


def _parts(name: str, batch: int, dtype: str, size: int) -> list[tuple[int, int]]:
    """(FLOPs, bytes) of every kernel of a step in which all reductions are in convolutions' epilogues.

    A layer's are: convolution with statistics; one pass that normalises, (adds,) and masks; in backward
    BatchNorm's pass; the input's gradient, with the mask and the sums of the layer before; the weight's.
    """
    item, parts = item_bytes(dtype), []
    for index, conv in enumerate(layers(name, size)):
        count, work = conv.values(batch), 2 * conv.macs(batch)
        adds = any("add" in epilogue for epilogue in conv.epilogues)
        weight, y = item * count["weight"], item * count["y"]
        parts.append((work, item * count["read"] + weight + y))
        parts.append((0, (2 + adds) * y + count["y"] // 8))
        parts.append((0, 3 * y))
        parts.append((work, y + item * count["read"] + weight))
        if index:  # images have no gradient
            parts.append((work, y + weight + 2 * item * count["x"] + count["x"] // 8))
    return parts


def _make(batch: int, size: int, classes: int, device: torch.device, seed: int) -> Inputs:
    source = generator(device, seed)
    x = normal(source, batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    return {"x": x, "labels": torch.randint(classes, (batch,), generator=source, device=device)}


def _implementations(name: str, dtype: str, choice: Choice, ours: Ours) -> list[Implementation]:
    torch._dynamo.reset()
    device = choice.device

    def step(mine: bool, layout: str, compiled: bool = False, mode: str | None = None) -> Bind:
        """Each has a model and an optimizer of its own, made when it is first bound."""
        made: list[Callable[[Tensor, Tensor], Tensor]] = []

        def bound(inputs: Inputs) -> Callable[[], Outputs]:
            if not made:
                model = plain.build(name, device, ours=mine, layout=layout).train()
                made.append(_step(model, dtype, device, compiled, mode))
            x = inputs["x"].contiguous(memory_format=plain.FORMATS[layout])
            return lambda: (made[0](x, inputs["labels"]),)

        return bound

    mine = {
        "ours": step(True, "nhwc"),
        "ours_graph": pytorch.captured(step(True, "nhwc")),
        "ours_compile": step(True, "nhwc", compiled=True),
    }
    peers = {
        "eager_nhwc": step(False, "nhwc"),
        "eager_nchw": step(False, "nchw"),
        "eager_nhwc_graph": pytorch.captured(step(False, "nhwc")),
        "eager_nchw_graph": pytorch.captured(step(False, "nchw")),
        "compile_default": step(False, "nhwc", compiled=True),
        "compile_max_autotune": step(False, "nhwc", compiled=True, mode="max-autotune-no-cudagraphs"),
    }
    return ours_and_peers(mine, peers, choice, ours)


def _loss(model: Any, dtype: str, device: torch.device, x: Tensor, labels: Tensor) -> Tensor:
    kind = TORCH_DTYPES[dtype]
    with torch.autocast(device.type, kind, enabled=kind != torch.float32):
        logits = model(x)
    return F.cross_entropy(logits.float(), labels) * SCALE.get(dtype, 1.0)


def _step(
    model: nn.Module, dtype: str, device: torch.device, compiled: bool, mode: str | None
) -> Callable[[Tensor, Tensor], Tensor]:
    """(images, labels) -> loss; the model learns."""
    rate = RATE / SCALE.get(dtype, 1.0)
    fused = True if device.type == "cuda" else None
    optimizer = torch.optim.SGD(model.parameters(), rate, MOMENTUM, weight_decay=DECAY, fused=fused)
    called = torch.compile(model, mode=mode, dynamic=False) if compiled else model

    def step(x: Tensor, labels: Tensor) -> Tensor:
        with torch.enable_grad():
            optimizer.zero_grad(set_to_none=True)
            loss = _loss(called, dtype, device, x, labels)
            loss.backward()
            optimizer.step()
        return loss.detach()

    return step


def _gradients(model: nn.Module, dtype: str, device: torch.device, inputs: Inputs) -> list[Tensor]:
    """Of every parameter, for the first images."""
    model.train()
    with torch.enable_grad():
        loss = _loss(model, dtype, device, inputs["x"][:JUDGED], inputs["labels"][:JUDGED])
        return list(torch.autograd.grad(loss / SCALE.get(dtype, 1.0), list(model.parameters())))


def _judge(
    name: str,
    dtype: str,
    device: torch.device,
    inputs: Inputs,
    results: dict[str, tuple[Implementation, Outputs]],
) -> dict[str, Verdict]:
    """The gradients of all parameters as one vector, by PyTorch's own error from float64."""
    model = plain.build(name, device, ours=False).double().train()
    with torch.enable_grad():
        logits = model(inputs["x"][:JUDGED].double())
        loss = F.cross_entropy(logits, inputs["labels"][:JUDGED])
        exact = list(torch.autograd.grad(loss, list(model.parameters())))
    errors = {}
    for who in ("ours", "eager_nhwc", "eager_nchw"):
        layout = "nchw" if who.endswith("nchw") else "nhwc"
        network = plain.build(name, device, ours=who == "ours", layout=layout)
        errors[who] = distance(_gradients(network, dtype, device, inputs), exact)
    peer = max(errors["eager_nhwc"], errors["eager_nchw"])
    return {who: relative(error, peer, dtype) for who, error in errors.items() if who in results}
