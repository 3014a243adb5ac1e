"""resnet-kernels eval: on runs of the trainer, on weights alone, and what a user can get wrong."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import resnet_kernels as rk
from resnet_kernels import train


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Directories of two networks that were trained for a moment: on digits, and on synthetic images."""
    root = tmp_path_factory.mktemp("runs")
    recipe = train.Recipe.load("digits").replaced(iterations=3, steps=[2], batch=32, test_every=3)
    found = []
    for name, changes in (("zero", {}), ("one", {"seed": 1}), ("other", {"data": "synthetic"})):
        found.append(train.run(recipe.replaced(**changes), root / name, tensorboard=False).directory)
    return found


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """ImageNet's layout with two classes of two test images, and weights of a network for them."""
    root = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in ("n01440764", "n01443537"):
            (root / part / name).mkdir(parents=True)
            for k in range(2):
                pixels = random.integers(0, 256, (70 + 10 * k, 90, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{k}.JPEG")
    torch.save(rk.models.resnet18(num_classes=2).state_dict(), root / "weights.pth")
    return root


def test_a_run_has_the_error_of_its_log(run, runs, tmp_path):
    result = run("eval", runs[0], "--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    logged = [row["test_error"] for row in csv.DictReader((runs[0] / "log.csv").open()) if row["test_error"]]
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["networks"][0]["top1"] == pytest.approx(100 * float(logged[-1]), rel=1e-4)
    assert found["dataset"] == "digits" and found["images"] == found["of_images"] == 355
    assert found["ensemble"] is None and found["networks"][0]["paper"] is None
    assert f"{found['networks'][0]['top1']:.2f}" in result.stdout and "single view" in result.stdout
    assert "paper" not in result.stdout and "together" not in result.stdout


def test_several_are_an_ensemble_too(run, runs, tmp_path):
    result = run("eval", runs[0] / "checkpoint.pt", runs[1], "--json", tmp_path / "r.json", "--batch", "100")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "r.json").read_text())
    assert len(found["networks"]) == 2 and found["ensemble"]["members"] == 2
    losses = [network["loss"] for network in found["networks"]]
    assert found["ensemble"]["loss"] < np.mean(losses)  # of a mean of probabilities, by convexity
    assert "all 2 together" in result.stdout and "mean over the networks" in " ".join(result.stdout.split())


@pytest.mark.parametrize("options", [("--views", "ten"), ("--views", "multiscale", "--sides", "64,80"), ()])
def test_weights_alone_on_photographs(run, photographs, tmp_path, options):
    result = run(
        *("eval", photographs / "weights.pth", "--model", "resnet18", "--data", photographs, "--limit", 2),
        *("--json", tmp_path / "r.json", *options),
    )
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["views"]["kind"] == (options[1] if options else "center")
    assert found["views"]["count"] == (10 if "ten" in options else 4 if options else 1)
    assert (found["images"], found["of_images"]) == (2, 4) and "2 of 4 images" in result.stdout
    assert found["networks"][0]["paper"] is None  # these are no 1000 classes


def test_the_paper_stands_beside_the_same_test(run, photographs, monkeypatch, tmp_path):
    """Were the two classes a thousand, 10-crop testing of ResNet-50 would be compared with table 3."""
    from resnet_kernels.cli import evaluate
    from resnet_kernels.evaluate import Errors, Views

    class Thousand:
        name, classes, test = "imagenet", range(1000), range(50_000)

    class Member:
        path, name, dataset = tmp_path, "resnet50", Thousand

    errors = [Errors(images=50_000, top1=0.24, top5=0.07, loss=1.0)]
    result = evaluate._result([Member], errors, [1.0], Views("ten"), errors[0])
    assert result["networks"][0]["paper"] == {"source": "table 3", "top1": 22.85, "top5": 6.71}
    assert result["ensemble"]["paper"]["top5"] == 3.57
    shown = evaluate._table(result)
    assert [column.header for column in shown.columns][5:8] == ["paper's top-1", "top-5", "paper's source"]


@pytest.mark.skipif(not rk.simulator.built(), reason="the simulator is not built")
def test_our_kernels_say_the_same(run, runs, tmp_path):
    found = []
    for backend in ("aten", "simulator"):
        run("eval", runs[0], "--limit", 3, "--backend", backend, "--json", tmp_path / "r.json")
        found.append(json.loads((tmp_path / "r.json").read_text())["networks"][0]["loss"])
    assert found[0] == pytest.approx(found[1], rel=1e-3)


BAD = [
    (("eval",), "checkpoints"),
    (("eval", "{}/absent"), "absent"),
    (("eval", "{}/text.pt"), "text.pt"),
    (("eval", "{photographs}/weights.pth"), "--model"),
    (("eval", "{photographs}/weights.pth", "--model", "resnet18"), "--data"),
    (("eval", "{photographs}/weights.pth", "--model", "resnet19"), "resnet18"),
    (("eval", "{photographs}/weights.pth", "--model", "resnet34", "--data", "{photographs}"), "weights.pth"),
    (("eval", "{photographs}/weights.pth", "--model", "resnet18", "--data", "{}"), "train/<class>"),
    (("eval", "{run}", "--dataset", "mnist"), "mnist"),
    (("eval", "{run}", "--dataset", "imagenet", "--data", "{photographs}"), "classes"),
    (("eval", "{run}", "--views", "five"), "single, center"),
    (("eval", "{run}", "--views", "ten"), "photographs"),
    (("eval", "{run}", "--sides", "224"), "multiscale"),
    (("eval", "{run}", "--limit", "0"), "--limit"),
    (("eval", "{run}", "--batch", "0"), "--batch"),
    (("eval", "{run}", "--workers", "-1"), "--workers"),
    (("eval", "{run}", "--dtype", "int8"), "--dtype"),
    (("eval", "{run}", "--backend", "tpu"), "tpu"),
    (("eval", "{run}", "--json", "{}/nowhere/r.json"), "nowhere"),
    (("eval", "{run}", "{other}"), "different images"),
]
PHOTOGRAPHS = ("eval", "{photographs}/weights.pth", "--model", "resnet18", "--data", "{photographs}")
BAD += [
    ((*PHOTOGRAPHS, "--views", "single"), "center"),
    ((*PHOTOGRAPHS, "--views", "multiscale", "--sides", "a,b"), "--sides"),
    ((*PHOTOGRAPHS, "--views", "multiscale", "--sides", "0"), "--sides"),
]


@pytest.mark.parametrize(
    ("arguments", "named"), BAD, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_bad_input_is_one_line_and_exit_code_2(run, runs, photographs, tmp_path, arguments, named):
    (tmp_path / "text.pt").write_text("no checkpoint")
    places = {"run": runs[0], "other": runs[2], "photographs": photographs}
    result = run(*(argument.format(tmp_path, **places) for argument in arguments))
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("resnet-kernels: ")
    assert named in lines[0]


def test_a_damaged_photograph_is_named(run, photographs, tmp_path):
    shutil.copytree(photographs, tmp_path / "copy")
    (tmp_path / "copy" / "val" / "n01443537" / "1.JPEG").write_bytes(b"no image")
    for workers in ("0", "1"):
        result = run(
            *("eval", photographs / "weights.pth", "--model", "resnet18", "--data", tmp_path / "copy"),
            *("--workers", workers),
        )
        assert result.exit_code == 2 and "n01443537/1.JPEG cannot be read" in result.stderr
