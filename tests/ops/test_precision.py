"""Autocast and TF32: the switches of PyTorch that change what an operator computes in."""

import pytest
import torch
import torch.nn.functional as F

import resnet_kernels as rk
from resnet_kernels import reference

from .problems import tf32

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32


def operands(dtype=F32):
    torch.manual_seed(0)
    x, weight, residual = (torch.randn(s).to(dtype) for s in ((2, 8, 6, 6), (16, 8, 3, 3), (2, 16, 6, 6)))
    return x, weight, torch.rand(16) + 0.5, torch.randn(16), residual


@pytest.mark.parametrize("region", (BF16, F16))
@pytest.mark.parametrize("given", (F32, BF16, F16))
def test_autocast_casts_activations_and_weights(region, given, machine):
    x, weight, scale, shift, residual = operands(given)
    # Vectors that bfloat16 cannot hold: the answer tells if they were rounded.
    shift = shift * (1 + 2.0**-12)
    with torch.autocast("cpu", dtype=region):
        y = rk.ops.conv_bn_act(x, weight, scale, shift, residual, padding=1)
        stem = rk.ops.conv_bn_relu_maxpool(x, weight, scale, shift, padding=1)
        logits = rk.ops.linear(x[:, :, 0, 0], weight[:, :, 0, 0], shift)
    assert y.dtype == stem.dtype == logits.dtype == region
    cast = [t.to(region) for t in (x, weight, residual)]
    assert torch.equal(y, rk.ops.conv_bn_act(cast[0], cast[1], scale, shift, cast[2], padding=1))
    assert torch.equal(stem, rk.ops.conv_bn_relu_maxpool(cast[0], cast[1], scale, shift, padding=1))
    assert torch.equal(logits, rk.ops.linear(cast[0][:, :, 0, 0], cast[1][:, :, 0, 0], shift))


def test_autocast_mixed_dtypes(machine):
    """A bfloat16 activation meets float32 weights and a float32 residual, as in a network under autocast."""
    x, weight, scale, shift, residual = operands()
    with torch.autocast("cpu", dtype=BF16):
        y = rk.ops.conv_bn_act(x.bfloat16(), weight, scale, shift, residual, padding=1)
        z = rk.ops.bn_act(y, scale, shift, residual)
    assert y.dtype == z.dtype == BF16


def test_autocast_leaves_elementwise_and_pools_alone(machine):
    x, _, scale, shift, residual = operands()
    with torch.autocast("cpu", dtype=BF16):
        assert rk.ops.bn_act(residual, scale, shift).dtype == F32
        assert rk.ops.max_pool(x, 2).dtype == rk.ops.global_avg_pool(x).dtype == F32


def test_disabled_autocast_region(machine):
    x, weight, scale, shift, residual = operands()
    expected = rk.ops.conv_bn_act(x, weight, scale, shift, residual, padding=1)
    with torch.autocast("cpu", dtype=BF16), torch.autocast("cpu", enabled=False):
        assert torch.equal(rk.ops.conv_bn_act(x, weight, scale, shift, residual, padding=1), expected)
    with torch.autocast("cpu", dtype=BF16), torch.autocast("cpu", enabled=False), pytest.raises(TypeError):
        rk.ops.conv_bn_act(x.bfloat16(), weight)


def test_autocast_of_another_device_is_ignored(machine):
    x, weight, *_ = operands()
    with torch.autocast("cuda", dtype=BF16, enabled=False):
        assert rk.ops.conv_bn_act(x, weight).dtype == F32


def test_autocast_does_not_reach_into_the_operator():
    """The composition runs in the dtype its operator was given, in a region or not."""
    x, weight, *_ = operands()
    args = (x, weight, *[None] * 4, 0.0, None, [1, 1], [0, 0], [1, 1], False, False)
    with torch.autocast("cpu", dtype=BF16):
        y = torch.ops.resnet_kernels.conv_fprop(*args)
    assert torch.equal(y, F.conv2d(x.to(memory_format=torch.channels_last), weight))


def test_autocast_leaves_float64():
    x, weight, *_ = operands(torch.float64)
    with torch.autocast("cpu", dtype=BF16):
        assert rk.ops.conv_bn_act(x, weight).dtype == torch.float64


