"""What ran where: every call of one of our operators, seen by PyTorch's dispatcher as it happens."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..backend import for_cpu


@dataclass
class Row:
    """The calls of one operator on one machine. `seconds` is wall time, launches included."""

    operator: str
    machine: str
    calls: int = 0
    macs: int = 0
    seconds: float = 0.0


@dataclass
class Record:
    """Rows by (operator, machine), in order of first use."""

    rows: dict[tuple[str, str], Row] = field(default_factory=dict)

    @property
    def calls(self) -> int:
        return sum(row.calls for row in self.rows.values())


class Recorder(TorchDispatchMode):
    """Inside ``with Recorder(record, machine):`` every ``torch.ops.resnet_kernels.*`` call is entered in
    `record`.
    """

    def __init__(self, record: Record, synchronize: Any) -> None:
        super().__init__()
        self.record, self.synchronize = record, synchronize

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        ours = func.namespace == "resnet_kernels"
        if not ours:
            return func(*args, **(kwargs or {}))
        began = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        self.synchronize()
        operator = func._schema.name.split("::")[-1]
        machine = "cuda" if result.is_cuda else for_cpu(operator)
        row = self.record.rows.setdefault((operator, machine), Row(operator, machine))
        row.calls += 1
        row.seconds += time.perf_counter() - began
        row.macs += _macs(operator, args, result)
        return result


def _macs(operator: str, args: tuple[Any, ...], result: torch.Tensor) -> int:
    """Multiply-adds of one call: convolutions and the classifier."""
    if operator == "conv_bn_relu_maxpool":
        x, weight = args[:2]
        stride, padding, dilation = (a for a in args if isinstance(a, (list, tuple)))
        size = [
            (x.shape[2 + i] + 2 * padding[i] - dilation[i] * (weight.shape[2 + i] - 1) - 1) // stride[i] + 1
            for i in (0, 1)
        ]
        return x.shape[0] * weight.numel() * prod(size)
    if operator == "conv_fprop":
        return result.numel() * prod(args[1].shape[1:])
    return args[0].shape[0] * args[1].numel() if operator == "linear" else 0
