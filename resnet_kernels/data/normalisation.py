"""Subtracting the training images' mean, pixel by pixel (section 3.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset

from .batches import batches
from .images import TensorImages
from .sets import DataSet
from .views import Centre

SAMPLE = 4096  # images in files that a mean is taken over: one more moves it by 1/4096 of its spread


@dataclass(frozen=True)
class Normalisation:
    """x -> (x - mean) / std, of images in [0, 1].

    Args:
        mean: float32 [3, h, w], one value a pixel, or [3, 1, 1].
        std: float32 [3, 1, 1]; ones in the paper, which subtracts alone.
    """

    mean: Tensor
    std: Tensor

    def __call__(self, image: Tensor) -> Tensor:
        """uint8, or floats in [0, 1], [..., 3, h, w] -> float32 of the same shape.

        At another size than that of a mean per pixel, its mean per channel is taken.
        """
        scaled = image.to(torch.float32) / 255 if image.dtype == torch.uint8 else image
        mean = self.mean
        if mean.shape[-2:] not in ((1, 1), image.shape[-2:]):
            mean = mean.mean(dim=(-2, -1), keepdim=True)
        return (scaled - mean.to(scaled.device)) / self.std.to(scaled.device)

    def state(self) -> dict[str, Tensor]:
        """Plain tensors by name, for a checkpoint; `of` is the inverse."""
        return {"mean": self.mean, "std": self.std}

    @staticmethod
    def of(state: Mapping[str, Tensor]) -> Normalisation:
        return Normalisation(state["mean"], state["std"])


TORCHVISION = Normalisation(  # what torchvision's ImageNet weights were trained with
    torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
)


def normalisation(dataset: DataSet, workers: int = 0) -> Normalisation:
    """The mean image of `dataset.train`, [3, size, size], and no division.

    Of images in memory it is the mean of all; of files that of the centre crops of up to 4,096, evenly
    spaced.

    Args:
        workers: processes that read files; 0: this one.

    Raises:
        UserError: a file cannot be read.
    """
    images = dataset.train
    if isinstance(images, TensorImages):
        total, count = images.pixels.sum(0, dtype=torch.int64), len(images)
    else:
        count = min(SAMPLE, len(images))
        some: Any = Subset(images, [k * len(images) // count for k in range(count)])  # type: ignore[arg-type]
        crops = batches(some, Centre(dataset.size), batch=32, workers=workers)
        total = sum((x.sum(0, dtype=torch.int64) for x, _ in crops), torch.zeros((), dtype=torch.int64))
    mean = (total.double() / (255 * count)).float()
    return Normalisation(mean, torch.ones(3, 1, 1))
