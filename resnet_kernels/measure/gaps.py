"""Where the most time is lost: our layers beside cuDNN's best route, and beside the roofline's floor.

At stake in a layer is the time that it takes beyond the other, as often as the layer occurs in a network.
A convolution stands once a direction, with what is fused behind it where that costs most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console

from ..errors import UserError
from ..page.terminal import table
from . import report_data as data
from .peers import CUDNN
from .problems import NETWORKS, layers
from .record import Run
from .report_data import Row

MOST = 10
BOUNDS = {"math": "arithmetic"}  # as people call it; memory is memory
FLOOR = "floor"


@dataclass(frozen=True)
class Gap:
    """A layer that takes longer than it might.

    ours: our fastest row of it that was right; beside: a peer's name, or "floor"; seconds: of that.
    times: how often the layer occurs in the network, None where the record does not know.
    """

    ours: Row
    beside: str
    seconds: float
    times: int | None

    @property
    def ratio(self) -> float:
        """Above 1: ours takes longer."""
        return float(self.ours["seconds"] / self.seconds)

    @property
    def lost(self) -> float:
        """Seconds of one pass over the network; of one layer, where it is not known how many there are."""
        return float((self.ours["seconds"] - self.seconds) * (self.times or 1))


@dataclass(frozen=True)
class Chosen:
    """The part of a record whose times can be added up: one dtype, one batch, one network."""

    run: Run
    rows: list[Row]
    dtype: str
    batch: int
    network: str


def choose(
    run: Run, dtype: str | None = None, batch: int | None = None, network: str | None = None
) -> Chosen:
    """What is asked for, or else 16-bit types before others, the largest batch, the record's first network.

    Raises:
        UserError: not a record of layers, none of ours in it, or nothing of what is asked for.
    """
    name = run.path or "the record"
    if run.suite != "layers":
        raise UserError(f"{name} is of the suite {run.suite}: `resnet-kernels bench layers` records layers")
    right = [row for row in data.measured(run.rows) if row["ours"] and row["match"] is not False]
    if not right:
        raise UserError(f"{name} has no layer of ours that was measured and right: see its rows' `reason`")
    kinds = list(dict.fromkeys((kind, size) for kind, size, _ in data.groups(right)))
    found = [pair for pair in kinds if dtype in (None, pair[0]) and batch in (None, pair[1])]
    if not found:
        there = "; ".join(f"--dtype {kind} --batch {size}" for kind, size in kinds)
        raise UserError(f"{name} has no layer of ours at that --dtype and --batch; it has {there}")
    known = [one for one in NETWORKS if any(one in row["count"] for row in right)]
    if network is not None and network not in known:
        raise UserError(f"--model: {name} has no layer of {network!r}, only of {', '.join(known) or 'none'}")
    dtype, batch = found[0]
    network = network or (known or [NETWORKS[0]])[0]
    rows = [row for row in run.rows if data.group(row)[:2] == (dtype, batch)]
    return Chosen(
        run, [row for row in rows if not row["count"] or network in row["count"]], dtype, batch, network
    )


def beside_cudnn(chosen: Chosen, most: int = MOST) -> list[Gap] | None:
    """The convolutions that lose most to the fastest right result of cuDNN's; None: the record has none."""
    found, there = [], False
    for ours, case in _cases(chosen):
        peer = cudnn(case)
        there = there or peer is not None
        if peer is not None:
            found.append((ours, peer["implementation"], peer["seconds"]))
    return _largest(chosen, found, most) if there else None


def beside_floor(chosen: Chosen, most: int = MOST) -> list[Gap]:
    """The layers that lose most to max(bytes / bandwidth, FLOPs / peak)."""
    found = [(ours, FLOOR, ours["floor"]) for ours, _ in _cases(chosen) if ours["floor"]]
    return _largest(chosen, found, most)


def largest(chosen: Chosen, most: int) -> list[Gap]:
    """The worst beside cuDNN; where those are fewer, the worst beside the floor after them."""
    found: dict[tuple[str, str], Gap] = {}
    for gap in [*(beside_cudnn(chosen, most) or []), *beside_floor(chosen, 2 * most)]:
        found.setdefault((gap.ours["name"], gap.ours["direction"]), gap)
    return list(found.values())[:most]


