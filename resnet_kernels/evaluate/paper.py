"""The error rates of the paper, in per cent on ImageNet's validation set (table 5: its test set).

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
"""

from __future__ import annotations

from typing import NamedTuple


class Figure(NamedTuple):
    """What a table of the paper says of a network; None where it says nothing."""

    source: str
    top1: float | None
    top5: float | None


# Tables 2 (18 layers) and 3: 10-crop testing.
_TEN = {
    "plain18": Figure("table 2", 27.94, None),
    "resnet18_a": Figure("table 2", 27.88, None),
    "plain34": Figure("table 3", 28.54, 10.02),
    "resnet34_a": Figure("table 3", 25.03, 7.76),
    "resnet34": Figure("table 3", 24.52, 7.46),
    "resnet34_c": Figure("table 3", 24.19, 7.40),
    "resnet50": Figure("table 3", 22.85, 6.71),
    "resnet101": Figure("table 3", 21.75, 6.05),
    "resnet152": Figure("table 3", 21.43, 5.71),
}

# Table 4: single models, fully convolutional, averaged over the scales.
_MULTISCALE = {
    "resnet34": Figure("table 4", 21.84, 5.71),
    "resnet34_c": Figure("table 4", 21.53, 5.60),
    "resnet50": Figure("table 4", 20.74, 5.25),
    "resnet101": Figure("table 4", 19.87, 4.60),
    "resnet152": Figure("table 4", 19.38, 4.49),
}

# Table 6: CIFAR-10's test set, one view.
_CIFAR = {
    "cifar_resnet20": Figure("table 6", 8.75, None),
    "cifar_resnet32": Figure("table 6", 7.51, None),
    "cifar_resnet44": Figure("table 6", 7.17, None),
    "cifar_resnet56": Figure("table 6", 6.97, None),
    "cifar_resnet110": Figure("table 6", 6.43, None),
    "cifar_resnet1202": Figure("table 6", 7.93, None),
}

ENSEMBLE = Figure("table 5 (six models, test set)", None, 3.57)


def figure(name: str, views: str, data: str) -> Figure | None:
    """The paper's figure for a network tested with these views on these data, or None.

    Args:
        name: as `rk.models.create` takes it; "resnet50" with the stride in its 3x3 stands beside the paper's
            as "resnet50_v1" does.
        views: of `views.KINDS`.
        data: "imagenet" or "cifar10"; the paper has no other classification results.
    """
    if data == "cifar10" and views == "single":
        return _CIFAR.get(name)
    if data != "imagenet" or views not in ("ten", "multiscale"):
        return None
    return (_TEN if views == "ten" else _MULTISCALE).get(name.removesuffix("_v1"))
