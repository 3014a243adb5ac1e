"""The operators against the float64 oracle: exact on integers, within the error budget on everything."""

import dataclasses

import numpy as np
import pytest
import torch

import resnet_kernels as rk
from resnet_kernels import reference

from .conftest import NEEDS_CHECKED
from .error_budget import DTYPE, PRECISIONS, check_error, check_rms, operand, to_numpy
from .problems import Conv, call, check, check_exact, draw, on_machine, oracle, tf32

ONE, TWO, NONE = (1, 1), (2, 2), (0, 0)


def pointwise(c: int, k: int, size: int, stride=ONE, **epilogue) -> Conv:
    return Conv(1, c, size, size, k, 1, 1, stride, NONE, **epilogue)


def three(c: int, k: int, size: int, stride=ONE, **epilogue) -> Conv:
    return Conv(1, c, size, size, k, 3, 3, stride, ONE, **epilogue)


# The convolutions of ResNet-18 to 152 (table 1 of the paper) and the CIFAR networks (section 4.2).
# Channels and windows are the network's; the images are shrunk further below.
LAYERS = {
    "stem": Conv(1, 3, 224, 224, 64, 7, 7, TWO, (3, 3)),
    "basic2": three(64, 64, 56, residual=True),
    "basic3_down": three(64, 128, 56, TWO),
    "basic3": three(128, 128, 28, residual=True),
    "basic4_down": three(128, 256, 28, TWO),
    "basic4": three(256, 256, 14, residual=True),
    "basic5_down": three(256, 512, 14, TWO),
    "basic5": three(512, 512, 7, residual=True),
    "neck2_reduce_first": pointwise(64, 64, 56),
    "neck2_reduce": pointwise(256, 64, 56),
    "neck2_expand": pointwise(64, 256, 56, residual=True),
    "neck2_project": pointwise(64, 256, 56, relu=False),
    "neck3_reduce_first": pointwise(256, 128, 56),
    "neck3_reduce_v1": pointwise(256, 128, 56, TWO),
    "neck3_down": three(128, 128, 56, TWO),
    "neck3_reduce": pointwise(512, 128, 28),
    "neck3_expand": pointwise(128, 512, 28, residual=True),
    "neck3_project": pointwise(256, 512, 56, TWO, relu=False),
    "neck4_expand": pointwise(256, 1024, 14, residual=True),
    "neck4_reduce": pointwise(1024, 256, 14),
    "neck4_project": pointwise(512, 1024, 28, TWO, relu=False),
    "neck5_expand": pointwise(512, 2048, 7, residual=True),
    "neck5_reduce": pointwise(2048, 512, 7),
    "neck5_project": pointwise(1024, 2048, 14, TWO, relu=False),
    "cifar_first": three(3, 16, 32),
    "cifar_16": three(16, 16, 32, residual=True),
    "cifar_down": three(16, 32, 32, TWO),
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", LAYERS)
def test_layer_of_the_paper(name, precision, kernels):
    layer = LAYERS[name]
    size = 32 if layer.r == 7 else 14 if layer.c * layer.k < 2**16 else 7
    check(layer.shrunk(1, size), precision, kernels, seed=3)


@pytest.mark.parametrize("precision", ("bf16", "f16", "f32", "f64"))
@pytest.mark.parametrize("name", ("stem", "basic2", "basic5", "neck4_expand", "neck3_project"))
def test_layer_of_the_paper_in_aten(name, precision):
    check(LAYERS[name].shrunk(2, 16), precision, "aten")


ODD = {
    "1x1 image": Conv(2, 16, 1, 1, 24, 1, 1, ONE, NONE),
    "1x1 image, 3x3 window": Conv(3, 8, 1, 1, 8),
    "one row": Conv(1, 16, 1, 37, 16, 1, 3, ONE, (0, 1)),
    "asymmetric": Conv(2, 24, 13, 5, 40, 3, 2, (2, 1), (1, 0), residual=True),
    "stride beyond the window": Conv(1, 16, 17, 19, 16, 2, 2, (5, 3), NONE),
    "dilation": Conv(1, 16, 15, 14, 32, 3, 3, ONE, (2, 3), (2, 3), residual=True),
    "dilation and stride": Conv(1, 5, 23, 21, 7, 3, 3, TWO, (4, 4), (4, 3)),
    "padding beyond the window": Conv(1, 8, 4, 4, 8, 1, 1, ONE, (3, 2), affine="bias"),
    "large window": Conv(1, 3, 12, 12, 5, 11, 11, ONE, (5, 5)),
    "window of the whole image": Conv(4, 12, 6, 5, 10, 6, 5, ONE, NONE, residual=True),
    "one output channel": Conv(2, 16, 9, 9, 1, affine="scale"),
    "many images": Conv(65, 16, 3, 3, 16),
    **{f"{c} input channels": Conv(2, c, 9, 8, 24, residual=True) for c in (1, 3, 5, 24, 65)},
    **{f"{k} output channels": Conv(2, 24, 9, 8, k, residual=True) for k in (1, 3, 5, 24, 65)},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_shape(name, machine_precision):
    machine, precision = machine_precision
    check(ODD[name], precision, machine, seed=7)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("relu", (False, True))
@pytest.mark.parametrize("residual", (False, True))
@pytest.mark.parametrize("affine", ("none", "bias", "scale", "bn"))
def test_epilogue(affine, residual, relu, precision, kernels):
    check(Conv(2, 16, 8, 7, 40, affine=affine, residual=residual, relu=relu), precision, kernels, seed=11)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    "conv",
    (
        Conv(2, 16, 11, 9, 32, residual=True, affine="scale"),
        Conv(1, 65, 9, 7, 24, stride=TWO, affine="none", relu=False),
        Conv(1, 128, 7, 7, 136, 1, 1, ONE, NONE, affine="bias", residual=True),
        Conv(1, 3, 20, 20, 64, 7, 7, TWO, (3, 3), affine="scale"),
        Conv(2, 24, 10, 12, 16, 3, 3, ONE, TWO, TWO, affine="scale", residual=True),
        Conv(1, 512, 5, 5, 16, affine="scale"),
    ),
    ids=lambda conv: f"c{conv.c}k{conv.k}r{conv.r}",
)
def test_integers_are_exact(conv, precision, kernels):
    for seed in range(3):
        check_exact(conv, precision, kernels, seed)


@NEEDS_CHECKED
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    "name", ("asymmetric", "dilation and stride", "65 input channels", "24 output channels")
)
def test_nothing_to_report(name, precision):
    """The checked simulator finds no stray access, race or unwritten output, and gives the same bits."""
    t = draw(ODD[name], precision)
    with tf32(precision == "tf32"), rk.backend("simulator"):
        fast = call(ODD[name], t)
        with rk.simulator.checked():
            assert torch.equal(call(ODD[name], t), fast)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_repeats_are_bit_identical(precision, kernels):
    conv = Conv(2, 24, 9, 9, 40, residual=True)
    t = draw(conv, precision)
    with tf32(precision == "tf32"):
        bits = [call(conv, t).permute(0, 2, 3, 1).contiguous().view(torch.uint8) for _ in range(6)]
    assert all(torch.equal(bits[0], other) for other in bits[1:])


