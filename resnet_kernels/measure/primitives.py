"""Cases of what the device itself can do: the ceilings that everything else is judged by.

copy, read, write    memory bandwidth, on buffers of eight caches' size
cache copy           the same between two buffers that fit in the cache together
matmul               a large product of random matrices, in every dtype
L2 to shared, wgmma  copies by TMA alone, products by wgmma alone: our kernels (`kernel_ceilings`)
launch               a kernel on one value: queued ahead (the GPU's share) and as the host issues it
graph replay         a CUDA graph of 100 such kernels
nothing              what the clock itself costs
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from . import kernel_ceilings
from .case import Case, Implementation, Ours, Outputs, ceiling
from .environment import cache_bytes
from .inputs import Inputs, generator, normal
from .peers import Choice, pytorch
from .roofline import MATRIX, TORCH_DTYPES

NODES = 100  # kernels in a graph


def cases(choice: Choice, dtypes: tuple[str, ...], quick: bool, ours: Ours) -> Iterator[Case]:
    """The most important ceilings first."""
    device = choice.device
    cache = cache_bytes(device)
    size = (2 if quick else 8) * cache
    yield _memory("copy", size, 2, lambda i: (i["to"].copy_(i["from"]),), device)
    side = MATRIX[device.type]
    for dtype in dtypes:
        yield _case(
            f"matmul {side}",
            dtype,
            partial(_matrices, side, dtype, device),
            lambda i: (i["a"] @ i["b"],),
            flops=2 * side**3,
        )
    yield _memory("cache copy", cache // 8, 2, lambda i: (i["to"].copy_(i["from"]),), device, warm=True)
    if ours.backend == "cuda":
        yield from kernel_ceilings.cases(device, dtypes)
    yield _memory("read", size, 1, lambda i: (i["from"].sum(),), device)
    yield _memory("write", size, 1, lambda i: (i["to"].fill_(1.0),), device)
    tiny = partial(_buffers, 4, device)
    yield _case("launch, queued", "float32", tiny, _add_one)
    if device.type == "cuda":
        yield _case("launch, as the host issues it", "float32", tiny, _add_one, hidden=False)
        yield _case(f"graph replay, {NODES} kernels", "float32", tiny, _add_often, capture=True)
    yield _case("nothing", "float32", tiny, lambda i: ())


def _case(
    name: str,
    dtype: str,
    make: Callable[[int], Inputs],
    function: pytorch.Function,
    *,
    flops: int = 0,
    moved: int = 0,
    warm: bool = True,
    hidden: bool = True,
    capture: bool = False,
) -> Case:
    bind = pytorch.captured(pytorch.eager(function)) if capture else pytorch.eager(function)
    return ceiling(
        name,
        dtype,
        make,
        Implementation("torch", name, bind, memory=False),
        flops=flops,
        moved=moved,
        cache="warm" if warm else "steady",
        hidden=hidden,
    )


def _memory(
    name: str, size: int, passes: int, function: pytorch.Function, device: torch.device, warm: bool = False
) -> Case:
    """Buffers of `size` bytes, read or written `passes` times in all."""
    make = partial(_buffers, size, device)
    return _case(name, "float32", make, function, moved=passes * size, warm=warm)


def _buffers(size: int, device: torch.device, seed: int) -> Inputs:
    source = normal(generator(device, seed), size // 4)
    return {"from": source, "to": torch.empty_like(source)}


def _matrices(side: int, dtype: str, device: torch.device, seed: int) -> Inputs:
    source = generator(device, seed)

    def matrix() -> Tensor:
        return normal(source, side, side).to(TORCH_DTYPES[dtype])

    return {"a": matrix(), "b": matrix()}


def _add_one(inputs: Inputs) -> Outputs:
    return (inputs["to"].add_(1.0),)


def _add_often(inputs: Inputs) -> Outputs:
    for _ in range(NODES):
        inputs["to"].add_(1.0)
    return (inputs["to"],)
