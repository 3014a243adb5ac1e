"""The four suites: which cases, and in which order, the most important first.

layers      every distinct convolution of the networks, in every direction and with every epilogue, and what
            runs between convolutions
networks    inference by batch
training    the whole step, and how it grows with depth from 20 to 1202 layers
primitives  what the device can do
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from . import convolutions, elementwise, networks, primitives, training, units
from .case import Case, Ours
from .peers import Choice
from .problems import CIFAR, NETWORKS, Conv
from .problems import convolutions as distinct

SUITES = ("layers", "networks", "training", "primitives")
CACHES = ("cold", "warm")
DTYPES = {
    "cuda": ("bfloat16", "float16", "tf32", "float32"),
    "cpu": ("float32", "bfloat16"),
}
BATCHES = {"cuda": (256, 32, 1, 8), "cpu": (8, 1, 32, 256)}
TRAINING_BATCHES = {"cuda": (256, 32), "cpu": (32, 8)}
DEPTH_BATCH = 128
# Where the elementwise kernels run in ResNet-50: channels, height, width.
ACTIVATIONS = ((256, 56, 56), (64, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7))
STEM, HEAD = (64, 112, 112), (2048, 7, 7)
QUICK_CONVS = (
    "conv 3x3 64>64 56x56",
    "conv 1x1 64>256 56x56",
    "conv 3x3/2 128>128 56x56",
    "conv 1x1 1024>256 14x14",
    "conv 3x3 512>512 7x7",
)


@dataclass(frozen=True)
class Options:
    """What a run was asked for; empty tuples stand for the suite's own choice."""

    quick: bool = False
    dtypes: tuple[str, ...] = ()
    batches: tuple[int, ...] = ()
    models: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    cache: str = "cold"
    backend: str = "auto"
    time_limit: float | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }


def cases(suite: str, options: Options, choice: Choice, ours: Ours) -> Iterator[Case]:
    """The suite's cases, each once; ValueError for a suite there is not."""
    done: set[str] = set()
    for case in _cases(suite, options, choice, ours):
        if case.key not in done:
            done.add(case.key)
            yield case


def _cases(suite: str, options: Options, choice: Choice, ours: Ours) -> Iterator[Case]:
    if suite == "layers":
        return _layers(options, choice, ours)
    if suite == "networks":
        return _networks(options, choice, ours)
    if suite == "training":
        return _training(options, choice, ours)
    if suite == "primitives":
        dtypes = options.dtypes or DTYPES[choice.device.type]
        return primitives.cases(choice, dtypes[:2] if options.quick else dtypes, options.quick, ours)
    raise ValueError(f"cases: no suite {suite!r}; there are {', '.join(SUITES)}")


def _combinations(options: Options, kind: str, batches: tuple[int, ...]) -> list[tuple[str, int]]:
    """(dtype, batch): the first of both, then what differs from it in one place, and so on."""
    dtypes, sizes = options.dtypes or DTYPES[kind], options.batches or batches
    found = [(i + j, i, dtype, batch) for i, dtype in enumerate(dtypes) for j, batch in enumerate(sizes)]
    return [(dtype, batch) for _, _, dtype, batch in sorted(found, key=lambda entry: entry[:2])]


# -----------------------------------------------------------------------------
# Layers


def _layers(options: Options, choice: Choice, ours: Ours) -> Iterator[Case]:
    kind = choice.device.type
    if options.quick:
        yield from _quick_layers(options, choice, ours)
        return
    models = options.models or NETWORKS
    first, rest = distinct(models[:1]), distinct(models)
    known = {conv.name for conv in first}
    counted = {conv.name: conv for conv in rest}
    groups = [[counted[conv.name] for conv in first], [conv for conv in rest if conv.name not in known]]
    for dtype, batch in _combinations(options, kind, BATCHES[kind]):
        for convs in groups:
            yield from _of_convolutions(convs, batch, dtype, choice, ours)
            if convs is groups[0]:
                yield from _between(batch, dtype, choice, ours)


