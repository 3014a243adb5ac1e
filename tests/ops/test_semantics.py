"""The operators mean what PyTorch's own calls mean: answers, NaN and infinity, layouts, empty batches."""

import itertools

import pytest
import torch
import torch.nn.functional as F

import resnet_kernels as rk

from .problems import EPS, Conv, call, draw, tf32

FLOATS = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
NAMES = {torch.bfloat16: "bf16", torch.float16: "f16", torch.float32: "f32", torch.float64: "f64"}
TOLERANCE = {torch.bfloat16: 0.06, torch.float16: 8e-3, torch.float32: 1e-5, torch.float64: 1e-12}


def pytorch(conv: Conv, t) -> torch.Tensor:
    """The same layer from torch.nn.functional, everything in the tensors' dtype."""
    y = F.conv2d(t.x, t.weight, None, conv.stride, conv.padding, conv.dilation)
    vectors = {name: None if v is None else v.to(y.dtype) for name, v in t.affine.items()}
    if t.mean is not None:
        y = F.batch_norm(
            y, vectors["mean"], vectors["var"], vectors["scale"], vectors["shift"], False, 0.0, EPS
        )
    else:
        if t.scale is not None:
            y = y * vectors["scale"][:, None, None]
        if t.shift is not None:
            y = y + vectors["shift"][:, None, None]
    if t.residual is not None:
        y = y + t.residual
    return F.relu(y) if conv.relu else y


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("affine", ("none", "bias", "scale", "bn"))
@pytest.mark.parametrize("residual,relu", tuple(itertools.product((False, True), repeat=2)))
def test_conv_bn_act(dtype, affine, residual, relu):
    conv = Conv(2, 8, 9, 7, 12, stride=(2, 1), affine=affine, residual=residual, relu=relu)
    t = draw(conv, NAMES[dtype])
    y, expected = call(conv, t), pytorch(conv, t)
    assert y.dtype == dtype
    torch.testing.assert_close(y, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_float64_vectors_are_not_rounded():
    t = draw(Conv(1, 3, 4, 4, 5), "f64")
    t.shift = t.shift + 1e-12
    torch.testing.assert_close(
        call(Conv(1, 3, 4, 4, 5), t), pytorch(Conv(1, 3, 4, 4, 5), t), rtol=1e-14, atol=1e-14
    )


@pytest.mark.parametrize("vector_dtype", (torch.bfloat16, torch.float16, torch.float64))
def test_vectors_of_any_floating_dtype(vector_dtype, machine):
    conv = Conv(1, 8, 5, 5, 8)
    t = draw(conv, "bf16")
    for name in t.affine:
        setattr(t, name, getattr(t, name).to(vector_dtype))
    y = call(conv, t)
    for name in t.affine:
        setattr(t, name, getattr(t, name).float())
    assert torch.equal(y, call(conv, t))


def layouts(tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """The same values in other memory."""
    wide = torch.zeros(tensor.shape[0], 2 * tensor.shape[1], *tensor.shape[2:], dtype=tensor.dtype)
    sliced = wide.to(memory_format=torch.channels_last)[:, ::2]
    cat = torch.zeros(tensor.shape[0], tensor.shape[1] + 3, *tensor.shape[2:], dtype=tensor.dtype)
    part = cat.to(memory_format=torch.channels_last)[:, 1:-2]
    return {
        "contiguous": tensor.contiguous(),
        "channels_last": tensor.contiguous(memory_format=torch.channels_last),
        "sliced": sliced.copy_(tensor),
        "part of a cat": part.copy_(tensor),
        "transposed": tensor.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1),
    }


@pytest.mark.parametrize("layout", ("contiguous", "sliced", "part of a cat", "transposed"))
@pytest.mark.parametrize("precision", ("bf16", "f32"))
def test_layouts_give_the_same_answer(layout, precision, machine):
    conv = Conv(2, 8, 6, 5, 8, residual=True)
    t = draw(conv, precision)
    expected = call(conv, t)
    for name in ("x", "weight", "residual"):
        setattr(t, name, layouts(getattr(t, name))[layout])
    y = call(conv, t)
    assert torch.equal(y, expected)
    assert y.stride() == expected.stride() == (6 * 5 * 8, 1, 5 * 8, 8)


def test_expanded_and_strided_arguments(machine):
    conv = Conv(3, 4, 5, 5, 6, residual=True)
    t = draw(conv, "f32")
    t.x = t.x[:1].expand(3, -1, -1, -1)
    t.residual = t.residual[:, :1].expand(-1, 6, -1, -1)
    t.shift = torch.stack((t.shift, t.shift), 1)[:, 0]
    y = call(conv, t)
    for name in ("x", "residual", "shift"):
        setattr(t, name, getattr(t, name).clone())
    assert torch.equal(y, call(conv, t))


def test_arguments_are_left_alone(machine):
    conv = Conv(1, 8, 5, 5, 8, residual=True)
    t = draw(conv, "f32")
    before = {name: getattr(t, name).clone() for name in vars(t)}
    call(conv, t)
    rk.ops.bn_act(t.residual, **t.affine)
    rk.ops.bn_act(t.residual, relu=True)
    for name, value in before.items():
        assert torch.equal(getattr(t, name), value), name


def test_bn_act_never_returns_its_input(machine):
    x = torch.randn(1, 4, 3, 3).to(memory_format=torch.channels_last)
    y = rk.ops.bn_act(x, relu=False)
    assert torch.equal(y, x) and y.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("value", (float("nan"), float("inf"), float("-inf")))
@pytest.mark.parametrize("where", ("x", "weight", "scale", "shift", "mean", "residual"))
@pytest.mark.parametrize("precision", ("bf16", "f16", "f32"))
def test_nan_and_infinity_positions(value, where, precision, machine):
    # PyTorch itself has two answers to BatchNorm with an infinite weight: folded on a CPU, centred on a GPU.
    affine = "scale" if where == "scale" and value == value else "bn"
    conv = Conv(2, 8, 6, 6, 16, residual=True, affine=affine)
    t = draw(conv, precision, seed=2)
    target = getattr(t, where)
    target[(0,) * (target.dim() - 1) + (3,) if target.dim() == 1 else (0, 3, 1, 1)] = value
    y, expected = call(conv, t), pytorch(conv, t)
    assert torch.equal(y.isnan(), expected.isnan())
    assert torch.equal(y.isposinf(), expected.isposinf()) and torch.equal(y.isneginf(), expected.isneginf())
    assert not (where == "residual" and value != value) or y.isnan().sum() == 1  # ReLU(NaN) is NaN


@pytest.mark.parametrize("value", (float("nan"), float("inf"), float("-inf")))
def test_nan_and_infinity_in_pools_and_linear(value, machine):
    x = torch.randn(2, 8, 7, 7)
    x[1, 3, 2, 4] = value
    for ours, theirs in (
        (rk.ops.max_pool(x, 3, 2, 1), F.max_pool2d(x, 3, 2, 1)),
        (rk.ops.global_avg_pool(x), x.mean((2, 3))),
        (rk.ops.bn_act(x), F.relu(x)),
        (
            rk.ops.linear(x[:, :, 2, 4].contiguous(), torch.ones(5, 8)),
            F.linear(x[:, :, 2, 4], torch.ones(5, 8)),
        ),
    ):
        torch.testing.assert_close(ours, theirs, equal_nan=True, rtol=1e-5, atol=1e-5)


def test_a_pool_of_minus_infinity(machine):
    x = torch.full((1, 8, 4, 4), -torch.inf)
    assert torch.equal(rk.ops.max_pool(x, 3, 2, 1), F.max_pool2d(x, 3, 2, 1))


@pytest.mark.parametrize(
    "conv",
    (
        Conv(1, 32, 1, 11, 64, stride=(2, 2), padding=(3, 2), dilation=(2, 1), affine="bias", relu=False),
        Conv(
            7, 65, 7, 2, 65, 1, 1, stride=(1, 3), padding=(0, 1), dilation=(3, 3), affine="bias", relu=False
        ),
    ),
)
def test_windows_in_the_padding_alone(conv, machine):
    """There the answer is the bias.  oneDNN's own float16 convolution may end the process here."""
    t = draw(conv, "f16")
    t.x = torch.full_like(t.x, torch.inf)
    for _ in range(50):
        y = call(conv, t)
    outside = y[:, :, 0, 0] if conv.r == 3 else y[:, :, :, 0].flatten(2)[:, :, 0]
    assert torch.equal(outside, t.shift.half().expand_as(outside))
    leaves = t.x.zero_().requires_grad_(), t.weight.requires_grad_()
    assert all(g.isfinite().all() for g in torch.autograd.grad(call(conv, t).sum(), leaves))


@pytest.mark.parametrize("precision", ("bf16", "f16", "f32"))
def test_overflow_becomes_infinity(precision, machine):
    x = torch.full((1, 4, 2, 2), 200.0 if precision == "f16" else 3e19)
    weight = torch.full((2, 4, 1, 1), 200.0 if precision == "f16" else 3e19)
    dtype = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}[precision]
    assert rk.ops.conv_bn_act(x.to(dtype), weight.to(dtype)).isposinf().all()


