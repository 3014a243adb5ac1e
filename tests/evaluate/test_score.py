"""Averaged scores against the plain loop: one image, one view at a time."""

import pytest
import torch
from torch import nn

import resnet_kernels as rk
from resnet_kernels import data
from resnet_kernels.evaluate import Views
from resnet_kernels.evaluate.score import Normalised, Scores, by_size, ensemble, score

CLASSES = 7


def halve(image):
    return image.float() / 127.5 - 1


class Photographs:
    """Images of different shapes, made from their number."""

    SHAPES = ((40, 60), (60, 40), (50, 50), (40, 60), (33, 70))

    def __init__(self, count=11):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        generator = torch.Generator().manual_seed(i)
        shape = (3, *self.SHAPES[i % len(self.SHAPES)])
        return torch.randint(256, shape, generator=generator, dtype=torch.uint8), i % CLASSES


def network():
    """A small residual network whose BatchNorms are settled, so that evaluation depends on the image."""
    layers = rk.nn.ConvBNAct2d(3, 8, 3, stride=2), rk.nn.BasicBlock(8, 16, stride=2)
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES))
    with torch.no_grad():
        model[-1].weight.mul_(20)
        for _ in range(20):
            model(torch.randn(8, 3, 48, 48))
    return model.eval()


VIEWS = [
    Views("single"),
    Views("center", crop=28, side=32),
    Views("ten", crop=28, side=32),
    Views("multiscale", sides=(28, 40)),
]


@pytest.mark.parametrize("views", VIEWS, ids=lambda views: views.kind)
@pytest.mark.parametrize("images", [1, 4])
def test_as_one_view_at_a_time(views, images):
    model, photographs = network(), Photographs(9)
    batches = data.batches(photographs, Normalised(views, halve), batch=images, together=by_size)
    found = score(model, batches, batch=1)
    expected = []
    with torch.no_grad():
        for image, _ in (photographs[i] for i in range(len(photographs))):
            scores = [torch.softmax(model(halve(view)[None]), 1)[0] for view in views(image)]
            expected.append(torch.stack(scores).mean(0))
    torch.testing.assert_close(found.probabilities, torch.stack(expected), rtol=1e-4, atol=1e-6)
    assert found.labels.tolist() == [i % CLASSES for i in range(len(photographs))]
    wrong = found.probabilities.argmax(1) != found.labels
    assert found.errors.top1 == float(wrong.double().mean())
    assert found.errors.loss == pytest.approx(
        float(nn.functional.nll_loss(torch.stack(expected).log(), found.labels)), rel=1e-4
    )


def test_large_views_go_in_small_calls():
    """A call never has more pixels than `batch` views of 224, unless one view alone has."""
    seen = []

    class Network(nn.Module):
        def forward(self, x):
            seen.append(tuple(x.shape))
            return x.mean((2, 3))

    items = [([torch.randn(3, 448, 448), torch.randn(3, 224, 448), torch.randn(3, 8, 8)], 0)] * 6
    score(Network(), [by_size(items)], batch=4)
    assert [shape[0] for shape in seen if shape[2:] == (448, 448)] == [1] * 6
    assert [shape[0] for shape in seen if shape[2:] == (224, 448)] == [2] * 3
    assert [shape[0] for shape in seen if shape[2:] == (8, 8)] == [6]


def test_a_tiny_probability_has_a_finite_loss():
    found = Scores(torch.tensor([[1.0, 0.0]]), torch.tensor([1])).errors
    assert found.top1 == 1 and 80 < found.loss < 100


def test_ensemble_is_the_mean_of_probabilities():
    """A network that is sure outweighs two that are not."""
    labels = torch.tensor([0])
    rows = ([0.7, 0.3], [0.7, 0.3], [0.001, 0.999])
    members = [Scores(torch.tensor([[*row, 0.0]]), labels) for row in rows]
    found = ensemble(members).probabilities
    torch.testing.assert_close(found, torch.tensor([[0.467, 0.533, 0.0]]))
    assert torch.equal(ensemble(members[:1]).probabilities, members[0].probabilities)
    assert ensemble(members[:2]).errors.top1 == 0 and ensemble(members).errors.top1 == 1


def test_members_of_an_ensemble_score_the_same_images():
    one = Scores(torch.rand(4, 3), torch.tensor([0, 1, 2, 0]))
    others = Scores(one.probabilities, torch.tensor([0, 2, 1, 0])), Scores(torch.rand(4, 5), one.labels)
    for other in others:
        with pytest.raises(ValueError, match="same images"):
            ensemble([one, other])
    with pytest.raises(ValueError, match="at least one"):
        ensemble([])


def test_a_network_of_other_classes_and_no_image():
    with pytest.raises(ValueError, match="2 classes"):
        score(nn.Flatten(), [by_size([([torch.randn(2, 1, 1)], 5)])], batch=1)
    with pytest.raises(ValueError, match="at least one image"):
        score(network(), [], batch=1)
