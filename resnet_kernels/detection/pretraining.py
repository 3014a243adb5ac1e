"""Weights to start from without ImageNet: a classifier of the objects that the pictures themselves hold.

The paper starts from a network trained on ImageNet, and a detector whose BatchNorms are fixed learns little
without a start of that kind.  For small data of one's own the objects, cut out with a margin and brought to
one size, make a classification problem that the network learns in a minute; then the statistics are measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_kernels.data import TORCHVISION
from resnet_kernels.models import ResNet

from .network import measure_statistics
from .pictures import Folder

SIDE = 64  # pixels of an object that is cut out
MARGIN = 0.15  # of the object's size, on each side
MOST = 4096  # objects, and
MEASURED = 64  # whole pictures, evenly spaced over all: what is kept in memory
BATCH, LEARNING_RATE = 32, 0.05


def pretrain(
    network: ResNet, folder: Folder, iterations: int, device: torch.device, advance: Callable[[str], None]
) -> None:
    """Train `network`, of `folder`'s classes, on its objects; `advance` is told of every iteration.

    Raises:
        UserError: a picture cannot be read.
    """
    objects, labels = _objects(folder)
    objects, labels = objects.to(device), labels.to(device)
    descent = torch.optim.SGD(network.parameters(), LEARNING_RATE, momentum=0.9, weight_decay=5e-4)
    network.to(device).train()
    for iteration in range(iterations):
        chosen = torch.randint(len(labels), (BATCH,), device=device)
        batch = objects[chosen]
        loss = F.cross_entropy(network(batch.flip(3) if iteration % 2 else batch), labels[chosen])
        descent.zero_grad()
        loss.backward()
        descent.step()
        advance(f"loss {loss.item():.3f}")


def measure(network: ResNet, folder: Folder, size: int, device: torch.device) -> None:
    """Give `network` the BatchNorm statistics of whole pictures, their shorter sides of `size` pixels.

    Raises:
        UserError: a picture cannot be read.
    """
    measure_statistics(network.to(device), (batch.to(device) for batch in _squares(folder, size)))


def _objects(folder: Folder) -> tuple[Tensor, Tensor]:
    """[n, 3, SIDE, SIDE] and labels [n] from 0."""
    step = max(1, sum(len(picture.labels) for picture in folder.pictures) // MOST)
    cut, labels = [], []
    for picture in folder.pictures[::step]:
        image = TORCHVISION(picture.image())
        height, width = image.shape[1:]
        for (x0, y0, x1, y1), label in zip(
            picture.boxes[~picture.ignored].tolist(), picture.labels[~picture.ignored].tolist(), strict=True
        ):
            dx, dy = MARGIN * (x1 - x0), MARGIN * (y1 - y0)
            left, right = int(max(x0 - dx, 0)), int(min(x1 + dx, width)) + 1
            top, bottom = int(max(y0 - dy, 0)), int(min(y1 + dy, height)) + 1
            part = image[None, :, top:bottom, left:right]
            cut.append(F.interpolate(part, (SIDE, SIDE), mode="bilinear"))
            labels.append(label - 1)
    return torch.cat(cut), torch.tensor(labels)


def _squares(folder: Folder, size: int) -> Iterator[Tensor]:
    """The pictures' upper or left squares, [8, 3, size, size] at a time; at most 224 pixels a side."""
    step = max(1, len(folder.pictures) // MEASURED)
    squares = []
    for picture in folder.pictures[::step][:MEASURED]:
        image = TORCHVISION(picture.image())
        side = min(image.shape[1:])
        squares.append(F.interpolate(image[None, :, :side, :side], (min(size, 224),) * 2, mode="bilinear"))
    yield from torch.cat(squares).split(8)
