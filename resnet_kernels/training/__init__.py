"""Fused training of convolution + BatchNorm + ReLU (+ residual add), forward and backward.

`conv_bn_act_train` is a layer, `chain_train` a residual block, `stage_train` a row of them, the others what
stands around the blocks; all are differentiable once, in every dtype the kernels take, and equal PyTorch's
modules one after the other.
`operators` registers the primitives they are made of as ``torch.ops.resnet_kernels.*``.
"""

from . import operators as operators
from .batchnorm import sync_batch_norm_train
from .chains import (
    MEMORY,
    ConvBN,
    Identity,
    Residual,
    ZeroPad,
    chain_train,
    conv_bn_act_train,
    runs_kernels,
    stage_train,
)
from .memory import saved_bytes
from .pooling import global_avg_pool_train, linear_train, max_pool_train
from .weights import forget_weights

__all__ = [
    "MEMORY",
    "ConvBN",
    "Identity",
    "Residual",
    "ZeroPad",
    "chain_train",
    "conv_bn_act_train",
    "forget_weights",
    "global_avg_pool_train",
    "linear_train",
    "max_pool_train",
    "runs_kernels",
    "saved_bytes",
    "stage_train",
    "sync_batch_norm_train",
]
