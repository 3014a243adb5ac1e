"""What the module tests share: networks, settled statistics, and a count of operator calls."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models import resnet

import resnet_kernels as rk

# rk.ops name -> torch.ops.resnet_kernels name
SCHEMAS = {
    "conv_bn_act": "conv_fprop",
    "bn_act": "bn_apply",
    "conv_bn_relu_maxpool": "conv_bn_relu_maxpool",
    "max_pool": "max_pool",
    "global_avg_pool": "global_avg_pool",
    "linear": "linear",
}


_ONE_EACH = [1, 1, 1, 1]  # blocks a stage: every kind of layer the network has, in a fraction of the time

SHORT: dict[str, Callable[[], nn.Module]] = {
    "small": functools.partial(resnet.ResNet, resnet.BasicBlock, _ONE_EACH, num_classes=10),
    "short resnet50": functools.partial(resnet.ResNet, resnet.Bottleneck, _ONE_EACH),
    "short wide_resnet50_2": functools.partial(
        resnet.ResNet, resnet.Bottleneck, _ONE_EACH, width_per_group=128
    ),
    "short resnext50_32x4d": functools.partial(
        resnet.ResNet, resnet.Bottleneck, _ONE_EACH, groups=32, width_per_group=4
    ),
    "short timm resnet18": functools.partial(timm.create_model, "resnet18", layers=_ONE_EACH),
    "short timm resnet50": functools.partial(timm.create_model, "resnet50", layers=_ONE_EACH),
    "short timm resnet50d": functools.partial(timm.create_model, "resnet50d", layers=_ONE_EACH),
    "short timm seresnet50": functools.partial(timm.create_model, "seresnet50", layers=_ONE_EACH),
}

FOREIGN: dict[str, Callable[[], nn.Module]] = {
    "torchvision resnet18": torchvision.models.resnet18,
    "torchvision resnet34": torchvision.models.resnet34,
    "torchvision resnet50": torchvision.models.resnet50,
    "torchvision resnet101": torchvision.models.resnet101,
    "torchvision resnet152": torchvision.models.resnet152,
    "torchvision wide_resnet50_2": torchvision.models.wide_resnet50_2,
    "torchvision resnext50_32x4d": torchvision.models.resnext50_32x4d,
    "timm resnet18": functools.partial(timm.create_model, "resnet18"),
    "timm resnet50": functools.partial(timm.create_model, "resnet50"),
    "timm resnet50d": functools.partial(timm.create_model, "resnet50d"),
    "timm seresnet50": functools.partial(timm.create_model, "seresnet50"),
}


def settle(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every BatchNorm statistics and an affine that differ from the identity; leaves logits of moderate
    size."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if getattr(module, "running_mean", None) is not None:
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.8, 1.6, generator=generator)
                if module.weight is not None:
                    module.weight.uniform_(0.4, 0.9, generator=generator)
                    module.bias.normal_(0, 0.1, generator=generator)
    return model


def foreign(name: str) -> nn.Module:
    """A fresh network of another library, with settled statistics, in training mode."""
    torch.manual_seed(0)
    return settle((FOREIGN | SHORT)[name]())


def outline(name: str) -> nn.Module:
    """The same network without storage, for reports."""
    with torch.device("meta"):
        return (FOREIGN | SHORT)[name]()


def images(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def error(ours: Tensor, theirs: Tensor) -> float:
    """Relative L2 distance."""
    ours, theirs = ours.detach().double(), theirs.detach().double()
    return float((ours - theirs).norm() / theirs.norm())


class Calls(TorchDispatchMode):
    """Counts what reaches the dispatcher: `ours` by schema name, `others` by PyTorch's operator name."""

    def __init__(self) -> None:
        super().__init__()
        self.ours: Counter[str] = Counter()
        self.others: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        namespace, name = func.name().split("::")
        if namespace == "resnet_kernels":
            self.ours[name.split(".")[0]] += 1
            with torch._C._DisableTorchDispatch():  # what the CPU router composes is not the network's
                return func(*args, **(kwargs or {}))
        self.others[name.split(".")[0]] += 1
        return func(*args, **(kwargs or {}))


def calls(model: nn.Module, *args: Tensor) -> Calls:
    """One call of `model` without gradients, counted."""
    with torch.no_grad(), Calls() as counted:
        model(*args)
    return counted


def promised(model: nn.Module) -> dict[str, int]:
    """The report's operator calls, by schema name."""
    return {SCHEMAS[name]: count for name, count in rk.fuse_report(model).operators().items()}
