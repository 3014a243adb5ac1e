"""The log of a run: one row a few iterations, as CSV and for TensorBoard."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = "log.csv"


@dataclass(frozen=True)
class Row:
    """What a run says of itself after `iteration` iterations.

    Args:
        epoch: passes over the training images, a fraction.
        learning_rate: of the last iteration.
        train_loss, train_error: means over the images since the row before, as they were augmented.
        test_loss, test_error: of the whole test set; None in rows without a test.
        images_per_second: trained on since the row before, tests and checkpoints not counted.
        seconds: since the run began, pauses not counted.
    """

    iteration: int
    epoch: float
    learning_rate: float
    train_loss: float
    train_error: float
    test_loss: float | None
    test_error: float | None
    images_per_second: float
    seconds: float


COLUMNS = tuple(field.name for field in dataclasses.fields(Row))


class Log:
    """Appends rows to `directory`/log.csv and, where it is installed and wanted, tensorboard/.

    Args:
        after: iterations completed when the run goes on: later rows in the file, which a run that was killed
            wrote after its last checkpoint, are removed.
    """

    def __init__(self, directory: Path, after: int, tensorboard: bool) -> None:
        self._path = directory / FILE
        kept = _rows(self._path, after) if after else []
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([COLUMNS, *kept])
        partial = self._path.with_name(FILE + ".partial")
        partial.write_text(text.getvalue())
        os.replace(partial, self._path)
        self._file = self._path.open("a", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._board = _board(directory / "tensorboard", after) if tensorboard else None

    def write(self, row: Row) -> None:
        """Append a row; it is in the file when this returns."""
        self._writer.writerow(["" if value is None else _short(value) for value in dataclasses.astuple(row)])
        self._file.flush()
        if self._board is None:
            return
        for name in COLUMNS[1:]:
            if getattr(row, name) is not None:
                self._board.add_scalar(name.replace("_", "/", 1), getattr(row, name), row.iteration)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def _short(value: float) -> str:
    """Six significant digits; integers whole."""
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def _rows(path: Path, until: int) -> list[list[str]]:
    """The whole rows of the first `until` iterations in an earlier file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = [row for row in csv.reader(file) if len(row) == len(COLUMNS) and row[0].isdigit()]
    return [row for row in rows if int(row[0]) <= until]


def _board(directory: Path, after: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(directory), purge_step=after + 1)
