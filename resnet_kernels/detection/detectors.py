"""Detectors that can be named, saved and loaded: what a network is made of, in one value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from resnet_kernels import models
from resnet_kernels.errors import UserError
from resnet_kernels.models import ResNet
from resnet_kernels.train import archive

from . import pretraining
from .network import Detector, faster_rcnn
from .pictures import Folder

FORMAT, VERSION = "resnet_kernels.detection", 1


@dataclass(frozen=True)
class Settings:
    """What a detector is made of; see `faster_rcnn`.

    Attributes:
        network: a residual network's name, as `rk.models.create` takes it.
        classes: the kinds of object, without the background.
    """

    network: str
    classes: tuple[str, ...]
    anchor_sizes: tuple[int, ...] = (64, 128, 256, 512)
    min_size: int = 600
    max_size: int = 1000
    roi_size: int = 14
    pooling: str = "max"
    regions: int = 128
    dtype: str = "float32"

    def build(self, network: ResNet | None = None) -> Detector:
        """A detector on `network`, or on a new one of random weights.

        Raises:
            UserError: a setting is wrong.
        """
        options = asdict(self)
        name, classes = options.pop("network"), options.pop("classes")
        try:
            return faster_rcnn(network or residual_network(name), len(classes), **options)
        except (ValueError, TypeError) as error:
            raise UserError(str(error).removeprefix("faster_rcnn: ")) from error


def residual_network(name: str, num_classes: int = 1000) -> ResNet:
    """The residual network for ImageNet called `name`.

    Raises:
        UserError: there is none of that name.
    """
    known = [each for each in models.names() if each.startswith("resnet")]
    if name not in known:
        raise UserError(f"no residual network {name!r} to detect with: choose one of {', '.join(known)}")
    network = models.create(name, num_classes=num_classes)
    assert isinstance(network, ResNet)
    return network


def start(
    settings: Settings,
    folder: Folder,
    weights: Path | None = None,
    pretrain: int = 0,
    device: torch.device | None = None,
    advance: Callable[[str], None] = lambda text: None,
) -> Detector:
    """A detector to train.

    Args:
        settings: what it is made of.
        folder: its training pictures.
        weights: a classifier's, of any number of classes: torchvision's .pth, safetensors, or a checkpoint of
            this package's `train`.  None: random ones, and the BatchNorms get the statistics of `folder`.
        pretrain: iterations of training on `folder`'s objects before that, see `pretraining`.
        device: where that runs; None for the CPU.
        advance: is told of each of these iterations.

    Raises:
        UserError: the weights are not the network's; a picture cannot be read.
    """
    network = residual_network(settings.network, len(settings.classes))
    if weights is not None:
        if pretrain:
            raise UserError("pre-trained weights and pre-training were asked for: choose one of them")
        try:
            models.load_weights(network, weights, classifier=False)
        except (OSError, ValueError, ImportError) as error:
            raise UserError(str(error).removeprefix("load_weights: ")) from error
    else:
        if not any((~picture.ignored).any() for picture in folder.pictures):
            raise UserError("no picture of this split has an object to train on")
        device = torch.device("cpu") if device is None else device
        if pretrain:
            pretraining.pretrain(network, folder, pretrain, device, advance)
        pretraining.measure(network, folder, settings.min_size, device)
    return settings.build(network)


def content(settings: Settings, detector: Detector) -> dict[str, Any]:
    """What a file has to hold for `load`."""
    described = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(settings).items()}
    return {"format": FORMAT, "version": VERSION, "settings": described, "model": detector.state_dict()}


def load(path: Path) -> tuple[Detector, Settings, dict[str, Any]]:
    """The detector in a checkpoint or in a run's directory, in evaluation mode, and all that the file holds.

    Raises:
        UserError: there is none, it is damaged, or no detector of this package.
    """
    path = path / "checkpoint.pt" if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}: wanted a run's directory or its checkpoint.pt")
    found = archive.read(path)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UserError(f"{path} is no checkpoint of `resnet-kernels detect train`")
    if found.get("version") != VERSION:
        raise UserError(
            f"the checkpoint {path} is of version {found.get('version')}, this program reads {VERSION}"
        )
    try:
        described: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in found["settings"].items()
        }
        settings = Settings(**described)
        detector = settings.build()
        detector.load_state_dict(found["model"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"the checkpoint {path} is incomplete or does not fit: {error}") from error
    return detector.eval(), settings, found
