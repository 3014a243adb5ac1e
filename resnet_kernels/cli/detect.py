"""resnet-kernels detect train | eval | show | shapes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import terminal
from .application import app

if TYPE_CHECKING:
    from rich.table import Table

detect = typer.Typer(
    help="Object detection (section 4.3): Faster R-CNN with a residual network in the place of VGG-16.",
    no_args_is_help=True,
)
app.add_typer(detect, name="detect")

SIGNALLED = 128  # a shell's exit code of a process that a signal stopped is that of the signal and this
Data = Annotated[
    list[Path] | None,
    typer.Option(help="A directory in COCO's or VOC's layout; several are put together (VOC 07+12)."),
]
Backend = Annotated[str, typer.Option(help="auto (a GPU if there is one), cuda, aten or simulator.")]
Checkpoint = Annotated[Path, typer.Option(help="A run's directory, or its checkpoint.pt.")]


@detect.command()
def train(
    data: Data = None,
    split: Annotated[
        str, typer.Option(help="train, train2017, trainval, ...: as its files are called.")
    ] = "train",
    output: Annotated[Path, typer.Option(help="The run's directory.")] = Path("runs/detect"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --output.")] = False,
    model: Annotated[str, typer.Option(help="A residual network of `resnet-kernels models`.")] = "resnet101",
    weights: Annotated[
        Path | None, typer.Option(help="Its pre-trained weights: .pth, safetensors or a run's checkpoint.pt.")
    ] = None,
    pretrain: Annotated[
        int, typer.Option(help="Without --weights: iterations on the objects cut out of the pictures.", min=0)
    ] = 0,
    iterations: Annotated[int | None, typer.Option(help="Batches in all. Default: 320,000.")] = None,
    batch: Annotated[int, typer.Option(help="Images in each.")] = 2,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", "--lr", help="A tenth of it at the end.")
    ] = 0.001,
    warm_up: Annotated[int, typer.Option(help="Iterations in which it rises from 0.", min=0)] = 0,
    min_size: Annotated[int, typer.Option(help="Pixels of an image's shorter side.")] = 600,
    max_size: Annotated[int, typer.Option(help="Pixels of its longer side at most.")] = 1000,
    anchors: Annotated[str, typer.Option(help="Sides of the anchors in pixels.")] = "64,128,256,512",
    roi_size: Annotated[int, typer.Option(help="Cells a side of a pooled region.")] = 14,
    regions: Annotated[int, typer.Option(help="Regions of an image that a training step samples.")] = 128,
    pooling: Annotated[str, typer.Option(help="max (RoI pooling, the paper's) or align.")] = "max",
    dtype: Annotated[str, typer.Option(help="float32, or bfloat16: mixed precision.")] = "float32",
    seed: Annotated[int, typer.Option(help="Of weights, order, flips and sampled regions.")] = 0,
    backend: Backend = "auto",
) -> None:
    """Train a detector on a folder in COCO's or VOC's layout.

    The defaults are the paper's for COCO (appendix A), for a batch of 8 or 16 on as many GPUs.  Ctrl-C stops
    after the iteration in progress and saves; --resume goes on.
    """
    import torch

    import resnet_kernels as rk

    from .. import detection
    from ..errors import UserError

    console = terminal.console()
    device = _device(backend)
    if resume:
        run = detection.Run.resumed(output, device, iterations)
        folder = detection.read(_given(data), split, run.settings.classes)
    else:
        if (output / "checkpoint.pt").exists():
            raise UserError(
                f"{output} holds a run already: go on with it by --resume, or choose another --output"
            )
        folder = detection.read(_given(data), split)
        settings = detection.Settings(
            network=model,
            classes=folder.classes,
            anchor_sizes=_integers("--anchors", anchors),
            min_size=min_size,
            max_size=max_size,
            roi_size=roi_size,
            pooling=pooling,
            regions=regions,
            dtype=dtype,
        )
        torch.manual_seed(seed)
        with terminal.progress(console) as begin, rk.backend(backend):
            advance = begin("pre-train", pretrain)
            detector = detection.start(settings, folder, weights, pretrain, device, advance)
        plan = detection.Plan(
            iterations or detection.Plan.iterations, batch, learning_rate, warm_up=warm_up, seed=seed
        )
        run = detection.Run(detector, settings, plan, output, device)
    console.print(
        f"{run.settings.network} on {len(folder.pictures)} pictures of {len(folder.classes)} classes "
        f"({folder.layout}), {run.iteration} of {run.plan.iterations} iterations done, {device}",
        markup=False,
    )
    with terminal.progress(console) as begin, rk.backend(backend):
        step = begin("train", run.plan.iterations - run.iteration)

        def advance(text: str) -> None:
            step(text)
            if not console.is_terminal and run.iteration % run.plan.every == 0:
                console.print(f"iteration {run.iteration}: {text}", markup=False)

        signal = run.train(folder, advance)
    if run.losses:
        console.print(
            f"iteration {run.iteration}: mean loss {run.losses[-1][2]:.3f}; saved in {output}", markup=False
        )
    if signal:
        raise typer.Exit(SIGNALLED + signal)


@detect.command("eval")
def evaluate(
    checkpoint: Checkpoint,
    data: Data = None,
    split: Annotated[str, typer.Option(help="val, val2017, test, ...: as its files are called.")] = "val",
    picture: Annotated[Path | None, typer.Option(help="Draw some detections into this PNG.")] = None,
    threshold: Annotated[float, typer.Option(help="The least score that is drawn.")] = 0.5,
    limit: Annotated[int | None, typer.Option(help="Pictures, evenly spaced over all.", min=1)] = None,
    backend: Backend = "auto",
) -> None:
    """COCO's mean average precision and PASCAL VOC's, of a trained detector."""
    import resnet_kernels as rk

    from .. import detection

    console = terminal.console()
    device = _device(backend)
    detector, settings, _ = detection.load(checkpoint)
    folder = detection.read(_given(data), split, settings.classes)
    folder = detection.Folder(folder.layout, folder.classes, _some(folder.pictures, limit))
    with terminal.progress(console) as begin, rk.backend(backend):
        advance = begin("detect", len(folder.pictures))
        found = detection.detect(detector.to(device), folder.pictures, device, advance)
    console.print(
        _scores(detection.score(folder, found), f"{settings.network}, {len(found)} pictures of {split}")
    )
    if picture is not None:
        shown = _some(list(zip(folder.pictures, found, strict=True)), 8)
        title = f"solid: found, with a score of {threshold:g} or more; dashed: what is there"
        _draw(shown, settings, picture, console, title, threshold)


@detect.command()
def show(
    checkpoint: Checkpoint,
    images: Annotated[list[Path], typer.Argument(help="Photographs.")],
    output: Annotated[Path, typer.Option(help="The picture (.png).")] = Path("detections.png"),
    threshold: Annotated[float, typer.Option(help="The least score that is drawn.")] = 0.5,
    backend: Backend = "auto",
) -> None:
    """Draw what a trained detector finds in photographs."""
    import resnet_kernels as rk

    from .. import detection
    from ..errors import UserError

    for image in images:
        if not image.is_file():
            raise UserError(f"no such file: {image}")
    device = _device(backend)
    detector, settings, _ = detection.load(checkpoint)
    pictures = [detection.picture(image, []) for image in images]
    console = terminal.console()
    with terminal.progress(console) as begin, rk.backend(backend):
        found = detection.detect(detector.to(device), pictures, device, begin("detect", len(images)))
    _draw(list(zip(pictures, found, strict=True)), settings, output, console, "", threshold)


@detect.command()
def shapes(
    directory: Annotated[Path, typer.Argument(help="A new directory.")],
    layout: Annotated[str, typer.Option(help="coco or voc.")] = "coco",
    train: Annotated[int, typer.Option(help="Images in the split train.", min=1)] = 400,
    val: Annotated[int, typer.Option(help="Images in the split val.", min=1)] = 100,
    size: Annotated[int, typer.Option(help="Pixels a side.", min=32)] = 128,
    seed: int = 0,
) -> None:
    """Draw a small data set, discs, squares and triangles on noise, to try `detect` on."""
    from ..detection import shapes as drawn
    from ..errors import UserError

    if layout not in drawn.LAYOUTS:
        raise UserError(f"--layout must be coco or voc, got {layout!r}")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"{directory} is there already: choose a new directory")
    drawn.write(directory, layout, {"train": train, "val": val}, size, seed)
    print(f"{train} + {val} images in {directory}; try: resnet-kernels detect train --data {directory}")


def _given(data: list[Path] | None) -> list[Path]:
    from ..errors import UserError

    if not data:
        raise UserError(
            "--data DIR is missing: a directory in COCO's layout (annotations/instances_SPLIT.json, SPLIT/) "
            "or VOC's (ImageSets/Main/SPLIT.txt, Annotations/, JPEGImages/); `detect shapes DIR` draws one"
        )
    return data


def _device(backend: str) -> Any:
    """Where tensors go for `backend`."""
    import torch

    from .. import machine

    if backend == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return machine.choose(backend).device


def _integers(option: str, text: str) -> tuple[int, ...]:
    from ..errors import UserError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"{option} must be integers with commas between, got {text!r}") from error


def _some(items: Any, limit: int | None) -> Any:
    """`limit` of the items, evenly spaced over all."""
    if limit is None or limit >= len(items):
        return items
    return type(items)(items[k * len(items) // limit] for k in range(limit))


def _scores(scores: Any, title: str) -> Table:
    from ..demo.show import table

    shown = table(
        title,
        "average precision",
        "#percent",
        caption="COCO's over overlaps 0.5 to 0.95, by pycocotools; VOC's over the whole curve, "
        "and at eleven points as for VOC 2007.",
    )
    rows = {
        "COCO mAP": scores.ap,
        "COCO mAP@0.5": scores.ap50,
        "COCO mAP@0.75": scores.ap75,
        "COCO mAP, small": scores.small,
        "COCO mAP, medium": scores.medium,
        "COCO mAP, large": scores.large,
        "VOC mAP@0.5": scores.voc,
        "VOC mAP@0.5, 11 points": scores.voc07,
    }
    for name, value in rows.items():
        shown.add_row(name, "none there" if value is None else f"{100 * value:.1f}")
    shown.add_section()
    for name, value in scores.by_class.items():
        shown.add_row(f"VOC AP@0.5, {name}", "none there" if value is None else f"{100 * value:.1f}")
    return shown


def _draw(shown: Any, settings: Any, file: Path, console: Any, title: str, threshold: float = 0.5) -> None:
    from .. import detection
    from ..errors import UserError

    if file.suffix != ".png" or not file.absolute().parent.is_dir():
        raise UserError(f"cannot write the picture {file}: wanted a .png in a directory that exists")
    pictures, found = zip(*shown, strict=True)
    detection.draw(pictures, found, settings.classes, file, threshold, title)
    console.print(f"picture: {file.absolute()}", markup=False, soft_wrap=True)
