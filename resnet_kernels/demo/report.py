"""One HTML file that holds everything: styles, plots and pictures inside, no script, nothing fetched."""

from __future__ import annotations

import datetime
import platform
from html import escape
from pathlib import Path

import numpy as np
import torch

from .. import __version__, flops
from ..measure.predict import BANDWIDTH, LABEL, PEAK
from ..page import html, svg
from . import plots
from .compare import Logits, Unit
from .run import Demonstration


def write(demo: Demonstration, path: Path) -> None:
    """Write the report to `path`, whole or not at all; UserError if the place cannot be written."""
    html.write(page(demo), path)


def page(demo: Demonstration) -> str:
    """The report as HTML."""
    sections = (
        _accuracy(demo),
        _seen(demo),
        _costs(demo),
        _where(demo),
        _counted(demo),
        _predicted(demo),
        _again(demo),
    )
    body = f"{_cards(demo)}\n{''.join(sections)}\n{_footer()}"
    return html.document(_title(demo), _header(demo), body)


def _title(demo: Demonstration) -> str:
    return f"{_name(demo)} on resnet_kernels"


def _name(demo: Demonstration) -> str:
    return "ResNet-" + demo.options.model.removeprefix("resnet")


def _header(demo: Demonstration) -> str:
    facts = (
        demo.options.dtype,
        f"{demo.options.size} × {demo.options.size} pixels",
        f"runs on: {demo.machine.name}",
        f"resnet_kernels {__version__}",
    )
    what = (
        "Convolution, BatchNorm, shortcut and ReLU in one kernel each, written from scratch"
        if demo.machine.ours
        else "No GPU and no simulator here: the operators fell back to PyTorch's own composition"
    )
    photos = "".join(
        f'<figure><img src="{svg.png(shot.crop)}" alt="{escape(shot.name)}">'
        f"<figcaption>{escape(shot.name)}</figcaption></figure>"
        for shot in demo.photographs[:2]
    )
    note = demo.networks.weights_note
    return html.hero(
        f"{_name(demo)}, every layer beside float64",
        (
            f"{what}; compared, unit by unit, with an independent oracle and with PyTorch.",
            f"{escape(note[0].upper() + note[1:])}.",
        ),
        facts,
        f'<div class="photos">{photos}</div>',
    )


def _cards(demo: Demonstration) -> str:
    units, logits = demo.comparison.units, demo.comparison.logits[0]
    ratio = float(np.median([unit.ratio for unit in units]))
    calls = sum(row.calls for row in demo.comparison.record.rows.values()) // len(demo.comparison.logits)
    kernels = len(demo.eager.floors)
    paper = demo.paper.paper_gmacs
    beside = f"; the paper's table 1, with its stride placement: {paper}" if paper else ""
    cards = (
        (f"{ratio:.2f} ×", f"PyTorch's own error, median of {len(units)} units against float64"),
        (
            f"{_error(logits.error_ours)}",
            f"relative error of the logits, end to end; PyTorch's own: {_error(logits.error_peer)}",
        ),
        (
            f"{demo.count.macs / 1e9:.3f} <small>GMACs</small>",
            f"{2 * demo.count.macs / 1e9:.2f} GFLOPs an image{beside}",
        ),
        (
            f"{calls} <small>operators</small>",
            f"run for one image, where PyTorch’s eager mode runs {kernels}",
        ),
    )
    return html.cards(cards)


def _accuracy(demo: Demonstration) -> str:
    result = demo.comparison
    plot = plots.errors_by_unit(result.units, demo.networks.dtype, _where_ours(demo))
    rows = [_unit_row(unit) for unit in result.units]
    table = html.table(("unit", "output", "#ours", "#PyTorch", "#ratio", "#seconds", ""), rows)
    whole = html.table(
        ("photograph", "#ours", "#PyTorch", "#ratio", "allowed", "likeliest class", ""),
        [_logits_row(logits) for logits in result.logits],
    )
    top = "".join(_top(demo, logits) for logits in result.logits)
    return html.section(
        "How far from float64",
        "<p>Each unit is fed the float64 oracle’s input, rounded to the dtype, so that no unit’s error hides "
        'in another’s. <span class="ours">Ours</span> and <span class="peer">PyTorch’s</span> are relative '
        "L2 "
        "errors of the unit’s output; the oracle is an independent NumPy program that shares no code with "
        f"the kernels. {_why(demo)}"
        f'</p><div class="wide">{plot}</div><h3>The whole network, end to end</h3>{whole}{top}'
        f"<details><summary>All {len(rows)} units</summary>{table}</details>",
    )


