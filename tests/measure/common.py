"""Small cases for the engine's tests: operators of a chosen cost."""

from __future__ import annotations

import torch

from resnet_kernels.measure.case import Case, Implementation, Ours
from resnet_kernels.measure.engine import Effort, Engine
from resnet_kernels.measure.peers import Choice
from resnet_kernels.measure.roofline import Ceilings

CPU = torch.device("cpu")
LIMITS = Ceilings(10e9, dict.fromkeys(("float32", "bfloat16", "float16", "tf32"), 1e11))
SHORT = Effort(rounds=6, seconds=0.0, most=1, warm_up=0.0)
KERNELS = Ours("simulator", "ours")
EAGER = Choice(CPU, ("eager_nhwc",))


def engine(effort=SHORT, choice="auto", cache="cold"):
    """An engine on the CPU with ceilings that are not measured."""
    return Engine(CPU, choice, LIMITS, effort, cache)


def numbers(count):
    """seed -> {"x": that many random numbers}."""

    def make(seed):
        return {"x": torch.randn(count, generator=torch.Generator().manual_seed(seed))}

    return make


def case(implementations, make=None, **fields):
    """A case without a judge around `implementations`; by default on 4 KiB of random numbers."""
    defaults = {
        "suite": "layers",
        "name": "test",
        "dtype": "float32",
        "batch": 1,
        "direction": "elementwise",
        "make": make or numbers(1024),
        "implementations": lambda: implementations,
    }
    return Case(**(defaults | fields))


def implementation(name, function, **fields):
    """`function` of a set of inputs, called as it is."""
    return Implementation(name, name, lambda inputs: lambda: function(inputs), **fields)
