"""A run small enough to be repeated, and comparing two runs bit for bit."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch

from resnet_kernels import train

SMALL = train.Recipe.load("digits").replaced(
    iterations=20,
    batch=16,
    steps=[10, 15],
    warmup_learning_rate=0.05,
    log_every=3,
    test_every=5,
    checkpoint_every=4,
)
QUIET: dict[str, Any] = {"tensorboard": False, "device": "cpu"}


def assert_same(left: Path, right: Path) -> None:
    """The same weights, momenta, random states and log, to the bit."""
    ours, theirs = train.checkpoint.read(left), train.checkpoint.read(right)
    for name in ("iteration", "logged", "model", "optimizer", "schedule", "scaler", "sums", "random"):
        assert_equal(getattr(ours, name), getattr(theirs, name), name)
    assert rows(left) == rows(right)


def assert_equal(left: Any, right: Any, where: str) -> None:
    assert type(left) is type(right), where
    if isinstance(left, torch.Tensor):
        assert left.dtype == right.dtype and torch.equal(left, right), where
    elif isinstance(left, dict):
        assert list(left) == list(right), where
        for key in left:
            assert_equal(left[key], right[key], f"{where}.{key}")
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right), where
        for k, (mine, other) in enumerate(zip(left, right, strict=True)):
            assert_equal(mine, other, f"{where}[{k}]")
    else:
        assert left == right, where


def rows(directory: Path) -> list[dict[str, str]]:
    """The log, without what a clock says."""
    with (directory / "log.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    for row in found:
        del row["images_per_second"], row["seconds"]
    return found
