"""Trained networks as commands are given them: a run's directory, a checkpoint, or a file of weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError


@dataclass(frozen=True)
class Trained:
    """A network in evaluation mode and the images it is to see.

    Args:
        path: as it was given.
        name: of the network, as `rk.models.create` takes it.
        dataset: a `data.DataSet`.
        normalisation: a `data.Normalisation`, the one of its training.
    """

    path: Path
    name: str
    model: Any
    dataset: Any
    normalisation: Any


class Loader:
    """Loads networks; of equal data sets each is read once.

    Args:
        model: the network's name where files hold weights alone, otherwise None.
        dataset: the data set's name in place of the one of the training; weights alone: of ImageNet.
        directory: where it lies, in place of where it lay in the training.

    Raises:
        UserError: there is no such network.
    """

    def __init__(self, model: str | None, dataset: str | None, directory: Path | None) -> None:
        from .. import models

        if model is not None and model not in models.names():
            raise UserError(f"--model {model}: wanted one of {', '.join(models.names())}")
        self._model, self._name, self._directory = model, dataset, directory
        self._loaded: dict[Any, Any] = {}

    def load(self, path: Path) -> Trained:
        """The network at `path`.

        Raises:
            UserError: there is none, it is damaged, or it does not fit the images; the images are missing.
        """
        return self._checkpoint(path) if self._model is None else self._weights(path, self._model)

    def _checkpoint(self, path: Path) -> Trained:
        from ..train import checkpoint

        try:
            model, state = checkpoint.network(path)
        except UserError as error:
            hint = "; a file of weights alone needs --model NAME" if path.is_file() else ""
            raise UserError(f"{error}{hint}") from error
        recipe = state.recipe
        where = self._directory or state.data_directory
        dataset = self._images(self._name or recipe.data, where, recipe.size)
        if dataset.classes != state.classes:
            raise UserError(
                f"{path} was trained on {len(state.classes)} classes ({state.classes[0]}, ...), "
                f"{dataset.name} has {len(dataset.classes)} ({dataset.classes[0]}, ...): give the --data it "
                "was trained on"
            )
        return Trained(path, recipe.model, model, dataset, state.normalisation)

    def _weights(self, path: Path, name: str) -> Trained:
        from .. import data, models

        dataset = self._images(self._name or "imagenet", self._directory, None)
        model = models.create(name, num_classes=len(dataset.classes))
        try:
            models.load_weights(model, path)
        except (OSError, ValueError, ImportError) as error:
            raise UserError(str(error).removeprefix("load_weights: ")) from error
        imagenet = dataset.name == "imagenet"
        norm = data.TORCHVISION if imagenet else data.normalisation(dataset)
        return Trained(path, name, model.eval(), dataset, norm)

    def _images(self, name: str, directory: Path | str | None, size: int | None) -> Any:
        from .. import data

        key = name, str(directory), size
        if key not in self._loaded:
            self._loaded[key] = data.load(name, directory, size=size)
        return self._loaded[key]


def some(images: Any, limit: int | None) -> Any:
    """`limit` of the images, evenly spaced over all; all if it is None or there are no more.

    Raises:
        UserError: `limit` is not positive.
    """
    import torch

    if limit is not None and limit < 1:
        raise UserError(f"--limit {limit}: wanted an integer of at least 1")
    if limit is None or limit >= len(images):
        return images
    return torch.utils.data.Subset(images, [k * len(images) // limit for k in range(limit)])
