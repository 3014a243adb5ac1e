"""The physical limit: no operator takes less than max(bytes / bandwidth, FLOPs / peak).

Both ceilings are measured on the device itself, at the start of every run: a copy that no cache holds,
counting bytes read and written, and a large matrix product on random numbers (zeros run faster).
Theoretical figures would make every share look worse; a share above 1 says that something did not leave the
cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..flops import ITEM_BYTES
from .clock import Clock
from .environment import cache_bytes
from .precision import float32_products

TORCH_DTYPES = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "tf32": torch.float32,
    "float32": torch.float32,
}
MATRIX = {"cuda": 8192, "cpu": 1024}
RUNS = 15


def item_bytes(dtype: str) -> int:
    """Of one value in memory."""
    return ITEM_BYTES["float32" if dtype == "tf32" else dtype]


@dataclass(frozen=True)
class Ceilings:
    """bandwidth in bytes/s; peak: dtype -> FLOP/s."""

    bandwidth: float
    peak: dict[str, float]

    def floor(self, parts: Sequence[tuple[int, int]], dtype: str) -> tuple[float, str]:
        """The sum over kernels of (FLOPs, bytes) in seconds, and which of the two most of it is."""
        by = {"memory": 0.0, "math": 0.0}
        for flops, moved in parts:
            memory, math = moved / self.bandwidth, flops / self.peak[dtype]
            by["math" if math > memory else "memory"] += max(memory, math)
        return sum(by.values()), max(by, key=lambda name: by[name])

    def as_json(self) -> dict[str, Any]:
        return {
            "bandwidth": float(f"{self.bandwidth:.5g}"),
            "peak": {dtype: float(f"{value:.5g}") for dtype, value in self.peak.items()},
            "source": "measured at the start of this run",
        }


def ceilings(dtypes: list[str], clock: Clock, device: torch.device) -> Ceilings:
    """Measure them; about a second on a GPU and a few on a CPU."""
    return Ceilings(copy_bandwidth(clock, device), {d: matrix_peak(d, clock, device) for d in dtypes})


def copy_bandwidth(clock: Clock, device: torch.device) -> float:
    """Bytes read and written a second, by a copy of 8 caches' size (at least 1 GiB on a GPU)."""
    size = max(8 * cache_bytes(device), (1 << 30) if device.type == "cuda" else 0)
    source = torch.randint(0, 1 << 30, (size // 4,), dtype=torch.int32, device=device)
    target = torch.empty_like(source)
    return 2 * size / best(lambda: target.copy_(source), clock)


def matrix_peak(dtype: str, clock: Clock, device: torch.device) -> float:
    """FLOP/s of PyTorch's product of two large square matrices of normal numbers."""
    side = MATRIX[device.type]
    a, b = (torch.randn(side, side, device=device).to(TORCH_DTYPES[dtype]) for _ in range(2))
    with float32_products(tf32=dtype == "tf32"):
        return 2 * side**3 / best(lambda: a @ b, clock)


def best(run: Callable[[], Any], clock: Clock) -> float:
    """The fastest of some runs after two for warming up, in seconds: a ceiling, not what is usual."""
    clock.burst([run, run], None)
    return min(clock.burst([run] * RUNS, None))
