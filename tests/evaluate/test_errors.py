"""Error rates against a count by sorting, and on scores that say nothing."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from resnet_kernels.evaluate import Errors, count, counts, errors


@pytest.mark.parametrize(("images", "classes"), [(500, 1000), (37, 10), (1, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_against_sorting(images, classes, dtype):
    logits, labels = torch.randn(images, classes, dtype=dtype), torch.randint(classes, (images,))
    order = np.argsort(-logits.numpy(), axis=1)
    found = count(logits, labels).tolist()
    assert found[0] == images
    for k, wrong in ((1, found[1]), (5, found[2])):
        assert wrong == images - (order[:, :k] == labels.numpy()[:, None]).any(1).sum()
    probabilities = np.exp(logits.double().numpy())
    probabilities /= probabilities.sum(1, keepdims=True)
    assert found[3] == pytest.approx(-np.log(probabilities[np.arange(images), labels]).sum())


def test_right_is_right():
    labels = torch.arange(10)
    found = Errors.of(count(torch.eye(10), labels))
    assert (found.images, found.top1, found.top5, found.top1_deviation) == (10, 0, 0, 0)
    found = Errors.of(count(-torch.eye(10), labels))
    assert (found.top1, found.top5) == (1, 1)


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_a_network_that_says_the_same_of_every_class_is_wrong(value):
    found = Errors.of(count(torch.full((8, 10), value), torch.arange(8)))
    assert found.top1 == 1 and found.top5 == 1


def test_five_classes_have_no_top5_error():
    assert Errors.of(count(-torch.eye(5), torch.arange(5))).top5 == 0


def test_deviation_is_that_of_repeated_draws():
    draws = torch.rand(4000, 250) < 0.1
    measured = float(draws.float().mean(1).std())
    assert Errors(images=250, top1=0.1, top5=0, loss=0).top1_deviation == pytest.approx(measured, rel=0.05)


class Classifier(nn.Module):
    """Logits that depend on BatchNorm's mode."""

    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm2d(3)
        self.fc = nn.Linear(3, 7)

    def forward(self, x):
        return self.fc(self.bn(x).mean((2, 3)))


def test_a_network_is_evaluated_in_batches_of_any_size_and_left_as_it_was():
    model = Classifier()
    model.bn.eval()
    images, labels = torch.randn(50, 3, 4, 4), torch.randint(7, (50,))
    batches = list(zip(images.split(8), labels.split(8), strict=True))
    found = errors(model, batches)
    assert model.training and not model.bn.training and int(model.bn.num_batches_tracked) == 0
    with torch.no_grad():
        logits = model.eval()(images)
    assert found.top1 == float((logits.argmax(1) != labels).double().mean())
    assert found.loss == pytest.approx(float(nn.functional.cross_entropy(logits, labels)), rel=1e-5)
    parts = counts(model, batches[:3]) + counts(model, batches[3:])
    assert Errors.of(parts).top1 == found.top1


def test_autocast_reaches_the_network():
    seen = []

    class Network(nn.Linear):
        def forward(self, x):
            seen.append(super().forward(x).dtype)
            return super().forward(x)

    errors(Network(3, 4), [(torch.randn(2, 3), torch.tensor([0, 3]))], autocast=torch.bfloat16)
    errors(Network(3, 4), [(torch.randn(2, 3), torch.tensor([0, 3]))])
    assert seen == [torch.bfloat16, torch.float32]


def test_no_image():
    with pytest.raises(ValueError, match="at least one image"):
        errors(Classifier(), [])


@pytest.mark.parametrize(("logits", "labels"), [((3, 10), 2), ((3,), 3), ((3, 10), (3, 1))])
def test_wrong_shapes(logits, labels):
    with pytest.raises(ValueError, match="count:"):
        count(torch.zeros(logits), torch.zeros(labels).long())


@pytest.mark.parametrize("label", [-1, 7])
def test_labels_of_other_classes(label):
    with pytest.raises(ValueError, match="7 classes"):
        errors(Classifier(), [(torch.randn(2, 3, 4, 4), torch.tensor([0, label]))])