@pytest.mark.parametrize("dtype", FLOATS[:3])
def test_empty_batch(dtype, machine):
    x = torch.empty(0, 3, 8, 6, dtype=dtype)
    weight, vector = torch.randn(5, 3, 3, 3).to(dtype), torch.rand(5)
    y = rk.ops.conv_bn_act(x, weight, vector, vector, mean=vector, var=vector, stride=2, padding=1)
    assert y.shape == (0, 5, 4, 3) and y.dtype == dtype
    assert rk.ops.conv_bn_act(x, weight, residual=torch.empty(0, 5, 6, 4, dtype=dtype)).shape == (0, 5, 6, 4)
    assert rk.ops.conv_bn_relu_maxpool(x, weight, stride=1, padding=1).shape == (0, 5, 4, 3)
    assert rk.ops.bn_act(x).shape == x.shape
    assert rk.ops.max_pool(x, 3, 2, 1).shape == (0, 3, 4, 3)
    assert rk.ops.global_avg_pool(x).shape == (0, 3)
    assert rk.ops.linear(torch.empty(0, 7, dtype=dtype), torch.randn(4, 7).to(dtype)).shape == (0, 4)


def test_empty_batch_of_the_raw_operators(simulator):
    """What a compiled program hands to the kernels: an empty tensor's strides mean nothing."""
    run = torch.ops.resnet_kernels_sim
    vectors, pairs = [None] * 4, ([1, 1], [1, 1], [1, 1])
    rk.ops.bn_act(torch.ones(1, 3, 8, 6))  # loads the simulator
    x, weight = torch.empty(0, 3, 8, 6), torch.randn(5, 3, 3, 3).to(memory_format=torch.channels_last)
    assert run.conv_fprop(x, weight, *vectors, 0.0, None, *pairs, True, False).shape == (0, 5, 8, 6)
    assert run.conv_bn_relu_maxpool(x, weight, *vectors, 0.0, *pairs, False).shape == (0, 5, 4, 3)
    assert run.bn_apply(x, *vectors, 0.0, x, True).shape == x.shape
    assert run.max_pool(x, [3, 3], [2, 2], [1, 1]).shape == (0, 3, 4, 3)
    assert run.global_avg_pool(x).shape == (0, 3)
    assert run.linear(x[:, :, 0, 0], torch.randn(4, 3), None, False).shape == (0, 4)


