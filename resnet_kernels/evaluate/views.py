"""The views of one image that a network scores, and whose scores are averaged.

    name         views of an image                                                            scored at
    single       the image as it is (CIFAR and digits, section 4.2)                           1 size
    center       the centre 224 x 224 of the image whose shorter side is 256                  1 size
    ten          the four corners and the centre of that image, and their mirror images       1 size
    multiscale   the whole image, its shorter side in {224, 256, 384, 480, 640}, and each     5 sizes
                 one's mirror image (section 3.4, "fully-convolutional form")

"ten" is the 10-crop testing of Krizhevsky et al. 2012 that the paper uses to compare networks (tables 2 and
3); "multiscale" gives its best results (tables 4 and 5).  A network that ends in global average pooling is
fully convolutional as it stands: the classifier is linear, so pooling the features over the whole image and
classifying once is the mean over positions of a dense map of scores.  The mirror images in "multiscale" are
those of Simonyan and Zisserman 2014, section 3.2, whom the paper follows there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

CROP, SIDE = 224, 256
SIDES = (224, 256, 384, 480, 640)  # section 3.4
KINDS = ("single", "center", "ten", "multiscale")

Image = Any  # PIL's, or a tensor [..., H, W]: what torchvision's v2 transforms take


@dataclass(frozen=True)
class Views:
    """image -> its views, a list of images; `kind` is one of `KINDS`.

    Args:
        crop: pixels a side of a crop ("center", "ten").
        side: the shorter side of the image that crops are cut from.
        sides: the shorter sides of the whole images ("multiscale").

    Raises:
        ValueError: no such kind, or sizes that do not fit together.
    """

    kind: str
    crop: int = CROP
    side: int = SIDE
    sides: Sequence[int] = SIDES

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"Views: kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if not 1 <= self.crop <= self.side:
            raise ValueError(f"Views: crop must be in 1 .. side, got crop={self.crop} and side={self.side}")
        if not self.sides or min(self.sides) < 1:
            raise ValueError(f"Views: sides must be positive, got {list(self.sides)}")

    def __call__(self, image: Image) -> list[Image]:
        return _MAKERS[self.kind](self, image)

    @property
    def count(self) -> int:
        """Views of an image."""
        return {"single": 1, "center": 1, "ten": 10, "multiscale": 2 * len(self.sides)}[self.kind]

    @property
    def description(self) -> str:
        """What a table says of the views."""
        sides = ", ".join(map(str, self.sides))
        return {
            "single": "single view",
            "center": f"centre crop {self.crop} of shorter side {self.side}",
            "ten": f"10-crop {self.crop} of shorter side {self.side}",
            "multiscale": f"whole images and their mirror images at shorter sides {{{sides}}}",
        }[self.kind]


def _single(views: Views, image: Image) -> list[Image]:
    return [image]


def _center(views: Views, image: Image) -> list[Image]:
    from torchvision.transforms.v2 import functional

    return [functional.center_crop(_shorter_side(image, views.side), [views.crop, views.crop])]


def _ten(views: Views, image: Image) -> list[Image]:
    from torchvision.transforms.v2 import functional

    return list(functional.ten_crop(_shorter_side(image, views.side), [views.crop, views.crop]))


def _multiscale(views: Views, image: Image) -> list[Image]:
    from torchvision.transforms.v2 import functional

    found = []
    for side in views.sides:
        resized = _shorter_side(image, side)
        found += [resized, functional.horizontal_flip(resized)]
    return found


_MAKERS: dict[str, Callable[[Views, Image], list[Image]]] = {
    "single": _single,
    "center": _center,
    "ten": _ten,
    "multiscale": _multiscale,
}


def _shorter_side(image: Image, side: int) -> Image:
    """The image resized (bilinear, antialiased) to this shorter side, its aspect ratio kept."""
    from torchvision.transforms.v2 import functional

    return functional.resize(image, [side], antialias=True)
