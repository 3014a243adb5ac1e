"""A small data set of drawn shapes on noise, to try detection on without downloading anything.

Discs, squares and triangles of random colour, size and place, one to three in an image and hardly
overlapping, on a noisy background.  The same seed draws the same set.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("disc", "square", "triangle")
LAYOUTS = ("coco", "voc")
Objects = list[
    tuple[tuple[int, int, int, int], str]
]  # (x0, y0, x1, y1) with x1 and y1 beyond it, and the class


def draw(random: np.random.Generator, size: int) -> tuple[Image.Image, Objects]:
    """An image of `size` x `size` pixels and what is on it."""
    noise = random.normal(random.uniform(60, 190, 3), 25, (size, size, 3))
    image = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    objects: Objects = []
    for _ in range(random.integers(1, 4)):
        side = int(random.integers(size // 5, size // 2))
        x, y = (int(random.integers(0, size - side)) for _ in range(2))
        box = (x, y, x + side, y + side)
        if any(_overlap(box, other) > 0.1 for other, _ in objects):
            continue
        name = CLASSES[random.integers(len(CLASSES))]
        colour = tuple(int(value) for value in random.integers(0, 256, 3))
        last = (x, y, x + side - 1, y + side - 1)
        if name == "disc":
            pen.ellipse(last, fill=colour)
        elif name == "square":
            pen.rectangle(last, fill=colour)
        else:
            pen.polygon([(x, y + side - 1), (x + side - 1, y + side - 1), (x + side // 2, y)], fill=colour)
        objects.append((box, name))
    return image, objects


def write(
    directory: Path,
    layout: str = "coco",
    splits: dict[str, int] | None = None,
    size: int = 128,
    seed: int = 0,
) -> None:
    """Draw a set in a new directory.

    Args:
        directory: made if it is absent.
        layout: "coco" or "voc".
        splits: name -> number of images; None: 400 in "train" and 100 in "val".
        size: pixels a side.
        seed: of everything random.

    Raises:
        ValueError: there is no such layout.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"write: layout must be one of {', '.join(map(repr, LAYOUTS))}, got {layout!r}")
    random = np.random.default_rng(seed)
    for split, count in (splits or {"train": 400, "val": 100}).items():
        drawn = (draw(random, size) for _ in range(count))
        (_write_coco if layout == "coco" else _write_voc)(directory, split, drawn, size)


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """The common part over the smaller of the two."""
    width, height = (max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    return width * height / min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))


def _write_coco(directory: Path, split: str, drawn: Iterator[tuple[Image.Image, Objects]], size: int) -> None:
    (directory / "annotations").mkdir(parents=True, exist_ok=True)
    (directory / split).mkdir(exist_ok=True)
    images, annotations = [], []  # type: list[dict], list[dict]
    for number, (image, objects) in enumerate(drawn, 1):
        name = f"{number:06d}.jpg"
        image.save(directory / split / name, quality=95)
        images.append({"id": number, "file_name": name, "width": size, "height": size})
        for (x0, y0, x1, y1), label in objects:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": CLASSES.index(label) + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (directory / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def _write_voc(directory: Path, split: str, drawn: Iterator[tuple[Image.Image, Objects]], size: int) -> None:
    for part in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (directory / part).mkdir(parents=True, exist_ok=True)
    names = []
    for number, (image, objects) in enumerate(drawn, 1):
        name = f"{split}_{number:06d}"
        names.append(name)
        image.save(directory / "JPEGImages" / f"{name}.jpg", quality=95)
        root = ElementTree.Element("annotation")
        ElementTree.SubElement(root, "filename").text = f"{name}.jpg"
        for (x0, y0, x1, y1), label in objects:
            found = ElementTree.SubElement(root, "object")
            ElementTree.SubElement(found, "name").text = label
            ElementTree.SubElement(found, "difficult").text = "0"
            box = ElementTree.SubElement(found, "bndbox")
            for side, value in (("xmin", x0 + 1), ("ymin", y0 + 1), ("xmax", x1), ("ymax", y1)):
                ElementTree.SubElement(box, side).text = str(value)
        ElementTree.ElementTree(root).write(directory / "Annotations" / f"{name}.xml")
    (directory / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