def test_meta_tensors_have_shapes_only():
    x, weight = torch.empty(2, 3, 8, 8, device="meta"), torch.empty(4, 3, 3, 3, device="meta")
    y = rk.ops.conv_bn_relu_maxpool(x, weight, padding=1)
    assert y.is_meta and y.shape == (2, 4, 4, 4)


def test_an_int_is_a_pair(machine):
    conv = Conv(1, 4, 9, 8, 4, stride=(2, 2), padding=(1, 1), dilation=(1, 1))
    t = draw(conv, "f32")
    y = rk.ops.conv_bn_act(t.x, t.weight, stride=2, padding=[1, 1], dilation=torch.Size((1, 1)))
    assert torch.equal(y, rk.ops.conv_bn_act(t.x, t.weight, stride=(2, 2), padding=1))


def test_size_one_dimensions_have_any_stride(machine):
    """A contiguous 1x1 weight and a 1x1 image are channels_last whatever their size-1 strides say."""
    x = torch.randn(2, 8, 1, 1).as_strided((2, 8, 1, 1), (8, 1, 777, 3))
    weight = torch.randn(4, 8, 1, 1)
    assert weight.stride() == (8, 1, 1, 1)
    with tf32(False):
        y = rk.ops.conv_bn_act(x, weight, relu=False)
    torch.testing.assert_close(y[:, :, 0, 0], x[:, :, 0, 0] @ weight[:, :, 0, 0].t())
    assert y.stride() == (4, 1, 4, 4)


def test_pools_and_linear_are_pytorchs():
    x = torch.randn(2, 6, 9, 7)
    assert torch.equal(rk.ops.max_pool(x, (3, 2), (2, 1), (1, 0)), F.max_pool2d(x, (3, 2), (2, 1), (1, 0)))
    torch.testing.assert_close(rk.ops.global_avg_pool(x), F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0])
    features, weight, bias = torch.randn(3, 6), torch.randn(4, 6), torch.randn(4)
    torch.testing.assert_close(rk.ops.linear(features, weight, bias), F.linear(features, weight, bias))
    with torch.no_grad():
        bn = torch.nn.BatchNorm2d(6).eval()
        bn.running_mean.uniform_(), bn.running_var.uniform_(0.5, 2), bn.weight.uniform_(), bn.bias.uniform_()
        y = rk.ops.bn_act(x, bn.weight, bn.bias, x, mean=bn.running_mean, var=bn.running_var, eps=bn.eps)
        torch.testing.assert_close(y, F.relu(bn(x) + x))
