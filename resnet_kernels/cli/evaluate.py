"""resnet-kernels eval."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from . import terminal
from .application import app

DTYPES = ("float32", "bfloat16", "float16")


@app.command("eval")
def evaluate(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(help="Run directories or checkpoints of `train`; several make an ensemble too."),
    ],
    data: Annotated[
        Path | None, typer.Option(help="Where the images lie. Default: where they lay in the training.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="imagenet, cifar10, digits or synthetic. Default: the training's.")
    ] = None,
    views: Annotated[
        str | None,
        typer.Option(
            help="single; center: one 224 crop; ten: 10-crop; multiscale: whole images at five sizes. "
            "Default: center for imagenet, otherwise single."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The files hold weights alone (torchvision's), of this network.")
    ] = None,
    sides: Annotated[
        str | None, typer.Option(help="Shorter sides of `multiscale`. Default: 224,256,384,480,640.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Views of 224 x 224 at once, and fewer of larger ones.")] = 64,
    workers: Annotated[int, typer.Option(help="Processes that read images; 0: this one.")] = 0,
    limit: Annotated[
        int | None, typer.Option(help="Test on so many images only, evenly spaced over all.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, or bfloat16 or float16 under autocast.")] = "float32",
    backend: Annotated[str, typer.Option(help="auto, cuda, simulator or aten.")] = "auto",
    output: Annotated[
        Path | None, typer.Option("--json", help="Write the result to this file as JSON too.")
    ] = None,
) -> None:
    """Top-1 and top-5 error of trained networks, one by one and averaged, beside the paper's."""
    import torch

    from .. import backend as chosen
    from ..errors import UserError
    from ..evaluate.score import ensemble
    from .trained import Loader, some

    if dtype not in DTYPES:
        raise UserError(f"--dtype {dtype}: wanted one of {', '.join(DTYPES)}")
    for name, value, least in (("--batch", batch, 1), ("--workers", workers, 0)):
        if value < least:
            raise UserError(f"{name} {value}: wanted an integer of at least {least}")
    if output is not None and not output.absolute().parent.is_dir():
        raise UserError(f"cannot write {output}: its directory does not exist")
    device = _device(backend)
    loader = Loader(model, dataset, data)
    members = [loader.load(path) for path in checkpoints]
    for member in members[1:]:
        if member.dataset is not members[0].dataset:
            raise UserError(
                f"{member.path} and {members[0].path} were trained on different images: evaluate them one "
                "by one, or name the images with --dataset and --data"
            )
    images = some(members[0].dataset.test, limit)
    seen = _views(views, sides, members[0].dataset)
    console = terminal.console()
    scores, seconds = [], []
    with terminal.progress(console) as begin, chosen(backend):
        for member in members:
            began = time.perf_counter()
            autocast = None if dtype == "float32" else getattr(torch, dtype)
            scores.append(_score(member, images, seen, batch, workers, device, autocast, begin))
            seconds.append(time.perf_counter() - began)
    together = ensemble(scores) if len(scores) > 1 else None
    result = _result(members, [each.errors for each in scores], seconds, seen, together and together.errors)
    result["settings"] = {"dtype": dtype, "backend": backend, "device": device}
    console.print(_table(result))
    if output is not None:
        try:
            output.write_text(json.dumps(_finite(result), indent=2) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {output}: {error.strerror}") from error
        console.print(f"result: {output}", markup=False, soft_wrap=True)


def _device(backend: str) -> str:
    """Where the networks run; UserError if this machine cannot."""
    import torch

    from .. import machine

    if backend not in ("auto", "aten"):
        return machine.choose(backend).device.type
    return "cuda" if torch.cuda.is_available() else "cpu"


def _views(kind: str | None, sides: str | None, dataset: Any) -> Any:
    """The views asked for, their sizes in proportion to what the network was trained on."""
    from ..errors import UserError
    from ..evaluate.views import CROP, KINDS, SIDE, SIDES, Views

    kind = kind or ("center" if dataset.name == "imagenet" else "single")
    if kind not in KINDS:
        raise UserError(f"--views {kind}: wanted one of {', '.join(KINDS)}")
    if kind != "single" and dataset.name != "imagenet":
        raise UserError(f"--views {kind} are of photographs: {dataset.name} has the view `single` alone")
    if kind == "single" and dataset.name == "imagenet":
        raise UserError("--views single: ImageNet's images have many sizes, use `center` for one view each")
    if sides is not None and kind != "multiscale":
        raise UserError(f"--sides {sides} belong to --views multiscale, not to {kind}")
    scale = dataset.size / CROP
    shorter = [round(side * scale) for side in SIDES]
    try:
        if sides is not None:
            shorter = [int(side) for side in sides.split(",")]
        return Views(kind, crop=dataset.size, side=round(SIDE * scale), sides=tuple(shorter))
    except ValueError as error:
        raise UserError(f"--sides {sides}: wanted positive integers as in 224,256,384") from error


def _score(
    member: Any, images: Any, seen: Any, batch: int, workers: int, device: str, autocast: Any, begin: Any
) -> Any:
    """The scores of one network, with a bar."""
    import torch

    from .. import data
    from ..errors import UserError
    from ..evaluate.score import Normalised, by_size, score

    view = Normalised(seen, member.normalisation)
    at_once = max(1, batch // seen.count)
    batches = data.batches(images, view, batch=at_once, workers=workers, together=by_size)
    step = begin(member.name, len(batches))

    def counted() -> Any:
        done = 0
        for groups, labels in batches:
            step(f"{done} of {len(images)} images")
            yield groups, labels
            done += len(labels)

    try:
        return score(member.model.to(device), counted(), batch=batch, device=device, autocast=autocast)
    except torch.OutOfMemoryError as error:
        raise UserError(f"the GPU's memory is too small for --batch {batch}: try half of it") from error


def _result(members: Any, errors: Any, seconds: Any, seen: Any, together: Any) -> dict[str, Any]:
    """What is printed and written: errors in per cent."""
    from ..evaluate import paper

    dataset = members[0].dataset
    whole = dataset.name != "imagenet" or len(dataset.classes) == 1000
    rows = []
    for member, error, taken in zip(members, errors, seconds, strict=True):
        figure = paper.figure(member.name, seen.kind, dataset.name) if whole else None
        rows.append(
            {
                "checkpoint": str(member.path),
                "network": member.name,
                **_per_cent(error),
                "images_per_second": error.images / taken,
                "paper": None if figure is None else figure._asdict(),
            }
        )
    result: dict[str, Any] = {
        "dataset": dataset.name,
        "images": errors[0].images,
        "of_images": len(dataset.test),
        "views": {"kind": seen.kind, "count": seen.count, "description": seen.description},
        "score": "mean over the views of the softmax's probabilities",
        "networks": rows,
        "ensemble": None,
    }
    if together is not None:
        imagenet = dataset.name == "imagenet" and whole
        result["ensemble"] = {
            "method": "mean over the networks of their scores",
            "members": len(members),
            **_per_cent(together),
            "paper": paper.ENSEMBLE._asdict() if imagenet else None,
        }
    return result


def _per_cent(error: Any) -> dict[str, float]:
    return {
        "top1": 100 * error.top1,
        "top1_deviation": 100 * error.top1_deviation,
        "top5": 100 * error.top5,
        "loss": error.loss,
    }


def _finite(value: Any) -> Any:
    """The same with None in place of numbers that JSON does not know."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _table(result: dict[str, Any]) -> Any:
    from ..demo.show import table

    rows = [*result["networks"]]
    if result["ensemble"] is not None:
        rows.append({"network": f"all {len(rows)} together", "images_per_second": None, **result["ensemble"]})
    beside = any(row["paper"] for row in rows)
    images, of_images = result["images"], result["of_images"]
    some = f"{images:,} images" if images == of_images else f"{images:,} of {of_images:,} images"
    shown = table(
        f"{result['dataset']}, {some}, {result['views']['description']}",
        "network",
        "#top-1 error %",
        "#±",
        "#top-5 error %",
        "#loss",
        *(("#paper's top-1", "#top-5", "paper's source") if beside else ()),
        "#images/s",
        caption=_caption(result),
    )
    for row in rows:
        if "method" in row:
            shown.add_section()
        paper = row["paper"] or {"top1": None, "top5": None, "source": ""}
        figures = [f"{paper[key]:.2f}" if paper[key] is not None else "-" for key in ("top1", "top5")]
        shown.add_row(
            row["network"],
            f"{row['top1']:.2f}",
            f"{row['top1_deviation']:.2f}",
            f"{row['top5']:.2f}",
            f"{row['loss']:.4f}",
            *((*figures, paper["source"]) if beside else ()),
            _rate(row["images_per_second"]),
        )
    return shown


def _rate(speed: float | None) -> str:
    """Images a second in two digits or more."""
    if speed is None:
        return ""
    return f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"


def _caption(result: dict[str, Any]) -> str:
    said = ["± is one standard deviation, from the number of images"]
    if result["views"]["count"] > 1:
        said.append("an image's score is the " + result["score"])
    if result["ensemble"] is not None:
        said.append("together: " + result["ensemble"]["method"])
    return "; ".join(said) + "."
