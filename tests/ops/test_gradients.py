"""Gradients of the operators: numerically in float64, beside PyTorch's own, from gradients of any layout."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

import resnet_kernels as rk


def leaf(*shape: int, low: float | None = None, dtype=torch.float64) -> torch.Tensor:
    values = (
        torch.randn(shape, dtype=torch.float64)
        if low is None
        else torch.rand(shape, dtype=torch.float64) + low
    )
    return values.to(dtype).requires_grad_()


def affine_leaves(channels: int, affine: str) -> dict[str, torch.Tensor]:
    names = {
        "none": (),
        "bias": ("shift",),
        "scale": ("scale", "shift"),
        "bn": ("scale", "shift", "mean", "var"),
    }
    return {name: leaf(channels, low=0.5 if name in ("scale", "var") else None) for name in names[affine]}


def check(function, leaves: dict[str, torch.Tensor], second: bool = True) -> None:
    names = list(leaves)

    def positional(*values):
        return function(**dict(zip(names, values, strict=True)))

    assert gradcheck(positional, tuple(leaves.values()))
    if second:
        assert gradgradcheck(positional, tuple(leaves.values()), atol=1e-4, fast_mode=True)


AFFINES = ("none", "bias", "scale", "bn")


@pytest.mark.parametrize("affine", AFFINES)
@pytest.mark.parametrize("residual,relu", tuple(itertools.product((False, True), repeat=2)))
def test_conv_bn_act(affine, residual, relu):
    torch.manual_seed(1)
    leaves = {"x": leaf(2, 2, 4, 3), "weight": leaf(2, 2, 3, 2)} | affine_leaves(2, affine)
    if residual:
        leaves["residual"] = leaf(2, 2, 2, 2)
    check(lambda **a: rk.ops.conv_bn_act(**a, stride=(2, 2), padding=(1, 1), relu=relu), leaves)


@pytest.mark.parametrize("affine", AFFINES)
@pytest.mark.parametrize("relu", (False, True))
def test_bn_act(affine, relu):
    torch.manual_seed(1)
    leaves = {"x": leaf(2, 3, 3, 2), "residual": leaf(2, 3, 3, 2)} | affine_leaves(3, affine)
    check(lambda **a: rk.ops.bn_act(**a, relu=relu), leaves)


@pytest.mark.parametrize("affine", AFFINES)
def test_conv_bn_relu_maxpool(affine):
    torch.manual_seed(1)
    leaves = {"x": leaf(1, 2, 5, 4), "weight": leaf(2, 2, 3, 3)} | affine_leaves(2, affine)
    check(lambda **a: rk.ops.conv_bn_relu_maxpool(**a, padding=1), leaves)


def test_pools_and_linear():
    torch.manual_seed(1)
    check(lambda x: rk.ops.max_pool(x, (3, 2), (2, 1), (1, 0)), {"x": leaf(2, 2, 5, 4)})
    check(lambda x: rk.ops.global_avg_pool(x), {"x": leaf(2, 3, 4, 3)})
    check(rk.ops.linear, {"x": leaf(3, 4), "weight": leaf(2, 4), "bias": leaf(2)})
    check(rk.ops.linear, {"x": leaf(3, 4), "weight": leaf(2, 4)})


def pytorch(x, weight, scale, shift, mean, var, residual):
    return F.relu(F.batch_norm(F.conv2d(x, weight, padding=1), mean, var, scale, shift) + residual)


def ours(x, weight, scale, shift, mean, var, residual):
    return rk.ops.conv_bn_act(x, weight, scale, shift, residual, mean=mean, var=var, padding=1)


def training_problem(dtype=torch.float32, memory_format=torch.contiguous_format):
    torch.manual_seed(3)
    shapes = {"x": (2, 8, 6, 6), "weight": (16, 8, 3, 3), "residual": (2, 16, 6, 6)}
    tensors = {
        name: torch.randn(shape).to(dtype=dtype, memory_format=memory_format)
        for name, shape in shapes.items()
    }
    tensors |= {"scale": torch.rand(16) + 0.5, "shift": torch.randn(16)}
    leaves = {name: t.requires_grad_() for name, t in tensors.items()}
    return leaves | {"mean": torch.randn(16), "var": torch.rand(16) + 0.5}


@pytest.mark.parametrize(
    "dtype,tolerance", ((torch.float32, 1e-4), (torch.bfloat16, 0.06), (torch.float16, 0.01))
)
def test_gradients_beside_pytorchs(dtype, tolerance, machine):
    arguments = training_problem(dtype)
    leaves = {name: t for name, t in arguments.items() if t.requires_grad}
    g = torch.randn(2, 16, 6, 6).to(dtype)
    got = torch.autograd.grad(ours(**arguments), tuple(leaves.values()), g)
    wide = {name: t.detach().double().requires_grad_(t.requires_grad) for name, t in arguments.items()}
    expected = torch.autograd.grad(pytorch(**wide), tuple(wide[name] for name in leaves), g.double())
    for name, a, b in zip(leaves, got, expected, strict=True):
        assert a.dtype == leaves[name].dtype, name
        error = (a.double() - b).norm() / b.norm()
        assert error < tolerance, f"{name}: relative error {error:.2e}"


def gradient_layouts(g: torch.Tensor) -> dict[str, torch.Tensor]:
    channels = g.shape[1]
    flat = torch.empty(g.numel() + 1, dtype=g.dtype)[1:].view(g.shape)
    return {
        "contiguous": g.contiguous(),
        "channels_last": g.contiguous(memory_format=torch.channels_last),
        "slice of a cat": torch.cat((g, g), 1)[:, :channels],
        "transposed": g.transpose(2, 3).contiguous().transpose(2, 3),
        "misaligned": flat.copy_(g),
    }


def test_incoming_gradients_of_any_layout(machine):
    arguments = training_problem()
    leaves = tuple(t for t in arguments.values() if t.requires_grad)
    y = ours(**arguments)
    layouts = gradient_layouts(torch.randn(2, 16, 6, 6))
    results = {name: torch.autograd.grad(y, leaves, g, retain_graph=True) for name, g in layouts.items()}
    expanded = torch.autograd.grad(y, leaves, torch.ones(()).expand(y.shape), retain_graph=True)
    dense = torch.autograd.grad(y, leaves, torch.ones(y.shape))
    results["expanded"] = tuple(
        e - d + c for e, d, c in zip(expanded, dense, results["contiguous"], strict=True)
    )
    for name, result in results.items():
        for a, b in zip(result, results["contiguous"], strict=True):
            torch.testing.assert_close(a, b, msg=name)


@pytest.mark.parametrize("wanted", ("x", "weight", "scale", "shift", "residual"))
def test_one_gradient_alone(wanted, machine):
    """The others are not computed, and the one is the same."""
    arguments = training_problem()
    expected = torch.autograd.grad(ours(**arguments).sum(), arguments[wanted])[0]
    alone = {name: t.detach().requires_grad_(name == wanted) for name, t in arguments.items()}
    y = ours(**alone)
    assert torch.equal(torch.autograd.grad(y.sum(), alone[wanted])[0], expected)


def test_no_graph_without_need(machine):
    arguments = training_problem()
    assert ours(**arguments).requires_grad
    with torch.no_grad():
        assert not ours(**arguments).requires_grad
    with torch.inference_mode():
        assert ours(**arguments).is_inference()
    assert not ours(**{name: t.detach() for name, t in arguments.items()}).requires_grad


def test_the_forward_runs_on_the_chosen_machine(simulator):
    """A gradient is wanted, and the answer is still the kernels': in TF32, where PyTorch's is float32."""
    arguments = training_problem()
    y = ours(**arguments)
    with torch.no_grad():
        assert torch.equal(y, ours(**arguments))
    with rk.backend("aten"):
        assert not torch.equal(y, ours(**arguments))


def test_nan_gradients_at_pytorchs_positions(machine):
    arguments = training_problem()
    with torch.no_grad():
        arguments["x"][0, 3, 2, 2] = torch.nan
        arguments["residual"][1, 2, 3, 4] = torch.inf
    leaves = tuple(t for t in arguments.values() if t.requires_grad)
    got = torch.autograd.grad(ours(**arguments).sum(), leaves)
    expected = torch.autograd.grad(pytorch(**arguments).sum(), leaves)
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a.isnan(), b.isnan())


def test_in_place_edit_of_a_saved_tensor_raises(machine):
    for edited in ("x", "weight", "scale", "var"):
        arguments = training_problem(memory_format=torch.channels_last)  # another layout is copied first
        y = ours(**arguments)
        with torch.no_grad():
            arguments[edited].add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()
    arguments = training_problem()
    y = ours(**arguments)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.mul_(2).sum().backward()


def test_checkpointing(machine):
    from torch.utils.checkpoint import checkpoint

    arguments = training_problem()
    leaves = tuple(t for t in arguments.values() if t.requires_grad)
    expected = torch.autograd.grad(ours(**arguments).sum(), leaves)
    y = checkpoint(lambda: ours(**arguments), use_reentrant=False)
    for a, b in zip(torch.autograd.grad(y.sum(), leaves), expected, strict=True):
        assert torch.equal(a, b)


def test_empty_batch(machine):
    arguments = training_problem()
    arguments["x"], arguments["residual"] = (arguments[name].detach()[:0] for name in ("x", "residual"))
    ours(**arguments).sum().backward()
    assert not arguments["weight"].grad.any() and not arguments["scale"].grad.any()
