"""Pictures with their detections drawn in: a grid of images, one colour a class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .pictures import Detections, Picture

COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#808000", "#000075")


def draw(
    pictures: Sequence[Picture],
    found: Sequence[Detections],
    classes: Sequence[str],
    file: Path,
    threshold: float = 0.5,
    title: str = "",
) -> None:
    """Write `file` (.png): detections of a score of at least `threshold` as solid boxes with class and score.

    What is really there, if the pictures say, is drawn in dashes.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Rectangle

    def outline(axis: Any, box: np.ndarray, colour: str, width: float, style: str = "-") -> None:
        x0, y0, x1, y1 = box.tolist()
        sides = {"width": x1 - x0, "height": y1 - y0}
        axis.add_patch(Rectangle((x0, y0), **sides, fill=False, edgecolor=colour, lw=width, ls=style))

    columns = min(4, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.6 * columns, 2.7 * rows + 0.5), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, picture, each in zip(axes.flat, pictures, found, strict=False):
        axis.imshow(picture.image().permute(1, 2, 0).numpy())
        for box in picture.boxes:
            outline(axis, box, "white", 2.5)
            outline(axis, box, "black", 1, "--")
        for box, label, score in zip(each.boxes, each.labels, each.scores, strict=True):
            if score < threshold:
                continue
            colour = COLOURS[(label - 1) % len(COLOURS)]
            outline(axis, box, colour, 1.6)
            corner = np.clip(box[:2], 0, None)
            style = {"facecolor": colour, "edgecolor": "none", "pad": 1}
            text = f"{classes[label - 1]} {score:.2f}"
            axis.text(*corner, text, color="white", fontsize=7, va="top", bbox=style)
    if title:
        figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(file, dpi=100)
    plt.close(figure)
