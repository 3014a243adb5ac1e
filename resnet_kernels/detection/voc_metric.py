"""PASCAL VOC's average precision at an overlap of 0.5, from the definition in its development kit.

Detections of a class are gone through by falling score.  One that overlaps an object of its image by at least
0.5 (intersection over union), the most of all there, is right if the object was not found before, neither
right nor wrong if the object is difficult, and wrong otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .pictures import Detections, Picture

OVERLAP = 0.5


def average_precision(recall: np.ndarray, precision: np.ndarray, eleven_points: bool = False) -> float:
    """The area under a curve's upper envelope; or the mean at recalls 0, 0.1, ..., 1, as until VOC 2007.

    Args:
        recall, precision: [d] after the first, second, ... detection.
        eleven_points: VOC 2007's definition.
    """
    if eleven_points:
        at = [precision[recall >= level - 1e-12] for level in np.linspace(0, 1, 11)]
        return float(np.mean([part.max() if part.size else 0.0 for part in at]))
    recall = np.concatenate([[0.0], recall, [1.0]])
    envelope = np.maximum.accumulate(np.concatenate([precision, [0.0]])[::-1])[::-1]
    return float(np.sum(np.diff(recall) * envelope))


def overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of `box` [4] with each of `others` [n, 4] -> [n]."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
    return common / (np.prod(box[2:] - box[:2]) + areas - common)


def class_average_precision(
    pictures: Sequence[Picture],
    found: Sequence[Detections],
    label: int,
    eleven_points: bool = False,
) -> float | None:
    """The average precision of one class over all pictures; None if no picture has an object of it.

    Args:
        pictures: with the objects there are.
        found: what was detected in each of them.
        label: the class.
        eleven_points: see `average_precision`.
    """
    truths = [picture.boxes[picture.labels == label] for picture in pictures]
    ignored = [picture.ignored[picture.labels == label] for picture in pictures]
    total = sum(int((~mask).sum()) for mask in ignored)
    if total == 0:
        return None
    taken = [np.zeros(len(boxes), bool) for boxes in truths]
    entries = [
        (float(score), place, box)
        for place, each in enumerate(found)
        for box, score, kind in zip(each.boxes, each.scores, each.labels, strict=True)
        if kind == label
    ]
    entries.sort(key=lambda entry: -entry[0])
    right = []
    for _, place, box in entries:
        common = overlaps(box, truths[place])
        best = int(common.argmax()) if common.size else -1
        if best < 0 or common[best] < OVERLAP:
            right.append(False)
        elif not ignored[place][best]:
            right.append(not taken[place][best])
            taken[place][best] = True
    true = np.cumsum(np.array(right, float))
    return average_precision(true / total, true / np.arange(1, len(true) + 1), eleven_points)
