"""The paper's networks, and weights for them.

    model = rk.models.resnet50(num_classes=1000, shortcut="B", stride_in="3x3")
    rk.models.load_weights(model, "resnet50.pth")

Every network is a `ResNet`, an ordinary ``nn.Module``.
"""

from .resnet import ResNet, create, names, resnet18, resnet34, resnet50, resnet101, resnet152
from .weights import WeightsError, load_weights

__all__ = [
    "ResNet",
    "WeightsError",
    "create",
    "load_weights",
    "names",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
]
