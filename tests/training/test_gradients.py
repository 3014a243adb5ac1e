"""Gradients under autograd: gradcheck, any strides, saved tensors, double backward, dtypes."""

import pytest
import torch
from torch.autograd import gradcheck

import resnet_kernels as rk
from resnet_kernels.training import (
    ConvBN,
    Identity,
    ZeroPad,
    chain_train,
    conv_bn_act_train,
    global_avg_pool_train,
    linear_train,
    max_pool_train,
)

DOUBLE = torch.float64


def leaf(*shape, dtype=DOUBLE, std: float = 1.0):
    return (torch.randn(shape, dtype=DOUBLE) * std).to(dtype).requires_grad_()


@pytest.mark.parametrize("relu", (False, True))
@pytest.mark.parametrize("batch_stats", (False, True))
@pytest.mark.parametrize("residual", (False, True))
def test_gradcheck_of_a_layer(relu, batch_stats, residual):
    x, weight = leaf(3, 2, 5, 4), leaf(3, 2, 3, 2, std=0.4)
    running = torch.randn(3, dtype=DOUBLE), torch.rand(3, dtype=DOUBLE) + 0.5

    def layer(x, weight, gamma, beta, skip):
        y, _ = conv_bn_act_train(
            x, weight, gamma, beta, *running, skip, batch_stats=batch_stats, stride=(2, 1), padding=(1, 0),
            dilation=(1, 2), relu=relu,
        )  # fmt: skip
        return y

    size = (3, 3, 3, 2)
    inputs = x, weight, leaf(3), leaf(3), leaf(*size) if residual else None
    assert gradcheck(layer, inputs, fast_mode=True)


