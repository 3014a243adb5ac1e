"""The log: rows as they happen, and none that belongs to iterations which are trained again."""

import csv

import pytest

from resnet_kernels.train.log import COLUMNS, Log, Row


def row(iteration, test_error=None):
    loss = None if test_error is None else 1.25
    return Row(iteration, iteration / 8, 0.1, 2.0, 0.5, loss, test_error, 1234.5678, 9.0)


def read(directory):
    with (directory / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_in_the_file_at_once(tmp_path):
    log = Log(tmp_path, 0, tensorboard=False)
    log.write(row(3))
    log.write(row(6, test_error=0.25))
    first, second = read(tmp_path)
    assert tuple(first) == COLUMNS
    assert first["iteration"] == "3" and first["test_error"] == "" and first["images_per_second"] == "1234.57"
    assert (second["epoch"], second["test_loss"], second["test_error"]) == ("0.75", "1.25", "0.25")
    log.close()


@pytest.mark.parametrize("torn", ["", "12,1.5,0.1,2", "12,1.5,0.1,2,0.5,,,1234.57,"])
def test_later_rows_and_a_torn_one_are_removed(tmp_path, torn):
    log = Log(tmp_path, 0, tensorboard=False)
    for iteration in (3, 6, 9):
        log.write(row(iteration))
    log.close()
    with (tmp_path / "log.csv").open("a") as file:
        file.write(torn)
    log = Log(tmp_path, 7, tensorboard=False)
    log.write(row(9))
    log.close()
    assert [found["iteration"] for found in read(tmp_path)] == ["3", "6", "9"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv"]


def test_a_new_run_begins_an_empty_log(tmp_path):
    (tmp_path / "log.csv").write_text("something else")
    Log(tmp_path, 0, tensorboard=False).close()
    assert read(tmp_path) == []


def test_tensorboard_holds_the_same(tmp_path):
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    log = Log(tmp_path, 0, tensorboard=True)
    log.write(row(3))
    log.write(row(6, test_error=0.25))
    log.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    found = [
        (value.tag, event.step, value.tensor.float_val[0])
        for event in loader.EventFileLoader(str(file)).Load()
        for value in event.summary.value
    ]
    assert ("test/error", 6, 0.25) in found and ("train/loss", 3, 2.0) in found
    assert not any(tag == "test/error" and step == 3 for tag, step, _ in found)
