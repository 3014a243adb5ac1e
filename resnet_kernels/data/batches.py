"""Batches of images, in order for a test, shuffled and augmented without end for training.

Training sees an endless stream of positions 0, 1, 2, ...: position p lies in epoch p // N and is the
(p mod N)-th image of that epoch's permutation.  Iteration i is the positions from i * batch on, so that
batches run over the ends of epochs and are always full.  The permutation depends on (seed, epoch) and an
image's augmentation on (seed, p) alone: the stream is the same wherever one starts, with any number of
workers, and divided among any number of ranks.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from resnet_kernels.errors import UserError

from .images import Images, Item
from .views import View

Batch = tuple[Tensor, Tensor]  # float32 [n, 3, size, size] in channels_last, int64 [n]


class Batches:
    """An iterable of batches; iterating raises UserError where an image cannot be read."""

    def __init__(self, loader: DataLoader) -> None:
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._loader:
            if isinstance(batch, UserError):
                raise batch
            yield batch


def stacked(items: Sequence[Item]) -> Batch:
    """[(view, label), ...] -> views [n, 3, size, size] in channels_last, labels [n]."""
    images, labels = zip(*items, strict=True)
    return torch.stack(images).contiguous(memory_format=torch.channels_last), torch.tensor(labels)


def batches(
    images: Images,
    view: Callable[[Tensor], Any],
    *,
    batch: int,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    together: Callable[[Sequence[Any]], Any] = stacked,
) -> Batches:
    """Every image once and in order, `batch` at a time; the last batch may be smaller.

    Args:
        workers: processes that prepare images; 0 prepares them in this one.
        rank, world: take image rank, rank + world, rank + 2 world, ... only.
        together: makes a batch of several (what `view` makes of an image, label).
    """
    mine = range(rank, len(images), world)
    keys = [[(index, None) for index in mine[k : k + batch]] for k in range(0, len(mine), batch)]
    return _load(images, view, keys, workers, together)


def training_batches(
    images: Images,
    view: View,
    *,
    batch: int,
    seed: int,
    first: int,
    last: int,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
) -> Batches:
    """The batches of iterations first .. last - 1.

    Args:
        batch: images an iteration, over all ranks.
        rank, world: take the rank-th of `world` equal parts of every batch.

    Raises:
        ValueError: `batch` is not a multiple of `world`, or there are no images.
    """
    if batch < 1 or batch % world:
        raise ValueError(f"training_batches: batch must be a multiple of world = {world}, got {batch}")
    if len(images) == 0:
        raise ValueError("training_batches: there are no images")
    keys = _Stream(len(images), batch, seed, range(first, last), rank, world)
    return _load(images, view, keys, workers, stacked)


class _Stream:
    """The keys (index of the image, seed of its augmentation) of each iteration of a rank."""

    def __init__(self, count: int, batch: int, seed: int, iterations: range, rank: int, world: int) -> None:
        self._count, self._batch, self._seed, self._iterations = count, batch, seed, iterations
        self._mine = range(rank * batch // world, (rank + 1) * batch // world)

    def __len__(self) -> int:
        return len(self._iterations)

    def __iter__(self) -> Iterator[list[tuple[int, int | None]]]:
        epoch, order = -1, torch.empty(0)
        for iteration in self._iterations:
            keys: list[tuple[int, int | None]] = []
            for offset in self._mine:
                position = iteration * self._batch + offset
                if position // self._count != epoch:
                    epoch = position // self._count
                    generator = torch.Generator().manual_seed(_mixed(self._seed, "epoch", epoch))
                    order = torch.randperm(self._count, generator=generator)
                keys.append((int(order[position % self._count]), _mixed(self._seed, "image", position)))
            yield keys


def _mixed(seed: int, what: str, number: int) -> int:
    """32 bits (all that torch's generator keeps of a seed) that share nothing with those of other numbers."""
    digest = hashlib.blake2b(f"{seed} {what} {number}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


class _Viewed(Dataset):
    """key (index, seed) -> (view of the image, label), or the UserError that says why not."""

    def __init__(self, images: Images, view: Callable[[Tensor], Any]) -> None:
        self._images, self._view = images, view

    def __getitem__(self, key: tuple[int, int | None]) -> tuple[Any, int] | UserError:
        index, seed = key
        try:
            image, label = self._images[index]
        except UserError as error:  # handed over as a value: a worker's exceptions arrive as tracebacks
            return error
        if seed is None:
            return self._view(image), label
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self._view(image), label


class _Together:
    """Several items -> a batch, or the UserError that is one of them."""

    def __init__(self, together: Callable[[Sequence[Any]], Any]) -> None:
        self._together = together

    def __call__(self, items: list[Any]) -> Any:
        for item in items:
            if isinstance(item, UserError):
                return item
        return self._together(items)


def _leave_signals_to_parent(worker: int) -> None:
    """Ctrl-C, and a cluster's SIGTERM, reach all processes: the parent stops in order and ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _start_method() -> str | None:
    """Forked workers begin at once; Python 3.14's default would import all of torch for every test anew."""
    return "fork" if "fork" in multiprocessing.get_all_start_methods() else None


def _load(
    images: Images,
    view: Callable[[Tensor], Any],
    keys: Sequence | _Stream,
    workers: int,
    together: Callable[[Sequence[Any]], Any],
) -> Batches:
    loader = DataLoader(
        _Viewed(images, view),
        batch_sampler=keys,
        collate_fn=_Together(together),
        num_workers=workers,
        multiprocessing_context=_start_method() if workers else None,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # the default would draw from torch's own and so disturb the caller's
        worker_init_fn=_leave_signals_to_parent,
    )
    return Batches(loader)