def _why(demo: Demonstration) -> str:
    """Where the difference comes from, for the dtypes in which there is one."""
    if not demo.machine.ours or demo.networks.dtype == torch.float32:
        return ""
    return (
        "PyTorch rounds between convolution, BatchNorm and the shortcut’s add; a fused kernel keeps its "
        "float32 "
        "accumulator until the end and rounds once."
    )


def _unit_row(unit: Unit) -> html.Row:
    shape = " × ".join(map(str, unit.shape[1:]))
    errors = _error(unit.ours), _error(unit.peer), f"{unit.ratio:.2f}"
    return (unit.name, shape, *errors, f"{unit.seconds:.2f}", html.verdict(unit.passed))


def _logits_row(logits: Logits) -> html.Row:
    top = logits.top(1)
    same = top["ours"] == top["reference"]
    agreement = "the same as in float64" if same else "another than in float64"
    ratio = logits.error_ours / logits.error_peer if logits.error_peer else 0.0
    return (
        escape(logits.photograph),
        _error(logits.error_ours),
        _error(logits.error_peer),
        f"{ratio:.2f}",
        f"{logits.limit:.2f} × PyTorch's",
        agreement,
        html.verdict(logits.passed),
    )


def _top(demo: Demonstration, logits: Logits) -> str:
    """The five likeliest classes by name: only where the weights are real."""
    names = demo.categories
    if names is None:
        return ""
    best = logits.top(5)["ours"]
    columns = [_softmax(values) for values in (logits.ours, logits.peer, logits.reference)]
    rows = [[escape(names[i]), *(f"{100 * column[i]:.2f} %" for column in columns)] for i in best]
    table = html.table(("class", "#ours", "#PyTorch", "#float64"), rows)
    return f"<h3>What it sees in {escape(logits.photograph)}</h3>{table}"


def _seen(demo: Demonstration) -> str:
    """The mean activity after the stem and the stages."""
    last = {unit.name.split(".")[0]: unit for unit in demo.comparison.units if unit.activity is not None}
    figures = _picture(svg.png(demo.photographs[0].crop), "the network’s input")
    for name, unit in last.items():
        channels, height, width = unit.shape[1:]
        caption = f"after {name}<br>{channels} channels, {height} × {width}"
        figures += _picture(plots.activity(unit.activity), caption)
    return html.section(
        "What the layers answer",
        f"<p>Mean over channels of |y|, as computed {_where_ours(demo)}.</p>"
        f'<div class="strip">{figures}</div>',
    )


def _picture(uri: str, caption: str) -> str:
    return f'<figure><img src="{uri}" alt=""><figcaption>{caption}</figcaption></figure>'


def _costs(demo: Demonstration) -> str:
    plot = plots.flops_by_stage(demo.count, demo.paper)
    rows, here = [], []
    for name in flops.TABLE_1:
        v1 = flops.count(name, stride_in="1x1")
        v15 = flops.count(name)
        row = (
            name.replace("resnet", "ResNet-"),
            f"{v1.paper_gmacs:.1f}",
            f"{v1.macs / 1e9:.3f}",
            f"{v15.macs / 1e9:.3f}",
            f"{v15.flops / 1e9:.2f}",
            f"{v15.params / 1e6:.1f}",
        )
        rows.append(row)
        here.append(name == demo.options.model)
    table = html.table(
        (
            "",
            "#table 1",
            "#GMACs<br>1x1 stride",
            "#GMACs<br>3x3 stride",
            "#GFLOPs<br>3x3 stride",
            "#million<br>parameters",
        ),
        rows,
        here,
    )
    return html.section(
        "What it costs, beside the paper",
        "<p>A MAC is one multiply-add of a convolution or of the classifier: two FLOPs. The paper’s table 1 "
        "says FLOPs and counts MACs, at 224 × 224, with a bottleneck’s stride in its first 1x1 convolution. "
        "torchvision and this demonstration put it in the 3x3.</p>"
        f'<div class="two"><div>{plot}</div><div>{table}</div></div>',
    )


