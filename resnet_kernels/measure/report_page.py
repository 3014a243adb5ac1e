"""The benchmark report as one HTML page: what was measured, where, beside whom, how far from the limit."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from html import escape

from .. import __version__
from ..errors import UserError
from ..page import html
from . import gaps
from . import report_data as data
from . import report_plots as plots
from .record import Run
from .report_data import Row

MOST_BARS = 40  # layers in one plot of ratios


def page(runs: Sequence[Run], past: Sequence[Run] = ()) -> str:
    """The report of `runs`, one device's, with the history of `past` results; HTML."""
    by_suite = {run.suite: run for run in runs}
    parts = [_cards(by_suite)]
    for suite, make in (
        ("primitives", _ceilings),
        ("layers", _layers),
        ("layers", _gaps),
        ("networks", _networks),
        ("training", _training),
    ):
        if suite in by_suite and data.measured(by_suite[suite].rows):
            parts.append(make(by_suite[suite]))
    parts += [_history(past), _absent(runs), _method(runs)]
    return html.document("Benchmarks of resnet_kernels", _header(runs), "\n".join(parts))


def _header(runs: Sequence[Run]) -> str:
    run = runs[0]
    device, versions = run.header["device"], run.header["versions"]
    on_gpu = device["kind"] == "cuda"
    facts = [
        data.place(run),
        run.header["date"][:10],
        f"resnet_kernels {data.revision(run)}",
        f"PyTorch {versions['torch']}",
    ]
    if on_gpu:
        facts += [f"cuDNN {versions['cudnn']}", f"driver {device['driver']}"]
    ours = run.header["ours"]
    where = (
        "Convolution, BatchNorm, shortcut and ReLU in one kernel each, beside cuDNN and PyTorch, and both "
        "beside what the device can do at all."
        if on_gpu
        else "Timed on a CPU, where this package's GPU kernels do not run: these figures exercise the "
        "instruments and say nothing about a GPU."
    )
    title = "How fast, beside cuDNN and the physical limit" if on_gpu else "Benchmarks, on a CPU"
    return html.hero(title, [where, escape(f"Ours here: {ours}.")], facts)


def _cards(suites: dict[str, Run]) -> str:
    figures: list[tuple[str, str]] = []
    if run := suites.get("layers"):
        told = data.summary(run.rows)
        if told.ratio is not None:
            text = f"the best peer’s speed, geometric mean over {told.cases} cases; {told.wins} not slower"
            figures.append((f"{told.ratio:.2f} ×", text))
        if told.floor_share is not None:
            text = "of the physical limit, median over layers"
            figures.append((f"{100 * told.floor_share:.0f} <small>%</small>", text))
    for suite, what in (("networks", "inference"), ("training", "training step")):
        best = _headline(suites.get(suite))
        if best is not None:
            row, peer = best
            beside = f"; best peer {data.number(peer['images_per_second'])}" if peer else ""
            text = f"{what}, {plots.pretty(row['name'])}, {row['dtype']}, batch {row['batch']}{beside}"
            figures.append((f"{data.number(row['images_per_second'])} <small>img/s</small>", escape(text)))
    if not figures:
        ceilings = next(iter(suites.values())).header["ceilings"]
        figures.append((f"{data.number(ceilings['bandwidth'] / 1e9)} <small>GB/s</small>", "copy, measured"))
    return html.cards(figures)


def _headline(run: Run | None) -> tuple[Row, Row | None] | None:
    """(our fastest row of the most telling case, the best peer's): ResNet-50 in bf16 at the largest batch."""
    if run is None:
        return None
    rows = [row for row in data.measured(run.rows) if row["images_per_second"]]
    ours = [row for row in rows if row["ours"]]
    if not ours:
        return None
    told = max(ours, key=lambda r: (r["name"] == "resnet50", r["dtype"] == "bfloat16", r["batch"]))
    case = [row for row in rows if row["case"] == told["case"]]
    mine = data.best(case, ours=True)
    return (mine, data.best(case, ours=False)) if mine else None


