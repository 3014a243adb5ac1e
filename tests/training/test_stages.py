"""Stages, blocks one after the other in one autograd function: against float64, PyTorch and single blocks."""

import copy
import functools

import pytest
import torch

import resnet_kernels as rk
from resnet_kernels.training import ConvBN, Identity, Residual, ZeroPad, stage_train

from . import layers
from .layers import Stage, distance, in_float64, results

STAGES = (
    ("bottleneck", ("projection", "identity", "identity")),
    ("bottleneck", ("identity", "zero_pad", "identity")),
    ("bottleneck", ("identity", "projection", "projection")),
    ("basic", ("projection", "identity", "identity")),
    ("basic", ("zero_pad", "identity", "identity")),
    ("basic", ("identity", "identity", "zero_pad")),
)
each_stage = pytest.mark.parametrize("stage", STAGES, ids=lambda s: f"{s[0]} {' '.join(s[1])}")


def problem(stage, dtype=torch.float32, n: int = 3, size: int = 7, width: int = 16, seed: int = 5):
    """(module, x, gradient of its result)."""
    module = Stage(*stage, width=width).to(dtype)
    torch.manual_seed(seed)
    x = torch.randn(n, width, size, size + 1).to(dtype)
    return module, x, torch.randn(module(x).shape)


def fused_results(module, x, g, memory="save", grain="stage"):
    ours = copy.deepcopy(module)
    return results(ours, lambda x: ours.fused(x, memory, grain), x, g)


def check_against_pytorch(module, x, g, got) -> None:
    """Every result within a few roundings of float64, no worse than four times PyTorch's."""
    ref, peer = in_float64(module, x, g), copy.deepcopy(module)
    theirs = results(peer, peer, x, g)
    assert got.keys() == theirs.keys()
    for name, want in ref.items():
        a, b = distance(got[name], want), distance(theirs[name], want)
        assert a <= max(4 * b, 4e-6), f"{name}: {a:.1e}, PyTorch {b:.1e}"


@each_stage
def test_float32(stage, machine):
    module, x, g = problem(stage)
    check_against_pytorch(module, x, g, fused_results(module, x, g))


@pytest.mark.parametrize("stage", STAGES[::3], ids=str)
def test_channels_that_are_no_chunks(stage, simulator):
    """Ten channels, five inside: what would happen on load happens before."""
    module, x, g = problem(stage, width=10)
    check_against_pytorch(module, x, g, fused_results(module, x, g))


@each_stage
def test_bfloat16(stage, simulator):
    """Errors beside PyTorch's, where no sign before a ReLU is in doubt."""
    module, x, g = problem(stage, torch.bfloat16, n=4)
    with torch.no_grad():
        for block in module:
            for norm in block.norms:
                norm.bias.add_(6.0)
    ref, peer = in_float64(module, x, g), copy.deepcopy(module)
    got, theirs = fused_results(module, x, g), results(peer, peer, x, g)
    # Behind a ReLU that passes everything some gradients vanish: what is left of them is rounding alone.
    named = [name for name, want in ref.items() if distance(theirs[name], want) < 0.5]
    ours, peers = (sum(distance(found[name], ref[name]) for name in named) for found in (got, theirs))
    print(f"{stage}: ours {ours:.3f}, PyTorch {peers:.3f}, ratio {ours / peers:.2f}")
    assert ours <= 1.1 * peers


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float32))
@each_stage
def test_grains_agree(stage, dtype, simulator):
    """Forward, the statistics and the last block's gradients have the same bits at both grains.

    Before it, a stage sums for BatchNorm's gradient in the epilogue of the next block's convolution, block by
    block a pass over all pixels does: other tiles, hence other last digits.
    """
    module, x, g = problem(stage, dtype)
    one, each = (fused_results(module, x, g, grain=grain) for grain in ("stage", "block"))
    last = f"{len(module) - 1}."
    rounding = {torch.bfloat16: 2e-2, torch.float32: 1e-5}[dtype]
    for name, value in one.items():
        if not name.endswith(".grad") or name.startswith(last):
            assert torch.equal(value, each[name]), name
        else:
            assert distance(value, each[name]) <= rounding, name


@each_stage
def test_recomputing_changes_no_bit(stage, simulator):
    module, x, g = problem(stage, torch.bfloat16)
    saved, again = (fused_results(module, x, g, memory) for memory in ("save", "recompute"))
    for name, value in saved.items():
        assert torch.equal(value, again[name]), name


@each_stage
def test_loading_changes_no_bit(stage, simulator, monkeypatch):
    """What is made on load has the bits of what an elementwise pass makes."""
    module, x, g = problem(stage, torch.bfloat16)
    on_load = fused_results(module, x, g)
    monkeypatch.setattr(layers, "stage_train", functools.partial(stage_train, on_load=False))
    apart = fused_results(module, x, g)
    for name, value in on_load.items():
        assert torch.equal(value, apart[name]), name


