"""A training run: from a recipe or a checkpoint to a trained network in a directory.

    <output>/recipe.toml      what was asked for
    <output>/checkpoint.pt    the whole state, see `checkpoint`
    <output>/log.csv          see `log`, and tensorboard/

A run that is stopped, or killed at any point, and resumed ends with the same bits as one that was not: all
that an iteration depends on is in the checkpoint, or follows from the recipe and the iteration's number.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from resnet_kernels import backend, data, machine
from resnet_kernels.errors import UserError

from . import checkpoint
from .interrupt import Interrupt
from .log import Log, Row
from .ranks import Ranks, joined
from .recipe import Recipe
from .trainer import Trainer, machine_of


class Watcher(Protocol):
    """Is told in a run's first process how it goes on."""

    def began(self, recipe: Recipe, iteration: int) -> None:
        """So many iterations are completed already; the next begins."""

    def noted(self, text: str) -> None:
        """Something that the user should know."""

    def iterated(self, iteration: int) -> None:
        """So many iterations are completed."""

    def logged(self, row: Row) -> None:
        """A row was added to the log."""


@dataclass(frozen=True)
class Result:
    """Where a run stands when it returns.

    Args:
        directory: of its files.
        iteration: iterations completed.
        signal: that stopped it before its end, or 0.
        tested: the last row of the log with a test in it, if this part of the run had one.
    """

    directory: Path
    iteration: int
    signal: int
    tested: Row | None


def run(
    recipe: Recipe,
    output: Path | str,
    directory: Path | str | None = None,
    *,
    download: bool = False,
    workers: int | None = None,
    device: str | None = None,
    model: nn.Module | None = None,
    tensorboard: bool = True,
    watcher: Watcher | None = None,
) -> Result:
    """Train from the beginning.

    Args:
        output: a directory for the run's files; made if it is not there.
        directory: where the recipe's images lie (`resnet_kernels.data.load`).
        download: fetch them if they are missing and can be fetched.
        workers: processes that prepare images, for each process of the run; None: up to 8 beside a GPU, and
            none on a CPU, where the network needs the cores.
        device: "cpu" or "cuda"; None for a GPU if there is one.
        model: trained in place of a new network of the recipe's.
        tensorboard: write its log too, if it is installed.
        watcher: is told how the run goes on.

    Raises:
        UserError: something is missing or does not fit; `output` holds a run already; the weights diverged.
    """
    output = Path(output)
    with joined(device) as ranks, _settings(recipe, ranks):
        if ranks.from_first((output / checkpoint.FILE).exists()):
            raise UserError(
                f"{output} holds a run already: go on with it by --resume {output}, or choose another "
                "--output"
            )
        dataset = _dataset(recipe, directory, download, ranks)
        where = None if directory is None else str(directory)
        trainer = Trainer(recipe, output, dataset, where, ranks, ranks.workers(workers), model)
        if ranks.first:
            _prepare(output, recipe)
        return _loop(trainer, tensorboard, watcher)


def resume(
    path: Path | str,
    *,
    iterations: int | None = None,
    directory: Path | str | None = None,
    workers: int | None = None,
    device: str | None = None,
    model: nn.Module | None = None,
    tensorboard: bool = True,
    watcher: Watcher | None = None,
) -> Result:
    """Go on from the checkpoint in a run's directory (or file), and write into that directory.

    Args:
        iterations: in all; None for the recipe's.
        directory: where the images lie now; None for where they lay.

    Others, and what is raised: as of `run`.
    """
    path = Path(path)
    output = path if path.is_dir() else path.parent
    with joined(device) as ranks, ExitStack() as stack:
        # Read once: the other processes may run on machines without the file.
        state = ranks.from_first(checkpoint.read(path) if ranks.first else None)
        recipe = state.recipe if iterations is None else state.recipe.replaced(iterations=iterations)
        where = state.data_directory if directory is None else str(directory)
        stack.enter_context(_settings(recipe, ranks))
        dataset = _dataset(recipe, where, False, ranks)
        trainer = Trainer(recipe, output, dataset, where, ranks, ranks.workers(workers), model, state)
        here = machine_of(ranks)
        differing = [
            f"{key} was {then}, is {here.get(key)}"
            for key, then in state.machine.items()
            if then != here.get(key)
        ]
        if differing and watcher is not None and ranks.first:
            watcher.noted("not bit for bit the run that was stopped: " + "; ".join(differing))
        return _loop(trainer, tensorboard, watcher)


def _loop(trainer: Trainer, tensorboard: bool, watcher: Watcher | None) -> Result:
    """Train to the recipe's last iteration, or until a signal asks to stop."""
    ranks, tested = trainer.ranks, None
    watcher = watcher if ranks.first else None
    with ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt())
        log = Log(trainer.output, trainer.iteration, tensorboard) if ranks.first else None
        if log is not None:
            stack.callback(log.close)
        if watcher is not None:
            watcher.began(trainer.recipe, trainer.iteration)
        batches = trainer.batches()
        while True:
            row = trainer.row(lambda: bool(interrupt.signal)) if trainer.row_due else None
            if row is not None:
                tested = row if row.test_error is not None else tested
                if log is not None:
                    log.write(row)
                if watcher is not None:
                    watcher.logged(row)
            stopping = ranks.any(bool(interrupt.signal))
            if stopping or trainer.checkpoint_due:
                trainer.save()
            if trainer.done and not trainer.row_due:
                return Result(trainer.output, trainer.iteration, 0, tested)
            if stopping:
                return Result(trainer.output, trainer.iteration, interrupt.signal, tested)
            trainer.iterate(*next(batches))
            if watcher is not None:
                watcher.iterated(trainer.iteration)


def _dataset(recipe: Recipe, directory: Path | str | None, download: bool, ranks: Ranks) -> data.DataSet:
    """The recipe's images; one process of each machine fetches what is missing, while the others wait."""
    if download and ranks.world > 1:
        if ranks.local == 0:
            data.load(recipe.data, directory, download=True)
        ranks.wait()
    return data.load(recipe.data, directory, size=recipe.size, download=download)


def _prepare(output: Path, recipe: Recipe) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "recipe.toml").write_text(recipe.text())
    except OSError as error:
        raise UserError(f"--output {output} cannot be written: {error}") from error


@contextmanager
def _settings(recipe: Recipe, ranks: Ranks) -> Iterator[None]:
    """The recipe's backend, and cuDNN's algorithms that give the same bits each time."""
    if recipe.backend != "auto":
        machine.choose(recipe.backend)  # raises where it cannot run
    if recipe.backend == "cuda" and ranks.device.type != "cuda":
        raise UserError("the backend 'cuda' computes on a GPU: leave out --device cpu")
    if recipe.backend == "simulator" and ranks.device.type != "cpu":
        raise UserError("the backend 'simulator' computes on the CPU: add --device cpu")
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        with backend(recipe.backend):
            yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before