@pytest.mark.parametrize("precision", ("bf16", "f32"))
def test_misaligned_storage(precision, machine):
    """A slice that starts off a 16-byte boundary, dense in channels_last otherwise."""
    conv = Conv(2, 16, 6, 6, 16, residual=True)
    t = draw(conv, precision)
    expected = call(conv, t)

    def shifted(tensor):
        flat = torch.empty(tensor.numel() + 1, dtype=tensor.dtype)[1:]
        moved = flat.as_strided(tensor.shape, tensor.stride()).copy_(tensor)
        assert moved.data_ptr() % 16 and moved.is_contiguous(memory_format=torch.channels_last)
        return moved

    moved = dataclasses.replace(t, x=shifted(t.x), weight=shifted(t.weight), residual=shifted(t.residual))
    torch.testing.assert_close(
        call(conv, moved), expected, rtol=0.02, atol=0.02 if precision == "bf16" else 1e-5
    )


@pytest.mark.parametrize("precision", ("bf16", "f16", "f32"))
@pytest.mark.parametrize("shape", ((2, 16, 9, 11), (1, 5, 1, 1), (3, 65, 4, 3), (2, 64, 16, 16)))
@pytest.mark.parametrize("residual", (False, True))
@pytest.mark.parametrize("statistics", (False, True))
def test_bn_act(shape, residual, statistics, precision, machine):
    rng = np.random.default_rng(5)
    dtype, c = DTYPE[precision], shape[1]
    x = torch.from_numpy(rng.standard_normal(shape)).to(dtype)
    scale, shift, mean = (torch.from_numpy(rng.standard_normal(c)).float() for _ in range(3))
    var = torch.from_numpy(rng.uniform(0.1, 2, c)).float()
    vectors = {"scale": scale, "shift": shift}
    if statistics:
        vectors |= {"mean": mean, "var": var}
    extra = torch.from_numpy(rng.standard_normal(shape)).to(dtype) if residual else None
    y = rk.ops.bn_act(x, **vectors, residual=extra)
    v = {name: to_numpy(vector) for name, vector in vectors.items()}
    if statistics:
        ref = reference.batch_norm(to_numpy(x), v["mean"], v["var"], v["scale"], v["shift"])
    else:
        ref = reference.affine(to_numpy(x), v["scale"], v["shift"])
    bound = reference.affine_error_scale(
        to_numpy(x), v["scale"], v["shift"], to_numpy(extra), mean=v.get("mean"), var=v.get("var")
    )
    ref = reference.relu(ref if extra is None else reference.add(ref, to_numpy(extra)))
    assert y.is_contiguous(memory_format=torch.channels_last)
    check_error(y, ref, bound, 1, precision, what=f"bn_act on {machine}")


