"""Modules of other libraries that `fuse` recognises, and the classes it gives them.

A family says: objects of this class, whose forward is this very function, call their children in this order.
A subclass with a forward of its own computes something else and is not recognised.  Nothing is imported here:
a library that was never imported cannot have made the model.

A fused module gets a subclass of its own class: `isinstance` holds, parameters, keys and attributes stay
where they were, and the way back is the class it had.  The subclass is made on demand, one for each class and
family, and an object of it is pickled as (class, family, state): pickling and deepcopy need no name for it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from . import chain, stage, train
from .chain import ADD, FLATTEN


class FusedModule(chain.Chained):
    """Mixin of all classes `fuse` gives to modules; comes before the class the module had."""

    _rk_base: type[nn.Module]
    _rk_family: Family
    grad_checkpointing: bool

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._rk_base, self._rk_family.name), self.__getstate__()


class _Block(FusedModule, chain.Block):
    """relu(body(x) + shortcut(x))."""

    @classmethod
    def rk_forward(cls) -> Any:
        return _Block.forward

    def rk_chains(self) -> tuple[tuple[str, ...], ...]:
        return self._rk_family.chains

    def forward(self, x: Tensor) -> Tensor:
        if chain.stays_pytorch(self, x):
            return super().forward(x)
        return train.run_block(self, self._rk_family.chains[0], x, self.downsample)


class _TorchvisionNetwork(FusedModule):
    def rk_chains(self) -> tuple[tuple[str, ...], ...]:
        return self._rk_family.chains

    def _forward_impl(self, x: Tensor) -> Tensor:
        if chain.stays_pytorch(self, x):
            return super()._forward_impl(x)  # type: ignore[misc]
        return train.run(self, self._rk_family.chains[0], x)


class _TimmNetwork(FusedModule):
    def rk_chains(self) -> tuple[tuple[str, ...], ...]:
        return self._rk_family.chains

    def forward_features(self, x: Tensor) -> Tensor:
        if chain.stays_pytorch(self, x) or self.grad_checkpointing:
            return super().forward_features(x)  # type: ignore[misc]
        return train.run(self, self._rk_family.chains[0], x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        if chain.stays_pytorch(self, x) or pre_logits:
            return super().forward_head(x, pre_logits)  # type: ignore[misc]
        return train.run(self, self._rk_family.chains[1], x)


class _Stage(FusedModule, chain.StageBase):
    def rk_chains(self) -> tuple[tuple[str, ...], ...]:
        return (tuple(self._modules),)

    def forward(self, input: Tensor) -> Tensor:
        if chain.stays_pytorch(self, input):
            return super().forward(input)
        return stage.run(self, input)


class _Sequential(FusedModule):
    def rk_chains(self) -> tuple[tuple[str, ...], ...]:
        return (tuple(self._modules),)

    def forward(self, input: Tensor) -> Tensor:
        if chain.stays_pytorch(self, input):
            return super().forward(input)
        return train.run(self, tuple(self._modules), input)


@dataclass(frozen=True)
class Family:
    """Objects of ``module.cls`` whose `methods` are that class's own run `chains`; `mixin` fuses them."""

    name: str
    module: str
    cls: str
    methods: tuple[str, ...]
    chains: tuple[tuple[str, ...], ...]
    mixin: type[FusedModule]


_STAGES = ("layer1", "layer2", "layer3", "layer4")

FAMILIES = (
    Family(
        name="torchvision BasicBlock",
        module="torchvision.models.resnet",
        cls="BasicBlock",
        methods=("forward",),
        chains=(("conv1", "bn1", "relu", "conv2", "bn2", ADD, "relu"),),
        mixin=_Block,
    ),
    Family(
        name="torchvision Bottleneck",
        module="torchvision.models.resnet",
        cls="Bottleneck",
        methods=("forward",),
        chains=(("conv1", "bn1", "relu", "conv2", "bn2", "relu", "conv3", "bn3", ADD, "relu"),),
        mixin=_Block,
    ),
    Family(
        name="torchvision ResNet",
        module="torchvision.models.resnet",
        cls="ResNet",
        methods=("forward", "_forward_impl"),
        chains=(("conv1", "bn1", "relu", "maxpool", *_STAGES, "avgpool", FLATTEN, "fc"),),
        mixin=_TorchvisionNetwork,
    ),
    Family(
        name="timm BasicBlock",
        module="timm.models.resnet",
        cls="BasicBlock",
        methods=("forward",),
        chains=(
            ("conv1", "bn1", "drop_block", "act1", "aa", "conv2", "bn2", "se", "drop_path", ADD, "act2"),
        ),
        mixin=_Block,
    ),
    Family(
        name="timm Bottleneck",
        module="timm.models.resnet",
        cls="Bottleneck",
        methods=("forward",),
        chains=(
            (
                *("conv1", "bn1", "act1"),
                *("conv2", "bn2", "drop_block", "act2", "aa"),
                *("conv3", "bn3", "se", "drop_path", ADD, "act3"),
            ),
        ),
        mixin=_Block,
    ),
    Family(
        name="timm ResNet",
        module="timm.models.resnet",
        cls="ResNet",
        methods=("forward_features", "forward_head"),
        chains=(("conv1", "bn1", "act1", "maxpool", *_STAGES), ("global_pool", "fc")),
        mixin=_TimmNetwork,
    ),
    Family(
        name="Stage",
        module="torch.nn",
        cls="Sequential",
        methods=("forward",),
        chains=(),
        mixin=_Stage,
    ),
    Family(
        name="Sequential",
        module="torch.nn",
        cls="Sequential",
        methods=("forward",),
        chains=(),
        mixin=_Sequential,
    ),
)

_BY_NAME = {family.name: family for family in FAMILIES}
_classes: dict[tuple[type[nn.Module], str], type[nn.Module]] = {}


def recognise(module: nn.Module) -> Family | None:
    """The family of an unfused module, or None: then its forward is its own affair."""
    kind = type(module)
    if isinstance(module, chain.Chained) or kind.__reduce__ is not object.__reduce__:
        return None
    for family in FAMILIES:
        library = sys.modules.get(family.module)
        known = getattr(library, family.cls, None)
        if known is None or not isinstance(module, known):
            continue
        if any(name in module.__dict__ for name in family.methods):
            return None
        if all(getattr(kind, name, None) is getattr(known, name) for name in family.methods):
            if family.mixin is _Stage and not any(map(_is_block, module.children())):
                continue
            return family
    return None


def _is_block(module: nn.Module) -> bool:
    """Whether the module is a fused block, or will be."""
    if isinstance(module, chain.Block):
        return True
    family = recognise(module)
    return family is not None and family.mixin is _Block


def fused_class(base: type[nn.Module], family: Family) -> type[nn.Module]:
    """The subclass of `base` whose forward is fused; the same object for the same arguments."""
    key = (base, family.name)
    if key not in _classes:
        body = {
            "_rk_base": base,
            "_rk_family": family,
            "__module__": base.__module__,
            "__doc__": f"{base.__qualname__}, evaluated by resnet_kernels; `unfuse` gives back the class.",
        }
        _classes[key] = type(f"Fused{base.__name__}", (family.mixin, base), body)
    return _classes[key]


def _restore(base: type[nn.Module], family: str) -> nn.Module:
    """An empty fused module, for pickle and deepcopy to fill."""
    kind = fused_class(base, _BY_NAME[family])
    return kind.__new__(kind)
