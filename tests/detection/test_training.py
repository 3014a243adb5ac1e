"""A detector learns from a set that is drawn here; a run that is stopped goes on with the same bits."""

import os
import signal
from pathlib import Path

import pytest
import torch

import resnet_kernels as rk
from resnet_kernels import detection
from resnet_kernels.detection import pretraining, shapes, training
from resnet_kernels.errors import UserError
from resnet_kernels.models import imagenet
from resnet_kernels.nn import BasicBlock

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    directory = tmp_path_factory.mktemp("shapes")
    shapes.write(directory, "coco", {"train": 150, "val": 30}, size=96, seed=5)
    return directory


def test_it_learns(drawn, tmp_path, monkeypatch):
    """From random weights: before training nothing is right, after it the drawn shapes are found."""
    monkeypatch.setattr(imagenet, "WIDTHS", (16, 32, 64, 128))  # a quarter of ResNet's: seconds, not minutes
    torch.manual_seed(0)
    train, val = (detection.read([drawn], split) for split in ("train", "val"))
    settings = detection.Settings("resnet18", train.classes, (32, 64), 160, 160, 6, regions=32)
    network = rk.models.ResNet(BasicBlock, (1, 1, 1, 1), num_classes=3)
    told = []
    pretraining.pretrain(network, train, 150, CPU, told.append)
    assert float(told[-1].removeprefix("loss ")) < 0.5
    pretraining.measure(network, train, 160, CPU)
    detector = settings.build(network)
    before = detection.score(val, detection.detect(detector, val.pictures, CPU))
    plan = detection.Plan(iterations=300, batch=2, learning_rate=0.02, warm_up=20, every=10)
    run = detection.Run(detector, settings, plan, tmp_path, CPU)
    assert run.train(train) == 0
    first, last = (sum(row[2] for row in rows) / 3 for rows in (run.losses[:3], run.losses[-3:]))
    after = detection.score(val, detection.detect(detector, val.pictures, CPU))
    print(f"loss {first:.2f} -> {last:.2f}; mAP@0.5 {before.ap50:.3f} -> {after.ap50:.3f}")
    assert before.ap50 < 0.05
    assert last < 0.7 * first
    assert after.ap50 > 0.2


def small_run(drawn, output, iterations=3):
    """ResNet-18 with everything around it as small as it goes."""
    torch.manual_seed(0)
    folder = detection.read([drawn], "train")
    settings = detection.Settings("resnet18", folder.classes, (32,), 48, 48, 2, regions=4)
    plan = detection.Plan(iterations=iterations, batch=1, learning_rate=0.001, every=1, seed=3)
    return detection.Run(settings.build(), settings, plan, output, CPU), folder


def test_a_stopped_run_goes_on_with_the_same_bits(drawn, tmp_path):
    whole, folder = small_run(drawn, tmp_path / "whole")
    whole.train(folder)
    stopped, folder = small_run(drawn, tmp_path / "stopped")
    told = []

    def interrupt(text):
        told.append(text)
        if len(told) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    assert stopped.train(folder, interrupt) == signal.SIGINT and stopped.iteration == 2
    resumed = detection.Run.resumed(tmp_path / "stopped", CPU)
    assert resumed.iteration == 2 and resumed.plan == whole.plan
    assert resumed.train(folder) == 0
    for (key, a), b in zip(
        whole.detector.state_dict().items(), resumed.detector.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), key
    assert resumed.losses == whole.losses and len(whole.losses) == 3
    tables = [(tmp_path / name / "losses.csv").read_text() for name in ("whole", "stopped")]
    assert tables[0] == tables[1] and tables[0].splitlines()[0] == ",".join(training.COLUMNS)
    assert not list(tmp_path.glob("*/*.partial"))
    loaded, settings, _ = detection.load(tmp_path / "whole")
    assert settings == whole.settings and not loaded.training
    with torch.no_grad():
        x = [folder.pictures[0].image()]
        assert torch.equal(loaded(x)[0]["scores"], whole.detector.eval()(x)[0]["scores"])


def test_batches_can_be_entered_anywhere(drawn):
    folder = detection.read([drawn], "train")
    plan = detection.Plan(iterations=160, batch=2)
    for (images, targets), (same_images, same_targets) in zip(
        list(training.batches(folder, plan))[150:], training.batches(folder, plan, 150), strict=True
    ):
        assert all(torch.equal(a, b) for a, b in zip(images, same_images, strict=True))
        assert all(torch.equal(a["boxes"], b["boxes"]) for a, b in zip(targets, same_targets, strict=True))


