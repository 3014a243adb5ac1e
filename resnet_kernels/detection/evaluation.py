"""Mean average precision: COCO's, by pycocotools, and PASCAL VOC's at an overlap of 0.5."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from . import voc_metric
from .network import Detector
from .pictures import Detections, Folder, Picture


@dataclass(frozen=True)
class Scores:
    """Average precisions in [0, 1]; None where there is nothing to find.

    Attributes:
        ap, ap50, ap75: COCO's mean over classes, at overlaps 0.5, 0.55, ..., 0.95, at 0.5 and at 0.75.
        small, medium, large: `ap` of objects under 32x32 pixels, under 96x96, and above.
        voc: VOC's mean over classes at 0.5, area under the curve (2010 and later).
        voc07: the same at eleven points, as for VOC 2007.
        by_class: class -> VOC's average precision.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    small: float | None
    medium: float | None
    large: float | None
    voc: float | None
    voc07: float | None
    by_class: dict[str, float | None]


@torch.no_grad()
def detect(
    detector: Detector,
    pictures: Sequence[Picture],
    device: torch.device,
    advance: Callable[[str], None] = lambda name: None,
) -> list[Detections]:
    """Run `detector` over `pictures`, one at a time; `advance` is told each one's name before it begins."""
    detector.eval()
    found = []
    for picture in pictures:
        advance(picture.file.name)
        (result,) = detector([picture.image().to(device)])
        found.append(Detections(*(result[key].cpu().numpy() for key in ("boxes", "scores", "labels"))))
    return found


def score(folder: Folder, found: Sequence[Detections]) -> Scores:
    """The average precisions of `found`, one entry for each picture of `folder`."""
    ap, ap50, ap75, small, medium, large = _coco(folder, found)
    labels = range(1, len(folder.classes) + 1)
    pictures = folder.pictures
    by_class = [voc_metric.class_average_precision(pictures, found, label) for label in labels]
    eleven = [voc_metric.class_average_precision(pictures, found, label, True) for label in labels]
    named = dict(zip(folder.classes, by_class, strict=True))
    return Scores(ap, ap50, ap75, small, medium, large, _mean(by_class), _mean(eleven), named)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _coco(folder: Folder, found: Sequence[Detections]) -> list[float | None]:
    """COCO's six averages; a difficult object of VOC counts as a crowd."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    there: list[dict[str, Any]] = []
    claimed: list[dict[str, Any]] = []
    for number, (picture, each) in enumerate(zip(folder.pictures, found, strict=True), 1):
        columns = (picture.boxes, picture.labels, picture.areas, picture.ignored)
        for box, label, area, ignored in zip(*columns, strict=True):
            there.append(_entry(number, box, label, area) | {"iscrowd": int(ignored)})
        for box, label, value in zip(each.boxes, each.labels, each.scores, strict=True):
            area = np.prod(box[2:] - box[:2])
            claimed.append(_entry(number, box, label, area) | {"iscrowd": 0, "score": float(value)})
    sets = []
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints as it goes
        for entries in (there, claimed):
            made = COCO()
            made.dataset = {
                "images": [{"id": number} for number in range(1, len(folder.pictures) + 1)],
                "categories": [{"id": label} for label in range(1, len(folder.classes) + 1)],
                "annotations": [{"id": number} | entry for number, entry in enumerate(entries, 1)],
            }
            made.createIndex()
            sets.append(made)
        evaluation = COCOeval(*sets, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) if value >= 0 else None for value in evaluation.stats[:6]]


def _entry(number: int, box: np.ndarray, label: int, area: float) -> dict[str, Any]:
    """An annotation in COCO's form; its bbox is x, y, width, height."""
    sides = [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]
    return {"image_id": number, "category_id": int(label), "bbox": sides, "area": float(area)}
