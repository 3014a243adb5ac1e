"""The layout of COCO: one JSON file of annotations a split, the images in a directory of the split's name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resnet_kernels.errors import UserError

from .pictures import Folder, folder, picture

LAYOUT = "COCO: {directory}/annotations/instances_{split}.json with the images in {directory}/{split}/"


def read(directory: Path, split: str, classes: Sequence[str] | None = None) -> Folder:
    """The split as a `Folder`; classes in the order of their numbers, or in the one that is given.

    Raises:
        UserError: a file is missing or damaged, or has other classes than those given.
    """
    file = directory / "annotations" / f"instances_{split}.json"
    if not file.is_file():
        there = sorted(path.stem.removeprefix("instances_") for path in file.parent.glob("instances_*.json"))
        found = (
            f"the splits there are: {', '.join(there)}" if there else "there is no instances_*.json at all"
        )
        raise UserError(f"no split {split!r}: {file} is missing; {found}")
    try:
        content = json.loads(file.read_bytes())
        names = {category["id"]: str(category["name"]) for category in content["categories"]}
        objects: dict[int, list] = {image["id"]: [] for image in content["images"]}
        order = tuple(names[key] for key in sorted(names)) if classes is None else tuple(classes)
        unknown = sorted(set(names.values()) - set(order))
        if unknown:
            raise UserError(f"{file} has classes that the detector does not know: {', '.join(unknown)}")
        for annotation in content["annotations"]:
            label = order.index(names[annotation["category_id"]]) + 1
            objects[annotation["image_id"]].append(_object(annotation, label))
        images = directory / split
        pictures = [picture(images / image["file_name"], objects[image["id"]]) for image in content["images"]]
    except (ValueError, KeyError, TypeError) as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{file} is not in COCO's format: {reason}") from error
    return folder("COCO", order, pictures)


def _object(annotation: dict[str, Any], label: int) -> tuple[list[float], int, bool, float]:
    """(box, label, ignored, area) of one annotation, whose bbox is x, y, width, height."""
    x, y, width, height = map(float, annotation["bbox"])
    area = float(annotation.get("area", width * height))
    return [x, y, x + width, y + height], label, bool(annotation.get("iscrowd", 0)), area