def _of_convolutions(convs: list[Conv], batch: int, dtype: str, choice: Choice, ours: Ours) -> Iterator[Case]:
    """Inference as it occurs, training as it occurs, the gradients alone, and the rest."""

    def case(conv: Conv, direction: str, epilogue: str) -> Case:
        maker = units.case if direction.startswith("train") else convolutions.case
        return maker(conv, batch, dtype, direction, epilogue, choice, ours)

    for conv in convs:
        for epilogue in conv.epilogues:
            yield case(conv, "fprop", epilogue)
    for conv in convs:
        for epilogue in ("bn_relu", "bn_add_relu"):
            if epilogue in conv.epilogues:
                yield case(conv, "train_forward", epilogue)
                yield case(conv, "train_backward", epilogue)
    for conv in convs:
        if conv.c > 3:  # images have no gradient
            yield case(conv, "dgrad", "mask_sums")
        yield case(conv, "wgrad", "none")
    for conv in convs:
        for direction, epilogues in (("fprop", ("stats", "none")), ("dgrad", ("add_mask_sums", "none"))):
            for epilogue in epilogues:
                if direction == "fprop" or conv.c > 3:
                    yield case(conv, direction, epilogue)


def _between(batch: int, dtype: str, choice: Choice, ours: Ours) -> Iterator[Case]:
    for name in ("bn_relu_mask", "bn_act", "bn_backward_apply", "bn_backward_reduce"):
        for shape in ACTIVATIONS:
            yield elementwise.case(name, shape, batch, dtype, choice, ours, "resnet50")
    for name in ("max_pool_indices", "max_pool_backward", "max_pool"):
        yield elementwise.case(name, STEM, batch, dtype, choice, ours, "the stem")
    for name in ("global_avg_pool", "global_avg_pool_backward", "linear"):
        yield elementwise.case(name, HEAD, batch, dtype, choice, ours, "the head")


def _quick_layers(options: Options, choice: Choice, ours: Ours) -> Iterator[Case]:
    """Some convolutions of ResNet-50 as they occur, one of them every way, and every elementwise kernel."""
    kind = choice.device.type
    batch = options.batches[0] if options.batches else {"cuda": 32, "cpu": 1}[kind]
    dtypes = options.dtypes or DTYPES[kind][:2]
    convs = [c for c in distinct(options.models or NETWORKS) if options.models or c.name in QUICK_CONVS]
    first = [conv for conv in convs if conv.c > 3][:1]
    for dtype in dtypes:
        for conv in convs:
            yield convolutions.case(conv, batch, dtype, "fprop", conv.epilogues[0], choice, ours)
        if dtype == dtypes[0]:
            yield from _of_convolutions(first, batch, dtype, choice, ours)
            for name in elementwise.KERNELS:
                shape = (
                    STEM if name.startswith("max") else HEAD if name in elementwise.HEADS else ACTIVATIONS[1]
                )
                yield elementwise.case(name, shape, batch, dtype, choice, ours, "resnet50")


# -----------------------------------------------------------------------------
# Whole networks


def _networks(options: Options, choice: Choice, ours: Ours) -> Iterator[Case]:
    kind = choice.device.type
    if options.quick:
        batch = options.batches[0] if options.batches else {"cuda": 32, "cpu": 1}[kind]
        models = options.models or ("resnet50", "resnet18", "cifar_resnet20")
        for dtype in options.dtypes or DTYPES[kind][:1]:
            for name in models:
                yield networks.case(name, batch, dtype, choice, ours)
        return
    models = options.models or NETWORKS
    for dtype, batch in _combinations(options, kind, BATCHES[kind]):
        for name in models:
            yield networks.case(name, batch, dtype, choice, ours)


def _training(options: Options, choice: Choice, ours: Ours) -> Iterator[Case]:
    kind = choice.device.type
    if options.quick:
        batch = options.batches[0] if options.batches else {"cuda": 32, "cpu": 8}[kind]
        models = options.models or ("cifar_resnet20", "cifar_resnet32", "resnet18")
        for dtype in options.dtypes or DTYPES[kind][:1]:
            for name in models:
                small = kind == "cpu" and not name.startswith("cifar")
                yield training.case(name, batch, dtype, choice, ours, 64 if small else None)
        return
    models = options.models or NETWORKS
    imagenet = [name for name in models if name not in CIFAR]
    for index, (dtype, batch) in enumerate(_combinations(options, kind, TRAINING_BATCHES[kind])):
        for name in imagenet:
            yield training.case(name, batch, dtype, choice, ours)
        if index == 0:
            for name in (name for name in models if name in CIFAR):  # the depth series
                size = options.batches[0] if options.batches else DEPTH_BATCH
                yield training.case(name, size, dtype, choice, ours)
