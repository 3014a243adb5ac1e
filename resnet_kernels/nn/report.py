"""`fuse_report`: which operator computes which layers of a network, and why the others are PyTorch's own.

The report asks the same `plan` the forward executes, so it tells what the next call will do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from resnet_kernels import training

from . import chain, stage
from .families import FusedModule, recognise

TRAINING = "PyTorch's composition"
FUSED_TRAINING = "fused, forward and backward"


def is_layer(module: nn.Module) -> bool:
    """Whether the report accounts for the module."""
    kinds = (nn.Conv2d, nn.ReLU, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.Linear)
    return isinstance(module, kinds) or chain.is_batchnorm(module)


@dataclass(frozen=True)
class Row:
    """One operator call, or one group of layers that stay PyTorch's own.

    Attributes:
        name: the first layer's path in the network.
        layers: the paths of all layers in the row, with `chain.ADD` for the residual add.
        operator: the function of ``rk.ops`` that computes them in evaluation, None if PyTorch does.
        reason: why PyTorch does; None if an operator does.
        training: what computes them in training where kernels run: `FUSED_TRAINING`, or `TRAINING`.
    """

    name: str
    layers: tuple[str, ...]
    operator: str | None
    reason: str | None
    training: str = TRAINING

    def __post_init__(self) -> None:
        if (self.operator is None) == (self.reason is None):
            raise ValueError(
                f"row {self.name}: either an operator or a reason, got {self.operator!r}, {self.reason!r}"
            )


@dataclass(frozen=True)
class FuseReport:
    """The rows in the network's order, and what stands beside them. ``print(report)`` shows all of it.

    Attributes:
        rows: one for every operator call, and one for every group of layers that stays PyTorch's own.
        training: whether the network is in training mode.
        kernels: whether the chosen backend trains with kernels on the network's device.
        convolutions: how many ``nn.Conv2d`` the network has.
        notes: what costs time or surprises, in sentences.
    """

    rows: tuple[Row, ...]
    training: bool
    convolutions: int
    notes: tuple[str, ...] = ()
    kernels: bool = False

    @property
    def fused(self) -> tuple[Row, ...]:
        """The rows that are operator calls in evaluation."""
        return tuple(row for row in self.rows if row.operator is not None)

    @property
    def unfused(self) -> tuple[Row, ...]:
        """The rows that stay PyTorch's own, each with its reason."""
        return tuple(row for row in self.rows if row.operator is None)

    def operators(self) -> Counter[str]:
        """Operator -> calls in one evaluation of the network (without gradients)."""
        return Counter(row.operator for row in self.rows if row.operator is not None)

    @property
    def fused_convolutions(self) -> int:
        """How many convolutions an operator computes."""
        return sum(row.operator is not None and row.operator.startswith("conv") for row in self.rows)

    @property
    def trained_convolutions(self) -> int:
        """How many convolutions train fused where kernels run."""
        return sum(
            row.training == FUSED_TRAINING and row.operator is not None and row.operator.startswith("conv")
            for row in self.rows
        )

    def _mode(self) -> str:
        fused = f"{self.trained_convolutions} of {self.convolutions} convolutions fused, forward and backward"
        if not self.training:
            return f"In training: {fused}, on a GPU or the simulator; {TRAINING} on a CPU."
        return f"In training mode now: {fused if self.kernels else TRAINING}."

    def summary(self) -> str:
        """One sentence: how much of the network is fused."""
        calls = ", ".join(f"{count} {name}" for name, count in sorted(self.operators().items()))
        return (
            f"{self.fused_convolutions} of {self.convolutions} convolutions fused in evaluation"
            f" ({calls or 'no operator calls'}); {len(self.unfused)} rows stay PyTorch's own. {self._mode()}"
        )

    def _cells(self) -> Iterator[tuple[str, str, str]]:
        for row in self.rows:
            first, *rest = row.layers
            parent = first.rpartition(".")[0] + "."
            short = [layer.removeprefix(parent) if parent != "." else layer for layer in rest]
            yield " ".join([first, *short]), row.operator or "PyTorch", row.reason or ""

    def __str__(self) -> str:
        cells = [("layers", "evaluation", "why not fused"), *self._cells()]
        widths = [max(len(row[column]) for row in cells) for column in (0, 1)]
        lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in cells]
        lines.insert(1, "-" * max(len(line) for line in lines))
        return "\n".join([*lines, "", self.summary(), *(f"Note: {note}" for note in self.notes)])

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table("layers", "evaluation", "why not fused")
        for (layers, operator, reason), row in zip(self._cells(), self.rows, strict=True):
            style = "green" if row.operator else "yellow"
            table.add_row(Text(layers), Text(operator, style=style), Text(reason))
        return Group(
            table, Text(self.summary()), *(Text(f"Note: {note}", style="dim") for note in self.notes)
        )


