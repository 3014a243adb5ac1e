"""A slower implementation is called slower, an equal one is not; what fails costs its own row alone."""

import pytest
import torch

from resnet_kernels.measure.engine import Effort

from .common import case, engine, implementation, numbers

TRUSTED = Effort(rounds=10, seconds=0.3, most=20, warm_up=0.02)


def work(times):
    """A reduction of 256 KiB, `times` over."""

    def run(values):
        for _ in range(times):
            y = values["x"].sin().sum()
        return (y,)

    return run


def verdict(mine, theirs):
    """The verdict on `mine` against `theirs`; the median of three where the machine is busy."""
    chosen = [implementation("ours", work(mine), ours=True), implementation("peer", work(theirs))]
    rows = engine(TRUSTED, cache="warm").measure(case(chosen, make=numbers(1 << 16)))
    return rows[0].ratios["peer"]


def test_slower_is_called_slower():
    found = [verdict(6, 3) for _ in range(2)]
    assert any(one["verdict"] == "slower" and 0.35 < one["ratio"] < 0.75 for one in found), found
    assert all(one["verdict"] in ("slower", "unclear") for one in found), found


def test_faster_is_called_faster():
    found = [verdict(3, 6) for _ in range(2)]
    assert any(one["verdict"] == "faster" and 1.4 < one["ratio"] < 2.9 for one in found), found


def test_equal_is_neither():
    """A tolerance of 2 % may be left by chance, but not all three times and in one direction."""
    found = [verdict(3, 3)["verdict"] for _ in range(3)]
    assert {"same", "unclear"} & set(found), found


def test_rounds_interleave_and_begin_with_another():
    order = []

    def logged(name):
        def run(values):
            order.append(name)
            return (values["x"],)

        return implementation(name, run, memory=False)

    rows = engine(Effort(rounds=6, seconds=0.0, most=1, warm_up=0.0)).measure(
        case([logged(name) for name in "abc"])
    )
    timed = order[-18:]
    assert ["".join(timed[i : i + 3]) for i in range(0, 18, 3)] == ["abc", "bca", "cab"] * 2
    assert all(row.runs == 6 and len(row.rounds) == 6 for row in rows)


def test_a_failure_is_one_row():
    def broken(values):
        raise RuntimeError("no such plan\nand much more")

    chosen = [
        implementation("ours", lambda i: (i["x"] + 1,), ours=True),
        implementation("broken", broken),
        implementation("gone", broken, absent="not installed"),
        implementation("peer", lambda i: (i["x"] + 1,)),
    ]
    rows = {row.implementation: row for row in engine().measure(case(chosen))}
    assert (rows["broken"].status, rows["broken"].reason) == ("failed", "RuntimeError: no such plan")
    assert (rows["gone"].status, rows["gone"].reason) == ("absent", "not installed")
    assert rows["peer"].status == rows["ours"].status == "measured"
    assert set(rows["ours"].ratios) == {"peer"} and rows["ours"].best_peer == "peer"
    assert rows["broken"].seconds is None and rows["broken"].rounds == []


def test_a_failure_while_timing_is_one_row():
    calls = []

    def breaks(values):
        calls.append(1)
        if len(calls) > 5:
            raise RuntimeError("out of luck")
        return (values["x"],)

    chosen = [implementation("ours", lambda i: (i["x"],), ours=True), implementation("breaks", breaks)]
    rows = {row.implementation: row for row in engine().measure(case(chosen))}
    assert (rows["breaks"].status, rows["breaks"].reason) == ("failed", "RuntimeError: out of luck")
    assert rows["ours"].status == "measured" and rows["ours"].ratios == {} and len(rows["ours"].rounds) == 6


def test_figures_of_a_row():
    row = engine().measure(
        case([implementation("a", lambda i: (i["x"] * 2,))], flops=2000, bytes=8192, images=True, batch=4)
    )[0]
    assert row.tflops == pytest.approx(2000 / row.seconds / 1e12)
    assert row.gbs == pytest.approx(8192 / row.seconds / 1e9)
    assert (row.floor, row.bound) == (8192 / 10e9, "memory")
    assert row.floor_share == pytest.approx(row.floor / row.seconds)
    assert row.images_per_second == pytest.approx(4 / row.seconds)
    assert row.q1 <= row.seconds <= row.q3 and row.min <= row.q1 and row.iqr == pytest.approx(row.q3 - row.q1)
    assert 4096 <= row.peak_bytes < 5000  # the result, and a scalar


def test_floors_of_parts_add_up():
    parts = ((2_000_000, 10), (10, 400_000))
    row = engine().measure(case([implementation("a", lambda i: (i["x"],))], flops=1, parts=parts))[0]
    assert row.floor == pytest.approx(2e6 / 1e11 + 4e5 / 10e9) and row.bound == "memory"


def test_settings_are_restored():
    from resnet_kernels import backend

    seen = []

    def look(values):
        convolutions = torch.backends.cudnn.conv.fp32_precision
        seen.append(
            (torch.is_grad_enabled(), torch.backends.cudnn.benchmark, convolutions, backend.current())
        )
        return (values["x"],)

    before = torch.backends.cudnn.benchmark, torch.backends.cudnn.conv.fp32_precision
    for dtype, precision in (("tf32", "tf32"), ("float32", "ieee")):
        engine(choice="aten").measure(case([implementation("a", look)], dtype=dtype))
        assert set(seen) == {(False, True, precision, "aten")}
        seen.clear()
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.conv.fp32_precision) == before
    assert backend.current() == "auto"
