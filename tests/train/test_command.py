"""resnet-kernels train, as a user meets it: a run, Ctrl-C, going on, and what is said of mistakes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import resnet_kernels as rk
from resnet_kernels import cli, train
from resnet_kernels.train import checkpoint

from ..data.drawn import imagenet
from .common import assert_same, rows

QUICK = ["--batch", "16", "--device", "cpu", "--no-tensorboard"]


def run(*arguments):
    """typer's result of `resnet-kernels train` in this process."""
    return CliRunner().invoke(cli.app, ["train", *map(str, arguments)])


def command(*arguments):
    return [sys.executable, "-m", "resnet_kernels.cli", "train", *map(str, arguments)]


def test_a_run_leaves_a_checkpoint_a_log_and_curves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("--iterations", 20, "--batch", 16, "--seed", 3, "--device", "cpu")
    assert result.exit_code == 0, result.stdout + result.stderr
    assert "cifar_resnet20 on digits: iterations 0 to 20 of 16 images, float32" in result.stdout
    assert "img/s" in result.stdout and "test error" in result.stdout
    directory = Path("runs/digits-cifar_resnet20")
    assert "checkpoint.pt, log.csv, curves.png" in result.stdout
    names = {path.name for path in directory.iterdir()}
    assert names >= {"checkpoint.pt", "curves.png", "log.csv", "recipe.toml"}
    assert Image.open(directory / "curves.png").width > 500
    again = train.Recipe.load(directory / "recipe.toml")
    assert again == checkpoint.read(directory).recipe and (again.seed, again.batch) == (3, 16)


def test_ctrl_c_in_a_terminal_stops_in_order_and_resume_goes_on(tmp_path, processes):
    """The signal goes to the whole process group, as a terminal sends it: to the workers too."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    parts, whole = tmp_path / "with space", tmp_path / "whole"
    process = subprocess.Popen(
        command("--output", parts, "--iterations", 60, "--workers", 2, *QUICK),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    while not (parts / "log.csv").exists() or len(rows(parts)) < 2:
        time.sleep(0.01)
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in stderr
    stopped = checkpoint.read(parts).iteration
    assert 20 <= stopped < 60
    assert f"stopped after iteration {stopped}" in stdout
    assert f"Go on with: resnet-kernels train --resume '{parts}'" in stdout
    done = subprocess.run(
        command("--resume", parts, "--device", "cpu", "--no-tensorboard"),
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert f"iterations {stopped} to 60" in done.stdout and "not bit for bit" not in done.stdout
    recipe = train.Recipe.load("digits").replaced(iterations=60, batch=16)
    process = processes.Process(
        target=train.run, args=(recipe, whole), kwargs={"tensorboard": False, "device": "cpu"}
    )
    process.start()
    process.join()
    assert_same(whole, parts)


def test_imagenet_in_folders(tmp_path):
    """The paper's recipe at a quarter of its size: crops, colour, the mean image, and a plateau."""
    recipe = train.Recipe.load("imagenet").replaced(size=56, model="resnet18", test_every=1, plateau_tests=1)
    (tmp_path / "small.toml").write_text(recipe.text())
    output = tmp_path / "run"
    result = run(
        *("--recipe", tmp_path / "small.toml", "--data", imagenet(tmp_path / "data"), "--output", output),
        *(
            "--iterations",
            3,
            "--batch",
            4,
            "--lr",
            0.01,
            "--workers",
            1,
            "--device",
            "cpu",
            "--no-tensorboard",
        ),
    )
    assert result.exit_code == 0, result.stdout + result.stderr
    network, state = checkpoint.network(output)
    assert state.classes == ("n01440764", "n01443537") and state.normalisation.mean.shape == (3, 56, 56)
    assert network.fc.out_features == 2 and state.data_directory == str(tmp_path / "data")
    assert {row["test_error"] for row in rows(output)} <= {"0", "0.25", "0.5", "0.75", "1"}


