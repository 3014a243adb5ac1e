"""What `load` finds, and what it says where there is nothing or something broken."""

from collections import Counter

import numpy
import pytest
import torch
from sklearn.datasets import load_digits

from resnet_kernels import data
from resnet_kernels.errors import UserError


def labels(images):
    return [images[k][1] for k in range(len(images))]


def test_digits_are_scikit_learns_split_by_class():
    digits, bunch = data.load("digits"), load_digits()
    assert (len(digits.train), len(digits.test), digits.size) == (1442, 355, 8)
    assert digits.classes == tuple("0123456789")
    everything = Counter(bunch.target.tolist())
    for digit, count in Counter(labels(digits.test)).items():
        assert count == everything[digit] // 5
    image, label = digits.train[0]
    assert image.dtype == torch.uint8 and image.shape == (3, 8, 8) and label == bunch.target[0]
    numpy.testing.assert_array_equal((image[1].double() * 16 / 255).round().numpy(), bunch.images[0])
    together = {digits.train[k][0].numpy().tobytes() for k in range(len(digits.train))}
    assert sum(digits.test[k][0].numpy().tobytes() in together for k in range(len(digits.test))) == 0


def test_another_size():
    digits = data.load("digits", size=12)
    assert digits.size == 12 and digits.test[3][0].shape == (3, 12, 12)
    with pytest.raises(ValueError, match="size"):
        data.load("digits", size=0)


def test_synthetic_is_the_same_each_time_and_its_classes_differ():
    first, second = data.load("synthetic", size=16), data.load("synthetic", size=16)
    assert (len(first.train), len(first.test)) == (2048, 512)
    assert torch.equal(first.train.pixels, second.train.pixels)
    means = torch.stack([first.train.pixels[first.train.labels == k].double().mean(0) for k in range(10)])
    assert torch.pdist(means.flatten(1)).min() > 100
    nearest = torch.cdist(first.test.pixels.double().flatten(1), means.flatten(1)).argmin(1)
    assert (nearest == first.test.labels).all()


def test_cifar10_from_torchvisions_files(cifar10):
    for directory in (cifar10, cifar10 / "cifar-10-batches-py", str(cifar10)):
        found = data.load("cifar10", directory)
        assert (len(found.train), len(found.test), found.size) == (100, 20, 32)
        assert found.train[7][0].shape == (3, 32, 32) and found.classes[3] == "class 3"


def test_cifar10_missing_or_damaged(cifar10, tmp_path):
    with pytest.raises(UserError, match=r"cifar10 needs --data DIR"):
        data.load("cifar10")
    with pytest.raises(UserError, match=r"no CIFAR-10 in .*nowhere.*data_batch_1 .*--download"):
        data.load("cifar10", tmp_path / "nowhere")
    file = cifar10 / "cifar-10-batches-py" / "data_batch_3"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"damaged.*data_batch_1.*--download"):
        data.load("cifar10", cifar10)


def test_imagenet_in_folders(imagenet):
    found = data.load("imagenet", imagenet)
    assert (len(found.train), len(found.test), found.size) == (6, 4, 224)
    assert found.classes == ("n01440764", "n01443537") and labels(found.train) == [0, 0, 0, 1, 1, 1]
    assert {tuple(found.train[k][0].shape) for k in range(3)} == {(3, 60, 90), (3, 70, 90), (3, 80, 90)}
    assert all(found.train[k][0].dtype == torch.uint8 for k in range(6))


def test_imagenet_missing(imagenet, tmp_path):
    with pytest.raises(UserError, match="imagenet needs --data DIR"):
        data.load("imagenet")
    with pytest.raises(UserError, match=r"wanted train/<class>.*nowhere.train is not a directory"):
        data.load("imagenet", tmp_path / "nowhere")
    (imagenet / "val" / "n01443537").rename(imagenet / "val" / "n09999999")
    with pytest.raises(UserError, match=r"same classes.*n01443537, n09999999"):
        data.load("imagenet", imagenet)
    for file in (imagenet / "train" / "n01440764").iterdir():
        file.unlink()
    with pytest.raises(UserError, match=r"layout.*n01440764"):
        data.load("imagenet", imagenet)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named(imagenet, workers):
    file = imagenet / "val" / "n01443537" / "0.JPEG"
    file.write_bytes(file.read_bytes()[:700])
    found = data.load("imagenet", imagenet, size=32)
    view = data.test_view(found, data.normalisation(found))
    with pytest.raises(UserError, match=r"n01443537/0.JPEG cannot be read \(.*\): put back") as error:
        list(data.batches(found.test, view, batch=4, workers=workers))
    assert "Traceback" not in str(error.value)


def test_an_unknown_set_lists_those_there_are():
    with pytest.raises(UserError, match=r"'mnist'.*imagenet, cifar10, digits, synthetic"):
        data.load("mnist")
