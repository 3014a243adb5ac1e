"""A run that is stopped or killed, anywhere, and resumed ends with the bits of one that was not."""

import dataclasses
import os
import random
import signal
import time
from pathlib import Path

import pytest

from resnet_kernels import train
from resnet_kernels.errors import UserError
from resnet_kernels.train import checkpoint, interrupt

from .common import QUIET, SMALL, assert_same, rows


@pytest.fixture(scope="module")
def whole(processes, tmp_path_factory):
    """The directory of an uninterrupted run."""
    directory = tmp_path_factory.mktemp("whole")
    finish(processes, directory)
    return directory


EAGER = SMALL.replaced(checkpoint_every=1)


def start(processes, directory, **options):
    """Begin the run in `directory`, or go on with it if it has a checkpoint."""
    options = QUIET | options
    if (directory / checkpoint.FILE).exists():
        process = processes.Process(target=train.resume, args=(directory,), kwargs=options)
    else:
        process = processes.Process(target=train.run, args=(EAGER, directory), kwargs=options)
    process.start()
    return process


def finish(processes, directory, **options):
    process = start(processes, directory, **options)
    process.join()
    assert process.exitcode == 0


def next_checkpoint(process, directory):
    """Wait until the run has completed another checkpoint, or has ended."""
    file = directory / checkpoint.FILE
    before = file.stat().st_mtime_ns if file.exists() else 0
    while process.is_alive() and (not file.exists() or file.stat().st_mtime_ns == before):
        time.sleep(0.001)


def kill(process):
    """SIGKILL, and wait for the end of that process alone: those that prepare its images notice later."""
    process.kill()
    while Path(f"/proc/{process.pid}/cmdline").exists() and Path(f"/proc/{process.pid}/cmdline").read_bytes():
        time.sleep(0.001)


@pytest.mark.parametrize("workers", [0, 1])
def test_killed_at_random_points(processes, whole, tmp_path, workers):
    dice, reached = random.Random(workers), [0]
    for _ in range(4):
        process = start(processes, tmp_path, workers=workers)
        next_checkpoint(process, tmp_path)
        time.sleep(dice.uniform(0, 0.1))
        kill(process)
        reached.append(checkpoint.read(tmp_path).iteration)  # never damaged
    assert reached == sorted(reached) and reached[1] < EAGER.iterations
    finish(processes, tmp_path, workers=workers)
    assert_same(whole, tmp_path)


def test_killed_while_it_writes_a_checkpoint(processes, whole, tmp_path):
    partial = tmp_path / (checkpoint.FILE + ".partial")
    hits = 0
    for _ in range(8):
        process = start(processes, tmp_path)
        next_checkpoint(process, tmp_path)
        while process.is_alive() and not partial.exists():
            pass
        kill(process)
        if partial.exists():  # it was killed before the rename
            hits += 1
            assert 0 < checkpoint.read(tmp_path).iteration < EAGER.iterations
        if hits == 3:
            break
    assert hits >= 2
    finish(processes, tmp_path)
    assert not partial.exists()
    assert_same(whole, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_in_order(processes, whole, tmp_path, number):
    log = tmp_path / "log.csv"
    process = start(processes, tmp_path, workers=1)
    while not log.exists() or log.read_text().count("\n") < 3:
        time.sleep(0.005)
        assert process.is_alive()
    os.kill(process.pid, number)
    process.join()
    assert process.exitcode == 0
    assert 5 <= checkpoint.read(tmp_path).iteration < EAGER.iterations
    finish(processes, tmp_path)
    assert_same(whole, tmp_path)


def test_stopped_after_every_iteration_and_in_every_test(tmp_path, monkeypatch):
    """In this process: each part of the run makes one step, of an iteration or of a test."""
    train.run(SMALL, tmp_path / "whole", **QUIET)

    class Soon(interrupt.Interrupt):
        """As if Ctrl-C were pressed when asked for the n-th time."""

        asked = 0

        @property
        def signal(self):
            Soon.asked -= 1
            return signal.SIGINT if Soon.asked < 0 else 0

        @signal.setter
        def signal(self, value):
            pass

    monkeypatch.setattr("resnet_kernels.train.runs.Interrupt", Soon)
    dice, parts = random.Random(3), 0
    Soon.asked = 1
    result = train.run(SMALL, tmp_path / "parts", **QUIET)
    while result.signal:
        parts += 1
        Soon.asked = dice.randrange(8)
        result = train.resume(tmp_path / "parts", **QUIET)
    assert parts > 4
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_more_iterations_are_a_longer_run(tmp_path):
    recipe = SMALL.replaced(iterations=9, test_every=3)
    train.run(recipe, tmp_path / "whole", **QUIET)
    train.run(recipe.replaced(iterations=6), tmp_path / "parts", **QUIET)
    result = train.resume(tmp_path / "parts", iterations=9, **QUIET)
    assert result.iteration == 9 and result.signal == 0
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_a_resumed_run_that_was_complete_stays_as_it_is(tmp_path):
    recipe = SMALL.replaced(iterations=3)
    train.run(recipe, tmp_path, **QUIET)
    before = rows(tmp_path)
    result = train.resume(tmp_path, **QUIET)
    assert (result.iteration, result.tested) == (3, None) and rows(tmp_path) == before


def test_float16_resumes_with_the_scale_of_its_loss(tmp_path):
    recipe = SMALL.replaced(iterations=6, dtype="float16")
    train.run(recipe, tmp_path / "whole", **QUIET)
    train.run(recipe.replaced(iterations=3), tmp_path / "parts", **QUIET)
    scaler = checkpoint.read(tmp_path / "parts").scaler
    assert scaler["_growth_tracker"] == 3 and scaler["scale"] > 1
    train.resume(tmp_path / "parts", iterations=6, **QUIET)
    ours, theirs = (checkpoint.read(tmp_path / name) for name in ("whole", "parts"))
    assert ours.scaler == theirs.scaler
    assert all(ours.model[key].equal(theirs.model[key]) for key in ours.model)


def test_an_occupied_directory_is_left_alone(tmp_path):
    train.run(SMALL.replaced(iterations=1), tmp_path, **QUIET)
    content = (tmp_path / checkpoint.FILE).read_bytes()
    with pytest.raises(UserError, match=r"holds a run already: go on with it by --resume"):
        train.run(SMALL, tmp_path, **QUIET)
    assert (tmp_path / checkpoint.FILE).read_bytes() == content


class Notes:
    """A watcher that keeps what was noted."""

    def __init__(self):
        self.texts = []

    def noted(self, text):
        self.texts.append(text)

    def began(self, *_):
        pass

    iterated = logged = began


def test_another_machine_is_noted(tmp_path):
    notes = Notes()
    train.run(SMALL.replaced(iterations=1), tmp_path, **QUIET)
    found = checkpoint.read(tmp_path)
    train.resume(tmp_path, watcher=notes, **QUIET)
    assert notes.texts == []
    checkpoint.write(
        tmp_path / checkpoint.FILE, dataclasses.replace(found, machine=found.machine | {"threads": 99})
    )
    train.resume(tmp_path, watcher=notes, **QUIET)
    (text,) = notes.texts
    assert "not bit for bit" in text and "threads was 99, is " in text and "PyTorch" not in text
