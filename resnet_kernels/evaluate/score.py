"""Class probabilities of a set of images, averaged over the views of each and over several networks.

Every view's logits become probabilities (softmax), and an image's score is their mean over its views; that of
an ensemble is the mean over its networks.  The paper averages "scores" (section 3.4) after Krizhevsky et al.
2012 and Simonyan and Zisserman 2014, who both average the softmax's output.

Views of one size are run together, whichever images they are of, so photographs of any shape make batches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .errors import Errors, check_labels, count, evaluating, logits_of
from .views import CROP, Views

Groups = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Scores:
    """probabilities: [images, classes] float32; labels: [images], both on the CPU."""

    probabilities: Tensor
    labels: Tensor

    @property
    def errors(self) -> Errors:
        """The error rates; the loss is the cross-entropy of the averaged probabilities."""
        tiny = torch.finfo(torch.float32).tiny  # what softmax flushed to 0 must not make the loss infinite
        return Errors.of(count(self.probabilities.double().clamp_min(tiny).log(), self.labels))


def ensemble(members: Sequence[Scores]) -> Scores:
    """The mean of the members' probabilities.

    Raises:
        ValueError: there is none, or they are not of the same images and classes.
    """
    if not members:
        raise ValueError("ensemble: members must hold at least one network's scores")
    first = members[0]
    for other in members[1:]:
        alike = other.probabilities.shape == first.probabilities.shape
        if not alike or not torch.equal(other.labels, first.labels):
            raise ValueError("ensemble: members must score the same images and classes")
    mean = torch.stack([member.probabilities.double() for member in members]).mean(0)
    return Scores(mean.float(), first.labels)


class Normalised:
    """image uint8 [3, H, W] -> all its views, normalised: what `data.batches` takes as a view."""

    def __init__(self, views: Views, normalise: Callable[[Tensor], Tensor]) -> None:
        self._views, self._normalise = views, normalise

    def __call__(self, image: Tensor) -> list[Tensor]:
        return [self._normalise(view) for view in self._views(image)]


def by_size(items: Sequence[tuple[Sequence[Tensor], int]]) -> tuple[Groups, Tensor]:
    """Several images, each as (its views, its label) -> groups of views of one size, and the labels.

    A group is (the image of each view, as its place among `items`: [n]; the views: [n, 3, H, W]).
    """
    found: dict[torch.Size, tuple[list[int], list[Tensor]]] = defaultdict(lambda: ([], []))
    for i, (views, _) in enumerate(items):
        for view in views:
            rows, images = found[view.shape]
            rows.append(i)
            images.append(view)
    groups = [
        (torch.tensor(rows), torch.stack(images).contiguous(memory_format=torch.channels_last))
        for rows, images in found.values()
    ]
    return groups, torch.tensor([label for _, label in items])


def score(
    model: nn.Module,
    batches: Iterable[tuple[Groups, Tensor]],
    *,
    batch: int,
    device: torch.device | str = "cpu",
    autocast: torch.dtype | None = None,
) -> Scores:
    """The scores of `model` on `batches`, each as `by_size` makes it.

    The model is in evaluation mode meanwhile, and afterwards every module in the mode it was in.

    Args:
        batch: views of 224 x 224 that a call of the model takes; of larger views it takes fewer.
        autocast: run under autocast to this dtype.

    Raises:
        ValueError: there is no image, or a label is none of the model's classes.
    """
    probabilities, all_labels = [], []
    with evaluating(model):
        for groups, labels in batches:
            total: Any = 0
            for rows, images in groups:
                most = max(1, batch * CROP**2 // (images.shape[2] * images.shape[3]))
                for part, of in zip(images.split(most), rows.split(most), strict=True):
                    logits = logits_of(model, part.to(device, non_blocking=True), autocast)
                    total = total + _sum_by_image(torch.softmax(logits.float(), 1).cpu(), of, len(labels))
            views = sum(len(rows) for rows, _ in groups) // len(labels)
            check_labels(labels, total.shape[1])
            probabilities.append(total / views)
            all_labels.append(labels)
    if not probabilities:
        raise ValueError("score: batches must hold at least one image")
    return Scores(torch.cat(probabilities), torch.cat(all_labels))


def _sum_by_image(probabilities: Tensor, of: Tensor, images: int) -> Tensor:
    """[views, classes] -> [images, classes]: the sum of the views `of` each image."""
    return torch.zeros(images, probabilities.shape[1]).index_add_(0, of, probabilities)
