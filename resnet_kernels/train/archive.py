"""Tensors and plain values in one file that is either the old one or the new one, never a part.

A file is written to a temporary one beside its place, flushed to the disk and renamed.  It is read without
executing anything in it (``weights_only=True``): it is a zip archive whose every record has a checksum, which
torch.load itself does not compare.
"""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from resnet_kernels.errors import UserError


def write(path: Path, content: dict[str, Any]) -> None:
    """Write `content` to the file `path`, which holds its old content until all of the new is on the disk.

    Raises:
        UserError: the disk is full, or the directory cannot be written; the old file is unchanged.
    """
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


def read(path: Path) -> object:
    """What `write` wrote, its tensors on the CPU.

    Raises:
        UserError: the file is truncated, damaged, or holds something else.
    """
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