def test_recomputing_keeps_less(simulator):
    module, x, _ = problem(STAGES[0], torch.bfloat16, n=8, size=14)

    class Fused(torch.nn.Module):
        def __init__(self, memory):
            super().__init__()
            self.stage, self.memory = module, memory

        def forward(self, x):
            return self.stage.fused(x, self.memory)

    save, recompute = (rk.training.saved_bytes(Fused(memory), x) for memory in ("save", "recompute"))
    # Beside the weights, elements a pixel of the output: x and y1 of the first block, on four times the
    # pixels (64 + 64), its y2 (16), y3 and the projection (64); of the others x (32), y1 and y2 (32), y3
    # (64); recomputing drops y3 of all three and the projection.
    assert recompute < 0.75 * save


def test_repeats_and_the_checked_simulator_agree(simulator):
    module, x, g = problem(STAGES[0], torch.bfloat16, n=2, size=5)
    first = fused_results(module, x, g)
    again = fused_results(module, x, g)
    with rk.simulator.checked():
        checked = fused_results(module, x, g)
    assert all(torch.equal(first[name], other[name]) for other in (again, checked) for name in first)


@pytest.mark.parametrize("frozen", ("first", "middle", "all"))
@pytest.mark.parametrize("stage", STAGES[::3], ids=str)
def test_fixed_statistics(stage, frozen, machine):
    """BatchNorms in eval(): the running statistics are constants, and gradients flow."""
    module, x, g = problem(stage)
    for block in {"first": [module[0]], "middle": [module[1]], "all": module}[frozen]:
        block.eval()
    got = fused_results(module, x, g)
    check_against_pytorch(module, x, g, got)
    assert frozen != "all" or all(torch.equal(b, got[name]) for name, b in floating_buffers(module))


def floating_buffers(module):
    return [(name, b) for name, b in module.named_buffers() if b.is_floating_point()]


@pytest.mark.parametrize("stage", (STAGES[0], STAGES[4]), ids=str)
def test_gradients_of_a_few_parameters(stage, simulator):
    """Each parameter alone, and x alone: the bits that all together give, and nothing for the others."""
    module, x, g = problem(stage, n=2, size=4)
    everything = fused_results(module, x, g)
    for wanted in ("x.grad", *(f"{name}.grad" for name, _ in module.named_parameters())):
        alone = copy.deepcopy(module)
        leaf = x.clone().requires_grad_(wanted == "x.grad")
        for name, parameter in alone.named_parameters():
            parameter.requires_grad_(f"{name}.grad" == wanted)
        alone.fused(leaf).backward(g)
        found = {"x.grad": leaf.grad} | {f"{name}.grad": p.grad for name, p in alone.named_parameters()}
        for name, gradient in found.items():
            assert (gradient is not None) == (name == wanted), f"{name} where {wanted} is wanted"
        assert torch.equal(found[wanted], everything[wanted]), wanted


def test_nothing_runs_below_the_lowest_wanted_gradient(simulator):
    module, x, g = problem(STAGES[0])
    for block in (module[0], module[1]):
        block.requires_grad_(False)
    with rk.simulator.checked(), rk.simulator.record() as launches:
        module.fused(x).backward(g)
    gradients = [launch["kernel"] for launch in launches if "conv_dgrad" in launch["kernel"]]
    assert len(gradients) == 2, gradients  # of the last block's conv3 and conv2


def test_passes_over_memory(simulator):
    """A stage of identity blocks: one reducing pass, at its end; elementwise ones around the 3x3 alone."""
    module, x, g = problem(("bottleneck", ("identity",) * 3))
    with rk.simulator.checked(), rk.simulator.record() as launches:
        module.fused(x.requires_grad_()).backward(g)
    kernels = [launch["kernel"] for launch in launches]

    def count(*words: str) -> int:
        return sum(all(word in kernel for word in words) for kernel in kernels)

    assert count("bn_backward_reduce") == 1
    assert count("bn_backward_apply") == count("bn_apply") == 3  # around each 3x3
    assert count("bn_relu_mask") == 1  # behind the last block
    assert count("conv_fprop", "of norm + residual") == 2  # the later blocks' first
    assert count("conv_fprop", "of norm") == 2 + 3
    assert count("conv_dgrad", "of bn gradient") == 6
    assert count("conv_wgrad", "of norm") == 6 and count("conv_wgrad") == 9


def tensors(dtype=torch.float64) -> dict[str, torch.Tensor]:
    """x and what three blocks take: two 1x1, a 3x3, a projection."""
    torch.manual_seed(2)
    shapes = {
        "x": (3, 4, 5, 6), "w0": (4, 4, 1, 1), "w1": (4, 4, 3, 3), "w2": (6, 4, 1, 1), "w3": (6, 4, 1, 1),
        "w4": (6, 6, 1, 1), "gamma": (4,), "beta": (4,), "gamma6": (6,), "beta6": (6,),
    }  # fmt: skip
    return {name: (torch.randn(shape, dtype=torch.float64) / 2).to(dtype) for name, shape in shapes.items()}