@pytest.mark.parametrize(
    "c,size,k,r,stride,padding", ((3, 21, 64, 7, 2, 3), (3, 12, 16, 3, 1, 1), (16, 9, 24, 1, 1, 0))
)
def test_stem(c, size, k, r, stride, padding, machine_precision):
    machine, precision = machine_precision
    conv = Conv(2, c, size, size + 3, k, r, r, (stride, stride), (padding, padding))
    t = draw(conv, precision)
    ref, scale = oracle(conv, t, precision)
    with tf32(precision == "tf32"):
        placed = on_machine(t)
        y = rk.ops.conv_bn_relu_maxpool(placed.x, placed.weight, **placed.affine, **conv.geometry).cpu()
    check_error(
        y, reference.max_pool(ref, 3, 2, 1), reference.max_pool(scale, 3, 2, 1), conv.terms, precision,
        intermediates=int(machine == "aten"), what=f"stem on {machine}",
    )  # fmt: skip


POOLS = (
    ((2, 16, 12, 9), 3, 2, 1),
    ((1, 5, 7, 7), 2, None, 0),
    ((3, 65, 5, 6), (3, 2), (1, 2), (1, 0)),
    ((1, 8, 1, 1), 3, 2, 1),
    ((2, 24, 8, 8), 1, 3, 0),
)


@pytest.mark.parametrize("precision", ("bf16", "f16", "f32"))
@pytest.mark.parametrize("shape,kernel,stride,padding", POOLS)
def test_max_pool_is_exact(shape, kernel, stride, padding, precision, machine):
    x = torch.from_numpy(np.random.default_rng(1).standard_normal(shape)).to(DTYPE[precision])
    y = rk.ops.max_pool(x, kernel, stride, padding)
    ref = reference.max_pool(to_numpy(x), kernel, stride, padding)
    np.testing.assert_array_equal(to_numpy(y), ref)
    assert y.dtype == x.dtype and y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("precision", ("bf16", "f16", "f32"))
@pytest.mark.parametrize("shape", ((2, 64, 7, 7), (1, 5, 1, 1), (3, 65, 4, 9), (2, 512, 7, 7)))
def test_global_avg_pool(shape, precision, machine):
    x = torch.from_numpy(np.random.default_rng(2).standard_normal(shape)).to(DTYPE[precision])
    y = rk.ops.global_avg_pool(x)
    ref, scale = reference.global_avg_pool(to_numpy(x)), reference.global_avg_pool(np.abs(to_numpy(x)))
    check_error(y, ref, scale, shape[2] * shape[3], precision, what=f"global_avg_pool on {machine}")


@pytest.mark.parametrize("n,c,k", ((2, 512, 1000), (1, 64, 10), (5, 65, 3), (1, 1, 1)))
@pytest.mark.parametrize("bias", (False, True))
def test_linear(n, c, k, bias, machine_precision):
    machine, precision = machine_precision
    rng = np.random.default_rng(4)
    x = torch.from_numpy(rng.standard_normal((n, c))).to(DTYPE[precision])
    weight = torch.from_numpy(rng.standard_normal((k, c)) * c**-0.5).to(DTYPE[precision])
    vector = torch.from_numpy(rng.standard_normal(k)).float() if bias else None
    with tf32(precision == "tf32"):
        placed = [t if t is None or machine != "cuda" else t.cuda() for t in (x, weight, vector)]
        y = rk.ops.linear(*placed).cpu()
    args = operand(x, precision), operand(weight, precision), to_numpy(vector)
    ref, scale = reference.linear(*args), reference.linear_error_scale(*args)
    twice = int(machine == "aten" and bias)  # PyTorch rounds the bias as well
    check_error(y, ref, scale, c, precision, intermediates=twice, what=f"linear on {machine}")
    with rk.backend("aten"):
        if machine != "aten" and precision != "tf32":
            check_rms(y, rk.ops.linear(x, weight, vector), ref, what="linear")
