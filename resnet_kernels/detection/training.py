"""Training of a detector: stochastic gradient descent on the four losses of Faster R-CNN, trained jointly.

    <output>/checkpoint.pt    the whole state: written to a temporary file and renamed
    <output>/losses.csv       means over a few iterations a row

What an iteration sees (pictures, flips, the regions that are sampled) follows from the seed and the
iteration's number: a run that was stopped and goes on computes what it would have computed.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resnet_kernels.errors import UserError
from resnet_kernels.train import archive
from resnet_kernels.train.interrupt import Interrupt

from . import detectors
from .detectors import Settings
from .network import Detector
from .pictures import Folder

CHECKPOINT, LOSSES = "checkpoint.pt", "losses.csv"
QUARTERS = 0.75  # of the iterations are at the first learning rate: 240,000 of 320,000 on COCO
COLUMNS = ("iteration", "learning_rate", "loss", "classifier", "box_reg", "objectness", "rpn_box_reg")
Batch = tuple[list[Tensor], list[dict[str, Tensor]]]


@dataclass(frozen=True)
class Plan:
    """How to train; the defaults are appendix A's for COCO but for the batch, which eight GPUs shared there.

    Attributes:
        iterations: batches in all.
        batch: images in each.
        learning_rate: at first; a tenth of it in the last quarter; it rises from 0 in the first `warm_up`
            iterations.
        momentum, weight_decay: of the descent.
        seed: of the order, the flips and the sampled regions.
        every: iterations between rows of the log, and `save_every` between checkpoints.
    """

    iterations: int = 320_000
    batch: int = 2
    learning_rate: float = 0.001
    warm_up: int = 0
    momentum: float = 0.9
    weight_decay: float = 0.0005
    seed: int = 0
    every: int = 20
    save_every: int = 1000

    def rate(self, iteration: int) -> float:
        """The learning rate of iteration 0, 1, ..."""
        factor = min(1.0, (iteration + 1) / self.warm_up) if self.warm_up else 1.0
        return self.learning_rate * factor * (0.1 if iteration >= self.iterations * QUARTERS else 1)

    def check(self) -> None:
        """Raise a UserError that names what is out of range."""
        for name in ("iterations", "batch", "every", "save_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise UserError(f"the learning rate must be positive, got {self.learning_rate}")


def batches(folder: Folder, plan: Plan, first: int = 0) -> Iterator[Batch]:
    """The batches of iterations `first`, `first` + 1, ...: every epoch another order, half of them mirrored.

    Pictures in which nothing is to be found are left out, as is usual.

    Raises:
        UserError: there is no picture with an object.
    """
    pictures = [picture for picture in folder.pictures if not picture.ignored.all()]
    if not pictures:
        raise UserError("no picture of this split has an object to train on")
    order, drawn = torch.empty(0, dtype=torch.long), -1
    for iteration in range(first, plan.iterations):
        random = torch.Generator().manual_seed(plan.seed * 1_000_003 + iteration)
        images, targets = [], []
        for place in range(iteration * plan.batch, (iteration + 1) * plan.batch):
            epoch, index = divmod(place, len(pictures))
            if epoch != drawn:
                generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + epoch)
                order, drawn = torch.randperm(len(pictures), generator=generator), epoch
            picture = pictures[int(order[index])]
            image, target = picture.image(), picture.target()
            if torch.rand((), generator=random) < 0.5:
                image, target["boxes"] = mirrored(image, target["boxes"])
            images.append(image)
            targets.append(target)
        yield images, targets


def mirrored(image: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """`image` [3, H, W] and `boxes` [n, 4] with left and right exchanged."""
    x0, y0, x1, y1 = boxes.unbind(1)
    width = image.shape[2]
    return image.flip(2), torch.stack([width - x1, y0, width - x0, y1], 1)


class Run:
    """A detector in training, and its files.

    Args:
        detector, settings: what is trained.
        plan: how.
        output: the directory of its files, made if it is absent.
        device: where it runs.
    """

    def __init__(
        self, detector: Detector, settings: Settings, plan: Plan, output: Path, device: torch.device
    ) -> None:
        plan.check()
        self.detector, self.settings, self.plan = detector.to(device), settings, plan
        self.output, self.device = output, device
        self.iteration = 0
        self.losses: list[list[float]] = []
        trained = [parameter for parameter in detector.parameters() if parameter.requires_grad]
        self._descent = torch.optim.SGD(trained, plan.rate(0), plan.momentum, weight_decay=plan.weight_decay)
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the directory {output}: {error}") from error

    @classmethod
    def resumed(cls, output: Path, device: torch.device, iterations: int | None = None) -> Run:
        """The run whose files are in `output`, where its checkpoint left it; `iterations` in all, if given.

        Raises:
            UserError: there is no run, or its checkpoint is damaged.
        """
        detector, settings, found = detectors.load(output)
        try:
            plan = found["plan"] | ({} if iterations is None else {"iterations": iterations})
            run = cls(detector, settings, Plan(**plan), output, device)
            run._descent.load_state_dict(found["optimizer"])
            run.iteration, run.losses = int(found["iteration"]), [list(row) for row in found["losses"]]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"the checkpoint in {output} is incomplete or does not fit: {error}") from error
        return run

    def train(self, folder: Folder, advance: Callable[[str], None] = lambda text: None) -> int:
        """Train to the end, or to a signal, which is returned; `advance` is told of every iteration.

        Raises:
            UserError: the losses became infinite; a picture cannot be read; the disk is full.
        """
        self.detector.train()
        since: list[list[float]] = []
        with Interrupt() as interrupt:
            for images, targets in batches(folder, self.plan, self.iteration):
                since.append(self._step(images, targets))
                self.iteration += 1
                advance(f"loss {since[-1][0]:.3f}")
                stopped = interrupt.signal  # read once: it may change between here and the break
                last = self.iteration == self.plan.iterations or stopped
                if self.iteration % self.plan.every == 0 or last:
                    means = torch.tensor(since).mean(0).tolist()
                    self.losses.append([self.iteration, self.plan.rate(self.iteration - 1), *means])
                    since = []
                    self._log()
                if self.iteration % self.plan.save_every == 0 or last:
                    self.save()
                if stopped:
                    return stopped
        return 0

    def _step(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> list[float]:
        """One iteration; its loss and the four parts of it."""
        torch.manual_seed(self.plan.seed * 1_000_003 + self.iteration)  # which regions are sampled
        for group in self._descent.param_groups:
            group["lr"] = self.plan.rate(self.iteration)
        moved = [{key: value.to(self.device) for key, value in target.items()} for target in targets]
        parts = self.detector([image.to(self.device) for image in images], moved)
        loss = sum(parts.values())
        self._descent.zero_grad()
        loss.backward()
        self._descent.step()
        values = torch.stack([loss, *(parts[f"loss_{name}"] for name in COLUMNS[3:])]).tolist()
        if not all(map(_finite, values)):
            raise UserError(
                f"the losses became infinite at iteration {self.iteration + 1}: a smaller learning rate than "
                f"{self.plan.learning_rate:g} or a warm-up may help; the last checkpoint is unchanged"
            )
        return values

    def save(self) -> None:
        """Write the checkpoint.

        Raises:
            UserError: it cannot be written; the old one is unchanged.
        """
        state: dict[str, Any] = detectors.content(self.settings, self.detector)
        state |= {"plan": asdict(self.plan), "iteration": self.iteration, "losses": self.losses}
        archive.write(self.output / CHECKPOINT, state | {"optimizer": self._descent.state_dict()})

    def _log(self) -> None:
        """Write the losses, all rows: a run that goes on leaves out what was not in its checkpoint."""
        try:
            with (self.output / LOSSES).open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(COLUMNS)
                writer.writerows([int(row[0]), *(f"{value:.6g}" for value in row[1:])] for row in self.losses)
        except OSError as error:
            raise UserError(f"the losses cannot be written to {self.output / LOSSES}: {error}") from error


def _finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")
