"""The demonstration from photograph to result; `show` and `report` present what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from .. import flops, machine
from ..measure import predict
from ..measure.precision import float32_products
from . import compare, counters, networks, photograph

PREDICTED_BATCH = 256


@dataclass(frozen=True)
class Options:
    """What `resnet-kernels demo` was asked for. `images` empty: the photographs that scikit-learn ships."""

    images: tuple[Path, ...] = ()
    model: str = "resnet50"
    weights: Path | None = None
    backend: str = "auto"
    dtype: str = "bfloat16"
    size: int = 224


@dataclass(frozen=True)
class Demonstration:
    """Everything there is to show."""

    options: Options
    machine: machine.Machine
    networks: networks.Networks
    photographs: tuple[photograph.Photograph, ...]
    comparison: compare.Comparison
    counters: counters.Counters
    count: flops.Count
    paper: flops.Count
    fused: predict.Prediction
    eager: predict.Prediction

    @property
    def passed(self) -> bool:
        return self.comparison.passed

    @property
    def categories(self) -> list[str] | None:
        """ImageNet's class names, if the weights are real and have its 1000 classes; None otherwise."""
        if self.networks.weights is None or len(self.comparison.logits[0].reference) != 1000:
            return None
        from torchvision.models._meta import _IMAGENET_CATEGORIES

        return list(_IMAGENET_CATEGORIES)


Begin = Callable[[str, int], Callable[[str], None]]
"""Called as begin(title, steps) when a phase starts; what it returns is called with each step's name."""


def silent(title: str, steps: int) -> Callable[[str], None]:
    """A `Begin` that shows nothing."""
    return lambda step: None


@float32_products(tf32=False)
def demonstrate(options: Options, begin: Begin = silent) -> Demonstration:
    """Run the whole demonstration; float32 is strict, without TF32.

    The first photograph goes through every unit on its own and then through the whole network, the others
    through the whole network.

    Raises:
        UserError: an option, an image or a weights file is not usable; the text says which and why.
    """
    where = machine.choose(options.backend)
    files = options.images or tuple(photograph.shipped())
    photographs = tuple(photograph.load(file, options.size) for file in files)
    step = begin("weights, and BatchNorm statistics", 1)
    pixels = torch.cat([shot.pixels for shot in photographs])
    nets = networks.prepare(options.model, options.dtype, options.weights, pixels, where.device)
    step(options.model)

    result = compare.Comparison()
    names = compare.unit_names(nets.ours)
    step = begin(f"unit by unit on {photographs[0].name}", len(names))
    compare.units(nets, where, photographs[0].pixels, result, step)
    for shot in photographs:
        step = begin(f"whole network on {shot.name}", len(names))
        compare.logits(nets, where, shot.name, shot.pixels, result, step)

    counted = counters.sample(nets, photographs[0].pixels, begin)
    shape = (1, 3, options.size, options.size)
    return Demonstration(
        options=options,
        machine=where,
        networks=nets,
        photographs=photographs,
        comparison=result,
        counters=counted,
        count=flops.count(options.model, shape),
        paper=flops.count(options.model, shape, stride_in="1x1"),
        fused=predict.fused(options.model, PREDICTED_BATCH, options.size),
        eager=predict.eager(options.model, PREDICTED_BATCH, options.size),
    )
