"""load_weights: every format it takes, and every file it must refuse without touching the network."""

import copy
import os

import pytest
import safetensors.torch
import torch
import torchvision

import resnet_kernels as rk

from .common import error, images, settle

CLASSES = 10


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(5)
    return settle(torchvision.models.resnet18(num_classes=CLASSES)).eval()


@pytest.fixture
def ours():
    return rk.models.resnet18(num_classes=CLASSES).eval()


def write(path, content):
    if path.suffix == ".safetensors":
        safetensors.torch.save_file({key: value.contiguous() for key, value in content.items()}, path)
    else:
        torch.save(content, path)
    return path


def assert_equal(a, b):
    for (key, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y), key


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_from_torchvision_and_back(tmp_path, ours, theirs, name):
    path = write(tmp_path / name, theirs.state_dict())
    assert rk.models.load_weights(ours, path) is ours
    assert_equal(ours, theirs)
    assert ours.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    x = images(2, 3, 32, 32)
    with torch.no_grad():
        assert error(ours(x), theirs(x)) < 1e-5

    back = torchvision.models.resnet18(num_classes=CLASSES)
    path = write(tmp_path / ("back_" + name), ours.state_dict())
    rk.models.load_weights(back, path)
    assert_equal(back, theirs)


def test_into_a_fused_network(tmp_path, theirs):
    path = write(tmp_path / "weights.pth", theirs.state_dict())
    fused = rk.fuse(torchvision.models.resnet18(num_classes=CLASSES))
    assert_equal(rk.models.load_weights(fused, str(path)), theirs)


def test_legacy_pickle_format(tmp_path, ours, theirs):
    path = tmp_path / "weights.pth"
    torch.save(theirs.state_dict(), path, _use_new_zipfile_serialization=False)
    assert_equal(rk.models.load_weights(ours, path), theirs)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: {"state_dict": weights, "epoch": 3},
        lambda weights: {"model": weights, "optimizer": {"lr": 0.1}},
        lambda weights: {"module." + key: value for key, value in weights.items()},
        lambda weights: {"state_dict": {"module." + key: value for key, value in weights.items()}},
        lambda weights: {key: value for key, value in weights.items() if "num_batches_tracked" not in key},
        lambda weights: {
            key: value.half() if value.is_floating_point() else value for key, value in weights.items()
        },
    ],
    ids=["state_dict", "model", "module.", "both", "before 0.4.1", "half"],
)
def test_what_training_scripts_write(tmp_path, ours, theirs, wrap):
    path = write(tmp_path / "checkpoint.pth", wrap(theirs.state_dict()))
    rk.models.load_weights(ours, path)
    assert torch.allclose(ours.fc.weight, theirs.fc.weight, atol=1e-3)


def refuses(model, path, message, kind=rk.models.WeightsError):
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(kind, match=message) as caught:
        rk.models.load_weights(model, path)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key
    return str(caught.value)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.0001, 0.5, 0.999])
def test_truncated_files(tmp_path, ours, theirs, name, kept):
    path = write(tmp_path / name, theirs.state_dict())
    os.truncate(path, int(kept * path.stat().st_size))
    message = refuses(ours, path, "truncated|damaged|empty|no file of weights")
    assert name in message


@pytest.mark.parametrize(
    "content",
    [b"<!DOCTYPE html><html>404</html>", b"\x89PNG\r\n\x1a\n" + b"\0" * 64, b"PK\x03\x04" + b"\1" * 99, b"x"],
)
def test_foreign_files(tmp_path, ours, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    refuses(ours, path, "no file of weights")


class Attack:
    def __reduce__(self):
        return os.mkdir, ("attacked",)


def test_code_in_a_file_is_not_executed(tmp_path, monkeypatch, ours):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "weights.pth", {"conv1.weight": Attack()})
    refuses(ours, path, "could execute code")
    assert not (tmp_path / "attacked").exists()


def test_no_file(tmp_path, ours):
    refuses(ours, tmp_path / "absent.pth", "there is no file", FileNotFoundError)
    refuses(ours, tmp_path, "there is no file", FileNotFoundError)


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {"lr": 0.1}, {3: torch.zeros(1)}], ids=str)
def test_no_state_dict(tmp_path, ours, content):
    refuses(ours, write(tmp_path / "weights.pth", content), "not a mapping|no state_dict")


def test_missing_unknown_and_misshapen_are_listed(tmp_path, ours, theirs):
    weights = dict(theirs.state_dict())
    del weights["layer1.0.conv1.weight"], weights["bn1.running_mean"]
    weights["head.weight"] = torch.zeros(2)
    weights["layer4.0.bn1.bias"] = torch.zeros(7)
    message = refuses(
        ours, write(tmp_path / "weights.pth", weights), "does not fit ResNet, which is unchanged"
    )
    assert "2 keys are missing: bn1.running_mean, layer1.0.conv1.weight" in message
    assert "1 keys are unknown to the model: head.weight" in message
    assert "layer4.0.bn1.bias (7,) for (512,)" in message


def test_another_number_of_classes_is_explained(tmp_path, theirs):
    path = write(tmp_path / "weights.pth", theirs.state_dict())
    message = refuses(
        rk.models.resnet18(num_classes=1000), path, "classifier has 10 classes, the model's 1000"
    )
    assert "num_classes=10" in message and "shapes differ" not in message


def test_another_depth_lists_a_few_keys_and_counts_the_rest(tmp_path, theirs):
    path = write(tmp_path / "weights.pth", theirs.state_dict())
    message = refuses(rk.models.resnet50(num_classes=CLASSES), path, "keys are missing: .* and [0-9]+ more")
    assert len(message) < 2500


def test_integers_for_weights(tmp_path, ours, theirs):
    weights = dict(theirs.state_dict())
    weights["fc.bias"] = torch.zeros(CLASSES, dtype=torch.int64)
    refuses(ours, write(tmp_path / "weights.pth", weights), "dtypes differ in kind: fc.bias")


def test_not_a_module(tmp_path):
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got str"):
        rk.models.load_weights("resnet18", tmp_path)