@pytest.mark.parametrize("memory", ("save", "recompute"))
@pytest.mark.parametrize("shortcut", ("identity", "projection", "zero_pad", "tensor", "none"))
def test_gradcheck_of_a_block(shortcut, memory):
    torch.manual_seed(1)
    stride = 1 if shortcut == "identity" else 2
    out = 3 if shortcut == "identity" else 5
    x = leaf(3, 3, 5, 6)
    size = (3, out, *(-(-extent // stride) for extent in (5, 6)))
    tensors = (
        leaf(4, 3, 1, 1), leaf(4), leaf(4), leaf(4, 4, 3, 3, std=0.3), leaf(4), leaf(4),
        leaf(out, 4, 1, 1), leaf(out), leaf(out), leaf(out, 3, 1, 1), leaf(*size),
    )  # fmt: skip

    def block(x, *t):
        layers = (ConvBN(*t[:3]), ConvBN(*t[3:6], stride=stride, padding=1), ConvBN(*t[6:9]))
        skip = {
            "identity": Identity(),
            "projection": ConvBN(t[9], stride=stride),
            "zero_pad": ZeroPad(stride),
            "tensor": t[10],
            "none": None,
        }
        return chain_train(x, layers, skip[shortcut], memory=memory)[0]

    assert gradcheck(block, (x, *tensors), fast_mode=True)


def test_gradcheck_of_pools_and_classifier():
    x = leaf(2, 3, 6, 5)
    assert gradcheck(lambda x: max_pool_train(x, (3, 2), (2, 1), (1, 0)), (x,))
    assert gradcheck(global_avg_pool_train, (x,))
    assert gradcheck(linear_train, (leaf(3, 4), leaf(5, 4), leaf(5)))


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
def test_pools_and_classifier_beside_pytorch(dtype, simulator):
    functional = torch.nn.functional
    x, weight, bias = leaf(2, 20, 9, 7, dtype=dtype), leaf(5, 20, dtype=dtype), leaf(5, dtype=torch.float32)

    def gradients(pool, average, linear):
        y = linear(average(pool(x, 3, 2, 1)), weight)
        return torch.autograd.grad(y.square().sum(), (x, weight, bias))

    ours = gradients(max_pool_train, global_avg_pool_train, lambda y, w: linear_train(y, w, bias))
    theirs = gradients(
        functional.max_pool2d, lambda y: y.mean((2, 3)), lambda y, w: functional.linear(y, w, bias.to(dtype))
    )
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b.to(a.dtype), rtol=tolerance, atol=tolerance)


def test_max_pool_gradients_go_where_pytorchs_go(simulator):
    """Ties and NaN: the same element of the window is chosen."""
    x = torch.randint(0, 3, (2, 5, 9, 8)).float()
    x[0, 0, 3, 3] = x[1, 2, 4, 4] = x[1, 2, 4, 5] = torch.nan
    x = x.requires_grad_()
    g = torch.randn(2, 5, 5, 4)
    (theirs,) = torch.autograd.grad(torch.nn.functional.max_pool2d(x, 3, 2, 1), x, g)
    (ours,) = torch.autograd.grad(max_pool_train(x, 3, 2, 1), x, g)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def strided(g: torch.Tensor) -> dict[str, torch.Tensor]:
    """The same values in other clothes."""
    n, k, p, q = g.shape
    misaligned = torch.empty(g.numel() + 1)[1:].view(n, p, q, k).permute(0, 3, 1, 2)
    return {
        "contiguous": g.contiguous(),
        "channels_last": g.contiguous(memory_format=torch.channels_last),
        "slice of a cat": torch.cat((g, g, g), 1)[:, k : 2 * k],
        "every second": torch.stack((g, g), 2).flatten(1, 2)[:, ::2],
        "transposed": g.transpose(2, 3).contiguous().transpose(2, 3),
        "misaligned": misaligned.copy_(g),
    }


def test_incoming_gradients_of_any_strides(machine):
    x, weight = leaf(3, 6, 5, 5, dtype=torch.float32), leaf(8, 6, 3, 3, dtype=torch.float32)
    gamma = leaf(8, dtype=torch.float32)

    def gradients(g):
        y, _ = conv_bn_act_train(x, weight, gamma, residual=None, padding=1)
        return torch.autograd.grad(y, (x, weight, gamma), g)

    wanted = gradients(torch.linspace(-1, 1, 600).view(3, 8, 5, 5))
    for name, g in strided(torch.linspace(-1, 1, 600).view(3, 8, 5, 5)).items():
        assert all(torch.equal(a, b) for a, b in zip(gradients(g), wanted, strict=True)), name
    one = torch.ones(1)
    wanted = gradients(torch.ones(3, 8, 5, 5))
    assert all(torch.equal(a, b) for a, b in zip(gradients(one.expand(3, 8, 5, 5)), wanted, strict=True))


def leaves_of_a_chain() -> dict[str, torch.Tensor]:
    t = {"x": torch.randn(2, 4, 5, 5).to(memory_format=torch.channels_last)}
    t |= {"weight": torch.randn(4, 4, 1, 1), "gamma": torch.rand(4), "beta": torch.randn(4)}
    return {name: value.requires_grad_() for name, value in t.items()}


@pytest.mark.parametrize("memory", ("save", "recompute"))
@pytest.mark.parametrize("edited", ("x", "weight"))
def test_editing_a_saved_tensor_raises(edited, memory, machine):
    t = leaves_of_a_chain()
    layer = ConvBN(t["weight"], t["gamma"], t["beta"])
    y, _ = chain_train(t["x"], (layer, layer), memory=memory)
    with torch.no_grad():
        t[edited].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("memory", ("save", "recompute"))
@pytest.mark.parametrize("edited", ("gamma", "beta"))
def test_editing_what_is_not_read_again_changes_nothing(edited, memory, machine):
    """BatchNorm's scale and shift are kept as forward used them."""
    t = leaves_of_a_chain()
    layer = ConvBN(t["weight"], t["gamma"], t["beta"])
    found = []
    for edit in (0.0, 1.0):
        y, _ = chain_train(t["x"], (layer, layer), memory=memory)
        with torch.no_grad():
            t[edited].add_(edit)
        found.append(torch.autograd.grad(y.square().sum(), tuple(t.values())))
    assert all(map(torch.equal, *found))


def test_double_backward_raises(machine):
    x, weight = leaf(2, 3, 4, 4, dtype=torch.float32), leaf(4, 3, 1, 1, dtype=torch.float32)
    y, _ = conv_bn_act_train(x, weight)
    (gx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(gx.sum(), x)


def test_retain_graph_gives_the_same_again(machine):
    x, weight = leaf(2, 3, 4, 4, dtype=torch.float32), leaf(4, 3, 1, 1, dtype=torch.float32)
    y, _ = conv_bn_act_train(x, weight)
    first = torch.autograd.grad(y.sum(), (x, weight), retain_graph=True)
    second = torch.autograd.grad(y.sum(), (x, weight))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_backward_runs_on_the_backend_of_forward(simulator):
    x, weight = leaf(2, 3, 4, 4, dtype=torch.bfloat16), leaf(4, 3, 3, 3, dtype=torch.bfloat16)
    g = torch.randn(2, 4, 2, 2)

    def gradients(backward_on):
        y, _ = conv_bn_act_train(x, weight)
        with rk.backend(backward_on), rk.simulator.checked(), rk.simulator.record() as launches:
            found = torch.autograd.grad(y, (x, weight), g.to(y.dtype))
            assert rk.backend.current() == backward_on
        return found, len(launches)

    (a, launched), (b, again) = gradients("simulator"), gradients("aten")
    assert launched == again > 0 and all(map(torch.equal, a, b))
    with rk.backend("aten"):
        assert gradients("simulator")[1] == 0


def test_backward_keeps_the_tf32_of_forward(simulator):
    x, weight = leaf(2, 8, 6, 6, dtype=torch.float32), leaf(8, 8, 3, 3, dtype=torch.float32)

    def gradients(forward_tf32, backward_tf32):
        torch.backends.cudnn.allow_tf32 = forward_tf32
        y, _ = conv_bn_act_train(x, weight)
        torch.backends.cudnn.allow_tf32 = backward_tf32
        return torch.autograd.grad(y.square().sum(), (x, weight))

    strict, mixed, rounded = gradients(False, False), gradients(False, True), gradients(True, True)
    assert all(map(torch.equal, strict, mixed)) and not torch.equal(strict[0], rounded[0])


@pytest.mark.parametrize("layout", (torch.contiguous_format, torch.channels_last))
def test_autocast_with_float32_master_weights(layout, machine):
    x = torch.randn(2, 4, 5, 5).contiguous(memory_format=layout).requires_grad_()
    weight = torch.randn(6, 4, 3, 3).contiguous(memory_format=layout).requires_grad_()
    gamma, residual = torch.ones(6).requires_grad_(), torch.randn(2, 6, 5, 5).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = conv_bn_act_train(x, weight, gamma, residual=residual, padding=1)
    y.backward(torch.randn(y.shape).bfloat16())
    assert y.dtype == torch.bfloat16
    assert {t.grad.dtype for t in (x, weight, gamma, residual)} == {torch.float32}
    half = [t.detach().bfloat16().requires_grad_() for t in (x, weight)]
    z, _ = conv_bn_act_train(*half, gamma, residual=residual.detach().bfloat16(), padding=1)
    assert torch.equal(y, z)


def test_nan_travels_as_in_pytorch(simulator):
    """Positions of NaN in the gradients: one NaN image spoils the statistics of every channel it reaches."""
    x = torch.randn(2, 3, 6, 6)
    x[0, 1, 2, 2] = torch.nan
    weight, g = torch.randn(4, 3, 3, 3), torch.randn(2, 4, 4, 4)
    running = torch.zeros(4), torch.ones(4)

    def gradients(fused):
        a, w = x.clone().requires_grad_(), weight.clone().requires_grad_()
        if fused:
            y, _ = conv_bn_act_train(a, w, None, None, *running, batch_stats=False)
        else:
            y = torch.nn.functional.batch_norm(torch.nn.functional.conv2d(a, w), *running).relu()
        y.backward(g)
        return y.detach(), a.grad, w.grad

    for ours, theirs in zip(gradients(True), gradients(False), strict=True):
        assert torch.equal(ours.isnan(), theirs.isnan())