def fuse_report(model: nn.Module) -> FuseReport:
    """What the next evaluation of `model` runs on operators of this package, and what it does not, and why.

    Every convolution, BatchNorm, ReLU, pooling and linear layer of the network stands in exactly one row (a
    ReLU that a block calls several times, in one row a call).

    Raises:
        TypeError: `model` is not an ``nn.Module``.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"fuse_report: model must be a torch.nn.Module, got {type(model).__name__}")
    order = {id(module): i for i, module in enumerate(model.modules())}
    rows: list[tuple[int, Row]] = []
    seen: set[int] = set()
    for path, owner in model.named_modules():
        if isinstance(owner, chain.Chained):
            rows.extend((order[first], row) for first, row in _rows_of(path, owner, seen))
    for path, parent in model.named_modules():
        strangers = [
            (path + "." + name if path else name, module)
            for name, module in ([("", parent)] if parent is model else []) + list(parent._modules.items())
            if module is not None and id(module) not in seen and is_layer(module)
        ]
        if strangers:
            seen.update(id(module) for _, module in strangers)
            layers = tuple(name for name, _ in strangers)
            row = Row(layers[0], layers, None, _stranger(parent, strangers[0][1]))
            rows.append((order[id(strangers[0][1])], row))
    rows.sort(key=lambda pair: pair[0])
    return FuseReport(
        rows=tuple(row for _, row in rows),
        training=any(module.training for module in model.modules() if isinstance(module, chain.Chained))
        or (not rows and model.training),
        convolutions=sum(isinstance(module, nn.Conv2d) for module in model.modules()),
        notes=tuple(_notes(model)),
        kernels=_kernels(model),
    )


def _kernels(model: nn.Module) -> bool:
    """Whether the chosen backend trains with kernels where the model's parameters are."""
    parameter = next(model.parameters(), None)
    try:
        return training.runs_kernels(parameter)
    except (ValueError, ImportError):  # a backend that cannot run there; a call says so
        return False


def _rows_of(path: str, owner: chain.Chained, seen: set[int]) -> Iterator[tuple[int, Row]]:
    """(id of the first module, row) for the steps of `owner`'s chains; adds their modules to `seen`."""
    prefix = path + "." if path else ""
    for names in owner.rk_chains():
        links = chain.links(owner, names, owner.training)
        trained = {
            id(link.module)
            for step in chain.plan(chain.links(owner, names), owner._rk_shared, training=True)
            for link in step.links
            if step.operator is not None
        }
        claimed = {id(link.module) for link in links if id(link.module) in seen}
        previous = None
        for step in chain.plan(links, owner._rk_shared, owner.training):
            modules = [link.module for link in step.links if link.module is not None]
            first = next((module for module in modules if not isinstance(module, nn.ReLU)), None)
            anchor, previous = (id(first), id(first)) if first is not None else (previous, previous)
            if not modules or (id(modules[0]) in claimed):
                continue
            if step.operator is None and not is_layer(modules[0]):
                continue
            seen.update(id(module) for module in modules)
            layers = tuple(
                prefix + link.name if link.module is not None else link.name for link in step.links
            )
            name = next(
                layer for layer, link in zip(layers, step.links, strict=True) if link.module is not None
            )
            reason = None if step.operator else (step.reason or "no operator computes it")
            mode = FUSED_TRAINING if id(modules[0]) in trained else TRAINING
            yield anchor or id(modules[0]), Row(name, layers, step.operator, reason, mode)


def _stranger(parent: nn.Module, module: nn.Module) -> str:
    """Why a layer that stands in no chain stays PyTorch's own."""
    kind = type(parent).__name__
    if module is parent:
        return "a layer by itself"
    if isinstance(parent, FusedModule):
        return f"{kind} does not call it in a chain"
    if recognise(parent) is not None:
        return "fuse() has not been called, or found nothing to fuse here"
    return f"{kind} is not recognised: its forward is its own"


def _notes(model: nn.Module) -> Iterator[str]:
    for path, module in model.named_modules():
        if isinstance(module, chain.StageBase):
            for call in stage.calls(module):
                if call.reason is not None:
                    yield f"in training {path}.{call.names[0]} is a call by itself: {call.reason}."
    chained = [module for module in model.modules() if isinstance(module, chain.Chained)]
    convs = [m for m in model.modules() if type(m) is nn.Conv2d]
    copied = sum(not conv.weight.is_contiguous(memory_format=torch.channels_last) for conv in convs)
    if chained and copied:
        yield (
            f"{copied} weights are not channels_last and are copied in every call; "
            "model.to(memory_format=torch.channels_last) spares that."
        )
    half = sum(
        chain.is_batchnorm(m)
        and m.running_mean is not None
        and m.running_mean.dtype in (torch.float16, torch.bfloat16)
        for m in model.modules()
    )
    if chained and half:
        yield f"{half} BatchNorms hold half-precision vectors, cast in every call; autocast spares that."
    mixed = sum(m.training and chain.is_batchnorm(m) for m in model.modules())
    if chained and mixed and not any(m.training for m in chained):
        yield f"{mixed} BatchNorms are in training mode inside a network in evaluation."
