"""Every convolution of a network as the simulator's checked build counts it, and a roofline over that.

A layer runs on one and on two crops of 128 output pixels; what they moved and multiplied, extrapolated
linearly, gives the bytes and multiply-adds of the whole layer, at batches that fill tiles.  The roofline:

    predicted = max(bytes touched / bandwidth, 2 x MACs issued / peak)
    floor     = max(bytes of the operands once / bandwidth, FLOPs / peak)

Latency, occupancy, caches, bank conflicts and launches are not in it: a kernel may well take longer.
The simulated machine has one multiprocessor, so that tiles are chosen as for problems that fill a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from .. import backend, simulator
from . import convolutions, problems
from .case import Case, Ours
from .peers import Choice
from .precision import float32_products
from .predict import BANDWIDTH, LABEL, PEAK
from .problems import Conv

SECTOR = 32  # bytes of a global-memory sector
CROP = (16, 8)  # output pixels of one image: as many as the largest tile has rows
DTYPES = ("bfloat16", "float16")  # whose products run on tensor cores at the roofline's peak
WAYS = (("fprop", ""), ("fprop", "stats"), ("dgrad", "none"), ("wgrad", "none"))  # "": as inference has it


@dataclass(frozen=True)
class Traffic:
    """What a layer's launches did together.

    touched: bytes of the distinct sectors of global memory, read or written; requested: bytes of the sectors
    that warps ask for; useful: bytes that their lanes want; wavefronts, conflict_free: of shared memory, as
    they were and without bank conflicts; macs: multiply-adds of the tensor cores.
    """

    touched: float
    requested: float
    useful: float
    wavefronts: float
    conflict_free: float
    macs: float

    def grown(self, double: Traffic, times: float) -> Traffic:
        """Of `times` as many images, from one (self) and two: linearly."""
        one, two = asdict(self), asdict(double)
        return Traffic(**{key: one[key] + (two[key] - one[key]) * (times - 1) for key in one})


@dataclass(frozen=True)
class Predicted:
    """One layer at one batch; `traffic` is extrapolated, bytes and flops are the least there is to do."""

    name: str
    direction: str
    epilogue: str
    dtype: str
    batch: int
    count: dict[str, int]
    kernels: tuple[str, ...]
    bytes: int
    flops: int
    traffic: Traffic

    @property
    def floor(self) -> float:
        """Seconds."""
        return max(self.bytes / BANDWIDTH, self.flops / PEAK)

    @property
    def seconds(self) -> float:
        """What the roofline makes of what the kernels do."""
        return max(self.traffic.touched / BANDWIDTH, 2 * self.traffic.macs / PEAK)

    @property
    def bound(self) -> str:
        """What decides `seconds`."""
        return "math" if 2 * self.traffic.macs / PEAK > self.traffic.touched / BANDWIDTH else "memory"

    def ratios(self) -> dict[str, float | None]:
        """Done over needed, 1 is ideal."""
        t = self.traffic
        pairs = {
            "touched": (t.touched, self.bytes),
            "requested": (t.requested, t.useful),
            "wavefronts": (t.wavefronts, t.conflict_free),
            "macs": (2 * t.macs, self.flops),
        }
        return {name: done / ideal if ideal else None for name, (done, ideal) in pairs.items()}

    def as_json(self) -> dict[str, Any]:
        times = {"floor": self.floor, "seconds": self.seconds, "bound": self.bound, "label": LABEL}
        return {**asdict(self), **times, "ratios": self.ratios()}


def counted(launches: Sequence[dict[str, Any]]) -> Traffic:
    """The records of `simulator.record`, added up."""
    roles = [role for launch in launches for role in launch["global"].values()]
    return Traffic(
        touched=SECTOR * sum(role["unique_read"] + role["unique_written"] for role in roles),
        requested=SECTOR * sum(role["requested"] for role in roles),
        useful=sum(role["useful"] for role in roles),
        wavefronts=sum(launch["shared"]["wavefronts"] for launch in launches),
        conflict_free=sum(launch["shared"]["conflict_free"] for launch in launches),
        macs=sum(launch["macs"] for launch in launches),
    )


def layers(
    network: str,
    batch: int,
    dtype: str = "bfloat16",
    ways: Sequence[tuple[str, str]] = WAYS,
    most: int | None = None,
    advance: Callable[[str, int], None] = lambda name, total: None,
) -> list[Predicted]:
    """Predict each distinct convolution of `network` in each of `ways`; the first `most` layers, or all.

    `advance` is called with (layer, how many there are) before each.

    Raises:
        ValueError: an unknown network, or a dtype not in DTYPES.
        ImportError: the simulator's checked build is missing.
    """
    if dtype not in DTYPES:
        raise ValueError(f"layers: dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    found = []
    chosen = problems.convolutions([network])[:most]
    tasks = [(conv, *way) for conv in chosen for way in ways if way[0] != "dgrad" or conv.c > 3]
    with (
        backend("simulator"),
        simulator.checked(),
        simulator.multiprocessors(1),
        float32_products(tf32=False),
    ):
        for conv, direction, epilogue in tasks:
            advance(f"{conv.name} {direction}", len(tasks))
            epilogue = epilogue or conv.epilogues[-1]
            found.append(_predict(conv, batch, dtype, direction, epilogue))
    return found


def _predict(conv: Conv, batch: int, dtype: str, direction: str, epilogue: str) -> Predicted:
    choice, ours = Choice(torch.device("cpu")), Ours("simulator", "resnet_kernels")

    def case(of: Conv, images: int) -> Case:
        return convolutions.case(of, images, dtype, direction, epilogue, choice, ours)

    whole = case(conv, batch)
    # The stem's kernel pools whole patches of an image: it gets an image.
    crop = conv if conv.c == 3 else replace(conv, h=CROP[0] * conv.stride, w=CROP[1] * conv.stride)
    one, two = (_run(case(crop, images)) for images in (1, 2))
    times = batch * conv.size[0] * conv.size[1] / (crop.size[0] * crop.size[1])
    return Predicted(
        name=conv.name,
        direction=direction,
        epilogue=epilogue,
        dtype=dtype,
        batch=batch,
        count=dict(conv.count),
        kernels=tuple(launch["kernel"] for launch in two),
        bytes=whole.bytes,
        flops=whole.flops,
        traffic=counted(one).grown(counted(two), times),
    )


def _run(case: Case) -> list[dict[str, Any]]:
    """The launches of our implementation of the case."""
    ours = next(way for way in case.implementations() if way.ours and way.bind is not None)
    assert ours.bind is not None
    call = ours.bind(case.make(0))
    with torch.no_grad(), simulator.record() as launches:
        call()
    return launches
