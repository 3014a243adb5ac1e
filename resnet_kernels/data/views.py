"""What the network sees of an image: the paper's augmentation in training, one fixed view in a test.

| set                 | in training                                                            | section |
|---------------------|------------------------------------------------------------------------|---------|
| imagenet            | shorter side in [256, 480], crop 224, flip, colour, mean subtracted    | 3.4     |
| cifar10, synthetic  | 4 pixels of padding a side, crop 32, flip, mean subtracted             | 4.2     |
| digits              | 1 pixel of padding in 8 a side, crop, mean subtracted; never flipped   |         |

Random numbers come from torch's global generator, as in all of torchvision's transforms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

if TYPE_CHECKING:
    from .normalisation import Normalisation
    from .sets import DataSet

View = Callable[[Tensor], Tensor]

CROP = 224
SHORTER_SIDE = (256, 480)  # in training, for a crop of 224 (section 3.4)
TEST_SHORTER_SIDE = 256


class PCAColour(nn.Module):
    """Shift all pixels by one random step along the principal components of ImageNet's colours.

    Image [3, H, W] in [0, 1] -> image + components (eigenvalues * a), a ~ normal(0, 0.1) in each of the three
    directions (Krizhevsky et al. 2012, section 4.1, which section 3.4 cites).  The components are those
    published with fb.resnet.torch (Gross and Wilber 2016), from a random subset of the training images.
    """

    EIGENVALUES = (0.2175, 0.0188, 0.0045)
    COMPONENTS = (  # a row a colour, a column a component
        (-0.5675, 0.7192, 0.4009),
        (-0.5808, -0.0045, -0.8140),
        (-0.5836, -0.6948, 0.4203),
    )

    def __init__(self, std: float = 0.1) -> None:
        super().__init__()
        self._scaled = torch.tensor(self.COMPONENTS) * torch.tensor(self.EIGENVALUES) * std

    def forward(self, image: Tensor) -> Tensor:
        return image + (self._scaled @ torch.randn(3)).view(3, 1, 1)


def training_view(dataset: DataSet, norm: Normalisation) -> View:
    """uint8 [3, H, W] -> float32 [3, size, size], at random; see the table above."""
    size = dataset.size
    if dataset.name == "imagenet":
        least, most = (_scaled(side, size) for side in SHORTER_SIDE)
        return v2.Compose(
            [
                v2.RandomShortestSize(list(range(least, most + 1)), antialias=True),
                v2.RandomCrop(size),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
                PCAColour(),
                norm,
            ]
        )
    if dataset.name == "digits":  # a mirrored digit is no digit
        return v2.Compose([v2.RandomCrop(size, padding=max(1, size // 8)), norm])
    return v2.Compose([v2.RandomCrop(size, padding=max(1, size // 8)), v2.RandomHorizontalFlip(), norm])


def test_view(dataset: DataSet, norm: Normalisation) -> View:
    """uint8 [3, H, W] -> float32 [3, size, size]: ImageNet's centre crop, other sets' whole image."""
    return v2.Compose([Centre(dataset.size), norm])


test_view.__test__ = False  # type: ignore[attr-defined]  # no test, in spite of its name


class Centre(nn.Module):
    """`centre` as a transform that can be sent to another process."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def forward(self, image: Tensor) -> Tensor:
        return centre(image, self._size)


def centre(image: Tensor, size: int) -> Tensor:
    """[3, H, W] -> [3, size, size]: the shorter side resized to 256/224 of size, and the centre cut out.

    An image that is size x size already is left whole.
    """
    if image.shape[-2:] == (size, size):
        return image
    resized = v2.functional.resize(image, [_scaled(TEST_SHORTER_SIDE, size)], antialias=True)
    return v2.functional.center_crop(resized, [size, size])


def _scaled(side: int, size: int) -> int:
    """A shorter side that the paper gives for crops of 224, for crops of `size`."""
    return round(side * size / CROP)