def cudnn(case: Iterable[Row]) -> Row | None:
    """A case's fastest row of cuDNN's whose result was not wrong; what is no convolution has none."""
    rows = (row for row in case if row["implementation"] in CUDNN and row["direction"] != "elementwise")
    return data.best(rows, ours=False)


def _cases(chosen: Chosen) -> list[tuple[Row, list[Row]]]:
    """(our fastest right row, all rows) of each case that has one."""
    cases = ((data.best(rows, ours=True), rows) for rows in data.cases(chosen.rows).values())
    return [(ours, rows) for ours, rows in cases if ours is not None]


def _largest(chosen: Chosen, found: Iterable[tuple[Row, str, float]], most: int) -> list[Gap]:
    occurs = Counter((conv.name, epilogue) for conv in layers(chosen.network) for epilogue in conv.epilogues)
    gaps = []
    for ours, beside, seconds in found:
        times = occurs[ours["name"], ours["epilogue"]] or ours["count"].get(chosen.network)
        gaps.append(Gap(ours, beside, seconds, times))
    worst: dict[tuple[str, str], Gap] = {}
    for gap in sorted(gaps, key=lambda gap: -gap.lost):
        if gap.lost > 0:
            worst.setdefault((gap.ours["name"], gap.ours["direction"]), gap)
    return list(worst.values())[:most]


# -----------------------------------------------------------------------------
# For people


@dataclass(frozen=True)
class Table:
    """The largest gaps to one thing; heads that begin with # are numeric columns."""

    beside: str
    heads: tuple[str, ...]
    lines: list[tuple[str, ...]]


def tables(chosen: Chosen, most: int = MOST) -> list[Table]:
    """Beside cuDNN, unless the record has nothing of it, and beside the physical limit."""
    peers = "cuDNN's best route" if on_gpu(chosen.run) else "PyTorch's best route on this CPU"
    found = [("the physical limit", "#limit", beside_floor(chosen, most))]
    if (beside := beside_cudnn(chosen, most)) is not None:
        found.insert(0, (peers, "#theirs", beside))
    heads = ("layer", "fused", "direction", "#ours", "", "#ratio", "#times", "#at stake", "bound by")
    return [
        Table(what, tuple(other if head == "" else head for head in heads), list(map(_line, gaps)))
        for what, other, gaps in found
    ]


def _line(gap: Gap) -> tuple[str, ...]:
    other = data.seconds(gap.seconds)
    return (
        gap.ours["name"].removeprefix("conv "),
        gap.ours["epilogue"].replace("_", "+"),
        gap.ours["direction"].replace("_", " "),
        data.seconds(gap.ours["seconds"]),
        other if gap.beside == FLOOR else f"{gap.beside} {other}",
        data.number(gap.ratio),
        "–" if gap.times is None else str(gap.times),
        data.seconds(gap.lost),
        BOUNDS.get(gap.ours["bound"], gap.ours["bound"] or "–"),
    )


def on_gpu(run: Run) -> bool:
    return bool(run.header["device"]["kind"] == "cuda")


def without(chosen: Chosen) -> str | None:
    """What to say where no row is cuDNN's."""
    if beside_cudnn(chosen, 1) is not None:
        return None
    which = "eager_nhwc,folded_nhwc,cudnn_fused,cudnn_graph"
    return f"no row of cuDNN's to stand beside: measure with --peers {which}"


def show(chosen: Chosen, console: Console, most: int = MOST) -> None:
    """Print both tables."""
    where = f"{chosen.dtype}, batch {chosen.batch}, on {data.place(chosen.run)}"
    for found in tables(chosen, most):
        made = table(f"Largest gaps to {found.beside}, {where}", *found.heads)
        for line in found.lines:
            made.add_row(*line)
        console.print(made if found.lines else f"No gap to {found.beside}, {where}")
    if reason := without(chosen):
        console.print(reason, style="yellow", soft_wrap=True)
    counted = f"at stake: (ours - other) x times that {chosen.network} has the layer"
    console.print(f"{counted}; ours: {chosen.run.header['ours']}", style="dim", markup=False, soft_wrap=True)
