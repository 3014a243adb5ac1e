"""The state of a run, and what changes it: an iteration, a row of the log, a test, a checkpoint."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from resnet_kernels import data, evaluate, machine, models
from resnet_kernels import nn as layers
from resnet_kernels.errors import UserError

from . import checkpoint, random_state
from .checkpoint import Checkpoint
from .log import Row
from .ranks import Ranks
from .recipe import Recipe
from .schedule import Schedule
from .step import AUTOCAST, GraphedStep, Step

TEST_BATCH = 256  # images of a test that are computed at once, in each process


class Trainer:
    """A run between two iterations.

    Args:
        output: the directory of its checkpoint.
        dataset: the recipe's images, which lie in `directory`.
        workers: processes that prepare images, for each process of the run.
        model: trained in place of a new network of the recipe's.
        state: where the run goes on; None for its beginning.

    Raises:
        UserError: the recipe, the network, the images and the machine do not fit each other.
    """

    def __init__(
        self,
        recipe: Recipe,
        output: Path,
        dataset: data.DataSet,
        directory: str | None,
        ranks: Ranks,
        workers: int = 0,
        model: nn.Module | None = None,
        state: Checkpoint | None = None,
    ) -> None:
        if recipe.batch % ranks.world:
            raise UserError(f"--batch {recipe.batch} cannot be divided among {ranks.world} processes")
        self.recipe, self.output, self.ranks = recipe, output, ranks
        self.iteration = 0  # completed
        self._dataset, self._directory, self._workers = dataset, directory, workers
        random_state.seed(recipe.seed)
        self._network = (model or _network(recipe, len(dataset.classes))).to(ranks.device)
        if recipe.synchronised_batchnorm:
            layers.convert_sync_batchnorm(self._network)
        if state is not None:
            _load(self._network, state, dataset)
        self._step = _step(self._network, recipe, ranks)
        self._schedule = Schedule(recipe)
        self._sums = torch.zeros(4, dtype=torch.float64, device=ranks.device)
        self._logged = 0  # iterations completed at the last row of the log
        self._saved = 0  # iterations completed at the last checkpoint
        self._before = 0.0  # seconds spent before this process began
        random_state.seed(recipe.seed + ranks.rank)
        if state is None:
            mean = data.normalisation(dataset, workers).state() if ranks.first else None
            self._normalisation = data.Normalisation.of(ranks.from_first(mean))
        else:
            self._normalisation = state.normalisation
            self._restore(state)
        self._began = self._resumed = time.perf_counter()
        self._training_seconds, self._images = 0.0, 0  # since the last row of the log

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's shares of the batches of the iterations to come."""
        return iter(
            data.training_batches(
                self._dataset.train,
                data.training_view(self._dataset, self._normalisation),
                batch=self.recipe.batch,
                seed=self.recipe.seed,
                first=self.iteration,
                last=max(self.iteration, self.recipe.iterations),
                workers=self._workers,
                rank=self.ranks.rank,
                world=self.ranks.world,
            )
        )

    def iterate(self, images: Tensor, labels: Tensor) -> None:
        """Train on a batch."""
        self._sums += self._step(images, labels, self._schedule.learning_rate(self.iteration))
        self._images += self.recipe.batch
        self.iteration += 1

    @property
    def done(self) -> bool:
        return self.iteration >= self.recipe.iterations

    @property
    def row_due(self) -> bool:
        """Whether the log wants a row now and has none yet."""
        due = self.iteration % self.recipe.log_every == 0 or self._test_due
        return due and self.iteration > self._logged

    @property
    def checkpoint_due(self) -> bool:
        """Whether a checkpoint of these iterations is wanted and is not written yet."""
        due = self.done or self.iteration % self.recipe.checkpoint_every == 0
        return due and self.iteration > self._saved

    @property
    def _test_due(self) -> bool:
        return self.done or self.iteration % self.recipe.test_every == 0

    def row(self, stopping: Callable[[], bool]) -> Row | None:
        """Test if it is time to, and sum up the iterations since the last row.

        Args:
            stopping: asked between the batches of a test.

        Returns:
            None if `stopping` said yes before the test was over: the row stays due.

        Raises:
            UserError: the weights are no longer finite.
        """
        rate = self._schedule.learning_rate(self.iteration - 1)
        with self._pause():
            tested = self._test(stopping) if self._test_due else None
            if self._test_due and tested is None:
                return None
            trained = evaluate.Errors.of(self.ranks.summed(self._sums))
            if not math.isfinite(trained.loss):
                self._check_weights()
            row = Row(
                iteration=self.iteration,
                epoch=self.iteration * self.recipe.batch / len(self._dataset.train),
                learning_rate=rate,
                train_loss=trained.loss,
                train_error=trained.top1,
                test_loss=None if tested is None else tested.loss,
                test_error=None if tested is None else tested.top1,
                images_per_second=self._images / self._training_seconds,
                seconds=self._seconds(),
            )
            self._schedule.trained(trained.top1)
            if tested is not None:
                self._schedule.tested(tested.top1)
            self._sums.zero_()
            self._logged = self.iteration
            self._training_seconds, self._images = 0.0, 0
        return row

    def save(self) -> None:
        """Write the checkpoint; it is there when any process returns.

        Raises:
            UserError: it cannot be written, or the weights are no longer finite; the one before stays.
        """
        with self._pause():
            self._check_weights()
            states = self.ranks.gathered(random_state.capture())
            sums = self.ranks.summed(self._sums)
            if self.ranks.first:
                self.output.mkdir(parents=True, exist_ok=True)
                checkpoint.write(self.output / checkpoint.FILE, self._state(states, sums))
            self.ranks.wait()
            self._saved = self.iteration

    def _state(self, states: list[dict], sums: Tensor) -> Checkpoint:
        return Checkpoint(
            recipe=self.recipe,
            iteration=self.iteration,
            logged=self._logged,
            seconds=self._seconds(),
            model=self._network.state_dict(),
            optimizer=self._step.optimizer.state_dict(),
            schedule=self._schedule.state(),
            scaler=self._step.scaler.state_dict(),
            sums=sums,
            random=states,
            normalisation=self._normalisation,
            classes=self._dataset.classes,
            data_directory=self._directory,
            machine=machine_of(self.ranks),
        )

    def _restore(self, state: Checkpoint) -> None:
        """Everything but the weights."""
        self.iteration = self._saved = state.iteration
        self._logged, self._before = state.logged, state.seconds
        self._step.optimizer.load_state_dict(state.optimizer)
        if state.scaler:
            self._step.scaler.load_state_dict(state.scaler)
        self._schedule.restore(state.schedule)
        if self.ranks.first:  # the sums of all processes
            self._sums.copy_(state.sums)
        if len(state.random) == self.ranks.world:
            random_state.restore(state.random[self.ranks.rank])

    def _test(self, stopping: Callable[[], bool]) -> evaluate.Errors | None:
        """The errors of the whole test set, each process taking its share; None if it was broken off."""
        ranks = self.ranks
        ranks.share_buffers(self._network)
        batches = data.batches(
            self._dataset.test,
            data.test_view(self._dataset, self._normalisation),
            batch=TEST_BATCH,
            workers=self._workers,
            rank=ranks.rank,
            world=ranks.world,
        )
        counts = evaluate.counts(
            self._network,
            _until(stopping, batches),
            device=ranks.device,
            autocast=AUTOCAST[self.recipe.dtype],
        )
        counts = ranks.summed(counts)
        return None if ranks.any(stopping()) else evaluate.Errors.of(counts)

    def _check_weights(self) -> None:
        if not all(bool(weight.isfinite().all()) for weight in self._network.parameters()):
            path = self.output / checkpoint.FILE
            kept = f"; {path} holds the run before that" if path.exists() else ""
            raise UserError(
                f"the training diverged: at iteration {self.iteration} the weights are no longer finite: try "
                f"a lower --learning-rate or a warm-up{kept}"
            )

    def _seconds(self) -> float:
        return self._before + time.perf_counter() - self._began

    @contextmanager
    def _pause(self) -> Iterator[None]:
        """Work that is not training: stops the clock of the images per second."""
        if self.ranks.device.type == "cuda":
            torch.cuda.synchronize(self.ranks.device)
        self._training_seconds += time.perf_counter() - self._resumed
        yield
        self._resumed = time.perf_counter()


