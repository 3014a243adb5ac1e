"""Results on the terminal: the demonstration, and `verify`."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.table import Table

from .. import flops
from ..measure.predict import LABEL
from ..page.terminal import table, verdict
from .judgement import Result
from .run import Demonstration


def demonstration(demo: Demonstration, console: Console) -> None:
    """Print the four tables of a demonstration: errors, costs, what ran where, and the prediction."""
    console.print()
    console.print(_errors(demo))
    console.print(_logits(demo))
    console.print(costs(demo.options.model))
    console.print(_where(demo))
    if demo.counters.rows:
        console.print(_counters(demo))
    console.print(_prediction(demo))


def _errors(demo: Demonstration) -> Table:
    """Stage by stage: the median over its units, and the worst ratio."""
    shown = table(
        "Error of every unit against float64 (relative L2)",
        "stage",
        "#units",
        "#ours",
        "#PyTorch",
        "#worst ratio",
        "",
        caption=f"median over the units; each is fed the oracle's input. {demo.networks.weights_note}.",
    )
    stages: dict[str, list] = {}
    for unit in demo.comparison.units:
        stages.setdefault(unit.name.split(".")[0], []).append(unit)
    for stage, units in stages.items():
        shown.add_row(
            stage,
            str(len(units)),
            f"{np.median([unit.ours for unit in units]):.2e}",
            f"{np.median([unit.peer for unit in units]):.2e}",
            f"{max(unit.ratio for unit in units):.2f}",
            verdict(all(unit.passed for unit in units)),
        )
    return shown


def _logits(demo: Demonstration) -> Table:
    shown = table(
        "Logits, end to end", "photograph", "#ours", "#PyTorch", "#allowed", "#seconds", "likeliest class", ""
    )
    for logits in demo.comparison.logits:
        top = logits.top(1)["ours"][0]
        same = top == logits.top(1)["reference"][0]
        name = demo.categories[top] if demo.categories else f"{'as' if same else 'not as'} in float64"
        shown.add_row(
            logits.photograph,
            f"{logits.error_ours:.2e}",
            f"{logits.error_peer:.2e}",
            f"{logits.limit:.2f} x PyTorch",
            f"{logits.seconds:.1f}",
            name,
            verdict(logits.passed),
        )
    return shown


def costs(model: str | None = None) -> Table:
    """Multiply-adds of the paper's networks beside the paper's table 1; `model` is set in bold."""
    shown = table(
        "Multiply-adds at 224 x 224, beside the paper's table 1",
        "network",
        "#table 1",
        "#GMACs, stride in 1x1",
        "#GMACs, stride in 3x3",
        "#GFLOPs, stride in 3x3",
        "#M parameters",
        caption="1 MAC = 2 FLOPs; the paper writes FLOPs and counts MACs, with the stride in the first 1x1.",
    )
    for name in flops.TABLE_1:
        v1, v15 = flops.count(name, stride_in="1x1"), flops.count(name)
        shown.add_row(
            name,
            f"{v1.paper_gmacs:.1f}",
            f"{v1.macs / 1e9:.3f}",
            f"{v15.macs / 1e9:.3f}",
            f"{v15.flops / 1e9:.3f}",
            f"{v15.params / 1e6:.2f}",
            style="bold" if name == model else None,
        )
    return shown


def verification(results: list[Result], console: Console) -> None:
    """Print the table of `verify`, what failed by an exception, and the sum of it."""
    shown = table(
        "Error against float64",
        "operator",
        "problem",
        "dtype",
        "machine",
        "#of budget",
        "#RMS",
        "#PyTorch's",
        "#ratio",
        "",
        caption="of budget: the worst element's error over what is allowed; RMS: from 4,096 elements on, "
        "at most twice PyTorch's.",
    )
    for result in results:
        numbers = (
            f"{result.share:.3f}" if result.failure is None else "",
            f"{result.rms:.1e}" if result.rms is not None else "",
            f"{result.peer_rms:.1e}" if result.peer_rms is not None else "",
            f"{result.ratio:.2f}" if result.ratio is not None else "",
        )
        problem = result.problem
        names = problem.operator, problem.what, result.dtype, result.machine
        shown.add_row(*names, *numbers, verdict(result.passed))
    console.print(shown)
    for result in results:
        if result.failure is not None:
            where = f"{result.problem.operator} {result.problem.what}, {result.dtype}, {result.machine}"
            console.print(f"{where}: {result.failure}", markup=False)
    ratios = [result.ratio for result in results if result.ratio]
    median = f"; median ratio to PyTorch's error: {np.median(ratios):.2f}" if ratios else ""
    console.print(f"{sum(result.passed for result in results)} of {len(results)} pass{median}")


def _where(demo: Demonstration) -> Table:
    images = len(demo.comparison.logits)
    shown = table(
        f"What ran where, for one image ({demo.machine.name})",
        "operator",
        "machine",
        "#calls",
        "#GMACs",
        "#seconds",
    )
    for row in demo.comparison.record.rows.values():
        macs = f"{row.macs / images / 1e9:.3f}" if row.macs else "-"
        shown.add_row(
            row.operator, row.machine, str(row.calls // images), macs, f"{row.seconds / images:.3f}"
        )
    return shown


def _counters(demo: Demonstration) -> Table:
    shown = table(
        "What the kernels move (counted by the simulator)",
        "layer",
        "kernel",
        "#touched / tensors",
        "#requested / useful",
        "#of vectors",
        "#shared memory",
        "#MACs",
        caption=f"1 is ideal. {demo.counters.note}.",
    )
    for row in demo.counters.rows:
        shown.add_row(row.layer, row.kernel, *row.ratios())
    return shown


def _prediction(demo: Demonstration) -> Table:
    shown = table(
        f"What an H200 could do in bf16 at batch {demo.fused.batch}: {LABEL}",
        "schedule",
        "#kernels",
        "#ms at least",
        "#images/s at most",
    )
    for name, prediction in (("fused epilogues", demo.fused), ("one operator a kernel", demo.eager)):
        rate = f"{prediction.images_per_second:,.0f}"
        shown.add_row(name, str(len(prediction.floors)), f"{prediction.seconds * 1e3:.2f}", rate)
    return shown
