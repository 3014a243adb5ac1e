"""Error rates: how often the right class is not the first, or not among the first five.

An image counts as right at k only if fewer than k other classes score as high as its own or higher.  So a tie
is an error, and so is a score that is NaN: a network that says the same of every class is not rewarded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Errors:
    """Top-1 and top-5 error as fractions 0 .. 1, and the mean cross-entropy in nats.

    The top-5 error of five classes or fewer is 0.
    """

    images: int
    top1: float
    top5: float
    loss: float

    @classmethod
    def of(cls, counts: Tensor) -> Errors:
        """From the sum of `count`'s results.

        Raises:
            ValueError: they hold no image.
        """
        images, wrong1, wrong5, loss = counts.tolist()
        if images < 1:
            raise ValueError("Errors: counts must hold at least one image")
        return cls(int(images), wrong1 / images, wrong5 / images, loss / images)

    @property
    def top1_deviation(self) -> float:
        """Standard deviation of `top1`, a fraction, from the number of images alone (binomial)."""
        return math.sqrt(self.top1 * (1 - self.top1) / self.images)


def count(logits: Tensor, labels: Tensor) -> Tensor:
    """[images, wrong at 1, wrong at 5, summed cross-entropy] in float64: sums over batches and ranks add up.

    Args:
        logits: [images, classes], any floating dtype; the logarithms of probabilities will do.
        labels: [images], the numbers of the right classes, in 0 .. classes - 1.

    Raises:
        ValueError: the shapes do not fit.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"count: logits must be [images, classes] and labels [images], "
            f"got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    logits = logits.double()
    own = logits.gather(1, labels[:, None])
    ahead = logits.shape[1] - 1 - (logits < own).sum(1)  # NaN is below nothing, and nothing is below NaN
    loss = functional.cross_entropy(logits, labels, reduction="sum")
    wrong1, wrong5 = (ahead >= 1).sum(), (ahead >= 5).sum()
    return torch.stack([torch.full_like(loss, len(labels)), wrong1.double(), wrong5.double(), loss])


def counts(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    device: torch.device | str = "cpu",
    autocast: torch.dtype | None = None,
) -> Tensor:
    """The sum of `count` over `batches` of (images [N, C, H, W], labels [N]), on the CPU.

    The model is in evaluation mode meanwhile, and afterwards every module in the mode it was in.

    Raises:
        ValueError: a label is none of the model's classes.
    """
    device = torch.device(device)
    total = torch.zeros(4, dtype=torch.float64, device=device)
    with evaluating(model):
        for images, labels in batches:
            logits = logits_of(model, images.to(device, non_blocking=True), autocast)
            check_labels(labels, logits.shape[1])
            total += count(logits, labels.to(device, non_blocking=True))
    return total.cpu()


def errors(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    device: torch.device | str = "cpu",
    autocast: torch.dtype | None = None,
) -> Errors:
    """The error rates of `model` on `batches`, one view an image; see `counts`.

    Raises:
        ValueError: there is no image.
    """
    return Errors.of(counts(model, batches, device=device, autocast=autocast))


def check_labels(labels: Tensor, classes: int) -> None:
    """Raise a ValueError unless every label is in 0 .. classes - 1: a GPU would only abort."""
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"labels lie in {int(labels.min())} .. {int(labels.max())}, but the network has {classes} classes"
        )


@torch.no_grad()
def logits_of(model: nn.Module, images: Tensor, autocast: torch.dtype | None) -> Tensor:
    """model(images), under autocast to that dtype if one is given."""
    with torch.autocast(images.device.type, autocast, enabled=autocast is not None):
        return model(images)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """`model` in evaluation mode; afterwards every module is back in its own mode."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield model.eval()
    finally:
        for module, mode in modes:
            module.training = mode
