"""resnet-kernels analyze: the pictures and tables of each command, and what a user can get wrong."""

import csv

import pytest
from PIL import Image

from resnet_kernels import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The directory of a residual network that was trained on digits for a moment."""
    recipe = train.Recipe.load("digits").replaced(iterations=4, steps=[2], log_every=1, test_every=2)
    return train.run(recipe, tmp_path_factory.mktemp("runs") / "r", tensorboard=False).directory


def written(picture):
    """The rows of the CSV file beside a picture that is one."""
    with Image.open(picture) as opened:
        assert opened.format == "PNG" and opened.width > 1000
    with picture.with_suffix(".csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_responses(run, trained, tmp_path):
    result = run("analyze", "responses", trained, trained, "--limit", 20, "--output", tmp_path / "r.png")
    assert result.exit_code == 0, result.output
    rows = written(tmp_path / "r.png")
    networks = ("cifar_resnet20", "cifar_resnet20 (2)")
    for network in networks:
        mine = [row for row in rows if row["network"] == network]
        assert [int(row["layer"]) for row in mine] == list(range(1, 20))
        by_rank = sorted(mine, key=lambda row: int(row["rank"]))
        stds = [float(row["std"]) for row in by_rank]
        assert stds == sorted(stds, reverse=True) and stds[-1] > 0
        assert network in result.stdout
    assert rows[0]["convolution"] == "conv1" and str(tmp_path / "r.csv") in result.stdout


def test_curves(run, trained, tmp_path):
    result = run("analyze", "curves", trained, "--name", "mine", "--output", tmp_path / "c.png")
    assert result.exit_code == 0, result.output
    rows = written(tmp_path / "c.png")
    assert {row["run"] for row in rows} == {"mine"}
    assert [row["iteration"] for row in rows if row["part"] == "test"] == ["2", "4"]


def test_degradation(run, tmp_path):
    options = ("--depths", "20", "--iterations", "2", "--output", tmp_path / "d")
    for _ in range(2):  # the second time nothing is left to train
        result = run("analyze", "degradation", *options)
        assert result.exit_code == 0, result.output
    rows = written(tmp_path / "d" / "degradation.png")
    assert [row["kind"] for row in rows] == ["plain", "residual"]
    curves = written(tmp_path / "d" / "curves.png")
    assert {row["run"] for row in curves} == {"cifar_plain20", "cifar_resnet20"}
    assert "2 iterations" in result.stdout and "20" in result.stdout


def test_the_group_alone_says_what_it_holds(run):
    text = run("analyze", "--help").stdout
    for command in ("responses", "curves", "degradation"):
        assert command in text and run("analyze", command, "--help").exit_code == 0


BAD = [
    (("responses",), "checkpoints"),
    (("responses", "{}/absent"), "absent"),
    (("responses", "{run}", "--limit", "0"), "--limit"),
    (("responses", "{run}", "--output", "{}"), "directory"),
    (("curves",), "runs"),
    (("curves", "{}/absent"), "absent"),
    (("curves", "{}"), "log.csv"),
    (("curves", "{run}", "--name", "a", "--name", "b"), "2 names"),
    (("curves", "{run}", "--output", "{file}/c.png"), "cannot write"),
    (("degradation", "--depths", "20,x"), "--depths"),
    (("degradation", "--depths", "21"), "depths among 20"),
    (("degradation", "--seeds", "1,1"), "--seeds"),
    (("degradation", "--dataset", "imagenet"), "cifar10"),
    (("degradation", "--dataset", "cifar10"), "--data"),
    (("degradation", "--iterations", "0"), "iterations"),
    (("everything",), "everything"),
]


@pytest.mark.parametrize(
    ("arguments", "named"), BAD, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_bad_input_is_one_line_and_exit_code_2(run, trained, tmp_path, monkeypatch, arguments, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    places = {"run": trained, "file": tmp_path / "file"}
    result = run("analyze", *(argument.format(tmp_path, **places) for argument in arguments))
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("resnet-kernels: ")
    assert named in lines[0]
