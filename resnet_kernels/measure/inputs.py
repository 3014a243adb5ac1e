"""Input sets in turn, so that no run finds its operands in the cache: random values, never zeros.

cold    a run's operands were last touched more than three caches' worth of bytes ago: by turns over enough
        sets, or, where that would be too many of them, one write over three caches before every run
warm    one set, and nothing between two runs
steady  a few sets, and nothing between two runs: for whole networks, whose own activations do the rest
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .clock import Flusher
from .environment import cache_bytes

CACHES = ("cold", "warm", "steady")
EVICT = 3  # caches' worth of bytes between two uses of a set
MOST_SETS = 32  # more are made up for by a flush
STEADY_SETS = 3

Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Rotation:
    """The sets, and what is called before every run (None: nothing)."""

    sets: list[Inputs]
    flush: Flusher | None
    cache: str

    @property
    def flush_bytes(self) -> int:
        return 0 if self.flush is None else self.flush.buffer.numel() * self.flush.buffer.element_size()


def rotation(
    make: Callable[[int], Inputs],
    cache: str,
    device: torch.device,
    *,
    size: int | None = None,
    idle: Sequence[str] = (),
) -> Rotation:
    """Sets from `make(seed)` for the wanted state of the cache.

    Args:
        cache: one of `CACHES`.
        size: bytes of the cache; asked of the device if None.
        idle: inputs that no run reads.

    Raises:
        ValueError: no such state.
    """
    if cache not in CACHES:
        raise ValueError(f"rotation: cache must be one of {', '.join(CACHES)}, got {cache!r}")
    first = make(0)
    if cache == "warm":
        return Rotation([first], None, cache)
    if cache == "steady":
        return Rotation([first, *(make(seed) for seed in range(1, STEADY_SETS))], None, cache)
    size = cache_bytes(device) if size is None else size
    read = total_bytes({name: value for name, value in first.items() if name not in idle})
    count = math.ceil(EVICT * size / max(1, read)) + 1
    if count <= MOST_SETS:
        return Rotation([first, *(make(seed) for seed in range(1, count))], None, cache)
    return Rotation([first], Flusher(EVICT * size, device), cache)


def total_bytes(inputs: Inputs) -> int:
    """Of a set's distinct tensors."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in inputs.values()}
    return sum(storages.values())


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Standard normal numbers on the generator's device, float32."""
    return torch.randn(shape, generator=generator, device=generator.device)


def generator(device: torch.device, seed: int) -> torch.Generator:
    """A seeded source of random numbers on a device."""
    return torch.Generator(device).manual_seed(2015 + seed)
