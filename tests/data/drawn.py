"""ImageNet's layout, drawn."""

from __future__ import annotations

from pathlib import Path

import numpy
from PIL import Image


def imagenet(root: Path) -> Path:
    """Two classes, 6 + 4 JPEG and PNG files of different shapes and modes, in `root`."""
    random = numpy.random.default_rng(0)
    for part, count in (("train", 3), ("val", 2)):
        for name in ("n01440764", "n01443537"):
            folder = root / part / name
            folder.mkdir(parents=True)
            for k in range(count):
                pixels = random.integers(0, 256, (60 + 10 * k, 90, 3), dtype=numpy.uint8)
                image = Image.fromarray(pixels)
                if k == 1:
                    image = image.convert("L")  # ImageNet has grey images too
                image.save(folder / (f"{k}.JPEG" if k < 2 else f"{k}.png"))
    return root
