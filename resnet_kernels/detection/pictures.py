"""An image with its objects, a split of a data set, and what a detector finds in an image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from resnet_kernels.errors import UserError


@dataclass(frozen=True)
class Picture:
    """One image and what is in it.

    Attributes:
        file: the image.
        boxes: [n, 4] float32.
        labels: [n] int64; k is the folder's `classes[k - 1]`, 0 would be the background.
        ignored: [n] bool, a crowd or difficult.
        areas: [n] float32, pixels of the object (COCO: of its outline), for COCO's small, medium and large.
    """

    file: Path
    boxes: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray
    areas: np.ndarray

    def image(self) -> Tensor:
        """[3, H, W] float32 in [0, 1].

        Raises:
            UserError: the file is damaged or no image.
        """
        try:
            with Image.open(self.file) as file:
                pixels = np.array(file.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise UserError(f"the image {self.file} cannot be read: {error}") from error
        return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255

    def target(self) -> dict[str, Tensor]:
        """ "boxes" and "labels" of what is not ignored, as torchvision's detectors take them."""
        kept = ~self.ignored
        return {"boxes": torch.from_numpy(self.boxes[kept]), "labels": torch.from_numpy(self.labels[kept])}


@dataclass(frozen=True)
class Folder:
    """The pictures of one split, and the names of the classes 1, 2, ..."""

    layout: str
    classes: tuple[str, ...]
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Detections:
    """What a detector finds in one picture, by falling score: boxes [d, 4], scores [d], labels [d]."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def folder(layout: str, classes: tuple[str, ...], pictures: list[Picture]) -> Folder:
    """The folder, once its images are known to exist.

    Raises:
        UserError: an image is missing.
    """
    for picture in pictures:
        if not picture.file.is_file():
            raise UserError(f"the annotations name an image that is not there: {picture.file}")
    return Folder(layout, classes, tuple(pictures))


def picture(file: Path, objects: list[tuple[list[float], int, bool, float]]) -> Picture:
    """From objects as (box, label, ignored, area); boxes without width or height are left out."""
    kept = [each for each in objects if each[0][2] > each[0][0] and each[0][3] > each[0][1]]
    boxes, labels, ignored, areas = zip(*kept, strict=True) if kept else ((), (), (), ())
    return Picture(
        file=file,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array(labels, np.int64),
        ignored=np.array(ignored, bool),
        areas=np.array(areas, np.float32),
    )
