"""Standard deviations of layer responses (section 4.2, figure 7).

A response is the output of a 3x3 convolution after its BatchNorm and before ReLU or addition, in evaluation;
its standard deviation is taken over all its values: images, channels, positions.  For a residual network it
says how strong the residual functions are.

In this package's networks that tensor exists nowhere: BatchNorm, ReLU and the add are inside the
convolution's kernel.  It is read by forward hooks.  A convolution or BatchNorm with a hook is not fused, in
any call that finds the hook there, so for the time of the measurement PyTorch computes convolution and
BatchNorm one after the other, with the same weights and running statistics, and everything else stays as it
was.  (`rk.unfuse` would not do: the networks of `rk.models` have no unfused class to go back to.)  The hook
takes its sums at once, because the add and the ReLU that follow are in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..evaluate.errors import evaluating
from . import plots

KERNEL = (3, 3)
WIDE = 8.0  # strongest over weakest response, from which they are drawn on a logarithmic axis


@dataclass(frozen=True)
class Response:
    """`layer` is the convolution's name, `std` the standard deviation of what its BatchNorm puts out."""

    layer: str
    std: float


@dataclass
class Moments:
    """Mean and variance of all values seen, merged batch by batch without cancellation (Chan et al. 1983)."""

    count: int = 0
    mean: float = 0.0
    deviation: float = 0.0  # sum of squared differences from the mean

    def add(self, values: Tensor) -> None:
        """Take in a tensor of any shape and floating dtype."""
        count = values.numel()
        if not count:
            return
        var, mean = torch.var_mean(values.double(), correction=0)
        step = float(mean) - self.mean
        total = self.count + count
        self.deviation += float(var) * count + step**2 * self.count * count / total
        self.mean += step * count / total
        self.count = total

    @property
    def std(self) -> float:
        return math.sqrt(self.deviation / self.count)


@dataclass
class _Recorder:
    """Hooks for convolutions and BatchNorms: a BatchNorm that is given the very tensor a 3x3 convolution has
    just put out belongs to it, however the network is written.
    """

    moments: dict[str, Moments] = field(default_factory=dict)  # in the order of execution
    output: Tensor | None = None
    layer: str = ""

    def convolution(self, layer: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self.output, self.layer = output, layer

        return hook

    def batchnorm(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if self.output is not None and inputs[0] is self.output:
            self.moments.setdefault(self.layer, Moments()).add(output)
        self.output = None


@torch.no_grad()
def responses(model: nn.Module, batches: Iterable[Tensor]) -> list[Response]:
    """The response of every 3x3 layer of `model` to `batches` of images [N, C, H, W], in order of execution.

    The model is given back as it came: no hook stays and every module is in the mode it was in.

    Raises:
        ValueError: the network has no 3x3 convolution with a BatchNorm behind it, or there is no image.
    """
    recorder = _Recorder()
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == KERNEL:
                handle = module.register_forward_hook(recorder.convolution(name))
            elif isinstance(module, nn.BatchNorm2d):
                handle = module.register_forward_hook(recorder.batchnorm)
            else:
                continue
            stack.callback(handle.remove)
        for images in batches:
            model(images)
    if not recorder.moments:
        raise ValueError("responses: no image, or no 3x3 convolution followed by BatchNorm, in the network")
    return [Response(layer, moments.std) for layer, moments in recorder.moments.items()]


def ranked(found: Iterable[Response]) -> list[Response]:
    """The responses from strongest to weakest: the second order of figure 7."""
    return sorted(found, key=lambda response: -response.std)


def table(series: Mapping[str, Sequence[Response]]) -> tuple[list[str], list[list[Any]]]:
    """Head and rows of a CSV file: a row each layer; `layer` and `rank` are its places in the two orders."""
    rows = []
    for network, found in series.items():
        rank = {response.layer: i + 1 for i, response in enumerate(ranked(found))}
        for i, response in enumerate(found):
            rows.append([network, i + 1, response.layer, f"{response.std:.6g}", rank[response.layer]])
    return ["network", "layer", "convolution", "std", "rank"], rows


def draw(series: Mapping[str, Sequence[Response]], picture: Path, images: str) -> None:
    """Draw both orders of figure 7 to the PNG `picture`: plain networks dashed, deeper ones darker.

    Args:
        images: what the responses are to, for the title.

    Raises:
        UserError: `picture` cannot be written.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    depths = sorted({plots.depth_of(name) or 0 for name in series})
    telling = len(depths) > 1
    shade = plots.shades(depths if telling else series)
    orders: tuple[tuple[str, str, Callable[[Any], list[Response]]], ...] = (
        ("in the order of the network", "layer", list),
        ("from strongest to weakest", "layer, sorted by magnitude", ranked),
    )
    everything = [response.std for found in series.values() for response in found]
    title = f"Standard deviation of layer responses to {images}"
    with plots.figure(picture, title, 10.4, 7.2, nrows=2, sharey=True) as grid:
        for axes, (name, label, order) in zip(grid[:, 0], orders, strict=True):
            for network, found in series.items():
                stds = [response.std for response in order(found)]
                plain = plots.family_of(network) == "plain"
                axes.plot(
                    range(1, len(stds) + 1),
                    stds,
                    color=shade((plots.depth_of(network) or 0) if telling else network),
                    lw=1.6 if plain else 2.2,
                    ls=(0, (3, 1.5)) if plain else "-",
                    marker="o",
                    ms=2.5 if plain else 3,
                    label=network,
                )
            axes.set(title=name, xlabel=label, ylabel="std of the response")
            axes.set_xlim(0, max(map(len, series.values())) + 1)
            if max(everything) > WIDE * min(everything) > 0:
                axes.set_yscale("log")
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.yaxis.set_minor_locator(NullLocator())
                axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            else:
                axes.set_ylim(0, 1.05 * max(everything))
            plots.whole_numbers(axes.xaxis)
        grid[0, 0].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