def _ceilings(run: Run) -> str:
    rows = [
        (
            escape(row["label"]),
            escape(row["dtype"]),
            data.seconds(row["seconds"]),
            f"{data.number(row['gbs'])} GB/s" if row["gbs"] and not row["flops"] else "",
            f"{data.number(row['tflops'])} TFLOP/s" if row["flops"] else "",
        )
        for row in data.measured(run.rows)
    ]
    return html.section(
        "The device’s ceilings",
        "<p>What this very device reached in this session, with no convolution of ours in it: the roofs that "
        "every share below refers to. Random data; zeros run faster.</p>"
        + html.table(("what", "dtype", "#time", "#memory", "#arithmetic"), rows),
        "ceilings",
    )


def _layers(run: Run) -> str:
    found = data.groups(run.rows)
    parts, first = [], True
    for (dtype, batch, direction), rows in found.items():
        compared = data.primary(data.comparisons(rows))
        anchor = f"{dtype}-{batch}-{direction}"
        told = data.summary(rows)
        title = f"{direction}, {dtype}, batch {batch}"
        if told.ratio is not None:
            title += f": {told.ratio:.2f} × the best peer, geometric mean of {told.cases}"
        body = ""
        if compared:
            for i in range(0, len(compared), MOST_BARS):
                drawn = plots.ratios(compared[i : i + MOST_BARS], f"ratios-{anchor}-{i}")
                body += f'<div class="wide">{drawn}</div>'
        body += html.folded(f"All {len(rows)} timings", _timings(rows))
        body = _whole(rows) + body
        if first:
            parts.append(f"<h3>{escape(title)}</h3>{_roofline(run, rows)}{body}")
        else:
            parts.append(html.folded(escape(title), body))
        first = False
    return html.section(
        "Layer by layer",
        "<p>Each line is one convolution of the networks, with what is fused behind it. The bar is the best "
        "peer’s time over ours: green where ours is faster, red where it is slower, grey for a tie or "
        "unclear; its whisker is the 95 % interval of the interleaved runs. Beside it the share of the "
        "roofline’s floor, max(bytes / bandwidth, FLOPs / peak), at the ceilings measured on this "
        "device.</p>" + "".join(parts),
        "layers",
    )


def _gaps(run: Run) -> str:
    """Where the most time is lost, at the first dtype and the largest batch; nothing if nothing is ours."""
    try:
        chosen = gaps.choose(run)
    except UserError:
        return ""
    body = (
        f"<p>{escape(chosen.dtype)}, batch {chosen.batch}. At stake is our time beyond the other’s, as often "
        f"as {plots.pretty(chosen.network)} has the layer; a convolution stands once a direction, with what "
        "is fused behind it where that costs most.</p>"
    )
    for found in gaps.tables(chosen):
        lines = [tuple(map(escape, line)) for line in found.lines]
        body += f"<h3>Beside {escape(found.beside)}</h3>"
        body += html.table(found.heads, lines) if lines else "<p>No gap.</p>"
    if reason := gaps.without(chosen):
        body += f'<p class="note">{escape(reason)}.</p>'
    return html.section("Largest gaps", body, "gaps")


def _whole(rows: Sequence[Row]) -> str:
    """Sums over a network's convolutions, each as often as it occurs."""
    networks = dict.fromkeys(network for row in rows for network in row["count"])
    said = []
    for network in networks:
        if (times := data.network_time(rows, network)) is not None:
            ours, peers, floor = map(data.seconds, times)
            said.append(
                f"all convolutions of {plots.pretty(network)}: {ours}, the best peers’ {peers}, floor {floor}"
            )
    return f'<p class="note">{escape("; ".join(said))}.</p>' if said else ""


def _roofline(run: Run, rows: Sequence[Row]) -> str:
    found = data.primary(data.comparisons(rows))
    compared = [c for c in found if c.ours["tflops"] and c.peer["tflops"]]
    if not compared:
        return ""
    ceilings = run.header["ceilings"]
    peak = ceilings["peak"][compared[0].ours["dtype"]]
    drawn = plots.roofline(compared, ceilings["bandwidth"], peak, "roofline")
    return f'<div class="wide">{drawn}</div>'


