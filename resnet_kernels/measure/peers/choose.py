"""Which implementations a run asks for, and why the others are not there."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

import torch

NAMES = {
    "eager_nhwc": "PyTorch eager, channels_last",
    "eager_nchw": "PyTorch eager, NCHW",
    "folded_nhwc": "PyTorch eager, BatchNorm folded, channels_last",
    "cudnn_fused": "cuDNN convolution + bias (+ add) + ReLU, one call",
    "cudnn_graph": "cuDNN graph API, fused",
    "folded_nhwc_graph": "PyTorch eager, BatchNorm folded, channels_last, CUDA graph",
    "eager_nhwc_graph": "PyTorch eager, channels_last, CUDA graph",
    "eager_nchw_graph": "PyTorch eager, NCHW, CUDA graph",
    "compile_default": "torch.compile",
    "compile_max_autotune": "torch.compile, max-autotune",
    "jax": "JAX/XLA",
}
"""Peer -> what people read."""

CUDNN = tuple(name for name in NAMES if name.startswith(("eager", "folded", "cudnn")))
"""Those whose convolutions are cuDNN's on a GPU; compilers may put kernels of their own there."""

COMPILED = ("compile_default", "compile_max_autotune")
NEED_GPU = ("cudnn_fused", "cudnn_graph", "compile_max_autotune")  # and CUDA graphs


@dataclass(frozen=True)
class Choice:
    """What a run asks for: names of peers, or () for all that the suite takes by default."""

    device: torch.device
    names: tuple[str, ...] = ()
    quick: bool = False

    def absent(self, name: str, left_out: str | None = None) -> str | None:
        """Why `name` is not measured here, None if it is; `left_out`: why the suite does without it
        unasked.
        """
        if self.names and name not in self.names:
            return "not among --peers"
        if not self.names and name in COMPILED and self.quick:
            return "left out by --quick: it compiles for minutes"
        if not self.names and left_out is not None:
            return f"{left_out}; ask with --peers {name}"
        if (name in NEED_GPU or name.endswith("_graph")) and self.device.type != "cuda":
            return "needs a CUDA GPU"
        return without(name)

    def absent_of_ours(self, name: str) -> str | None:
        """The same for this package's own ways to run, which --peers does not choose among."""
        if name == "ours_graph" and self.device.type != "cuda":
            return "needs a CUDA GPU"
        if name == "ours_compile" and self.quick:
            return "left out by --quick: it compiles for minutes"
        return None


def without(name: str) -> str | None:
    """The package that a peer lacks here."""
    if name == "jax" and importlib.util.find_spec("jax") is None:
        return "JAX is not installed"
    if name == "cudnn_graph" and importlib.util.find_spec("cudnn") is None:
        return "nvidia-cudnn-frontend is not installed"
    if name == "cudnn_fused" and not torch.backends.cudnn.is_available():
        return "this PyTorch has no cuDNN"
    return None
