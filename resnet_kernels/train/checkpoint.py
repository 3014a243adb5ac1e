"""Checkpoints: the whole state of a run in one file that is either the old one or the new one, never a part.

How it is written and read safely is `archive`; it is judged as a whole before any of it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from resnet_kernels import models
from resnet_kernels.data import Normalisation
from resnet_kernels.errors import UserError

from . import archive
from .recipe import Recipe

FILE = "checkpoint.pt"
FORMAT, VERSION = "resnet_kernels.training", 1


@dataclass(frozen=True)
class Checkpoint:
    """A run between two iterations.

    Args:
        recipe: what is being trained.
        iteration: iterations completed.
        logged: iterations completed at the last row of the log.
        seconds: spent on them.
        model, optimizer, schedule, scaler: their state_dicts.
        sums: of the training errors since that row, as of `resnet_kernels.evaluate.count`.
        random: the random generators' states, one of each process.
        normalisation: what is subtracted from images.
        classes: the names of the labels.
        data_directory: where the images lay.
        machine: what the bits of a result depend on besides; a resumed run warns of a difference.
    """

    recipe: Recipe
    iteration: int
    logged: int
    seconds: float
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    scaler: dict[str, Any]
    sums: Tensor
    random: list[dict[str, Any]]
    normalisation: Normalisation
    classes: tuple[str, ...]
    data_directory: str | None
    machine: dict[str, Any]


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to the file `path`, which holds its old content until all of the new is on the disk.

    Raises:
        UserError: the disk is full, or the directory cannot be written; the old file is unchanged.
    """
    content: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    content |= {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}
    content["recipe"] = checkpoint.recipe.content()
    content["normalisation"] = checkpoint.normalisation.state()
    content["classes"] = list(checkpoint.classes)
    archive.write(path, content)


def read(path: Path | str) -> Checkpoint:
    """The checkpoint in the file `path`, or in the run's directory `path`, its tensors on the CPU.

    Raises:
        UserError: there is none, or it is truncated, damaged, or no checkpoint of this package.
    """
    path = Path(path)
    if path.is_dir():
        path = path / FILE
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}: wanted a run's directory or its {FILE}")
    content = archive.read(path)
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        raise UserError(f"{path} is no checkpoint of a training run (weights alone cannot be resumed)")
    if content.get("version") != VERSION:
        raise UserError(
            f"the checkpoint {path} is of version {content.get('version')}, this program reads {VERSION}"
        )
    missing = [name for name in Checkpoint.__dataclass_fields__ if name not in content]
    if missing:
        raise UserError(f"the checkpoint {path} is incomplete: it lacks {', '.join(missing)}")
    values = {name: content[name] for name in Checkpoint.__dataclass_fields__}
    try:
        values["recipe"] = Recipe.of(values["recipe"])
    except UserError as error:
        raise UserError(f"the recipe in the checkpoint {path} cannot be used: {error}") from error
    values["normalisation"] = Normalisation.of(values["normalisation"])
    values["classes"] = tuple(values["classes"])
    return Checkpoint(**values)


def network(path: Path | str) -> tuple[nn.Module, Checkpoint]:
    """The trained network in a checkpoint, in evaluation mode, and the checkpoint.

    Raises:
        UserError: as of `read`; or the weights are not of the network that the recipe names.
    """
    checkpoint = read(path)
    recipe = checkpoint.recipe
    model = models.create(recipe.model, num_classes=len(checkpoint.classes), **recipe.model_options)
    try:
        model.load_state_dict(checkpoint.model)
    except RuntimeError as error:
        raise UserError(f"the weights in {path} are not those of {recipe.model}: {error}") from error
    return model.eval(), checkpoint
