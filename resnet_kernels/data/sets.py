"""The sets of images by name: where they lie, how they divide into training and test, how large they are.

| name      | training | test   | from                                                                       |
|-----------|----------|--------|----------------------------------------------------------------------------|
| imagenet  | any      | any    | DIR/train/<class>/*.JPEG, DIR/val/<class>/*.JPEG                           |
| cifar10   | 50,000   | 10,000 | DIR/cifar-10-batches-py/{data_batch_1..5,test_batch}, torchvision's format |
| digits    | 1,442    | 355    | scikit-learn's own copy: nothing to download                               |
| synthetic | 2,048    | 512    | drawn: a colour pattern for each of ten classes, under noise               |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from resnet_kernels.errors import UserError

from .images import FolderImages, Images, TensorImages
from .views import CROP


@dataclass(frozen=True)
class DataSet:
    """Images to train on and to test on.

    Args:
        name: the name `load` knows it by.
        train, test: the images, before any crop or normalisation.
        classes: the name of each label.
        size: pixels a side of the square that the network sees.
    """

    name: str
    train: Images
    test: Images
    classes: tuple[str, ...]
    size: int


def load(
    name: str, directory: Path | str | None = None, *, size: int | None = None, download: bool = False
) -> DataSet:
    """The set called `name`, found in `directory`.

    Args:
        name: one of `NAMES`.
        directory: where imagenet and cifar10 lie; digits and synthetic need none.
        size: pixels a side of what the network sees; by default the set's own.
        download: fetch cifar10 into `directory` if it is not there.

    Raises:
        UserError: there is no such set, or it is missing or damaged; the text says which layout is wanted and
            where it was looked for.
        ValueError: `size` is not positive.
    """
    if name not in _LOADERS:
        raise UserError(f"there is no data set {name!r}: choose one of {', '.join(NAMES)}")
    if size is not None and size < 1:
        raise ValueError(f"load: size must be positive, got {size}")
    return _LOADERS[name](None if directory is None else Path(directory), size, download)


def _digits(directory: Path | None, size: int | None, download: bool) -> DataSet:
    """scikit-learn's 1,797 digits of 8 x 8 pixels, the same grey in three channels.

    Every fifth image of each class, in the order of the file, is for testing.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = torch.from_numpy(bunch.images * (255 / 16)).round().to(torch.uint8)  # 0 .. 16 in the file
    labels = torch.from_numpy(bunch.target).long()
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    for digit in range(10):
        held_out[(labels == digit).nonzero().flatten()[4::5]] = True
    pixels = _resized(grey[:, None].expand(-1, 3, -1, -1).contiguous(), size)
    train, test = ((pixels[part], labels[part]) for part in (~held_out, held_out))
    return _in_memory("digits", train, test, tuple(str(digit) for digit in range(10)))


def _synthetic(directory: Path | None, size: int | None, download: bool) -> DataSet:
    """Ten random patterns of 4 x 4 colours, enlarged, under noise that is uniform over half the range."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randint(0, 128, (10, 3, 4, 4), generator=generator, dtype=torch.uint8)

    def draw(count: int) -> tuple[Tensor, Tensor]:
        labels = torch.randint(0, 10, (count,), generator=generator)
        small = torch.randint(0, 128, (count, 3, side, side), generator=generator, dtype=torch.uint8)
        return small + enlarged[labels], labels

    side = 32 if size is None else size
    enlarged = _resized(patterns, side)
    return _in_memory("synthetic", draw(2048), draw(512), tuple(f"pattern {k}" for k in range(10)))


def _cifar10(directory: Path | None, size: int | None, download: bool) -> DataSet:
    from torchvision.datasets import CIFAR10

    root = _wanted(directory, "cifar10", "the folder that holds, or will hold, cifar-10-batches-py")
    folder = CIFAR10.base_folder
    if root.name == folder:
        root = root.parent
    layout = f"torchvision's {folder}/ with data_batch_1 .. data_batch_5, test_batch and batches.meta"
    missing = [
        file for file, _ in (*CIFAR10.train_list, *CIFAR10.test_list) if not (root / folder / file).exists()
    ]
    if missing and not download:
        raise UserError(
            f"no CIFAR-10 in {root}: wanted {layout}, and {root / folder / missing[0]} does not exist "
            "(--download fetches it there)"
        )
    try:
        parts = [CIFAR10(str(root), train=train, download=download) for train in (True, False)]
    except RuntimeError as error:  # torchvision compares checksums
        raise UserError(
            f"CIFAR-10 in {root / folder} is damaged: wanted {layout}, and their checksums differ from the "
            "published ones: remove the folder and fetch it again with --download"
        ) from error
    except OSError as error:
        raise UserError(f"CIFAR-10 could not be fetched into {root}: {error}") from error
    images = [torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous() for part in parts]
    train, test = (
        (_resized(pixels, size), torch.tensor(part.targets))
        for pixels, part in zip(images, parts, strict=True)
    )
    return _in_memory("cifar10", train, test, tuple(parts[0].classes))


def _imagenet(directory: Path | None, size: int | None, download: bool) -> DataSet:
    root = _wanted(directory, "imagenet", "the folder that holds train/<class>/*.JPEG and val/<class>/*.JPEG")
    for part in ("train", "val"):
        if not (root / part).is_dir():
            raise UserError(
                f"no ImageNet in {root}: wanted train/<class>/*.JPEG and val/<class>/*.JPEG, and "
                f"{root / part} is not a directory"
            )
    train, test = FolderImages(root / "train"), FolderImages(root / "val")
    if train.classes != test.classes:
        differing = sorted(set(train.classes) ^ set(test.classes))
        raise UserError(
            f"{root / 'train'} and {root / 'val'} must hold the same classes; {len(differing)} are in one "
            f"alone: {', '.join(differing[:5])}"
        )
    return DataSet("imagenet", train, test, train.classes, CROP if size is None else size)


def _wanted(directory: Path | None, name: str, what: str) -> Path:
    if directory is None:
        raise UserError(f"{name} needs --data DIR: {what}")
    return directory.expanduser()


def _resized(pixels: Tensor, size: int | None) -> Tensor:
    """uint8 [N, 3, H, W] -> [N, 3, size, size]."""
    from torchvision.transforms.v2 import functional

    if size is None or pixels.shape[-2:] == (size, size):
        return pixels
    return functional.resize(pixels, [size, size], antialias=True)


def _in_memory(
    name: str, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], classes: tuple[str, ...]
) -> DataSet:
    return DataSet(name, TensorImages(*train), TensorImages(*test), classes, train[0].shape[-1])


_LOADERS: dict[str, Callable[[Path | None, int | None, bool], DataSet]] = {
    "imagenet": _imagenet,
    "cifar10": _cifar10,
    "digits": _digits,
    "synthetic": _synthetic,
}
NAMES = tuple(_LOADERS)