@pytest.mark.parametrize("region", (BF16, F16))
def test_autocast_compiled(region, machine):
    x, weight, scale, shift, residual = operands()
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda: rk.ops.conv_bn_act(x, weight, scale, shift, residual, padding=1),
        fullgraph=True,
        backend="aot_eager",
    )
    with torch.autocast("cpu", dtype=region):
        y = compiled()
    assert y.dtype == region
    plain = compiled()
    assert plain.dtype == F32
    with torch.autocast("cpu", dtype=region):
        assert torch.equal(y, rk.ops.conv_bn_act(x, weight, scale, shift, residual, padding=1))


def test_autocast_gradients_reach_float32_parameters(machine):
    x, weight, scale, shift, _ = operands()
    leaves = [t.requires_grad_() for t in (weight, scale, shift)]
    with torch.autocast("cpu", dtype=BF16):
        y = rk.ops.conv_bn_act(x, *leaves, padding=1)
    y.float().sum().backward()
    assert all(leaf.grad.dtype == F32 and leaf.grad.isfinite().all() for leaf in leaves)


def tf32_argument(call) -> bool:
    """The ``tf32`` argument that ``call`` hands to an operator."""
    seen = []

    class Spy(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func.namespace == "resnet_kernels":
                seen.append(args[-1])
            return func(*args, **kwargs or {})

    with Spy():
        call()
    assert len(seen) == 1
    return seen[0]


@pytest.mark.parametrize("enabled", (False, True))
def test_tf32_follows_pytorchs_switches(enabled):
    x, weight, *_ = operands()
    calls = (
        lambda: rk.ops.conv_bn_act(x, weight),
        lambda: rk.ops.conv_bn_relu_maxpool(x, weight),
        lambda: rk.ops.linear(x[:, :, 0, 0], weight[:, :, 0, 0]),
    )
    with tf32(enabled):
        assert [tf32_argument(call) for call in calls] == [enabled] * 3


def test_convolutions_and_linear_have_their_own_switch():
    x, weight, *_ = operands()
    with tf32(False):
        torch.backends.cudnn.conv.fp32_precision = "tf32"
        assert tf32_argument(lambda: rk.ops.conv_bn_act(x, weight)) is True
        assert tf32_argument(lambda: rk.ops.linear(x[:, :, 0, 0], weight[:, :, 0, 0])) is False


@pytest.mark.parametrize("dtype", (BF16, F16, torch.float64))
def test_tf32_is_for_float32_alone(dtype):
    x, weight, *_ = operands(dtype)
    with tf32(True):
        assert tf32_argument(lambda: rk.ops.conv_bn_act(x, weight)) is False


def test_tf32_rounds_the_operands_on_the_simulator(simulator):
    """One product whose factors TF32 cannot hold: the answer is the rounded factors' product, exactly."""
    x, weight = torch.full((1, 1, 1, 1), 1 + 2.0**-11 + 2.0**-20), torch.full((1, 1, 1, 1), 1 - 2.0**-13)
    with tf32(False):
        assert rk.ops.conv_bn_act(x, weight).item() == (x * weight).item()
    with tf32(True):
        rounded = reference.round_tf32(x.numpy()) * reference.round_tf32(weight.numpy())
        assert rk.ops.conv_bn_act(x, weight).item() == rounded.item() != (x * weight).item()


def test_tf32_is_a_constant_of_a_compiled_program():
    """Fixed when the program is traced: dynamo cannot trace the switch, and does not guard it."""
    torch._dynamo.reset()
    seen = []

    def look(module, inputs):
        # tf32 stands before residual_stride.
        seen.extend(n.args[-2] for n in module.graph.nodes if "conv_fprop" in str(n.target))
        return module.forward

    x, weight, *_ = operands()
    with tf32(True):
        torch.compile(lambda x: rk.ops.conv_bn_act(x, weight), fullgraph=True, backend=look)(x)
    torch._dynamo.reset()
    with tf32(False):
        torch.compile(lambda x: rk.ops.conv_bn_act(x, weight), fullgraph=True, backend=look)(x)
    assert seen == [True, False]
