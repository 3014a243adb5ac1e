"""Object detection data sets in the layouts of COCO and of PASCAL VOC.

    COCO    DIR/annotations/instances_<split>.json   and the images in DIR/<split>/
    VOC     DIR/ImageSets/Main/<split>.txt, DIR/Annotations/<id>.xml, DIR/JPEGImages/<id>.jpg

Boxes become (x0, y0, x1, y1) in pixels, 0 at the image's left and upper edge, x1 - x0 the width.  Crowds and
objects marked difficult are kept as `ignored`: not trained on, and neither right nor wrong in evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from resnet_kernels.errors import UserError

from . import coco, voc
from .pictures import Folder


def read(directories: Sequence[Path], split: str, classes: Sequence[str] | None = None) -> Folder:
    """The split `split` of one directory, or of several put together ("07+12").

    Args:
        directories: each in one of the two layouts.
        split: "train2017", "trainval", ...: as the files are called.
        classes: the order of the classes; None: of one directory its own order (see `coco` and `voc`), of
            several that do not agree all their classes by the alphabet.

    Raises:
        UserError: a directory, a file or an entry of it is missing or wrong, with what was expected.
    """
    if not directories:
        raise UserError("no directory of data was given")
    found = [_read(directory, split, classes) for directory in directories]
    first = found[0]
    if any(folder.classes != first.classes for folder in found):
        together = sorted({name for folder in found for name in folder.classes})
        found = [_read(directory, split, together) for directory in directories]
    pictures = tuple(picture for folder in found for picture in folder.pictures)
    return Folder(first.layout, found[0].classes, pictures)


def _read(directory: Path, split: str, classes: Sequence[str] | None) -> Folder:
    if not directory.is_dir():
        raise UserError(f"there is no directory {directory}")
    if (directory / "annotations").is_dir():
        return coco.read(directory, split, classes)
    if (directory / "ImageSets" / "Main").is_dir():
        return voc.read(directory, split, classes)
    inner = sorted(directory.glob("*/ImageSets/Main")) + sorted(directory.glob("*/*/ImageSets/Main"))
    hint = f" (did you mean {inner[0].parents[1]}?)" if inner else ""
    expected = f"{coco.LAYOUT}; or {voc.LAYOUT}".format(directory=directory, split=split)
    raise UserError(f"{directory} is in neither layout{hint}; expected {expected}")
