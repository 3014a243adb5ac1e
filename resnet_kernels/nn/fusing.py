"""`fuse` and `unfuse`: PyTorch's, torchvision's and timm's modules on this package's operators, in place.

`fuse` exchanges the class of every recognised module (families.py) and touches nothing else: the same Module
and Parameter objects under the same names, the same hooks, buffers and memory layout.  `unfuse` gives the
classes back.
"""

from __future__ import annotations

from collections import Counter
from typing import TypeVar

import torch
from torch import nn

from resnet_kernels.training import MEMORY

from . import chain
from .check import one_of
from .families import Family, FusedModule, fused_class, recognise

Model = TypeVar("Model", bound=nn.Module)


def fuse(model: Model, *, memory: str = "save") -> Model:
    """Run `model`'s convolutions, BatchNorms, ReLUs and residual adds on fused operators, where possible.

    Recognised are torchvision's and timm's ResNets (the networks, their stages, their BasicBlock and their
    Bottleneck), and convolution, BatchNorm and ReLU in an ``nn.Sequential`` of any network.  What is not
    recognised, and what has hooks, pruning or parametrizations, has groups or a padding mode the operators do
    not know, or appears in the network more than once, stays PyTorch's own; ``fuse_report(model)`` lists it
    with the reason.

    In place, idempotent; the state_dict, the Parameter objects and so any optimizer, ``.to``, ``deepcopy``,
    pickle, EMA copies and SyncBatchNorm conversion stay as they are.  ``eval()`` is fused.  ``train()``, and
    ``eval()`` where gradients are wanted, are fused forward and backward where the kernels run (a GPU, or the
    simulator as the chosen backend); on a CPU ``train()`` computes exactly what it computed before, with
    PyTorch's own modules, and gradients of ``eval()`` come from PyTorch's composition.  Hooks and pruning
    that come later are seen at the next call.

    The memory layout is left alone: make the model channels_last (``.to(memory_format=torch.channels_last)``)
    to spare a copy of every weight in every call.  ``torch.jit.script`` wants an unfused model.

    Args:
        memory: what fused training keeps for backward: "save" every convolution's output and every block's
            input, or "recompute" neither the outputs of a block's last convolution and of its projection nor
            cast weights, for roughly half the memory and those two convolutions once more.

    Returns:
        `model` itself.

    Raises:
        TypeError: `model` is not an ``nn.Module``, or it is scripted.
        ValueError: `memory` is neither of the two.
    """
    _check("fuse", model)
    one_of("fuse", "memory", memory, MEMORY)
    paths = _paths(model)
    for module in list(model.modules()):
        family = recognise(module)
        if family is not None and _worthwhile(module, family):
            module.__class__ = fused_class(type(module), family)
        if isinstance(module, chain.Chained):
            _mark_shared(module, paths)
            module._rk_memory = memory
    return model


def unfuse(model: Model) -> Model:
    """Undo `fuse`, in place: every module gets back the class it had.

    This package's own blocks and networks were never PyTorch's and stay as they are.

    Returns:
        `model` itself.

    Raises:
        TypeError: `model` is not an ``nn.Module``, or a module's class was exchanged again after `fuse`, as
            ``fully_shard`` does.
    """
    _check("unfuse", model)
    for name, module in model.named_modules():
        if isinstance(module, FusedModule) and type(module) is not fused_class(
            module._rk_base, module._rk_family
        ):
            raise TypeError(
                f"unfuse: {name or 'the model'} has become a {type(module).__name__} since fuse: unfuse first"
            )
    for module in list(model.modules()):
        if isinstance(module, FusedModule):
            module.__class__ = module._rk_base  # type: ignore[assignment]
        module.__dict__.pop("_rk_shared", None)
        module.__dict__.pop("_rk_memory", None)
    return model


def _check(who: str, model: object) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"{who}: model must be a torch.nn.Module, got {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError(
            f"{who}: model is scripted and cannot change its forward: {who} it before torch.jit.script"
        )


def _worthwhile(module: nn.Module, family: Family) -> bool:
    """Whether fusing can ever change what the module does: a Sequential needs a BatchNorm among its links."""
    if family.chains or issubclass(family.mixin, chain.StageBase):
        return True
    return any(chain.is_batchnorm(link.module) for link in chain.links(module, tuple(module._modules), True))


def _paths(model: nn.Module) -> Counter[int]:
    """id of a module -> under how many names it stands in the network."""
    return Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))


def _mark_shared(module: chain.Chained, paths: Counter[int]) -> None:
    """Remember which of the module's links appear in the network more than once."""
    found = {
        link.name
        for names in module.rk_chains()
        for link in chain.links(module, names, True)
        if link.module is not None and paths[id(link.module)] > 1
    }
    module.__dict__.pop("_rk_shared", None)
    if found:
        module._rk_shared = frozenset(found)
