"""A whole residual network in float64, step by step, so that each layer under test can be fed exactly the
reference's input.

The architecture is read off the state_dict (torchvision's keys; NumPy arrays): its depth, its block, where
there is a projection. What the weights do not say is the place of a bottleneck's stride: "3x3" (v1.5) or
"1x1" (He et al. 2015, section 4.1).

    # conv1 .. fc, and a "block" step after each block's layers
    for step in steps(state, x):
        ours = layer(step.x, step.residual); compare(ours, step.y)
    logits = resnet(state, x, depth=50)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from .arrays import Array, array_module
from .layers import add, batch_norm, conv2d, global_avg_pool, linear, max_pool, relu

IMAGENET_BLOCKS = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
"""Depth -> block and blocks a stage: Table 1 of the paper."""


@dataclass(frozen=True)
class Step:
    """One layer's (or block's) part of a forward pass: y = op(x, residual), all float64 [N,C,H,W] (fc:
    [N,C]).

    kind: "conv_bn_act" (convolution, BatchNorm, then + residual, then ReLU if `relu`), "max_pool",
    "global_avg_pool", "linear", "block".
    """

    name: str
    kind: str
    x: Array
    y: Array
    residual: Array | None = None
    weight: Array | None = None
    bias: Array | None = None
    bn: Mapping[str, Array] | None = None  # weight, bias, mean, var: float64 [K]
    stride: int = 1
    padding: int = 0
    relu: bool = False
    eps: float = 1e-5


@dataclass(frozen=True)
class Architecture:
    """What a state_dict says of its network. depth counts the weighted layers on the longest path, as the
    paper does.
    """

    block: str
    blocks: tuple[int, ...]
    depth: int
    small_stem: bool  # 3x3 stride 1 without pooling: the paper's CIFAR-10 networks
    stride_in: str = "3x3"


def architecture_of(state: Mapping[str, Array], stride_in: str = "3x3") -> Architecture:
    """The architecture of a torchvision-style state_dict; ValueError where a key is missing or a weight is
    not 4-D.
    """
    if stride_in not in ("3x3", "1x1"):
        raise ValueError(f"stride_in must be '3x3' or '1x1', got {stride_in!r}")
    for key in ("conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "fc.weight"):
        if key not in state:
            raise ValueError(f"state_dict has no {key!r}: not a residual network with torchvision's keys")
    blocks, stage = [], 1
    while f"layer{stage}.0.conv1.weight" in state:
        count = 0
        while f"layer{stage}.{count}.conv1.weight" in state:
            count += 1
        blocks.append(count)
        stage += 1
    block = "bottleneck" if "layer1.0.conv3.weight" in state else "basic"
    depth = (3 if block == "bottleneck" else 2) * sum(blocks) + 2
    small_stem = state["conv1.weight"].shape[-1] == 3
    return Architecture(block, tuple(blocks), depth, small_stem, stride_in)


def resnet(
    state: Mapping[str, Array],
    x: Array,
    depth: int | None = None,
    *,
    stride_in: str = "3x3",
    eps: float = 1e-5,
    hook: Callable[[Step], None] | None = None,
) -> Array:
    """Logits [N, classes] of image batch x [N,3,H,W] in eval mode; `hook` sees every step; `depth`, if
    given, is checked.
    """
    found = architecture_of(state, stride_in).depth
    if depth is not None and depth != found:
        raise ValueError(f"depth {depth} asked for, the state_dict is a ResNet-{found}")
    y = x
    for step in steps(state, x, stride_in=stride_in, eps=eps):
        if hook is not None:
            hook(step)
        y = step.y
    return y


def steps(
    state: Mapping[str, Array], x: Array, *, stride_in: str = "3x3", eps: float = 1e-5
) -> Iterator[Step]:
    """Every layer of the forward pass in execution order, lazily; after each residual block a step of kind
    "block".
    """
    for name in units(state):
        for step in unit_steps(state, name, x, stride_in=stride_in, eps=eps):
            yield step
        x = step.y


def units(state: Mapping[str, Array]) -> list[str]:
    """The network cut where one tensor passes on: "stem", "layer1.0", ..., "head"."""
    blocks = architecture_of(state).blocks
    return ["stem", *(f"layer{s}.{i}" for s, count in enumerate(blocks, 1) for i in range(count)), "head"]


def unit(
    state: Mapping[str, Array], name: str, x: Array, *, stride_in: str = "3x3", eps: float = 1e-5
) -> Array:
    """The output of one unit for input x: what a block under test, fed the same x, is compared with."""
    *_, last = unit_steps(state, name, x, stride_in=stride_in, eps=eps)
    return last.y


def unit_steps(
    state: Mapping[str, Array], name: str, x: Array, *, stride_in: str = "3x3", eps: float = 1e-5
) -> Iterator[Step]:
    """The layers of the unit `name` (see `units`); ValueError if the network has no such unit."""
    net = architecture_of(state, stride_in)
    xp = array_module(x)
    x = xp.asarray(x, dtype=xp.float64)
    if name not in units(state):
        raise ValueError(f"the network has no unit {name!r}; it has {', '.join(units(state))}")
    if name == "stem":
        yield from _stem(state, x, net, eps)
    elif name == "head":
        yield from _head(state, x)
    else:
        stage, index = name.removeprefix("layer").split(".")
        yield from _block(state, name, x, net, 2 if stage != "1" and index == "0" else 1, eps)


def _stem(state, x: Array, net: Architecture, eps: float) -> Iterator[Step]:
    """7x7 stride 2 and max-pooling; on small images 3x3 stride 1 alone."""
    stride, padding = (1, 1) if net.small_stem else (2, 3)
    step = _conv_bn_act(state, "conv1", "bn1", x, stride=stride, padding=padding, eps=eps)
    yield step
    if not net.small_stem:
        yield Step("maxpool", "max_pool", x=step.y, y=max_pool(step.y, 3, 2, 1), stride=2, padding=1)


def _head(state, x: Array) -> Iterator[Step]:
    """Global average pooling and the classifier."""
    xp = array_module(x)
    pooled = global_avg_pool(x)
    yield Step("avgpool", "global_avg_pool", x=x, y=pooled)
    weight, bias = _get(state, "fc.weight", xp), _get(state, "fc.bias", xp)
    yield Step("fc", "linear", x=pooled, y=linear(pooled, weight, bias), weight=weight, bias=bias)


def _block(state, name: str, x: Array, net: Architecture, stride: int, eps: float) -> Iterator[Step]:
    """The layers of one block, projection first, and then the block itself."""
    convs = ("conv1", "conv2", "conv3") if net.block == "bottleneck" else ("conv1", "conv2")
    strided = "conv2" if net.block == "bottleneck" and net.stride_in == "3x3" else "conv1"

    width = state[f"{name}.{convs[-1]}.weight"].shape[0]
    if f"{name}.downsample.0.weight" in state:
        step = _conv_bn_act(
            state,
            f"{name}.downsample.0",
            f"{name}.downsample.1",
            x,
            stride=stride,
            padding=0,
            eps=eps,
            activate=False,
        )
        yield step
        shortcut = step.y
    else:
        shortcut = _identity(x, width, stride)

    y = x
    for conv in convs:
        step = _conv_bn_act(
            state,
            f"{name}.{conv}",
            f"{name}.bn{conv[-1]}",
            y,
            residual=shortcut if conv == convs[-1] else None,
            stride=stride if conv == strided else 1,
            padding=state[f"{name}.{conv}.weight"].shape[-1] // 2,
            eps=eps,
        )
        yield step
        y = step.y
    yield Step(name, "block", x=x, y=y, stride=stride)


def _identity(x: Array, width: int, stride: int) -> Array:
    """The parameter-free shortcut (option A): every stride-th pixel, zeros for the channels that x lacks."""
    xp = array_module(x)
    return xp.pad(x[:, :, ::stride, ::stride], ((0, 0), (0, width - x.shape[1]), (0, 0), (0, 0)))


def _conv_bn_act(
    state,
    conv: str,
    bn: str,
    x: Array,
    *,
    stride: int,
    padding: int,
    eps: float,
    residual=None,
    activate: bool = True,
) -> Step:
    """y = [relu](bn(conv(x)) [+ residual])."""
    xp = array_module(x)
    weight = _get(state, f"{conv}.weight", xp)
    vectors = {
        "weight": _get(state, f"{bn}.weight", xp),
        "bias": _get(state, f"{bn}.bias", xp),
        "mean": _get(state, f"{bn}.running_mean", xp),
        "var": _get(state, f"{bn}.running_var", xp),
    }
    y = batch_norm(conv2d(x, weight, stride=stride, padding=padding), eps=eps, **vectors)
    if residual is not None:
        y = add(y, residual)
    if activate:
        y = relu(y)
    return Step(
        name=conv,
        kind="conv_bn_act",
        x=x,
        y=y,
        residual=residual,
        weight=weight,
        bn=vectors,
        stride=stride,
        padding=padding,
        relu=activate,
        eps=eps,
    )


def _get(state, key: str, xp) -> Array:
    if key not in state:
        raise ValueError(f"state_dict has no {key!r}")
    return xp.asarray(state[key], dtype=xp.float64)
