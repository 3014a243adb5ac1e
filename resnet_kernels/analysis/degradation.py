"""The degradation experiment: plain and residual networks of growing depth, trained alike (figure 6).

If depth made a plain network only harder to generalise, its training error would still fall.  The paper finds
that it rises, and that residual networks of the same depth, width and number of parameters do not show it.
The experiment trains both kinds at each depth by one recipe and measures the error on all training images,
not augmented, and on the test set.

Each run has a directory of its own, written by `train`, under the experiment's.  An experiment that was
stopped goes on where it stopped, and one of more depths or seeds makes only the runs that are missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from .. import data, evaluate, models, train
from ..errors import UserError
from ..evaluate import Errors
from ..train import checkpoint
from . import plots

FAMILIES = {"plain": "cifar_plain", "residual": "cifar_resnet"}
DATA = ("digits", "cifar10")  # sets that have a recipe of their name
WARM_UP = {("cifar10", 110): "cifar10-resnet110"}  # (data set, depth) -> the recipe of these (section 4.2)
COLOURS = {"plain": plots.PLAIN, "residual": plots.RESIDUAL}
BATCH = 500  # images in a measurement

Step = Callable[[str], None]
Begin = Callable[[str, int], Step]  # (title, steps) -> step(what is in progress)


@dataclass(frozen=True)
class Outcome:
    """One trained network: its final errors on all training images, not augmented, and on the test set."""

    family: str
    depth: int
    seed: int
    iterations: int
    train: Errors
    test: Errors

    @property
    def model(self) -> str:
        return f"{FAMILIES[self.family]}{self.depth}"


def recipe(dataset: str, family: str, depth: int, seed: int, iterations: int | None) -> train.Recipe:
    """How one network is trained: the data set's own recipe, shortened in proportion to `iterations`.

    Raises:
        UserError: the data set is none of `DATA`, or there is no network of this depth.
    """
    if dataset not in DATA:
        raise UserError(f"no degradation experiment on {dataset!r}: choose one of {', '.join(DATA)}")
    model = f"{FAMILIES[family]}{depth}"
    if model not in models.names():
        raise UserError(f"no network of {depth} layers: choose depths among {', '.join(map(str, depths()))}")
    whole = train.Recipe.load(WARM_UP.get((dataset, depth), dataset))
    total = whole.iterations if iterations is None else iterations
    steps = [max(1, step * total // whole.iterations) for step in whole.steps]
    return whole.replaced(model=model, seed=seed, iterations=total, steps=sorted(set(steps)))


def depths() -> list[int]:
    """The depths at which there are both a plain and a residual network."""
    plain, residual = (
        {plots.depth_of(name) for name in models.names() if name.startswith(prefix)}
        for prefix in FAMILIES.values()
    )
    return sorted(depth for depth in plain & residual if depth is not None)


def experiment(
    output: Path,
    *,
    depths: Sequence[int],
    seeds: Sequence[int] = (0,),
    dataset: str = "digits",
    directory: Path | None = None,
    iterations: int | None = None,
    workers: int = 0,
    begin: Begin | None = None,
) -> list[Outcome]:
    """Train every network that is missing under `output`, and measure all.

    Args:
        output: the experiment's directory; a run's is output/<network>-seed<seed>.
        directory: where the data set lies.
        iterations: of every run; None for the recipe's own number.
        workers: processes that prepare images.
        begin: hears of progress.

    Raises:
        UserError: a depth or the data set is unknown, the data are missing, or `output` holds runs of another
            recipe; KeyboardInterrupt: a run was stopped; it is resumed by the same call.
    """
    wanted = [
        (family, depth, seed, recipe(dataset, family, depth, seed, iterations))
        for seed in seeds
        for depth in depths
        for family in FAMILIES
    ]
    images = data.load(dataset, directory)
    outcomes = []
    for family, depth, seed, how in wanted:
        where = output / f"{how.model}-seed{seed}"
        _train(where, how, directory, workers, begin)
        trained, state = checkpoint.network(where)
        view = data.test_view(images, state.normalisation)
        on_train, on_test = (_errors(trained, part, view, workers) for part in (images.train, images.test))
        outcomes.append(Outcome(family, depth, seed, how.iterations, on_train, on_test))
    return outcomes


def _train(where: Path, how: train.Recipe, directory: Path | None, workers: int, begin: Begin | None) -> None:
    """Bring the run in `where` to its end, from wherever it is."""
    watcher = None if begin is None else _Watcher(begin)
    options: dict[str, Any] = {"workers": workers, "watcher": watcher, "tensorboard": False}
    if not (where / checkpoint.FILE).exists():
        result = train.run(how, where, directory, **options)
    else:
        state = checkpoint.read(where)
        if state.recipe != how:
            raise UserError(f"{where} is a run of another recipe: choose another --output, or remove it")
        if state.iteration == how.iterations:
            return
        result = train.resume(where, directory=directory, **options)
    if result.signal:
        raise KeyboardInterrupt


class _Watcher:
    """Turns what a run tells into steps of a bar."""

    def __init__(self, begin: Begin) -> None:
        self._begin, self._said = begin, ""

    def began(self, recipe: train.Recipe, iteration: int) -> None:
        title = f"{recipe.model}, seed {recipe.seed}"
        self._step = self._begin(title, recipe.iterations)
        for _ in range(iteration):
            self._step("")

    def noted(self, text: str) -> None:
        self._said = text

    def iterated(self, iteration: int) -> None:
        self._step(self._said)

    def logged(self, row: train.Row) -> None:
        self._said = f"training loss {row.train_loss:.3f}, error {100 * row.train_error:.1f} %"


def _errors(model: torch.nn.Module, images: Any, view: Any, workers: int) -> Errors:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batches = data.batches(images, view, batch=BATCH, workers=workers)
    return evaluate.errors(model.to(device), batches, device=device)


def table(outcomes: Iterable[Outcome]) -> tuple[list[str], list[list[Any]]]:
    """Head and rows of a CSV file: a row each network; errors are fractions, losses nats."""
    head = ["network", "kind", "depth", "seed", "iterations"]
    head += ["train_error", "train_loss", "test_error", "test_loss"]
    rows = [
        [o.model, o.family, o.depth, o.seed, o.iterations]
        + [f"{value:.6g}" for value in (o.train.top1, o.train.loss, o.test.top1, o.test.loss)]
        for o in outcomes
    ]
    return head, rows


def draw(outcomes: Sequence[Outcome], picture: Path, dataset: str) -> None:
    """Draw final training and test error over depth to the PNG `picture`: a dot a run, a line their means.

    Raises:
        UserError: `picture` cannot be written.
    """
    iterations = outcomes[0].iterations
    seeds = len({outcome.seed for outcome in outcomes})
    title = f"Degradation on {dataset}: {iterations:,} iterations" + (f", {seeds} seeds" if seeds > 1 else "")
    everywhere = sorted({outcome.depth for outcome in outcomes})
    top = height(outcomes)
    with plots.figure(picture, title, 10.4, 4.4, ncols=2, sharey=True) as grid:
        for axes, part, name in zip(grid[0], ("train", "test"), ("training", "test"), strict=True):
            for family in FAMILIES:
                found = [(o.depth, getattr(o, part).top1) for o in outcomes if o.family == family]
                at = sorted({depth for depth, _ in found})
                means = [mean(error for depth, error in found if depth == d) for d in at]
                axes.plot(
                    at, means, color=COLOURS[family], lw=2.4, marker="o", ms=6, label=f"{family} networks"
                )
                if seeds > 1:
                    axes.scatter(*zip(*found, strict=True), color=COLOURS[family], s=16, alpha=0.5, lw=0)
            axes.set(title=f"{name} error", xlabel="depth (layers)", xticks=everywhere, ylim=(0, top))
            plots.per_cent(axes.yaxis)
        grid[0][0].set_ylabel("error (%)")
        grid[0][0].legend(loc="upper left")


def height(outcomes: Iterable[Outcome]) -> float:
    """Where the error axis of both panels ends: above every run's training and test error."""
    return min(1.0, max(0.01, 1.08 * max(max(o.train.top1, o.test.top1) for o in outcomes)))