def machine_of(ranks: Ranks) -> dict[str, str | int]:
    """What the bits of a result depend on besides the recipe and the images."""
    on_gpu = ranks.device.type == "cuda"
    return {
        "processor": torch.cuda.get_device_name(ranks.device) if on_gpu else machine.processor(),
        "threads": torch.get_num_threads(),
        "processes": ranks.world,
        "PyTorch": torch.__version__.partition("+")[0],
        "Python": platform.python_version(),
    }


def _network(recipe: Recipe, classes: int) -> nn.Module:
    try:
        return models.create(recipe.model, num_classes=classes, **recipe.model_options)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"model_options = {recipe.model_options} do not fit {recipe.model}: {error}"
        ) from error


def _load(network: nn.Module, state: Checkpoint, dataset: data.DataSet) -> None:
    if state.classes != dataset.classes:
        raise UserError(
            f"it began with images of {len(state.classes)} classes ({', '.join(state.classes[:3])}, ...), "
            f"and these have {len(dataset.classes)} ({', '.join(dataset.classes[:3])}, ...): give it its own"
        )
    try:
        network.load_state_dict(state.model)
    except RuntimeError as error:
        raise UserError(f"the checkpoint's weights are not those of {state.recipe.model}: {error}") from error


def _step(network: nn.Module, recipe: Recipe, ranks: Ranks) -> Step:
    """What trains `network`: wrapped for several processes, compiled, replayed as a graph, as asked for."""
    if recipe.cuda_graph and ranks.world > 1:
        raise UserError("--cuda-graph is for one process: leave it out under torchrun")
    called = network
    if ranks.world > 1:
        called = DistributedDataParallel(called, [ranks.device] if ranks.device.type == "cuda" else None)
    if recipe.compile:
        called = torch.compile(called)  # type: ignore[assignment]
    kind = GraphedStep if recipe.cuda_graph else Step
    return kind(called, network, recipe, ranks.device)


def _until(stopping: Callable[[], bool], batches: Iterable) -> Iterator:
    for batch in batches:
        if stopping():
            return
        yield batch