def _where(demo: Demonstration) -> str:
    images = len(demo.comparison.logits)
    rows = [
        (
            f"<code>{row.operator}</code>",
            row.machine,
            str(row.calls // images),
            f"{row.macs / images / 1e9:.3f}" if row.macs else "–",
            f"{row.seconds / images:.3f}",
        )
        for row in demo.comparison.record.rows.values()
    ]
    clock = (
        "Seconds on the simulator are the price of simulating every thread on a CPU; they say nothing about "
        "a GPU."
        if demo.machine.backend == "simulator"
        else "Seconds are wall time, launches included."
    )
    return html.section(
        "What ran where",
        f"<p>Counted by PyTorch’s dispatcher while the whole network ran, per image. {clock}</p>"
        + html.table(("operator", "machine", "#calls", "#GMACs", "#seconds"), rows),
    )


def _counted(demo: Demonstration) -> str:
    counted = demo.counters
    if not counted.rows:
        why = f'<p class="note">No counters: {escape(counted.note)}.</p>'
        return html.section("What the kernels move", why)
    rows = [
        (
            escape(row.layer),
            escape(row.shape.replace("x", "×")),
            f"<code>{escape(row.kernel)}</code>",
            f"{row.touched / 1024:.1f}",
            *row.ratios(),
        )
        for row in counted.rows
    ]
    heads = ("layer", "input", "kernel", "#KiB touched")
    ratios = ("#touched /<br>tensors", "#requested /<br>useful", "#vectors<br>alike")
    more = ("#shared waves /<br>ideal", "#MACs done /<br>needed")
    return html.section(
        "What the kernels move",
        f"<p>{escape(counted.note)}.</p>{html.table((*heads, *ratios, *more), rows)}"
        '<p class="note">1.000 is ideal. Touched / tensors: every byte of every tensor crosses memory once. '
        "Requested / useful: sectors that warps ask for against bytes that their lanes want, in activations, "
        "weights and outputs; beside it the same of BatchNorm’s vectors. Shared waves: bank conflicts. "
        "MACs: what "
        "the tensor cores multiply against what the layer needs; a batch of one fills one row of a tile in "
        "fc, and "
        "the stem’s 3 × 7 × 7 filters are padded.</p>",
    )


def _predicted(demo: Demonstration) -> str:
    schedules = (
        ("one kernel a convolution, epilogue fused", demo.fused),
        ("convolution, BatchNorm, ReLU, add apart", demo.eager),
    )
    rows = [
        (
            name,
            str(len(prediction.floors)),
            f"{sum(floor.layer.bytes for floor in prediction.floors) / 1e9:.1f}",
            f"{prediction.seconds * 1e3:.2f}",
            f"{prediction.images_per_second:,.0f}".replace(",", " "),
        )
        for name, prediction in schedules
    ]
    table = html.table(("schedule", "#kernels", "#GB", "#ms at least", "#images/s at most"), rows)
    roofs = f"{BANDWIDTH / 1e12:.1f} TB/s, FLOPs / {PEAK / 1e12:.0f} TFLOP/s"
    return html.section(
        f"What an H200 could do{html.tag(LABEL)}",
        f"<p>No layer is faster than max(bytes / {roofs}). The sum over layers, bf16 at batch "
        f"{demo.fused.batch}, is a floor for the time and a ceiling for the rate: what can be hoped for, "
        "not what "
        "has been reached.</p>"
        f'{table}<div class="wide">{plots.floors(demo.fused)}</div>'
        f'<div class="two"><div>{plots.roofline(demo.fused)}</div>'
        '<p class="note">Each dot is one layer of the fused schedule, its area the layer’s least time. Left '
        "of "
        "the ridge memory decides: that is where keeping BatchNorm, shortcut and ReLU inside the "
        "convolution’s "
        "kernel pays, because each of them alone would read and write the whole activation again.</p></div>",
    )


def _again(demo: Demonstration) -> str:
    options = demo.options
    command = f"resnet-kernels demo --model {options.model} --dtype {options.dtype} --size {options.size}"
    command += f" --backend {demo.machine.backend}"
    command += "".join(f" --image {image}" for image in options.images)
    command += f" --weights {options.weights}" if options.weights else ""
    versions = f"Python {platform.python_version()}, PyTorch {torch.__version__}, NumPy {np.__version__}"
    return html.section(
        "Once more",
        f"<pre>{escape(command)}</pre>"
        f'<p class="note">{escape(versions)}; {escape(platform.platform())}. Weights, photographs and '
        "schedules are fixed: the same machine gives the same bits.</p>",
    )


def _footer() -> str:
    today = datetime.date.today().isoformat()
    paper = "He, Zhang, Ren, Sun, “Deep Residual Learning for Image Recognition”, 2015"
    return f"<footer>resnet_kernels {__version__}, {today}. The networks: {paper}.</footer>"


def _where_ours(demo: Demonstration) -> str:
    places = {"cuda": "on the GPU", "simulator": "on the simulator"}
    return places.get(demo.machine.backend, "as PyTorch’s composition")


def _error(value: float) -> str:
    """Three digits: 0.00346; below a thousandth with a power of ten."""
    if value == 0 or value >= 1e-3:
        return f"{value:#.3g}" if value else "0"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa} · 10<sup>{int(exponent)}</sup>"


def _softmax(values: np.ndarray) -> np.ndarray:
    from ..reference import softmax

    return softmax(values)
