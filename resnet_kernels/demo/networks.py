"""One set of weights in three networks: ours, torchvision's, and the oracle's.

Convolutions and the classifier are in the dtype under test, BatchNorm in float32, as under autocast. The
oracle gets exactly those values in float64, so that what differs is arithmetic alone.

Without a file the weights are random: He's initialisation from a fixed seed, and BatchNorm statistics
measured on the photographs by one float32 pass of PyTorch's, so that activations keep the scale a trained
network has.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import UserError

SEED = 2015
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True)
class Networks:
    """The three, in evaluation mode; `state` is the oracle's: name -> float64 array."""

    name: str
    ours: nn.Module
    torchvision: nn.Module
    state: dict[str, np.ndarray]
    dtype: torch.dtype
    weights: Path | None

    @property
    def weights_note(self) -> str:
        """What stands in the report about where the weights come from."""
        if self.weights is not None:
            return f"weights from {self.weights.name}"
        return f"random weights (He initialisation, seed {SEED}; BatchNorm calibrated on the photographs)"


def prepare(
    name: str, dtype: str, weights: Path | None, images: torch.Tensor, device: torch.device
) -> Networks:
    """Build the three networks; `images` [N, 3, S, S] float32 calibrate random weights.

    Raises:
        UserError: unknown name or dtype, or a weights file that is not this network's.
    """
    import torchvision

    from .. import flops, models

    if name not in flops.TABLE_1:
        raise UserError(f"no model {name!r}: choose one of {', '.join(flops.TABLE_1)}")
    if dtype not in DTYPES:
        raise UserError(f"no dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        peer = getattr(torchvision.models, name)()
        ours = models.create(name)
    if weights is None:
        _calibrate(peer, images)
        ours.load_state_dict(peer.state_dict())
    else:
        try:
            models.load_weights(ours, weights)
        except (OSError, ValueError, ImportError) as error:
            raise UserError(str(error).removeprefix("load_weights: ")) from error
        peer.load_state_dict(ours.state_dict())
    for network in (ours, peer):
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.to(DTYPES[dtype])
        network.eval().requires_grad_(False).to(device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Networks(name, ours, peer, to_numpy_state(ours), DTYPES[dtype], weights)


@torch.no_grad()
def _calibrate(model: nn.Module, images: torch.Tensor) -> None:
    """Set every BatchNorm's running statistics to those of `images` and their mirror images."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0  # the running statistics become the batch's
    model.train()(torch.cat([images, images.flip(-1)]))
    for norm in norms:
        norm.momentum = 0.1


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """The same values as a float64 array on the CPU."""
    return tensor.detach().to("cpu", torch.float64).numpy()


def to_numpy_state(model: nn.Module) -> dict[str, Any]:
    """The state_dict in float64, without BatchNorm's step counters."""
    return {key: to_numpy(value) for key, value in model.state_dict().items() if value.is_floating_point()}
