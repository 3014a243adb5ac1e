"""A small residual network learns scikit-learn's digits as well on the fused functions as on PyTorch's.

Five seeds (ten in the long variant), each trained twice from the same parameters on the same batches: by
PyTorch's modules, and by this package's functions on the "aten" backend.  The test accuracies' means lie
within 0.3 points of each other.
"""

import pytest
import torch
from torch import Tensor, nn

import resnet_kernels as rk
from resnet_kernels import training

from .layers import Block, layer
from .test_digits import digits

SEEDS = range(5)
MANY_SEEDS = range(10)  # bfloat16 scatters by 0.3 points a pair
POINTS = 0.3
BATCH = 64
TRAINED_ON = 1024  # of 1797 images


class Net(nn.Module):
    """A stem, three blocks with the three kinds of shortcut, average pooling, a classifier."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.blocks = nn.ModuleList(
            (
                Block("basic", "identity", 16),
                Block("basic", "zero_pad", 16, 2),
                Block("bottleneck", "projection", 32, 2),
            )
        )
        self.fc = nn.Linear(64, 10)
        torch.manual_seed(seed)
        for module in self.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x)).relu()
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean((2, 3)))

    def fused(self, x: Tensor) -> Tensor:
        """`forward` by the functions of this package; updates the running statistics."""
        x, running = training.chain_train(x, (layer(self.conv, self.norm),))
        with torch.no_grad():
            self.norm.running_mean.copy_(running[0][0])
            self.norm.running_var.copy_(running[0][1])
        for block in self.blocks:
            x = block.fused(x)
        return training.linear_train(training.global_avg_pool_train(x), self.fc.weight, self.fc.bias)


@pytest.fixture(autouse=True)
def one_thread():
    """The tensors are tiny: a second thread would cost more than it helps."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def accuracy(seed: int, fused: bool, epochs: int, dtype: torch.dtype) -> float:
    """Percent of the test images right after training; seed: of parameters, of the split, and of batches."""
    images, labels = digits()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    train, test = order[:TRAINED_ON], order[TRAINED_ON:]
    model = Net(seed).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=epochs * TRAINED_ON // BATCH)
    shuffle = torch.Generator().manual_seed(seed)
    with rk.backend("aten"):
        for _ in range(epochs):
            for batch in train[torch.randperm(len(train), generator=shuffle)].split(BATCH):
                optimizer.zero_grad()
                with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                    logits = (model.fused if fused else model)(images[batch])
                nn.functional.cross_entropy(logits.float(), labels[batch], label_smoothing=0.1).backward()
                optimizer.step()
                schedule.step()
    with torch.no_grad():
        return 100 * (model.eval()(images[test]).argmax(1) == labels[test]).double().mean().item()


def assert_same_accuracy(seeds: range, epochs: int, dtype: torch.dtype, least: float) -> None:
    ours, theirs = (
        torch.tensor([accuracy(seed, fused, epochs, dtype) for seed in seeds]) for fused in (True, False)
    )
    for seed, a, b in zip(seeds, ours, theirs, strict=True):
        print(f"seed {seed}: {a:.2f} %, PyTorch {b:.2f} %")
    print(f"mean {ours.mean():.2f} %, PyTorch {theirs.mean():.2f} %")
    assert min(ours.mean(), theirs.mean()) >= least
    assert abs(ours.mean() - theirs.mean()) <= POINTS


def test_accuracy_of_five_paired_seeds():
    assert_same_accuracy(SEEDS, 6, torch.float32, 97.5)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=str)
def test_accuracy_after_long_training(dtype):
    assert_same_accuracy(MANY_SEEDS, 30, dtype, 98.0)
