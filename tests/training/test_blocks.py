"""Residual blocks, forward and backward, against float64 autograd, beside PyTorch's own in the same dtype."""

import copy
import itertools

import pytest
import torch

import resnet_kernels as rk
from resnet_kernels.training import ConvBN, Identity, chain_train, conv_bn_act_train

from .layers import Block, distance, in_float64, results

BLOCKS = tuple(itertools.product(("basic", "bottleneck"), ("identity", "projection", "zero_pad"), (1, 2)))
BLOCKS = tuple(block for block in BLOCKS if block[1:] != ("identity", 2))


def problem(block, dtype=torch.float32, n: int = 4, size: int = 7, seed: int = 5):
    """(module, x, gradient of its result)."""
    module = Block(*block[:2], stride=block[2]).to(dtype)
    torch.manual_seed(seed)
    x = torch.randn(n, 8, size, size + 1).to(dtype)
    return module, x, torch.randn(module(x).shape)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_float32(block, machine):
    """Every gradient and statistic within a few roundings of float64, no worse than four times PyTorch's."""
    module, x, g = problem(block)
    ref = in_float64(module, x, g)
    peer, ours = copy.deepcopy(module), copy.deepcopy(module)
    theirs, got = results(peer, peer, x, g), results(ours, ours.fused, x, g)
    assert got.keys() == theirs.keys()
    for name, want in ref.items():
        a, b = distance(got[name], want), distance(theirs[name], want)
        print(f"{name}: {a:.1e}, PyTorch {b:.1e}")
        assert a <= max(4 * b, 2e-6), f"{name}: {a:.1e}, PyTorch {b:.1e}"


def errors(block, dtype, seed: int, lift: float) -> tuple[float, float]:
    """Sums of relative errors over a block's results, (ours, PyTorch's); ``lift`` is added to every beta."""
    module, x, g = problem(block, dtype, 8, 10, seed)
    with torch.no_grad():
        for norm in module.norms:
            norm.bias.add_(lift)
    ref = in_float64(module, x, g)
    peer, fused = copy.deepcopy(module), copy.deepcopy(module)
    a, b = results(fused, fused.fused, x, g), results(peer, peer, x, g)
    # Behind a ReLU that passes everything some gradients vanish: what is left of them is rounding alone.
    named = [name for name, want in ref.items() if distance(b[name], want) < 0.5]
    return tuple(sum(distance(got[name], ref[name]) for name in named) for got in (a, b))


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
def test_half_precisions(dtype, simulator):
    """Errors beside PyTorch's, over all blocks: single ones hang on a few signs before a ReLU."""
    ours, theirs = map(
        sum, zip(*(errors(block, dtype, s, 0.0) for block in BLOCKS for s in range(2)), strict=True)
    )
    print(f"{dtype}: ours {ours:.2f}, PyTorch {theirs:.2f}, ratio {ours / theirs:.2f}")
    assert ours <= 1.1 * theirs


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_half_precisions_away_from_zero(block, dtype, simulator):
    """Where no sign is in doubt, block by block."""
    ours, theirs = errors(block, dtype, 0, 6.0)
    print(f"{block} {dtype}: ours {ours:.3f}, PyTorch {theirs:.3f}, ratio {ours / theirs:.2f}")
    assert ours <= 1.1 * theirs


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_recomputing_changes_no_bit(block, simulator):
    module, x, g = problem(block, torch.bfloat16)
    saved, again = copy.deepcopy(module), copy.deepcopy(module)
    first = results(saved, saved.fused, x, g)
    second = results(again, lambda x: again.fused(x, "recompute"), x, g)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_repeats_are_bit_identical(simulator):
    module, x, g = problem(("bottleneck", "projection", 2), torch.bfloat16)
    runs = []
    for _ in range(5):
        fresh = copy.deepcopy(module)
        runs.append(results(fresh, fresh.fused, x, g))
    assert all(torch.equal(run[name], runs[0][name]) for run in runs for name in run)


def test_the_checked_simulator_agrees(simulator):
    module, x, g = problem(("bottleneck", "projection", 2), torch.bfloat16, n=2, size=5)
    fast, checked = copy.deepcopy(module), copy.deepcopy(module)
    first = results(fast, fast.fused, x, g)
    with rk.simulator.checked():
        second = results(checked, checked.fused, x, g)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_only_the_end_of_a_block_needs_a_reducing_pass(simulator):
    """The sums of the BatchNorms inside come from the epilogues of the convolutions' gradients."""
    module, x, g = problem(("bottleneck", "identity", 1))
    with rk.simulator.checked(), rk.simulator.record() as launches:
        results(module, module.fused, x, g)
    kernels = [launch["kernel"] for launch in launches]
    assert sum("bn_backward_reduce" in kernel for kernel in kernels) == 1
    # A 1x1 convolution takes BatchNorm's gradient on load, a 3x3 one after an elementwise pass.
    assert sum("bn_backward_apply" in kernel for kernel in kernels) == 1
    assert sum("of bn gradient" in kernel for kernel in kernels) == 2


def test_gradients_that_nobody_wants_are_not_computed(simulator):
    """Frozen layers below: no gradient of x, no convolution gradients beyond the lowest wanted."""
    module, x, _ = problem(("bottleneck", "identity", 1))
    for part in (module.convs[0], module.convs[1], module.norms[0], module.norms[1]):
        part.requires_grad_(False)
    with rk.simulator.checked(), rk.simulator.record() as launches:
        module.fused(x).sum().backward()
    kernels = [launch["kernel"] for launch in launches]
    assert not any("dgrad" in kernel for kernel in kernels)
    assert module.convs[2].weight.grad is not None and module.convs[1].weight.grad is None


def test_errors_name_the_argument(machine):
    x, weight = torch.randn(2, 8, 5, 5), torch.randn(4, 8, 1, 1)
    with pytest.raises(ValueError, match="shortcut must give the chain's shape"):
        chain_train(x, [ConvBN(weight)], Identity())
    with pytest.raises(ValueError, match="memory must be one of 'save', 'recompute', got 'less'"):
        chain_train(x, [ConvBN(weight)], memory="less")
    with pytest.raises(ValueError, match="layers must be at least one"):
        chain_train(x, [])
    with pytest.raises(TypeError, match="shortcut must be None, a tensor"):
        chain_train(x, [ConvBN(weight)], 3)
    with pytest.raises(ValueError, match="running_mean and running_var must be given"):
        conv_bn_act_train(x, weight, batch_stats=False)
    with pytest.raises(ValueError, match=r"gamma must have shape \(4,\)"):
        conv_bn_act_train(x, weight, torch.ones(3))
    with pytest.raises(TypeError, match="weight must have x's dtype"):
        conv_bn_act_train(x, weight.double())
    with pytest.raises(ValueError, match="weight must be"):
        conv_bn_act_train(x, torch.randn(4, 3, 1, 1))
