"""Our kernels and PyTorch's own operators, each beside the float64 oracle.

Unit by unit (stem, residual blocks, head): all three get the oracle's input of that unit, rounded to the
dtype under test, so that one unit's error cannot hide in another's. Then the whole network end to end: with
many layers the errors of both drift apart from float64, and the two logits are judged by one measure.

Errors are relative L2 norms, |y - y64| / |y64|.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from .. import backend, reference
from ..machine import Machine
from .networks import Networks, to_numpy
from .record import Record, Recorder

UNIT_LIMIT = 2.0  # times PyTorch's own error: the RMS criterion of an operator
LOGITS_LIMIT = {torch.float32: 2.0, torch.bfloat16: 1.25, torch.float16: 1.25}  # of our kernels

Advance = Callable[[str], None]


@dataclass(frozen=True)
class Unit:
    """One unit's relative errors, our wall time, and the mean over channels of |y|, as our kernels computed
    it.
    """

    name: str
    shape: tuple[int, ...]
    ours: float
    peer: float
    seconds: float
    activity: np.ndarray | None

    @property
    def passed(self) -> bool:
        return self.ours <= UNIT_LIMIT * self.peer or self.ours <= 2.0**-23

    @property
    def ratio(self) -> float:
        return self.ours / self.peer if self.peer else float(self.ours > 0)


@dataclass(frozen=True)
class Logits:
    """End to end: the three logits [classes], the relative errors of ours and PyTorch's, wall times in
    seconds.
    """

    photograph: str
    reference: np.ndarray
    ours: np.ndarray
    peer: np.ndarray
    limit: float  # times PyTorch's own error that is allowed
    seconds: float
    peer_seconds: float

    @property
    def error_ours(self) -> float:
        return relative_error(self.ours, self.reference)

    @property
    def error_peer(self) -> float:
        return relative_error(self.peer, self.reference)

    @property
    def passed(self) -> bool:
        return self.error_ours <= self.limit * self.error_peer

    def top(self, count: int = 5) -> dict[str, list[int]]:
        """The `count` likeliest classes of each of the three, best first."""
        each = {"ours": self.ours, "peer": self.peer, "reference": self.reference}
        return {who: np.argsort(-logits, kind="stable")[:count].tolist() for who, logits in each.items()}


@dataclass
class Comparison:
    """Everything that was measured on one machine."""

    units: list[Unit] = field(default_factory=list)
    logits: list[Logits] = field(default_factory=list)
    record: Record = field(default_factory=Record)

    @property
    def passed(self) -> bool:
        return all(unit.passed for unit in self.units) and all(logits.passed for logits in self.logits)


def relative_error(y: np.ndarray, exact: np.ndarray) -> float:
    """|y - exact| / |exact| in L2; 0 if both are 0."""
    norm = float(np.linalg.norm(exact))
    return float(np.linalg.norm(y - exact)) / norm if norm else float(np.linalg.norm(y))


@torch.no_grad()
def units(
    networks: Networks, machine: Machine, image: torch.Tensor, into: Comparison, advance: Advance
) -> None:
    """Compare every unit on `image` [1, 3, S, S] and append to `into.units`; `advance` hears each unit's
    name.
    """
    x64 = to_numpy(image)
    for name in reference.units(networks.state):
        advance(name)
        x = torch.from_numpy(x64).to(machine.device, networks.dtype)
        x = x.contiguous(memory_format=torch.channels_last)
        exact = reference.unit(networks.state, name, to_numpy(x))
        with backend(machine.backend):
            machine.synchronize()
            began = time.perf_counter()
            y = _our_unit(networks.ours, name, x)
            machine.synchronize()
            seconds = time.perf_counter() - began
        ours, theirs = to_numpy(y), to_numpy(_torchvision_unit(networks.torchvision, name, x))
        activity = np.abs(ours[0]).mean(0) if ours.ndim == 4 else None
        shape = tuple(ours.shape)
        errors = relative_error(ours, exact), relative_error(theirs, exact)
        into.units.append(Unit(name, shape, *errors, seconds, activity))
        x64 = reference.unit(networks.state, name, x64)  # the oracle's own path is never rounded


@torch.no_grad()
def logits(
    networks: Networks,
    machine: Machine,
    photograph: str,
    image: torch.Tensor,
    into: Comparison,
    advance: Advance,
) -> None:
    """Compare the whole network on `image`, append to `into.logits`, enter every operator call in
    `into.record`.
    """
    x = image.to(machine.device, networks.dtype).contiguous(memory_format=torch.channels_last)
    exact = reference.resnet(networks.state, to_numpy(x))
    with backend(machine.backend), Recorder(into.record, machine.synchronize):
        began = time.perf_counter()
        ours = _whole(networks.ours, x, advance)
        machine.synchronize()
        seconds = time.perf_counter() - began
    began = time.perf_counter()
    theirs = networks.torchvision(x)
    machine.synchronize()
    into.logits.append(
        Logits(
            photograph=photograph,
            reference=exact[0],
            ours=to_numpy(ours)[0],
            peer=to_numpy(theirs)[0],
            limit=LOGITS_LIMIT[networks.dtype] if machine.ours else UNIT_LIMIT,
            seconds=seconds,
            peer_seconds=time.perf_counter() - began,
        )
    )


def _whole(model: nn.Module, x: torch.Tensor, advance: Advance) -> torch.Tensor:
    """model(x), its units one after the other so that progress shows."""
    for name in unit_names(model):
        advance(name)
        x = _our_unit(model, name, x)
    return x


def unit_names(model: nn.Module) -> list[str]:
    """ "stem", "layer1.0", ..., "head"."""
    stages = [(f"layer{i}", getattr(model, f"layer{i}")) for i in (1, 2, 3, 4)]
    return ["stem", *(f"{name}.{i}" for name, stage in stages for i in range(len(stage))), "head"]


def _our_unit(model: Any, name: str, x: torch.Tensor) -> torch.Tensor:
    """One unit of our network, by the same operators as in the network's own forward."""
    from ..nn import chain

    if name == "stem":
        return chain.run(model, ("conv1", "bn1", "relu", "maxpool"), x)
    if name == "head":
        return chain.run(model, ("avgpool", chain.FLATTEN, "fc"), x)
    return model.get_submodule(name)(x)


def _torchvision_unit(model: Any, name: str, x: torch.Tensor) -> torch.Tensor:
    """The same unit as torchvision's forward computes it."""
    if name == "stem":
        return model.maxpool(model.relu(model.bn1(model.conv1(x))))
    if name == "head":
        return model.fc(torch.flatten(model.avgpool(x), 1))
    return model.get_submodule(name)(x)
