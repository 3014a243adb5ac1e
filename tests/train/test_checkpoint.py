"""Checkpoints: whole or not at all, read without executing anything, and every damage told."""

import dataclasses
import pickle
import random
import resource
import zipfile

import pytest
import torch

from resnet_kernels import models, train
from resnet_kernels.errors import UserError
from resnet_kernels.train import checkpoint

from .common import QUIET, SMALL, assert_equal, assert_same


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run's directory."""
    directory = tmp_path_factory.mktemp("run")
    train.run(SMALL.replaced(iterations=4), directory, **QUIET)
    return directory


@pytest.fixture
def damaged(run, tmp_path):
    """damaged(bytes) -> a file with those bytes."""

    def write(content):
        (tmp_path / "checkpoint.pt").write_bytes(content)
        return tmp_path / "checkpoint.pt"

    return write


def test_write_and_read(run, tmp_path):
    read = checkpoint.read(run)
    checkpoint.write(tmp_path / "again.pt", read)
    again = checkpoint.read(tmp_path / "again.pt")
    for field in dataclasses.fields(read):
        if field.name != "normalisation":
            assert_equal(getattr(read, field.name), getattr(again, field.name), field.name)
    assert_equal(read.normalisation.state(), again.normalisation.state(), "normalisation")
    assert [path.name for path in tmp_path.iterdir()] == ["again.pt"]


def test_the_network_of_a_checkpoint(run):
    network, found = checkpoint.network(run)
    assert not network.training and found.classes == tuple("0123456789")
    assert_equal(dict(network.state_dict()), dict(found.model), "weights")
    assert found.normalisation.mean.shape == (3, 8, 8)
    other = models.load_weights(models.create("cifar_resnet20", num_classes=10), run / checkpoint.FILE)
    assert_equal(dict(other.state_dict()), dict(found.model), "weights")


def test_truncated_at_any_point(run, damaged):
    content = (run / checkpoint.FILE).read_bytes()
    dice = random.Random(0)
    for length in [0, 1, 100, len(content) - 1, *(dice.randrange(len(content)) for _ in range(10))]:
        with pytest.raises(UserError, match="truncated, damaged or no checkpoint"):
            checkpoint.read(damaged(content[:length]))


def test_a_single_wrong_bit_in_the_weights(run, damaged):
    content = bytearray((run / checkpoint.FILE).read_bytes())
    with zipfile.ZipFile(run / checkpoint.FILE) as archive:
        records = [info for info in archive.infolist() if "/data/" in info.filename and info.file_size > 1000]
    dice = random.Random(1)
    for info in dice.sample(records, 5):
        content[at := info.header_offset + 500 + dice.randrange(info.file_size - 500)] ^= 1 << dice.randrange(
            8
        )
        with pytest.raises(UserError, match=f"damaged: the checksum of its record {info.filename}"):
            checkpoint.read(damaged(content))
        content[at : at + 1] = (run / checkpoint.FILE).read_bytes()[at : at + 1]


class Evil:
    def __reduce__(self):
        return (open, ("executed", "w"))


def test_foreign_files(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for content, message in (
        (lambda path: path.write_text("hello"), "truncated, damaged or no checkpoint"),
        (lambda path: path.write_bytes(pickle.dumps([1])), "truncated, damaged or no checkpoint"),
        (lambda path: zipfile.ZipFile(path, "w").writestr("a", "b"), "damaged or no checkpoint"),
        (lambda path: torch.save(Evil(), path), "execute code"),
        (lambda path: torch.save({"model": {}}, path), "no checkpoint of a training run"),
        (lambda path: torch.save([1, 2], path), "no checkpoint of a training run"),
        (lambda path: torch.save({"format": checkpoint.FORMAT, "version": 99}, path), "version 99"),
        (lambda path: torch.save({"format": checkpoint.FORMAT, "version": 1}, path), "lacks recipe"),
    ):
        content(tmp_path / "foreign.pt")
        with pytest.raises(UserError, match=message):
            checkpoint.read(tmp_path / "foreign.pt")
    assert not (tmp_path / "executed").exists()
    with pytest.raises(UserError, match=r"no checkpoint .*nowhere: wanted a run's directory"):
        checkpoint.read(tmp_path / "nowhere")


def test_weights_of_another_network_are_refused(run, tmp_path):
    found = checkpoint.read(run)
    other = dataclasses.replace(found, recipe=found.recipe.replaced(model="cifar_resnet32"))
    checkpoint.write(tmp_path / "other.pt", other)
    with pytest.raises(UserError, match="not those of cifar_resnet32"):
        checkpoint.network(tmp_path / "other.pt")


def test_a_full_disk_leaves_the_old_checkpoint(run, tmp_path):
    content = checkpoint.read(run)
    path = tmp_path / checkpoint.FILE
    checkpoint.write(path, content)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (0, 1000, len(before) // 2, len(before) - 10):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            with pytest.raises(UserError, match=r"cannot be written.*the one before it is unchanged"):
                checkpoint.write(path, dataclasses.replace(content, iteration=5))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_bytes() == before
        assert [file.name for file in tmp_path.iterdir()] == [checkpoint.FILE]
    with pytest.raises(UserError, match=r"nowhere.*cannot be written: .*No such file"):
        checkpoint.write(tmp_path / "nowhere" / "checkpoint.pt", content)


def test_resuming_a_damaged_checkpoint_changes_nothing(run, damaged):
    path = damaged((run / checkpoint.FILE).read_bytes()[:-100])
    content = path.read_bytes()
    with pytest.raises(UserError, match="truncated"):
        train.resume(path, **QUIET)
    assert path.read_bytes() == content and len(list(path.parent.iterdir())) == 1


def test_assert_same_can_fail(run, tmp_path):
    found = checkpoint.read(run)
    (tmp_path / "log.csv").write_bytes((run / "log.csv").read_bytes())
    checkpoint.write(tmp_path / checkpoint.FILE, found)
    assert_same(run, tmp_path)
    weight = found.model["fc.bias"]
    weight[3] = torch.nextafter(weight[3], torch.tensor(1.0))
    checkpoint.write(tmp_path / checkpoint.FILE, found)
    with pytest.raises(AssertionError, match="model"):
        assert_same(run, tmp_path)