def _timings(rows: Sequence[Row]) -> str:
    heads = ("layer", "fused", "", "#time", "#IQR", "#TFLOP/s", "#GB/s", "#of limit", "#error", "")
    lines, marked = [], []
    for row in data.measured(rows):
        share = f"{100 * row['floor_share']:.0f} %" if row["floor_share"] else "–"
        lines.append(
            (
                escape(row["name"]),
                escape(row["epilogue"].replace("_", " + ")),
                escape(row["label"]),
                data.seconds(row["seconds"]),
                data.seconds(row["iqr"]),
                data.number(row["tflops"]),
                data.number(row["gbs"]),
                share,
                f"{row['error']:.1e}" if row["error"] is not None else "–",
                "" if row["match"] is None else html.verdict(row["match"]),
            )
        )
        marked.append(row["ours"])
    return html.table(heads, lines, marked)


def _networks(run: Run) -> str:
    rows = [row for row in data.measured(run.rows) if row["images_per_second"]]
    body = (
        "<p>Whole networks in evaluation mode, images a second by batch; the dashed line is what the sum of "
    )
    body += "the layers’ floors would allow.</p>"
    for dtype in dict.fromkeys(row["dtype"] for row in rows):
        of_type = [row for row in rows if row["dtype"] == dtype]
        names = list(dict.fromkeys(row["name"] for row in of_type))
        if len({row["batch"] for row in of_type}) == 1:
            body += _at_one_batch(of_type)
            continue
        body += (
            f'<h3>{escape(dtype)}</h3><div class="wide">{plots.rates(of_type, names, f"rates-{dtype}")}</div>'
        )
    return html.section(
        "Inference", body + html.folded(f"All {len(rows)} timings", _rate_table(rows)), "inference"
    )


def _at_one_batch(rows: Sequence[Row]) -> str:
    """Bars in place of lines, a plot a network."""
    body = ""
    for i, case in enumerate(data.cases(rows).values()):
        row, wanted = case[0], [("images_per_second", "images a second", 1.0)]
        body += f"<h3>{plots.pretty(row['name'])}, {escape(row['dtype'])}, batch {row['batch']}</h3>"
        name = f"{row['dtype']}-{i}"
        body += f'<div class="wide">{plots.bars(case, wanted, name)}</div>'
    return body


def _rate_table(rows: Sequence[Row]) -> str:
    heads = ("network", "dtype", "#batch", "", "#time", "#img/s", "#beside best peer", "#memory", "")
    lines = []
    for row in rows:
        told = row["ratios"].get(row["best_peer"]) if row["ours"] and row["best_peer"] else None
        ratio = f"{told['ratio']:.2f} × {told['verdict']}" if told else ""
        lines.append(
            (
                plots.pretty(row["name"]),
                row["dtype"],
                str(row["batch"]),
                escape(row["label"]),
                data.seconds(row["seconds"]),
                data.number(row["images_per_second"]),
                ratio,
                data.gib(row["peak_bytes"]),
                "" if row["match"] is None else html.verdict(row["match"]),
            )
        )
    return html.table(heads, lines, [row["ours"] for row in rows])


def _training(run: Run) -> str:
    rows = data.measured(run.rows)
    scaling = [row for row in rows if row["name"].startswith("cifar")]
    steps = [row for row in rows if not row["name"].startswith("cifar")]
    body = "<p>One step: forward, loss, backward, SGD with momentum. Memory is the peak beyond what stood "
    body += "before.</p>"
    for i, case in enumerate(data.cases(steps).values()):
        row = case[0]
        body += f"<h3>{plots.pretty(row['name'])}, {escape(row['dtype'])}, batch {row['batch']}</h3>"
        wanted = [("images_per_second", "images a second", 1.0)]
        if any(row["peak_bytes"] for row in case):
            wanted.append(("peak_bytes", "peak memory, GiB", 2.0**30))
        body += f'<div class="wide">{plots.bars(case, wanted, f"steps-{i}")}</div>'
    if len({row["name"] for row in scaling}) > 1:
        batch = max(row["batch"] for row in scaling)
        chosen = [row for row in scaling if row["batch"] == batch]
        body += f"<h3>By depth: the CIFAR networks, batch {batch}</h3>"
        body += f'<div class="wide">{plots.depths(chosen, "depths")}</div>'
    return html.section(
        "Training", body + html.folded(f"All {len(rows)} timings", _rate_table(rows)), "training"
    )


