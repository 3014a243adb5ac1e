"""Checkpoints: the whole state of a run in one file that is either the old one or the new one, never a part.

A checkpoint is written to a temporary file beside its place, flushed to the disk and renamed.  It is read
without executing anything in it (``weights_only=True``) and judged as a whole before any of it is used: the
file is a zip archive whose every record has a checksum, which torch.load itself does not compare.
"""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resnet_kernels import models
from resnet_kernels.data import Normalisation
from resnet_kernels.errors import UserError

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
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_directory(path.parent)
    except (OSError, RuntimeError) as error:  # RuntimeError: torch's archive writer, of a failed write
        partial.unlink(missing_ok=True)
        kept = "; the one before it is unchanged" if path.exists() else ""
        raise UserError(f"the checkpoint {path} cannot be written: {error}{kept}") from error


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
    content = _load(path)
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


def _load(path: Path) -> object:
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            raise UserError(f"the checkpoint {path} is damaged: the checksum of its record {broken} is wrong")
        return torch.load(path, map_location="cpu", weights_only=True)
    except zipfile.BadZipFile as error:
        raise UserError(f"{path} is truncated, damaged or no checkpoint ({error})") from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is no checkpoint of this package: it holds more than tensors and plain values, which is "
            "not read because it could execute code"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, NotImplementedError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is damaged or no checkpoint ({reason})") from error


def _sync_directory(directory: Path) -> None:
    """Flush the rename itself to the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