def three_blocks(t: dict[str, torch.Tensor], relu: bool, memory: str = "save") -> torch.Tensor:
    """An identity block, one with a projection, one zero-padded; ``relu`` of the layers inside."""
    first = Residual(
        (ConvBN(t["w0"], t["gamma"], t["beta"], relu=relu), ConvBN(t["w1"], padding=1)), Identity()
    )
    inside = ConvBN(t["w1"], t["gamma"], t["beta"], stride=2, padding=1, relu=relu)
    second = Residual((inside, ConvBN(t["w2"], t["gamma6"])), ConvBN(t["w3"], stride=2))
    third = Residual((ConvBN(t["w4"], None, t["beta6"], relu=relu),), ZeroPad())
    return stage_train(t["x"], (first, second, third), memory=memory)[0]


def by_pytorch(t: dict[str, torch.Tensor], relu: bool) -> torch.Tensor:
    def unit(x, weight, gamma=None, beta=None, stride=1, padding=0):
        y = torch.nn.functional.conv2d(x, weight, None, stride, padding)
        return torch.nn.functional.batch_norm(y, None, None, gamma, beta, True)

    def inner(y):
        return y.relu() if relu else y

    x = t["x"]
    a = unit(inner(unit(x, t["w0"], t["gamma"], t["beta"])), t["w1"], padding=1)
    x = (a + x).relu()
    a = unit(inner(unit(x, t["w1"], t["gamma"], t["beta"], 2, 1)), t["w2"], t["gamma6"])
    x = (a + unit(x, t["w3"], stride=2)).relu()
    return inner(unit(x, t["w4"], None, t["beta6"]) + x)


@pytest.mark.parametrize("memory", ("save", "recompute"))
@pytest.mark.parametrize("relu", (False, True))
def test_layers_with_and_without_relu(relu, memory, machine):
    """Also parameters that two layers share, and BatchNorms without a scale or a shift."""
    wide = {name: v.requires_grad_() for name, v in tensors().items()}
    want = by_pytorch(wide, relu)
    g = torch.randn(want.shape, dtype=torch.float64)
    narrow = {name: v.detach().float().requires_grad_() for name, v in wide.items()}
    y = three_blocks(narrow, relu, memory)
    ours = torch.autograd.grad(y, tuple(narrow.values()), g.float())
    theirs = torch.autograd.grad(want, tuple(wide.values()), g)
    assert distance(y.detach(), want.detach()) <= 1e-5
    for name, a, b in zip(narrow, ours, theirs, strict=True):
        assert distance(a, b) <= 2e-5, name


@pytest.mark.parametrize("memory", ("save", "recompute"))
def test_gradcheck(memory):
    t = {name: v.requires_grad_() for name, v in tensors().items()}

    def stage(*values):
        return three_blocks(dict(zip(t, values, strict=True)), True, memory)

    assert torch.autograd.gradcheck(stage, tuple(t.values()), fast_mode=True)


@pytest.mark.parametrize("memory", ("save", "recompute"))
@pytest.mark.parametrize("edited", ("x", "w0", "w1", "w2", "w3", "w4"))
def test_editing_a_saved_tensor_raises(edited, memory, machine):
    leaves = {name: v.requires_grad_() for name, v in tensors(torch.float32).items()}
    # As the kernels take them, so that no copy is kept in their place.
    t = {
        name: v.contiguous(memory_format=torch.channels_last) if v.dim() == 4 else v
        for name, v in leaves.items()
    }
    y = three_blocks(t, True, memory)
    with torch.no_grad():
        t[edited].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_new_running_statistics(machine):
    """One pair a layer, None where nothing is new; the arguments stay as they were."""
    torch.manual_seed(0)
    x, w = torch.randn(4, 3, 5, 5), torch.randn(3, 3, 1, 1)
    mean, var = torch.zeros(3), torch.ones(3)
    kept = ConvBN(w, running_mean=mean, running_var=var, momentum=0.25)
    fixed = kept._replace(batch_stats=False)
    _, running = stage_train(x, (Residual((kept, fixed), kept), Residual((ConvBN(w), kept))))
    assert [[new is not None for new in block] for block in running] == [[True, False, True], [False, True]]
    norm = torch.nn.BatchNorm2d(3, momentum=0.25)
    norm(torch.nn.functional.conv2d(x, w))
    for new in (running[0][0], running[0][2]):
        torch.testing.assert_close(new[0], norm.running_mean)
        torch.testing.assert_close(new[1], norm.running_var)
    assert torch.equal(mean, torch.zeros(3)) and torch.equal(var, torch.ones(3))


def test_errors_name_the_argument(machine):
    x, w = torch.randn(2, 4, 5, 5), torch.randn(4, 4, 1, 1)
    with pytest.raises(ValueError, match="stage_train: blocks must be at least one Residual"):
        stage_train(x, ())
    with pytest.raises(ValueError, match="shortcut of block 1 must not be a tensor"):
        stage_train(x, (Residual((ConvBN(w),)), Residual((ConvBN(w),), x)))
    with pytest.raises(ValueError, match=r"weight must be \[K, 4, R, S\]"):
        stage_train(x, (Residual((ConvBN(w),)), Residual((ConvBN(torch.randn(4, 3, 1, 1)),))))
