"""Everybody else's implementations, each optional: one that cannot run here says why.

`pytorch`: eager in both layouts, folded, captured as CUDA graphs, compiled; `cudnn`: its fused convolutions
through PyTorch, and its graph API through nvidia-cudnn-frontend; `xla`: JAX.
"""

from .choose import CUDNN, NAMES, Choice, without

__all__ = ["CUDNN", "NAMES", "Choice", "without"]
