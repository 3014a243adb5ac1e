"""The degradation experiment: what is trained, that it goes on where it stopped, and what it measures."""

import os
import signal

import pytest
import torch

from resnet_kernels import data, models, train
from resnet_kernels.analysis import degradation
from resnet_kernels.analysis.degradation import Outcome, draw, experiment, height, recipe, table
from resnet_kernels.errors import UserError
from resnet_kernels.evaluate import Errors


def test_both_kinds_are_trained_alike():
    plain, residual = (recipe("digits", family, 56, 3, 200) for family in ("plain", "residual"))
    assert (plain.model, residual.model) == ("cifar_plain56", "cifar_resnet56")
    assert plain.replaced(model=residual.model) == residual
    assert plain.seed == 3 and plain.iterations == 200 and plain.steps == (100, 150)
    whole = recipe("cifar10", "plain", 20, 0, None)
    assert whole == train.Recipe.load("cifar10").replaced(model="cifar_plain20")
    assert recipe("cifar10", "plain", 110, 0, None).warmup_learning_rate == 0.01


def test_depths_are_those_of_networks_of_both_kinds():
    assert {20, 32, 44, 56} <= set(degradation.depths())
    for depth in degradation.depths():
        counts = {
            sum(weight.numel() for weight in models.create(f"{prefix}{depth}").parameters())
            for prefix in degradation.FAMILIES.values()
        }
        assert len(counts) == 1  # the same number of parameters: option A adds none


def test_an_experiment_goes_on_and_measures_what_is_in_the_checkpoints(tmp_path):
    said = []

    def begin(title, steps):
        said.append((title, steps))
        return lambda text: said.append(text)

    options = {"depths": [20], "iterations": 2, "begin": begin}
    (first, second) = experiment(tmp_path, seeds=[0], **options)
    assert said[0] == ("cifar_plain20, seed 0", 2) and ("cifar_resnet20, seed 0", 2) in said
    digits = data.load("digits")
    assert (first.train.images, first.test.images) == (len(digits.train), len(digits.test))
    network, state = train.checkpoint.network(tmp_path / "cifar_plain20-seed0")
    with torch.no_grad():
        logits = network(state.normalisation(digits.test.pixels))
    wrong = (logits.argmax(1) != digits.test.labels).double().mean()
    assert first.test.top1 == pytest.approx(float(wrong))
    assert (second.model, second.family, second.depth) == ("cifar_resnet20", "residual", 20)

    said.clear()
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/checkpoint.pt")}
    outcomes = experiment(tmp_path, seeds=[0, 1], **options)
    assert outcomes[:2] == [first, second] and [outcome.seed for outcome in outcomes] == [0, 0, 1, 1]
    assert all(path.stat().st_mtime_ns == time for path, time in written.items())
    assert all("seed 1" in step[0] for step in said if isinstance(step, tuple))
    head, rows = table(outcomes)
    assert len(rows) == 4 and all(len(row) == len(head) for row in rows)
    assert rows[0][head.index("test_error")] == f"{first.test.top1:.6g}"
    draw(outcomes, tmp_path / "d.png", "digits")
    assert (tmp_path / "d.png").read_bytes().startswith(b"\x89PNG")

    with pytest.raises(UserError, match="another recipe"):
        experiment(tmp_path, depths=[20], iterations=3)


def test_a_run_that_was_stopped_is_resumed(tmp_path):
    """The same bits as if it had not been stopped."""
    how = recipe("digits", "plain", 20, 0, 3)
    whole, part = tmp_path / "whole" / "cifar_plain20-seed0", tmp_path / "part" / "cifar_plain20-seed0"
    train.run(how, whole, tensorboard=False)

    class Stop:
        def began(self, recipe, iteration): ...
        def noted(self, text): ...
        def logged(self, row): ...

        def iterated(self, iteration):
            if iteration == 2:
                os.kill(os.getpid(), signal.SIGINT)

    result = train.run(how, part, tensorboard=False, watcher=Stop())
    assert result.iteration == 2 and result.signal
    degradation._train(part, how, None, 0, None)
    states = [train.checkpoint.read(path).model for path in (whole, part)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("worst", [0.0, 0.3, 0.9, 1.0])
def test_no_run_is_outside_of_the_picture(worst):
    """The panels share an axis: the second one's errors count, too."""
    small, large = (Errors(images=100, top1=error, top5=0, loss=0) for error in (worst / 2, worst))
    outcomes = [Outcome("plain", 20, 0, 10, small, large), Outcome("residual", 20, 0, 10, small, small)]
    assert max(worst, 0.01) <= height(outcomes) <= 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"depths": [21]}, "depths among 20"),
        ({"depths": [1202]}, "depths among 20"),
        ({"depths": [20], "dataset": "imagenet"}, "digits, cifar10"),
        ({"depths": [20], "dataset": "cifar10"}, "--data"),
        ({"depths": [20], "iterations": 0}, "iterations"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_trained(tmp_path, options, named):
    with pytest.raises(UserError, match=named):
        experiment(tmp_path / "output", **options)
    assert not (tmp_path / "output").exists()
