"""The largest gaps: what is ranked, by how much, and what is said where there is nothing to rank."""

import io

import pytest
from rich.console import Console

from resnet_kernels.errors import UserError
from resnet_kernels.measure import gaps, report_page
from resnet_kernels.measure.peers import CUDNN
from resnet_kernels.measure.problems import layers

from . import sample


def shown(chosen):
    text = io.StringIO()
    gaps.show(chosen, Console(file=text, width=140))
    return text.getvalue()


def slow(run, name, direction, epilogue, seconds):
    """Make one layer of ours take so long, at batch 256."""
    (row,) = (
        row
        for row in run.rows
        if row["ours"]
        and (row["name"], row["direction"], row["epilogue"], row["batch"]) == (name, direction, epilogue, 256)
    )
    row |= {"seconds": seconds, "match": True}
    return row


def test_peers_of_cudnn_s():
    assert {"eager_nhwc", "eager_nchw", "folded_nhwc", "cudnn_fused", "cudnn_graph"} <= set(CUDNN)
    assert not {"compile_default", "compile_max_autotune", "jax"} & set(CUDNN)


def test_most_time_at_stake_comes_first():
    """Not the largest ratio: one layer of 17 ms too much goes behind six of 4 ms."""
    run = sample.layers()
    once = slow(run, "conv 3x3/2 256>256 28x28", "fprop", "bn_relu", 17e-3)
    often = slow(run, "conv 3x3 256>256 14x14", "fprop", "bn_relu", 4e-3)
    first, second = gaps.beside_cudnn(gaps.choose(run))[:2]
    assert (first.ours, second.ours) == (often, once)
    assert (first.times, second.times) == (5, 1)
    cases = [row for row in run.rows if row["case"] == often["case"] and row["implementation"] in CUDNN]
    peer = min(cases, key=lambda row: row["seconds"])
    assert (first.beside, first.seconds) == (peer["implementation"], peer["seconds"])
    assert first.lost == pytest.approx(5 * (4e-3 - peer["seconds"]))
    assert first.ratio == pytest.approx(4e-3 / peer["seconds"])
    floors = gaps.beside_floor(gaps.choose(run))
    assert floors[0].ours == often and floors[0].lost == pytest.approx(5 * (4e-3 - often["floor"]))


def test_an_epilogue_counts_as_often_as_it_occurs():
    """Of ResNet-50's four convolutions 64 to 256 three have an add behind them."""
    run = sample.layers()
    row = slow(run, "conv 1x1 64>256 56x56", "fprop", "bn_add_relu", 1.0)
    (gap,) = gaps.beside_cudnn(gaps.choose(run), most=1)
    found = [conv.epilogues for conv in layers("resnet50") if conv.name == row["name"]]
    assert (len(found), gap.times) == (4, 3)


def test_what_we_win_and_what_is_wrong_is_no_gap():
    run = sample.layers()
    worst = gaps.beside_cudnn(gaps.choose(run))[0].ours
    worst["match"] = False
    chosen = gaps.choose(run)
    assert worst["key"] not in {gap.ours["key"] for gap in gaps.beside_cudnn(chosen, 1000)}
    for row in run.rows:
        if row["ours"]:
            row["seconds"] = row["floor"]
    assert gaps.beside_cudnn(chosen) == [] and gaps.beside_floor(chosen) == []
    assert "No gap to cuDNN's best route, bfloat16, batch 256, on Sample GPU" in shown(chosen)


def test_a_wrong_peer_is_no_measure():
    run = sample.layers()
    (gap,) = gaps.beside_cudnn(gaps.choose(run), most=1)
    for row in run.rows:
        if row["case"] == gap.ours["case"] and row["implementation"] == gap.beside:
            row["match"] = False
    again = [g for g in gaps.beside_cudnn(gaps.choose(run), 1000) if g.ours["case"] == gap.ours["case"]]
    assert all(g.beside != gap.beside for g in again)


def test_a_convolution_stands_once_a_direction():
    found = gaps.beside_floor(gaps.choose(sample.layers()), 1000)
    assert len({(gap.ours["name"], gap.ours["direction"]) for gap in found}) == len(found) > 50


def test_the_largest_are_filled_up_from_the_floor():
    run = sample.layers()
    chosen = gaps.choose(run)
    first = gaps.beside_cudnn(chosen, 2)
    for row in run.rows:
        if row["ours"] and row["case"] not in {gap.ours["case"] for gap in first}:
            row["seconds"] = 1.0001 * row["floor"]
    found = gaps.largest(chosen, 5)
    assert len(found) == 5 and found[:2] == first and {gap.beside for gap in found[2:]} == {gaps.FLOOR}


def test_tables_say_machine_bound_and_stake():
    run = sample.layers()
    slow(run, "conv 3x3 256>256 14x14", "fprop", "bn_relu", 4e-3)
    text = shown(gaps.choose(run))
    assert "Largest gaps to cuDNN's best route, bfloat16, batch 256, on Sample GPU" in text
    assert "Largest gaps to the physical limit, bfloat16, batch 256, on Sample GPU" in text
    assert "arithmetic" in text and "memory" in text and "resnet50" in text
    assert "batch 32, on Sample GPU" in shown(gaps.choose(run, batch=32))
    page = report_page.page([run])
    assert 'id="gaps"' in page and "3x3 256&gt;256 14x14" in page[page.index('id="gaps"') :]


def test_a_cpu_is_no_gpu():
    run = sample.layers()
    run.header["device"] |= {"kind": "cpu", "name": "Some CPU"}
    run.header["ours"] = "PyTorch's composition of our operators: not our kernels"
    text = shown(gaps.choose(run))
    assert "cuDNN's" not in text and "on this CPU" in text
    assert "on Some CPU" in text and "not our kernels" in text


def test_without_cudnn_the_floor_is_left():
    run = sample.layers()
    run.rows = [row for row in run.rows if row["ours"] or row["implementation"].startswith("compile")]
    chosen = gaps.choose(run)
    assert gaps.beside_cudnn(chosen) is None and gaps.largest(chosen, 3)
    text = shown(chosen)
    assert "cuDNN's best route" not in text and "--peers eager_nhwc" in text and "physical limit" in text
    assert "--peers eager_nhwc" in report_page.page([run])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch": 7}, "--dtype bfloat16 --batch 256; --dtype bfloat16 --batch 32"),
        ({"dtype": "float8"}, "no layer of ours at that --dtype"),
        ({"network": "resnet18"}, "--model: the record has no layer of 'resnet18', only of resnet50"),
    ],
)
def test_what_is_not_there_is_said(options, said):
    with pytest.raises(UserError, match=said):
        gaps.choose(sample.layers(), **options)


def test_other_records_are_refused():
    with pytest.raises(UserError, match="of the suite networks"):
        gaps.choose(sample.networks())
    run = sample.layers()
    run.rows = [row for row in run.rows if not row["ours"]]
    with pytest.raises(UserError, match="no layer of ours"):
        gaps.choose(run)
    assert 'id="gaps"' not in report_page.page([run])
