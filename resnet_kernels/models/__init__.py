"""The paper's networks, and weights for them.

    model = rk.models.resnet50(num_classes=1000, shortcut="B", stride_in="3x3")
    model = rk.models.plain34()
    model = rk.models.cifar_resnet(56, num_classes=10)
    model = rk.models.create("resnet34_a")        # every name that `resnet-kernels models` prints
    rk.models.load_weights(model, "resnet50.pth")

Every network is an ordinary ``nn.Module`` for images of any size.
"""

from .catalogue import create, names
from .cifar import CifarPlainNet, CifarResNet, cifar_plain, cifar_resnet
from .imagenet import (
    PlainNet,
    ResNet,
    plain18,
    plain34,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
)
from .weights import WeightsError, load_weights

__all__ = [
    "CifarPlainNet",
    "CifarResNet",
    "PlainNet",
    "ResNet",
    "WeightsError",
    "cifar_plain",
    "cifar_resnet",
    "create",
    "load_weights",
    "names",
    "plain18",
    "plain34",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
]
