"""A small residual network on scikit-learn's digits: the loss curve of PyTorch, step by step."""

import copy

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import resnet_kernels as rk

from .layers import distance

STEPS = 16


class Net(nn.Module):
    """A stem, three blocks with the three kinds of shortcut, average pooling, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = rk.nn.ConvBNAct2d(1, 16, 3)
        self.blocks = nn.Sequential(
            rk.nn.BasicBlock(16, 16),
            rk.nn.BasicBlock(16, 32, 2, shortcut="A"),
            rk.nn.Bottleneck(32, 16, 1),
        )
        self.fc = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """(images [1797, 1, 8, 8] from -1 to 1, labels)."""
    data = load_digits()
    return torch.from_numpy(data.images).float()[:, None] / 8 - 1, torch.from_numpy(data.target)


def losses(machine: str, dtype: torch.dtype, steps: int = STEPS) -> list[float]:
    """Of every step of SGD with momentum on batches of 32, under autocast for a half precision."""
    images, labels = digits()
    model = Net().to(torch.float64 if dtype == torch.float64 else torch.float32).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-4)
    curve = []
    with rk.backend(machine):
        for i in range(steps):
            batch = slice(32 * i, 32 * (i + 1))
            x = images[batch].to(next(model.parameters()).dtype)
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype, enabled=dtype in (torch.bfloat16, torch.float16)):
                loss = nn.functional.cross_entropy(model(x).float(), labels[batch])
            loss.backward()
            optimizer.step()
            curve.append(loss.item())
    return curve


@pytest.mark.parametrize(
    "dtype,start,growth", ((torch.float32, 1e-5, 2.0), (torch.bfloat16, 0.02, 1.3)), ids=str
)
def test_loss_curve(dtype, start, growth, simulator):
    """Differences start at rounding and grow as in any training; in half precision beside float64 too."""
    ours, theirs, exact = (
        losses(*a) for a in (("simulator", dtype), ("auto", dtype), ("auto", torch.float64))
    )
    for i, (a, b, c) in enumerate(zip(ours, theirs, exact, strict=True)):
        print(f"{i:2d} {a:.6f} {b:.6f} {c:.6f}")
        assert abs(a - b) <= min(start * growth**i, 0.25) + 1e-6, f"step {i}: {a} and {b}"
    mine = sum(abs(a - c) for a, c in zip(ours, exact, strict=True))
    peer = sum(abs(b - c) for b, c in zip(theirs, exact, strict=True))
    print(f"distance from float64: ours {mine:.4f}, PyTorch {peer:.4f}")
    assert mine <= 3 * peer + 0.01 * STEPS
    assert sum(ours[-4:]) < 0.8 * sum(ours[:4])


def gradients(
    model: Net, x: torch.Tensor, labels: torch.Tensor, machine: str
) -> tuple[float, list[torch.Tensor]]:
    """(loss, gradients of all parameters)."""
    model.zero_grad()
    with rk.backend(machine):
        loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
    return loss.item(), [p.grad.clone() for p in model.parameters()]


def test_every_step_from_the_same_parameters(simulator):
    """Along a float32 run: loss and gradients to a rounding, but where a sign before a ReLU differs.

    float64 decides a sign otherwise than float32 in some steps, for PyTorch's own run as well.
    """
    model, (images, labels) = Net().train(), digits()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-4)
    errors = []
    for i in range(STEPS):
        x, y = images[32 * i : 32 * (i + 1)], labels[32 * i : 32 * (i + 1)]
        exact, wanted = gradients(copy.deepcopy(model).double(), x.double(), y, "auto")
        loss, ours = gradients(model, x, y, "simulator")
        assert abs(loss - exact) <= 1e-6 * exact
        errors.append(max(distance(a, b) for a, b in zip(ours, wanted, strict=True)))
        optimizer.step()
    print(*(f"{error:.1e}" for error in errors))
    assert sorted(errors)[STEPS // 2] <= 2e-6 and max(errors) <= 0.1


def test_training_repeats_bit_for_bit(simulator):
    assert losses("simulator", torch.bfloat16, 4) == losses("simulator", torch.bfloat16, 4)


def test_copies_train_alike(simulator):
    """Two copies of a network given the same batches end with the same parameters."""
    nets = [Net().train()]
    nets.append(copy.deepcopy(nets[0]))
    for net in nets:
        x = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        net(x).square().sum().backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(*(n.parameters() for n in nets), strict=True))
