"""Small data sets in the real layouts, drawn by the tests."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy
import pytest
from torchvision.datasets import CIFAR10

from . import drawn


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    return drawn.imagenet(tmp_path)


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CIFAR-10's files with 20 images in each, and torchvision expecting their checksums."""
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    random = numpy.random.default_rng(0)

    def write(file: str, content: object) -> str:
        (folder / file).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / file).read_bytes()).hexdigest()

    def images() -> dict[str, object]:
        data = random.integers(0, 256, (20, 3072), dtype=numpy.uint8)
        return {"data": data, "labels": [int(label) for label in random.integers(0, 10, 20)]}

    train = [[file, write(file, images())] for file, _ in CIFAR10.train_list]
    test = [[file, write(file, images())] for file, _ in CIFAR10.test_list]
    meta = {"label_names": [f"class {k}" for k in range(10)]}
    md5 = write("batches.meta", meta)
    monkeypatch.setattr(CIFAR10, "train_list", train)
    monkeypatch.setattr(CIFAR10, "test_list", test)
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5})
    return tmp_path