def test_every_picture_once_an_epoch_and_some_mirrored(drawn):
    folder = detection.read([drawn], "train")
    seen = [images[0] for images, _ in training.batches(folder, detection.Plan(iterations=150, batch=1))]
    sums = sorted(round(float(image.double().sum()), 3) for image in seen)
    assert sums == sorted(round(float(picture.image().double().sum()), 3) for picture in folder.pictures)
    plain = {picture.image().numpy().tobytes() for picture in folder.pictures}
    assert 40 < sum(image.numpy().tobytes() in plain for image in seen) < 110


def test_mirroring_takes_boxes_along():
    image, boxes = torch.zeros(3, 5, 8), torch.tensor([[1.0, 2, 4, 5]])
    image[:, 2:5, 1:4] = 1
    mirrored, (box,) = training.mirrored(image, boxes)
    x0, y0, x1, y1 = map(int, box)
    assert mirrored[:, y0:y1, x0:x1].all() and mirrored.sum() == image.sum()


def test_the_learning_rate_rises_and_falls():
    plan = detection.Plan(iterations=100, learning_rate=0.01, warm_up=10)
    assert [plan.rate(i) for i in (0, 9, 74, 75)] == pytest.approx([0.001, 0.01, 0.01, 0.001])


def test_pretrained_weights_of_another_number_of_classes(drawn, tmp_path):
    folder = detection.read([drawn], "train")
    settings = detection.Settings("resnet18", folder.classes, (32,), 48, 48, 2, regions=4)
    classifier = rk.models.resnet18(num_classes=7)
    torch.save({"model": classifier.state_dict()}, tmp_path / "seven.pth")
    detector = detection.start(settings, folder, tmp_path / "seven.pth")
    assert torch.equal(detector.backbone.conv1.weight, classifier.conv1.weight)
    assert torch.equal(detector.roi_heads.box_head.layer4[1].conv2.weight, classifier.layer4[1].conv2.weight)
    with pytest.raises(UserError, match="does not fit ResNet"):
        detection.start(detection.Settings("resnet50", folder.classes), folder, tmp_path / "seven.pth")
    with pytest.raises(UserError, match="no file"):
        detection.start(settings, folder, tmp_path / "absent.pth")
    with pytest.raises(UserError, match="choose one of them"):
        detection.start(settings, folder, tmp_path / "seven.pth", pretrain=3)


def test_what_cannot_be_trained_says_so(drawn, tmp_path):
    run, folder = small_run(drawn, tmp_path)
    run.plan.__dict__["learning_rate"] = 1e30
    with pytest.raises(UserError, match="losses became infinite at iteration"):
        run.train(folder)
    nothing = detection.Folder("COCO", folder.classes, (detection.picture(Path("x"), []),))
    with pytest.raises(UserError, match="no picture of this split has an object"):
        run.train(nothing)
    with pytest.raises(UserError, match="no picture of this split has an object"):
        detection.start(run.settings, nothing)
    for options, message in (
        ({"batch": 0}, "batch must be at least 1"),
        ({"learning_rate": 0.0}, "rate must be"),
    ):
        with pytest.raises(UserError, match=message):
            detection.Run(run.detector, run.settings, detection.Plan(**options), tmp_path, CPU)
    for settings, message in (
        (detection.Settings("vgg16", ("a",)), "no residual network 'vgg16' .*resnet101"),
        (detection.Settings("resnet18", ("a",), roi_size=0), "roi_size must be at least 1"),
    ):
        with pytest.raises(UserError, match=message):
            settings.build()


def test_damaged_checkpoints_say_so(drawn, tmp_path):
    run, _ = small_run(drawn, tmp_path)
    run.save()
    whole = (tmp_path / "checkpoint.pt").read_bytes()
    for content, message in (
        (whole[:5000], "truncated, damaged"),
        (b"", "truncated, damaged"),
        (b"x" * 99, "damaged"),
    ):
        (tmp_path / "checkpoint.pt").write_bytes(content)
        with pytest.raises(UserError, match=message):
            detection.load(tmp_path)
    torch.save({"format": "other"}, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match="no checkpoint of `resnet-kernels detect train`"):
        detection.Run.resumed(tmp_path, CPU)
    with pytest.raises(UserError, match=r"no checkpoint .*absent"):
        detection.load(tmp_path / "absent")
