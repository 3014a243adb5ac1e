"""Two processes of gloo: the same images and, with synchronised BatchNorm, the same training as one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from resnet_kernels import data, train
from resnet_kernels.errors import UserError
from resnet_kernels.train import checkpoint
from resnet_kernels.train.ranks import Ranks, joined
from resnet_kernels.train.trainer import Trainer

from .common import QUIET, SMALL, assert_same, rows


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """What two_processes.py leaves."""
    directory = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(Path(__file__).with_name("two_processes.py")), str(directory)]
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return directory


def difference(ours, theirs):
    """The largest difference of a weight of the networks, relative to its norm."""
    ours, theirs = checkpoint.read(ours).model, checkpoint.read(theirs).model
    weights = [key for key in ours if key.endswith("weight")]
    return max(float((theirs[key] - ours[key]).norm() / ours[key].norm()) for key in weights)


def test_two_processes_train_as_one(output, tmp_path):
    """One iteration is compared: training amplifies the differences of rounding tenfold in each."""
    train.run(SMALL.replaced(iterations=1), tmp_path, **QUIET)
    (ours,), (theirs,), (alone,) = rows(tmp_path), rows(output / "first"), rows(output / "alone")
    assert float(theirs["train_loss"]) == pytest.approx(float(ours["train_loss"]), rel=1e-5)
    assert theirs["train_error"] == ours["train_error"] and theirs["epoch"] == ours["epoch"]
    assert difference(tmp_path, output / "first") < 1e-3
    assert alone["train_loss"] != ours["train_loss"]  # each half normalised by itself
    assert difference(tmp_path, output / "alone") > 1e-2


def test_resumed_in_two_processes(output):
    assert_same(output / "whole", output / "parts")
    state = checkpoint.read(output / "whole")
    assert state.machine["processes"] == 2 and len(state.random) == 2
    assert [int(row["iteration"]) for row in rows(output / "whole")] == [3, 5, 6, 9, 10, 12, 15, 18, 20]


def test_the_batch_must_divide(tmp_path):
    ranks = Ranks(0, 3, 0, torch.device("cpu"))
    with pytest.raises(UserError, match="--batch 16 cannot be divided among 3 processes"):
        Trainer(SMALL, tmp_path, data.load("digits"), None, ranks)


def test_who_prepares_the_images(monkeypatch):
    gpu, cpu = Ranks(0, 2, 0, torch.device("cuda", 0)), Ranks(0, 2, 0, torch.device("cpu"))
    assert gpu.workers(3) == cpu.workers(3) == 3 and cpu.workers(None) == 0
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(24))
    assert gpu.workers(None) == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert gpu.workers(None) == 6


def test_devices_that_are_not_there():
    with pytest.raises(UserError, match="--device tpu: wanted cpu or cuda"), joined("tpu"):
        pass
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="--device cuda: PyTorch finds no CUDA GPU"), joined("cuda"):
            pass
