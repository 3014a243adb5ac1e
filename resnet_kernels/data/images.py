"""Sequences of labelled images: item i is (uint8 [3, H, W], label), before any crop or normalisation."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from resnet_kernels.errors import UserError

Item = tuple[Tensor, int]


class Images(Protocol):
    """What `load` finds: a length, and items (uint8 [3, H, W], label)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Item: ...


class TensorImages:
    """Images of one size, held in memory.

    Args:
        pixels: uint8 [N, 3, H, W].
        labels: int64 [N].
    """

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        if pixels.dtype != torch.uint8 or pixels.dim() != 4 or pixels.shape[1] != 3:
            raise ValueError(
                f"TensorImages: pixels must be uint8 [N, 3, H, W], got {pixels.dtype} {list(pixels.shape)}"
            )
        if labels.shape != pixels.shape[:1]:
            raise ValueError(f"TensorImages: {len(pixels)} images, but labels of shape {list(labels.shape)}")
        self.pixels = pixels
        self.labels = labels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Item:
        return self.pixels[index], int(self.labels[index])


class FolderImages:
    """Images in files, one folder a class; each is read when asked for.

    Args:
        root: a directory of torchvision's ImageFolder layout: root/<class>/<any name>.JPEG (or .png, ...).

    Raises:
        UserError: there is no such layout at `root`; later, an image cannot be decoded.
    """

    def __init__(self, root: Path) -> None:
        from torchvision.datasets import ImageFolder

        try:
            self._folder = ImageFolder(str(root))
        except FileNotFoundError as error:
            raise UserError(
                f"{root} is not in ImageNet's layout, <class>/<image>.JPEG, a folder of images for each "
                f"class: {error}"
            ) from error
        self.classes: tuple[str, ...] = tuple(self._folder.classes)

    def __len__(self) -> int:
        return len(self._folder)

    def __getitem__(self, index: int) -> Item:
        from torchvision.transforms.v2 import functional

        try:
            image, label = self._folder[index]
        except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises on a damaged file
            path = self._folder.samples[index][0]
            raise UserError(
                f"the image {path} cannot be read ({error}): put back a whole copy, or remove it"
            ) from error
        return functional.pil_to_tensor(image), label
