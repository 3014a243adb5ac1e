"""The paper's error rates stand under names that exist, and in the order that the paper finds."""

import pytest

import resnet_kernels as rk
from resnet_kernels.evaluate import paper


def test_every_figure_belongs_to_a_network():
    for table in (paper._TEN, paper._MULTISCALE, paper._CIFAR):
        assert set(table) <= set(rk.models.names())


@pytest.mark.parametrize("views", ["ten", "multiscale"])
def test_deeper_is_better(views):
    figures = [
        paper.figure(name, views, "imagenet") for name in ("resnet34", "resnet50", "resnet101", "resnet152")
    ]
    for k in (1, 2):
        errors = [figure[k] for figure in figures]
        assert errors == sorted(errors, reverse=True)


def test_more_views_are_better():
    for name in ("resnet34", "resnet34_c", "resnet50_v1", "resnet101", "resnet152"):
        ten, many = (paper.figure(name, views, "imagenet") for views in ("ten", "multiscale"))
        assert many.top1 < ten.top1 and many.top5 < ten.top5


def test_degradation_on_imagenet():
    """Table 2: the plain network of 34 layers is worse than that of 18, the residual one better."""
    plain18, plain34, a18, a34 = (
        paper.figure(name, "ten", "imagenet").top1
        for name in ("plain18", "plain34", "resnet18_a", "resnet34_a")
    )
    assert plain34 > plain18 > a18 > a34


def test_nothing_is_said_where_the_paper_says_nothing():
    assert paper.figure("resnet50", "center", "imagenet") is None
    assert paper.figure("resnet50", "ten", "digits") is None
    assert paper.figure("cifar_resnet20", "ten", "cifar10") is None
    assert paper.figure("cifar_plain20", "single", "cifar10") is None
    assert paper.figure("cifar_resnet110", "single", "cifar10").top1 == 6.43
