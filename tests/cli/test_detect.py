"""detect shapes | train | eval | show as a new user tries them, and what goes wrong on the way."""

import pytest
from PIL import Image

SMALL = ("--model", "resnet18", "--batch", "1", "--min-size", "48", "--max-size", "48", "--anchors", "16,32")
SMALL += ("--roi-size", "2", "--regions", "4")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("detect")


def test_from_shapes_to_a_picture(run, directory):
    data, output, picture = directory / "voc", directory / "run", directory / "found.png"
    result = run(
        "detect", "shapes", str(data), "--layout", "voc", "--train", "8", "--val", "3", "--size", "48"
    )
    assert result.exit_code == 0 and "8 + 3 images" in result.stdout
    options = ("--data", str(data), "--output", str(output))
    result = run("detect", "train", *options, *SMALL, "--iterations", "2", "--pretrain", "1")
    assert result.exit_code == 0, result.output
    assert "resnet18 on 8 pictures of 3 classes (VOC), 0 of 2 iterations done, " in result.stdout
    assert "iteration 2: mean loss" in result.stdout
    result = run("detect", "train", *options, "--resume", "--iterations", "3")
    assert result.exit_code == 0 and "2 of 3 iterations done" in result.stdout
    assert len((output / "losses.csv").read_text().splitlines()) == 1 + 2  # the ends of both parts
    checkpoint = ("--checkpoint", str(output))
    result = run("detect", "eval", *checkpoint, "--data", str(data), "--picture", str(picture))
    assert result.exit_code == 0, result.output
    for row in (
        "COCO mAP@0.75",
        "COCO mAP, large",
        "none there",
        "VOC mAP@0.5, 11 points",
        "VOC AP@0.5, disc",
    ):
        assert row in result.stdout
    with Image.open(picture) as image:
        assert image.width > 400
    image = next((data / "JPEGImages").glob("*.jpg"))
    shown = directory / "shown.png"
    result = run("detect", "show", *checkpoint, str(image), "--output", str(shown), "--threshold", "0.01")
    assert result.exit_code == 0 and shown.is_file(), result.output
    for bad, named in (
        (("train", *options, *SMALL), "holds a run already"),
        (("eval", *checkpoint), "--data DIR is missing"),
        (("eval", *checkpoint, "--data", str(data), "--split", "test"), "the splits there are: train, val"),
        (("eval", *checkpoint, "--data", str(data), "--picture", str(directory / "x.jpg")), "wanted a .png"),
        (("show", *checkpoint, str(directory / "absent.jpg")), "no such file"),
        (("shapes", str(data)), "there already"),
    ):
        wrong(run("detect", *bad), named)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("train",), "--data DIR is missing"),
        (("train", "--data", "{}"), "in neither layout; expected COCO"),
        (("train", "--data", "{}/absent"), "there is no directory"),
        (("train", "--data", "{}", "--resume", "--output", "{}/absent"), "there is no checkpoint"),
        (("eval", "--data", "{}", "--checkpoint", "{}/absent"), "there is no checkpoint"),
        (("eval", "--data", "{}"), "--checkpoint"),
        (("shapes", "{}/new", "--layout", "yolo"), "--layout must be coco or voc"),
        (("train", "--data", "{}", "--backend", "tpu"), "no backend 'tpu'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(run, tmp_path, arguments, named):
    wrong(run("detect", *(argument.format(tmp_path) for argument in arguments)), named)


def wrong(result, named):
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("resnet-kernels: ") and named in lines[0], lines