def _history(past: Sequence[Run]) -> str:
    """Figures over committed results; only devices of which there are two dates or more are drawn."""
    lines: dict[str, dict[str, list[tuple[str, float]]]] = {}
    for run in sorted(past, key=lambda run: run.header["date"]):
        told = data.summary(run.rows)
        figures = {}
        if run.suite == "layers":
            figures = {
                "times the best peer’s speed, layers": told.ratio,
                "share of the limit": told.floor_share,
            }
        elif (best := _headline(run)) is not None:
            row = best[0]
            what = "inference" if run.suite == "networks" else "training"
            label = f"images a second, {what}, {plots.pretty(row['name'])}, batch {row['batch']}"
            figures = {label: row["images_per_second"]}
        for label, value in figures.items():
            if value is not None:
                lines.setdefault(label, {}).setdefault(data.place(run), []).append(
                    (run.header["date"], value)
                )
    drawn = [
        plots.history(devices, label, f"history-{i}")
        for i, (label, devices) in enumerate(lines.items())
        if any(len(points) > 1 for points in devices.values())
    ]
    if not drawn:
        return ""
    cells = "".join(f"<div>{plot}</div>" for plot in drawn)
    text = "<p>Over the results that are committed with the project.</p>"
    return html.section("History", f'{text}<div class="two">{cells}</div>', "history")


def _absent(runs: Sequence[Run]) -> str:
    """What was not measured, with its reason: said once each."""
    said: dict[tuple[str, str], int] = {}
    for run in runs:
        for peer, why in run.header["peers"].items():
            said.setdefault((peer, why), 0)
        for row in data.without(run):
            key = (row["label"], row["reason"] or row["status"])
            said[key] = said.get(key, 0) + 1
    wrong = [(run, row) for run in runs for row in data.measured(run.rows) if row["match"] is False]
    body = ""
    if wrong:
        lines = [
            (
                escape(row["key"]),
                f"{row['error']:.1e}" if row["error"] is not None else "–",
                html.verdict(False),
            )
            for _, row in wrong
        ]
        body += "<h3>Results that were not right</h3>" + html.table(("row", "#error", ""), lines)
    if said:
        lines = [
            (escape(what), escape(why), str(count) if count else "") for (what, why), count in said.items()
        ]
        body += "<h3>Absent</h3>" + html.table(("implementation", "why", "#rows"), lines)
    return html.section("What is missing", body, "missing") if body else ""


def _method(runs: Sequence[Run]) -> str:
    run = runs[0]
    header = run.header
    clocks = ", ".join(f"{name} {value}" for name, value in header["clocks"].items()) or "not readable"
    versions = ", ".join(f"{name} {value}" for name, value in header["versions"].items() if value)
    ceilings = header["ceilings"]
    peaks = ", ".join(
        f"{name} {data.number(value / 1e12)} TFLOP/s" for name, value in ceilings["peak"].items()
    )
    rows = [
        (
            "command",
            f"<code>{escape('; '.join(dict.fromkeys(run.header['command'] for run in runs)))}</code>",
        ),
        ("timer", escape(header["timer"])),
        ("clocks", escape(clocks)),
        (
            "ceilings",
            f"{data.number(ceilings['bandwidth'] / 1e9)} GB/s, {peaks}; {escape(ceilings['source'])}",
        ),
        ("versions", escape(versions)),
        ("revision", escape(data.revision(run))),
        ("incomplete", ", ".join(run.suite for run in runs if not run.complete) or "nothing"),
    ]
    return html.section(
        "How it was measured",
        "<p>Random data; inputs rotated or the cache flushed between runs, unless a row says warm; all "
        "implementations of a case interleaved; medians; every result compared with float64 in the same "
        "session.</p>" + f'<div class="facts-table">{html.table(("", ""), rows)}</div>'
        f'<p class="note">resnet_kernels {__version__}; drawn by Python {platform.python_version()}.</p>',
        "method",
    )
