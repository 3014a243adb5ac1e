"""The paper's networks by name.

resnet50        as torchvision builds it: shortcut B, a bottleneck's stride in its 3x3 ("v1.5")
resnet50_v1     as the paper builds it: the stride in the bottleneck's first 1x1
resnet34_a, _c  the paper's other shortcuts: zero padding, and projections everywhere (table 3)
plain34         without shortcuts
cifar_resnet56  section 4.2's for CIFAR-10, and cifar_plain56
vgg16, vgg19    torchvision's: what the paper compares its multiply-adds with
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from . import cifar, imagenet

PLAIN_DEPTHS = (20, 32, 44, 56, 110)  # figure 6, and section 4.2's text for plain-110


def _vgg(name: str, **options: Any) -> nn.Module:
    try:
        from torchvision.models import get_model
    except ImportError as error:
        raise ImportError(f"create: {name} is torchvision's network: install torchvision") from error
    return get_model(name, **options)


_MODELS: dict[str, Callable[..., nn.Module]] = {
    "plain18": imagenet.plain18,
    "plain34": imagenet.plain34,
    **{
        name + suffix: partial(maker, **options)  # type: ignore[arg-type]
        for name, maker in (("resnet18", imagenet.resnet18), ("resnet34", imagenet.resnet34))
        for suffix, options in (("", {}), ("_a", {"shortcut": "A"}), ("_c", {"shortcut": "C"}))
    },
    **{
        maker.__name__ + suffix: partial(maker, **options)  # type: ignore[arg-type]
        for maker in (imagenet.resnet50, imagenet.resnet101, imagenet.resnet152)
        for suffix, options in (("", {}), ("_v1", {"stride_in": "1x1"}))
    },
    **{f"cifar_plain{depth}": partial(cifar.cifar_plain, depth) for depth in PLAIN_DEPTHS},
    **{f"cifar_resnet{depth}": partial(cifar.cifar_resnet, depth) for depth in cifar.DEPTHS},
    **{name: partial(_vgg, name) for name in ("vgg16", "vgg19")},
}


def names() -> list[str]:
    """The names `create` takes: every network of the paper."""
    return list(_MODELS)


def create(name: str, **options: Any) -> nn.Module:
    """The network called `name`, made with `options` (num_classes, and what its constructor takes).

    Raises:
        ValueError: there is no such network, and the message lists those there are; or an option is wrong.
        ImportError: the network is VGG, and torchvision is absent.
    """
    if name not in _MODELS:
        raise ValueError(f"create: name must be one of {', '.join(map(repr, _MODELS))}, got {name!r}")
    return _MODELS[name](**options)
