"""The oracle: every operator and the paper's networks, in float64, on NumPy (or CuPy) arrays.

It shares nothing with the kernels it judges: no import from the rest of the package, no torch, one plain
formula an operator. Arrays are logical [N, C, H, W] and [K, C, R, S]; everything is computed and returned in
float64.
"""

from .error import affine_error_scale, allowed_error, conv_error_scale, linear_error_scale, rms
from .gradients import (
    batch_norm_moments,
    batch_norm_sums,
    conv2d_input_gradient,
    conv2d_weight_gradient,
    max_pool_gradient,
)
from .layers import (
    add,
    affine,
    batch_norm,
    batch_norm_affine,
    conv2d,
    global_avg_pool,
    linear,
    max_pool,
    output_size,
    relu,
    softmax,
)
from .network import Architecture, Step, architecture_of, resnet, steps, unit, unit_steps, units
from .rounding import UNIT_ROUNDOFF, round_bf16, round_f16, round_f32, round_tf32

__all__ = [
    "UNIT_ROUNDOFF",
    "Architecture",
    "Step",
    "add",
    "affine",
    "affine_error_scale",
    "allowed_error",
    "architecture_of",
    "batch_norm",
    "batch_norm_affine",
    "batch_norm_moments",
    "batch_norm_sums",
    "conv2d",
    "conv2d_input_gradient",
    "conv2d_weight_gradient",
    "conv_error_scale",
    "global_avg_pool",
    "linear",
    "linear_error_scale",
    "max_pool",
    "max_pool_gradient",
    "output_size",
    "relu",
    "resnet",
    "rms",
    "round_bf16",
    "round_f16",
    "round_f32",
    "round_tf32",
    "softmax",
    "steps",
    "unit",
    "unit_steps",
    "units",
]
