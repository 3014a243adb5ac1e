"""conv_fprop_stats, conv_dgrad and conv_wgrad against float64: exact on integers, within bounds elsewhere."""

import pytest
import torch

import resnet_kernels as rk
from resnet_kernels.training.operators import run

from .problems import PRECISIONS, Conv, Gradients

CONVS = (
    Conv(2, 16, 7, 6, 24),
    Conv(1, 3, 11, 9, 64, 7, 7, (2, 2), (3, 3)),  # a stem
    Conv(2, 64, 8, 8, 32, 1, 1, (1, 1), (0, 0)),
    Conv(2, 32, 9, 7, 65, 1, 1, (2, 2), (0, 0)),  # a shortcut: pixels that no filter sees
    Conv(1, 5, 9, 10, 3, 3, 3, (2, 1), (1, 0)),
    Conv(2, 24, 8, 9, 16, 3, 2, (1, 2), (2, 1), (2, 1)),
    Conv(1, 1, 10, 10, 1, 3, 3, (4, 4), (0, 0)),  # a stride larger than the filter
    Conv(3, 40, 4, 5, 130, 3, 3, (1, 1), (1, 1)),  # more than one tile of channels
    Conv(5, 33, 1, 1, 7, 1, 1, (1, 1), (0, 0)),  # a fully connected layer
)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("conv", CONVS, ids=str)
def test_integers_are_exact(conv, precision, simulator):
    for seed in range(4):
        Gradients(conv, precision, seed, integers=True).check()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("conv", CONVS, ids=str)
def test_errors_stay_within_the_bound(conv, precision, simulator):
    for seed in range(3):
        Gradients(conv, precision, seed).check()


@pytest.mark.parametrize("precision", ("bf16", "f16", "f32"))
def test_rms_beside_pytorch(precision):
    """From 4,096 numbers on: at most twice PyTorch's own error, for y, dx and dw."""
    problem = Gradients(Conv(2, 64, 10, 10, 64), precision, 0, plain=True)
    answers = {}
    for machine in ("aten", "simulator"):
        with rk.backend(machine):
            answers[machine] = problem.stats()[0], problem.dgrad()[0], problem.wgrad()
    references = problem.reference(problem.x, problem.g, problem.x)
    rows = zip(("y", "dx", "dw"), answers["simulator"], answers["aten"], references, strict=True)
    for name, ours, theirs, ref in rows:
        rms = [(t.double() - ref).square().mean().sqrt().item() for t in (ours, theirs)]
        print(f"{name} {precision}: RMS error {rms[0]:.3e}, PyTorch's {rms[1]:.3e}")
        assert rms[0] <= 2 * rms[1], f"{name}: RMS error {rms[0]:.3e}, PyTorch's {rms[1]:.3e}"


@pytest.mark.parametrize("ratio", (1.0, 1e1, 1e2, 1e3, 1e4))
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16))
def test_statistics_far_from_zero(ratio, dtype, simulator):
    """mean / std up to 10^4: the statistics of the rounded output to float32's last digits.

    They and what they normalise are no worse than PyTorch's.
    """
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((4, 16, 24, 24), generator=generator) + ratio
    x = x.to(dtype).to(memory_format=torch.channels_last)
    weight = torch.eye(16).view(16, 16, 1, 1).to(dtype)
    geometry = [1, 1], [0, 0], [1, 1]
    y, moments, _, _ = run("conv_fprop_stats", x, None, None, weight, *geometry, False, False)
    norm, *_ = run("bn_finalize", moments, None, None, 4.0 * 24 * 24, 1e-5, None, None, 0.1)
    out, _ = run("bn_normalise", y, norm, None, None, False, False)
    assert torch.equal(y, x) and (moments[1] >= 0).all()
    theirs = torch.native_batch_norm(y, None, None, None, None, True, 0.1, 1e-5)

    var, mean = torch.var_mean(y.double(), (0, 2, 3), correction=0)
    rstd = (var + 1e-5).rsqrt()
    wanted = mean, rstd, (y.double() - mean.view(1, -1, 1, 1)) * rstd.view(1, -1, 1, 1)
    errors = []
    for values in ((norm[0], norm[3], out), (theirs[1], theirs[2], theirs[0])):
        shares = [(a.double() - b).norm() / (b.norm() + 1e-30) for a, b in zip(values, wanted, strict=True)]
        errors.append([float(share) for share in shares])
    for name, ours, peer in zip(("mean", "rstd", "normalised"), *errors, strict=True):
        print(f"{name}: {ours:.1e}, PyTorch {peer:.1e}")
        assert ours <= max(peer, 2.0**-23), f"{name}: error {ours:.1e}, PyTorch's {peer:.1e}"
    assert ((norm[0] - mean).abs() <= 2.0**-23 * mean.abs() + 2.0**-30).all()
    assert ((norm[3] - rstd).abs() <= 2.0**-21 * rstd).all()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_repeats_are_bit_identical(precision, simulator):
    problem = Gradients(Conv(3, 40, 9, 8, 72, 3, 3, (2, 2)), precision, 1)
    first = (*problem.stats(), *problem.dgrad(), problem.wgrad())
    for _ in range(5):
        again = (*problem.stats(), *problem.dgrad(), problem.wgrad())
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_the_checked_simulator_agrees(simulator):
    problem = Gradients(Conv(2, 24, 8, 9, 40, 3, 3, (2, 1)), "bf16", 1)
    fast = (*problem.stats(), *problem.dgrad(), problem.wgrad())
    with rk.simulator.checked():
        checked = (*problem.stats(), *problem.dgrad(), problem.wgrad())
    assert all(torch.equal(a, b) for a, b in zip(fast, checked, strict=True))
