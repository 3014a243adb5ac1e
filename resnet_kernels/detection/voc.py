"""The layout of PASCAL VOC: a text file of image names a split, one XML file of annotations an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from resnet_kernels.errors import UserError

from .pictures import Folder, folder, picture

LAYOUT = (
    "VOC: {directory}/ImageSets/Main/{split}.txt with {directory}/Annotations/*.xml and "
    "{directory}/JPEGImages/*.jpg"
)

# fmt: off
CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on


def read(directory: Path, split: str, classes: Sequence[str] | None = None) -> Folder:
    """The split as a `Folder`; classes in the order given, or VOC's twenty, or those found by the alphabet.

    Raises:
        UserError: a file is missing or damaged, or has other classes than those given.
    """
    file = directory / "ImageSets" / "Main" / f"{split}.txt"
    if not file.is_file():
        there = sorted(path.stem for path in file.parent.glob("*.txt"))
        found = f"the splits there are: {', '.join(there)}" if there else "there is no split at all"
        raise UserError(f"no split {split!r}: {file} is missing; {found}")
    images = [line.split()[0] for line in file.read_text().splitlines() if line.strip()]
    annotations = [_annotation(directory / "Annotations" / f"{image}.xml") for image in images]
    found_names = {name for objects in annotations for name, *_ in objects}
    own = CLASSES if found_names <= set(CLASSES) else tuple(sorted(found_names))
    order = own if classes is None else tuple(classes)
    unknown = sorted(found_names - set(order))
    if unknown:
        raise UserError(f"{directory} has classes that the detector does not know: {', '.join(unknown)}")
    pictures = [
        picture(
            directory / "JPEGImages" / f"{image}.jpg",
            [(box, order.index(name) + 1, ignored, area) for name, box, ignored, area in objects],
        )
        for image, objects in zip(images, annotations, strict=True)
    ]
    return folder("VOC", order, pictures)


def _annotation(file: Path) -> list[tuple[str, list[float], bool, float]]:
    """(class, box, difficult, area) of every object.

    VOC's corners are the first and the last pixel of the object, counted from 1: the box begins one less.
    """
    try:
        root = ElementTree.parse(file).getroot()
        found = []
        for each in root.iter("object"):
            x0, y0, x1, y1 = (
                float(_text(each, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")
            )
            box = [x0 - 1, y0 - 1, x1, y1]
            area = (box[2] - box[0]) * (box[3] - box[1])
            difficult = each.findtext("difficult", "0").strip() == "1"
            found.append((_text(each, "name"), box, difficult, area))
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise UserError(f"the annotation {file} cannot be read: {error}") from error
    return found


def _text(element: ElementTree.Element, path: str) -> str:
    text = element.findtext(path)
    if text is None or not text.strip():
        raise ValueError(f"an object without {path}")
    return text.strip()
