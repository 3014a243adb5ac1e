"""Average precision worked out by hand, and beside pycocotools on random detections."""

from pathlib import Path

import numpy as np
import pytest

from resnet_kernels.detection import Detections, Folder, score
from resnet_kernels.detection.pictures import picture
from resnet_kernels.detection.voc_metric import average_precision, class_average_precision, overlaps


def scene(*objects):
    """A picture from (box, label, ignored)."""
    rows = [(list(map(float, box)), label, ignored, 100.0) for box, label, ignored in objects]
    return picture(Path("x"), rows)


def found(*entries):
    boxes, scores, labels = zip(*entries, strict=True) if entries else ((), (), ())
    return Detections(np.array(boxes, float).reshape(-1, 4), np.array(scores), np.array(labels, int))


A, B, FAR = (0, 0, 10, 10), (20, 20, 40, 40), (80, 80, 90, 90)


def test_overlap():
    assert overlaps(
        np.array([0, 0, 10, 10.0]), np.array([[5, 0, 15, 10], [0, 0, 10, 10], [10, 10, 20, 20.0]])
    ) == (pytest.approx([1 / 3, 1, 0]))


def test_areas_under_curves():
    recall, precision = np.array([0.5, 0.5, 1.0]), np.array([1.0, 0.5, 2 / 3])
    assert average_precision(recall, precision) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert average_precision(recall, precision, True) == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert (
        average_precision(np.array([]), np.array([]))
        == 0
        == average_precision(np.array([]), np.array([]), True)
    )


def test_right_wrong_double_and_difficult():
    pictures = [scene((A, 1, False), (B, 1, True)), scene((A, 1, False))]
    detections = [
        found((A, 0.9, 1), (A, 0.8, 1), (B, 0.7, 1), (FAR, 0.6, 2)),  # right, double, difficult, another
        found((A, 0.5, 1)),  # right
    ]
    # In order: right, wrong, (not counted), right: recall 1/2, 1/2, 1, precision 1, 1/2, 2/3.
    assert class_average_precision(pictures, detections, 1) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert class_average_precision(pictures, detections, 2) is None
    assert class_average_precision(pictures, [found(), found()], 1) == 0


def test_perfect_and_shifted_detections():
    folder = Folder("VOC", ("a", "b"), (scene((A, 1, False), (B, 2, False)), scene((FAR, 2, False)), scene()))
    perfect = [
        found(*((box, 0.9, label) for box, label in zip(each.boxes, each.labels, strict=True)))
        for each in folder.pictures
    ]
    scores = score(folder, perfect)
    assert scores.ap == scores.ap50 == scores.voc == scores.voc07 == pytest.approx(1)
    assert scores.small == pytest.approx(1) and scores.medium is None and scores.large is None
    assert scores.by_class == {"a": 1.0, "b": 1.0}
    # Overlap 10 * 8 / (10 * 12) = 2/3: right at 0.5, 0.55, 0.6 and 0.65.
    shifted = [
        Detections(
            each.boxes + np.array([0, 1, 0, 1]) * (each.boxes[:, 3:] - each.boxes[:, 1:2]) / 5,
            each.scores,
            each.labels,
        )
        for each in perfect
    ]
    scores = score(folder, shifted)
    assert scores.voc == scores.ap50 == pytest.approx(1)
    assert scores.ap75 == 0 and scores.ap == pytest.approx(0.4)


def test_nothing_found_and_nothing_there():
    folder = Folder("VOC", ("a",), (scene((A, 1, False)),))
    scores = score(folder, [found()])
    assert scores.ap == scores.voc == 0 and scores.large is None
    assert score(Folder("VOC", ("a",), (scene(),)), [found((A, 0.9, 1))]).voc is None


@pytest.mark.parametrize("seed", range(5))
def test_beside_pycocotools_on_random_detections(seed):
    """At 0.5 both definitions differ in the points of the curve alone (101 against all of it)."""
    random = np.random.default_rng(seed)
    pictures, detections = [], []
    for _ in range(40):
        boxes = random.integers(0, 100, (random.integers(1, 6), 2))
        boxes = np.concatenate([boxes, boxes + random.integers(10, 60, boxes.shape)], 1)
        labels = random.integers(1, 3, len(boxes))
        pictures.append(scene(*((box, label, False) for box, label in zip(boxes, labels, strict=True))))
        moved = boxes + random.normal(0, 4, boxes.shape)
        extra = [(FAR, random.random(), 1)] * (random.random() < 0.5)
        rows = zip(moved, random.random(len(moved)), random.integers(1, 3, len(boxes)), strict=True)
        detections.append(found(*rows, *extra))
    scores = score(Folder("VOC", ("a", "b"), tuple(pictures)), detections)
    assert 0.1 < scores.voc < 0.9
    assert scores.voc == pytest.approx(scores.ap50, abs=0.03)
