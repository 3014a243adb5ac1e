"""Fused convolution, BatchNorm, ReLU and residual-add kernels for residual networks.

    import resnet_kernels as rk

    y = rk.ops.conv_bn_act(x, weight, scale, shift, residual, padding=1)   # operators
    model = rk.fuse(torchvision.models.resnet50())                         # modules
    with rk.backend("simulator"): ...                                      # the machine that runs a call

Importing registers the operators ``torch.ops.resnet_kernels.*`` and needs nothing compiled: tensors on a
CPU are computed by PyTorch's own composition ("aten") unless another backend is chosen.  The rest is
imported on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

from . import _register as _register
from . import ops, training
from .backend import backend

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "backend",
    "flops",
    "fuse",
    "fuse_report",
    "models",
    "nn",
    "ops",
    "reference",
    "simulator",
    "training",
    "tuning",
    "unfuse",
]

# Public name -> the module that holds it (the module itself where the names agree).
_LAZY = {
    "flops": "flops",
    "fuse": "nn",
    "fuse_report": "nn",
    "models": "models",
    "nn": "nn",
    "reference": "reference",
    "simulator": "simulator",
    "tuning": "tuning",
    "unfuse": "nn",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_LAZY[name]}")
    value = module if name == _LAZY[name] else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_LAZY))
