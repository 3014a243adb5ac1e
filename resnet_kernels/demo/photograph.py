"""A photograph as a network's input: shorter side to 256, the central 224 x 224, ImageNet's mean and
deviation.

He et al. 2015, section 3.4 (testing, single crop). Without a file: the two photographs that scikit-learn
ships, a Chinese temple and a dahlia.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's training images, RGB in 0 .. 1
CROP_OF_RESIZED = 224 / 256
LEAST_SIZE = 32  # the last stage sees 1/32 of it


@dataclass(frozen=True)
class Photograph:
    """`crop`: the PIL image the network sees; `pixels`: the same, normalised, float32 [1, 3, size, size]."""

    name: str
    crop: Any
    pixels: torch.Tensor


def shipped() -> list[Path]:
    """Files of the photographs in the scikit-learn package (found without importing it); UserError if
    absent.
    """
    spec = importlib.util.find_spec("sklearn")
    folder = Path(spec.origin).parent / "datasets" / "images" if spec and spec.origin else Path()
    files = [folder / name for name in ("china.jpg", "flower.jpg")]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise UserError(
            f"no photograph to show: scikit-learn, which ships {' and '.join(missing)}, is not installed; "
            "install it or give one with --image FILE"
        )
    return files


def load(path: Path, size: int = 224) -> Photograph:
    """Read, resize, crop and normalise; UserError if the file is absent, unreadable or no image."""
    from PIL import Image, UnidentifiedImageError

    if size < LEAST_SIZE:
        raise UserError(f"--size must be at least {LEAST_SIZE} pixels, got {size}")
    if path.is_dir():
        raise UserError(f"cannot read the image {path}: it is a directory")
    if not path.exists():
        raise UserError(f"cannot read the image {path}: there is no such file")
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except UnidentifiedImageError as error:
        raise UserError(f"cannot read the image {path}: it is no image file that Pillow knows") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot read the image {path}: {error}") from error
    crop = _resize_and_crop(image, size)
    raw = torch.frombuffer(bytearray(crop.tobytes()), dtype=torch.uint8).view(size, size, 3)
    pixels = (raw.permute(2, 0, 1).float() / 255 - _vector(MEAN)) / _vector(STD)
    return Photograph(path.stem, crop, pixels[None].contiguous(memory_format=torch.channels_last))


def _resize_and_crop(image: Any, size: int) -> Any:
    """The central size x size of `image`, its shorter side at size * 256 / 224; rounded as by torchvision."""
    from PIL import Image

    shorter = round(size / CROP_OF_RESIZED)
    width, height = (side * shorter // min(image.size) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def _vector(values: tuple[float, float, float]) -> torch.Tensor:
    return torch.tensor(values).view(3, 1, 1)
