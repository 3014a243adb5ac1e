"""Error curves from the trainer's own logs, and what is no such log."""

import pytest
from PIL import Image

from resnet_kernels.analysis import curves, plots
from resnet_kernels.errors import UserError

HEAD = "iteration,epoch,learning_rate,train_loss,train_error,test_loss,test_error,images_per_second,seconds\n"


def log(directory, rows):
    """A log of these (iteration, train_error, test_error or "")."""
    directory.mkdir(exist_ok=True)
    lines = [f"{i},0.1,0.1,1.0,{trained},,{tested},100,{i}" for i, trained, tested in rows]
    (directory / "log.csv").write_text(HEAD + "\n".join(lines) + "\n")
    return directory


def test_a_run_of_the_trainer(runs, tmp_path):
    for path in (runs[0], runs[0] / "log.csv"):
        curve = curves.read(path)
        assert curve.name == "cifar_plain20"
        assert [iteration for iteration, _ in curve.train] == [1, 2, 3, 4]
        assert [iteration for iteration, _ in curve.test] == [2, 4]
        assert all(0 <= error <= 1 for _, error in (*curve.train, *curve.test))
    drawn = curves.write(runs, tmp_path / "deep" / "curves.png", "both")
    assert [curve.name for curve in drawn] == ["cifar_plain20", "cifar_resnet20"]
    with Image.open(tmp_path / "deep" / "curves.png") as picture:
        assert picture.format == "PNG" and picture.width > 1.5 * picture.height  # two panels


def test_values_and_names(tmp_path):
    first = log(tmp_path / "first", [(10, 0.5, ""), (20, 0.25, 0.125)])
    assert curves.read(first) == curves.Curve("first", ((10, 0.5), (20, 0.25)), ((20, 0.125),))
    found = curves.write([first, first, first], tmp_path / "a.png")
    assert [curve.name for curve in found] == ["first", "first (2)", "first (3)"]
    found = curves.write([first, first], tmp_path / "a.png", names=["one", "two"])
    assert [curve.name for curve in found] == ["one", "two"]
    head, rows = curves.table(found)
    assert head == ["run", "part", "iteration", "error"]
    assert rows[:2] == [["one", "train", 10, "0.5"], ["one", "train", 20, "0.25"]]
    assert rows[2] == ["one", "test", 20, "0.125"] and len(rows) == 6


def test_equal_depths_share_an_entry_of_the_legend():
    names = ("cifar_plain20", "cifar_plain56", "cifar_resnet20", "cifar_resnet56")
    pairs = [curves.Curve(name, ((1, 0.5),), ()) for name in names]
    assert list(curves.legend_keys(pairs, 2).values()) == ["20 layers", "56 layers"] * 2
    assert list(curves.legend_keys(pairs, 1).values()) == list(names)
    assert list(curves.legend_keys(pairs[:3], 2).values()) == list(names[:3])  # one has no counterpart


def test_the_axis_shows_where_a_run_has_settled():
    """A first error of 90 % does not press the rest of the curve to the ground."""
    points = tuple((i, 0.9 if i < 10 else 0.1) for i in range(1, 101))
    assert curves._height([curves.Curve("x", points, ())], 100) == pytest.approx(0.125)
    assert curves._height([curves.Curve("x", ((1, 0.9),), ())], 1) == 1.0
    assert curves._height([curves.Curve("x", ((1, 0.0),), ())], 1) == 0.02


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, "no log"),
        ("", "no log of `train`"),
        ("epoch,loss\n1,2\n", "no log of `train`"),
        (HEAD, "no rows yet"),
        (HEAD + "10,0.1,0.1,1,half,,,1,1\n", "line 2"),
        (HEAD + "10,0.1,0.1,1,0.5,,,1,1\nx,0.1,0.1,1,0.5,,,1,1\n", "line 3"),
        ("\x00\xff", "log"),
    ],
)
def test_what_is_no_log(tmp_path, content, named):
    if content is not None:
        (tmp_path / "log.csv").write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=named) as caught:
        curves.read(tmp_path)
    assert "log.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_a_row_that_is_being_written_is_left_out(tmp_path):
    """A run in progress may be drawn: its last line may end anywhere."""
    run = log(tmp_path / "run", [(10, 0.5, ""), (20, 0.25, "")])
    text = (run / "log.csv").read_text()
    (run / "log.csv").write_text(text + "30,1")
    assert [iteration for iteration, _ in curves.read(run).train] == [10, 20]


def test_names_are_as_many_as_runs(runs, tmp_path):
    with pytest.raises(UserError, match="1 names for 2 runs"):
        curves.write(runs, tmp_path / "a.png", names=["one"])


def test_a_picture_that_cannot_be_written(runs, tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "a.png"):
        with pytest.raises(UserError, match="cannot write"):
            curves.write(runs, path)


@pytest.mark.parametrize(
    ("name", "family", "depth"),
    [
        ("cifar_resnet20", "residual", 20),
        ("cifar_plain110", "plain", 110),
        ("resnet50_v1", "residual", 50),
        ("ResNet-34", "residual", 34),
        ("plain18", "plain", 18),
        ("cifar_resnet20 (2)", "residual", 20),
        ("vgg16", None, 16),
        ("my run 3", None, None),
    ],
)
def test_what_a_name_says(name, family, depth):
    assert plots.family_of(name) == family and plots.depth_of(name) == depth


def test_shades_go_from_light_to_dark():
    shade = plots.shades([20, 32, 56])
    lightness = [sum(shade(depth)[:3]) for depth in (20, 32, 56)]
    assert lightness == sorted(lightness, reverse=True) and lightness[0] - lightness[2] > 0.5
    assert plots.shades(["only"])("only")