@pytest.mark.slow
def test_compiled(tmp_path):
    result = run("--compile", "--iterations", 3, "--output", tmp_path / "run", *QUICK)
    assert result.exit_code == 0, result.stdout + result.stderr
    recipe = checkpoint.read(tmp_path / "run").recipe
    assert recipe.compile
    train.run(recipe.replaced(compile=False), tmp_path / "eager", device="cpu", tensorboard=False)
    (ours,), (theirs,) = rows(tmp_path / "run"), rows(tmp_path / "eager")
    assert float(ours["train_loss"]) == pytest.approx(float(theirs["train_loss"]), rel=1e-2)


@pytest.mark.skipif(not rk.simulator.built(), reason="the simulator is not built")
def test_on_the_kernels_in_the_simulator(tmp_path):
    """One iteration of two images: the loss is PyTorch's, but for TF32, which PyTorch allows convolutions."""
    for backend in ("simulator", "aten"):
        recipe = train.Recipe.load("digits").replaced(iterations=1, batch=2, backend=backend)
        train.run(recipe, tmp_path / backend, device="cpu", tensorboard=False)
    (ours,), (theirs,) = rows(tmp_path / "simulator"), rows(tmp_path / "aten")
    assert float(ours["train_loss"]) == pytest.approx(float(theirs["train_loss"]), rel=3e-3)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--recipe", "digit"], "there is no such recipe or file: wanted one of cifar10"),
        (["--model", "resnet19"], "model = 'resnet19': wanted one of"),
        (["--iterations", "0"], "iterations = 0: wanted an integer of at least 1"),
        (["--dtype", "fp8"], "dtype = 'fp8': wanted one of float32, bfloat16, float16"),
        (["--recipe", "imagenet"], "imagenet needs --data DIR: the folder that holds train/<class>"),
        (["--recipe", "cifar10", "--data", "nowhere"], "no CIFAR-10 in nowhere: wanted torchvision's"),
        (["--resume", "nowhere"], "there is no checkpoint nowhere: wanted a run's directory"),
        (["--resume", "x", "--lr", "1", "--output", "y"], "leave out --learning-rate, --output"),
        (["--cuda-graph", "--device", "cpu"], "--cuda-graph needs a GPU"),
        (["--output", "/dev/null/x", "--device", "cpu"], "--output /dev/null/x cannot be written"),
        (["--backend", "simulator", "--device", "cuda"], "--device cuda: PyTorch finds no CUDA GPU"),
    ],
)
def test_what_a_user_can_get_wrong_is_one_line(tmp_path, monkeypatch, arguments, message):
    import torch

    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2 and message in result.stderr
    assert result.stderr.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_divergence_is_told_and_the_last_good_checkpoint_stays(tmp_path):
    (tmp_path / "wild.toml").write_text(
        train.Recipe.load("digits").replaced(iterations=40, batch=16, checkpoint_every=1).text()
    )
    first = run("--recipe", tmp_path / "wild.toml", "--iterations", 1, "--output", tmp_path / "r", *QUICK)
    assert first.exit_code == 0
    state = checkpoint.read(tmp_path / "r")
    for weight in state.model.values():
        if weight.is_floating_point():
            weight.fill_(1e38)  # the next iteration overflows
    checkpoint.write(tmp_path / "r" / checkpoint.FILE, state)
    result = run("--resume", tmp_path / "r", "--iterations", 5, "--device", "cpu", "--no-tensorboard")
    assert result.exit_code == 2
    assert "the training diverged: at iteration 2 the weights are no longer finite" in result.stderr
    assert "checkpoint.pt holds the run before that" in result.stderr
    assert checkpoint.read(tmp_path / "r").iteration == 1


def test_digits_to_98_per_cent(tmp_path):
    """By a quarter of the quick recipe."""
    recipe = train.Recipe.load("digits").replaced(iterations=200, steps=[120, 160])
    result = train.run(recipe, tmp_path, tensorboard=False, device="cpu")
    assert result.tested is not None and result.tested.test_error <= 0.02
    assert result.tested.train_error <= 0.02


@pytest.mark.slow
def test_digits_by_the_whole_recipe(tmp_path):
    result = train.run(train.Recipe.load("digits"), tmp_path, tensorboard=False, device="cpu")
    assert result.tested is not None and result.tested.test_error <= 0.01
    assert result.tested.seconds < 600
