"""How much memory a forward pass keeps for its backward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


def _identity(storage: torch.UntypedStorage) -> int:
    """Which storage it is; the address of the object, as fake tensors have no data."""
    return storage._cdata


def saved_bytes(model: nn.Module, *inputs: Tensor) -> int:
    """Bytes that ``model(*inputs)`` keeps for backward: every storage once, parameters and buffers left out.

    Casts of parameters (autocast) count, as they are kept.  Runs the forward pass as it is: training mode
    changes running statistics.  Under `torch._subclasses.FakeTensorMode` nothing is computed or allocated.
    """
    given = {_identity(t.untyped_storage()) for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}  # holding a storage keeps its address from being used again

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if _identity(storage) not in given:
            kept[_identity(storage)] = storage
        return tensor

    def unpack(tensor: Any) -> Any:
        return tensor

    with saved_tensors_hooks(pack, unpack):
        output = model(*inputs)
    del output
    return sum(storage.nbytes() for storage in kept.values())
