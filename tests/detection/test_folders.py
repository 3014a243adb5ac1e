"""Folders in COCO's and in VOC's layout: one set in both, several put together, what can be wrong."""

import json

import numpy as np
import pytest
from PIL import Image

from resnet_kernels import detection
from resnet_kernels.detection import shapes
from resnet_kernels.errors import UserError

SPLITS = {"train": 12, "val": 3}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """layout -> a directory with the same set."""
    directory = tmp_path_factory.mktemp("shapes")
    for layout in shapes.LAYOUTS:
        shapes.write(directory / layout, layout, SPLITS, size=64, seed=3)
    return {layout: directory / layout for layout in shapes.LAYOUTS}


def test_both_layouts_say_the_same(drawn):
    for split, count in SPLITS.items():
        classes = None if split == "train" else shapes.CLASSES
        coco, voc = (detection.read([drawn[layout]], split, classes) for layout in ("coco", "voc"))
        assert (coco.layout, voc.layout) == ("COCO", "VOC")
        assert coco.classes == voc.classes == shapes.CLASSES
        assert len(coco.pictures) == len(voc.pictures) == count
        for a, b in zip(coco.pictures, voc.pictures, strict=True):
            for name in ("boxes", "labels", "ignored", "areas"):
                assert np.array_equal(getattr(a, name), getattr(b, name)), name
            assert a.image().shape == (3, 64, 64) and a.image().equal(b.image())


def test_boxes_lie_on_what_is_drawn():
    """A shape's colour is uniform but for the noise around it: at the middle of a box there is one colour."""
    random = np.random.default_rng(0)
    for _ in range(20):
        image, objects = shapes.draw(random, 96)
        pixels = np.asarray(image).astype(int)
        for (x0, y0, x1, y1), _ in objects[-1:]:  # the last is over the others
            x, y = (x0 + x1) // 2, (y0 + y1) // 2
            assert np.ptp(pixels[y - 2 : y + 3, x - 1 : x + 2], axis=(0, 1)).max() == 0
            assert 0 <= x0 < x1 <= 96 and 0 <= y0 < y1 <= 96


def test_two_directories_are_put_together(drawn):
    folder = detection.read([drawn["voc"], drawn["coco"]], "train")
    assert len(folder.pictures) == 24 and folder.classes == shapes.CLASSES


def test_classes_of_directories_that_differ_are_put_together(tmp_path):
    made = []
    for name in ("dog", "cat"):
        directory = coco(
            tmp_path / name, one(categories=[{"id": 18, "name": name}, {"id": 3, "name": "car"}])
        )
        Image.new("RGB", (50, 60)).save(directory / "train" / "a.jpg")
        made.append(directory)
    folder = detection.read(made, "train")
    assert folder.classes == ("car", "cat", "dog")
    assert [picture.labels[0] for picture in folder.pictures] == [3, 2]


def coco(directory, content):
    (directory / "annotations").mkdir(parents=True, exist_ok=True)
    (directory / "train").mkdir(exist_ok=True)
    (directory / "annotations" / "instances_train.json").write_text(
        content if isinstance(content, str) else json.dumps(content)
    )
    return directory


def one(**changes):
    """COCO's annotations of one image with a crowd, a box without height, and one object."""
    rows = [
        {"id": 1, "image_id": 7, "category_id": 18, "bbox": [1, 2, 30, 40], "area": 500.0, "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 3, "bbox": [5, 5, 8, 8], "area": 64, "iscrowd": 1},
        {"id": 3, "image_id": 7, "category_id": 3, "bbox": [5, 5, 8, 0], "area": 0, "iscrowd": 0},
    ]
    return {
        "images": [{"id": 7, "file_name": "a.jpg"}],
        "annotations": rows,
        "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
    } | changes


def test_coco_numbers_crowds_and_empty_boxes(tmp_path):
    Image.new("L", (50, 60)).save(coco(tmp_path, one()) / "train" / "a.jpg")
    folder = detection.read([tmp_path], "train")
    assert folder.classes == ("car", "dog")  # by their numbers, 3 and 18
    (picture,) = folder.pictures
    assert picture.labels.tolist() == [2, 1] and picture.ignored.tolist() == [False, True]
    assert picture.boxes[0].tolist() == [1, 2, 31, 42] and picture.areas[0] == 500
    target = picture.target()
    assert target["labels"].tolist() == [2] and target["boxes"].shape == (1, 4)
    assert picture.image().shape == (3, 60, 50)  # grey becomes RGB
    assert detection.read([tmp_path], "train", ("dog", "car")).pictures[0].labels.tolist() == [1, 2]


def test_voc_corners_and_difficult_objects(tmp_path):
    """VOC counts pixels from 1, and both corners belong to the object."""
    for part in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (tmp_path / part).mkdir(parents=True)
    (tmp_path / "ImageSets/Main/test.txt").write_text("x\n")
    (tmp_path / "JPEGImages/x.jpg").touch()
    (tmp_path / "Annotations/x.xml").write_text(
        "<annotation><object><name>cat</name><difficult>1</difficult><bndbox><xmin>1</xmin><ymin>1</ymin>"
        "<xmax>10</xmax><ymax>20</ymax></bndbox></object></annotation>"
    )
    (picture,) = detection.read([tmp_path], "test").pictures
    assert picture.boxes.tolist() == [[0, 0, 10, 20]] and picture.areas.tolist() == [200]
    assert picture.ignored.tolist() == [True] and picture.labels.tolist() == [8]
    assert len(picture.target()["boxes"]) == 0
    with pytest.raises(UserError, match=r"x\.jpg cannot be read"):
        picture.image()
    (tmp_path / "Annotations/x.xml").write_text("<annotation><object><name>cat</name></object></annotation>")
    with pytest.raises(UserError, match=r"x\.xml cannot be read: an object without bndbox/xmin"):
        detection.read([tmp_path], "test")
    (tmp_path / "Annotations/x.xml").write_text("<annota")
    with pytest.raises(UserError, match=r"x\.xml cannot be read"):
        detection.read([tmp_path], "test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not in COCO's format"),
        ({"images": []}, "no entry 'categories'"),
        (one(annotations=[{"image_id": 8, "category_id": 3, "bbox": [0, 0, 1, 1]}]), "no entry 8"),
        (one(annotations=[{"image_id": 7, "category_id": 3, "bbox": [0, 0, 1]}]), "not enough values"),
        (one(), "an image that is not there: .*a.jpg"),
    ],
)
def test_damaged_coco_files(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        detection.read([coco(tmp_path, content)], "train")


def test_what_is_missing_is_named_with_what_was_expected(drawn, tmp_path):
    for directories, split, message in (
        ([tmp_path / "absent"], "train", "no directory .*absent"),
        (
            [tmp_path],
            "train",
            r"neither layout; expected COCO: .*_train\.json .* or VOC: .*Main/train",
        ),
        ([drawn["coco"].parent], "train", r"did you mean .*voc\?"),
        (
            [drawn["coco"]],
            "train2017",
            r"_train2017.json is missing; the splits there are: train, val",
        ),
        ([drawn["voc"]], "trainval", r"trainval.txt is missing; the splits there are: train, val"),
        ([], "train", "no directory of data was given"),
    ):
        with pytest.raises(UserError, match=message):
            detection.read(directories, split)
    for layout in shapes.LAYOUTS:
        with pytest.raises(UserError, match="classes that the detector does not know: disc"):
            detection.read([drawn[layout]], "train", ("square", "triangle"))
