"""Reports of invented records: what the tables and the page say is what the rows say."""

import csv
import io
import itertools
import math
import random
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from resnet_kernels.errors import UserError
from resnet_kernels.measure import record, report, report_data, report_page, report_plots

from . import sample


@pytest.fixture(scope="module")
def runs():
    return [sample.layers(batches=(32,)), sample.networks(), sample.training(), sample.primitives()]


@pytest.fixture(scope="module")
def page(runs):
    return report_page.page(runs)


def shown(runs, width=160):
    text = io.StringIO()
    report.show(runs, Console(file=text, width=width))
    return text.getvalue()


def test_tables_say_what_the_rows_say(runs):
    text = shown(runs)
    layers = runs[0].rows
    told = report_data.summary(row for row in layers if report_data.group(row) == ("bfloat16", 32, "dgrad"))
    assert f"geometric mean of {told.cases}: {told.ratio:.2f} x the best peer" in text
    assert "1 x cuDNN graph API, fused: failed, CUDNN_STATUS_NOT_SUPPORTED" in text
    assert "training: not complete" in text
    assert text.count("FAIL") == 1


def test_the_mean_is_geometric_and_over_the_best_peer():
    rows = sample.layers(batches=(32,)).rows
    cases = report_data.cases(rows)
    ratios = []
    for case in cases.values():
        ours = case[0]
        peers = [row["seconds"] for row in case[1:] if row["status"] == "measured"]
        if ours["match"] and min(peers) == next(
            row["seconds"] for row in case if row["implementation"] == ours["best_peer"]
        ):
            ratios.append(min(peers) / ours["seconds"])
    product = 1.0
    for ratio in ratios:
        product *= ratio ** (1 / len(ratios))
    told = report_data.summary(rows)
    assert told.cases == len(ratios)
    assert told.ratio == pytest.approx(product, rel=0.01)
    assert told.failed == 1


def test_a_wrong_result_never_wins():
    """A row of ours that computed something else is in no ratio, and the page names it."""
    run = sample.layers(batches=(32,))
    ours = next(row for row in run.rows if row["ours"])
    ours["seconds"] /= 100
    ours["match"] = False
    compared = report_data.comparisons(run.rows)
    assert ours["key"] not in {c.ours["key"] for c in compared}
    assert report_data.summary(run.rows).failed == 2
    assert f"<td>{ours['key'].replace('>', '&gt;')}</td>" in report_page.page([run])


def test_a_network_is_the_sum_of_its_layers():
    rows = [row for row in sample.layers().rows if report_data.group(row) == ("bfloat16", 256, "wgrad")]
    ours = sum(row["count"]["resnet50"] * row["seconds"] for row in rows if row["ours"])
    times = report_data.network_time(rows, "resnet50")
    assert times is not None and times[0] == pytest.approx(ours)
    assert sum(row["count"]["resnet50"] for row in rows if row["ours"]) == 53
    assert report_data.network_time(rows[5:], "resnet50") is None  # a layer short
    rows[0]["status"] = "failed"
    assert report_data.network_time(rows, "resnet50") is None


class Page(HTMLParser):
    """Collects tags, ids and text, and checks that what is opened is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.text = [], [], [], ""
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "br", "img", "path", "use"):
            self.open.append(tag)
        self.ids += [value for name, value in attributes if name == "id"]
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_startendtag(self, tag, attributes):
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag):
        if tag not in ("path", "use"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_page_is_whole_and_holds_everything(page):
    parsed = Page(page)
    assert len(set(parsed.ids)) == len(parsed.ids)
    assert all(link.startswith(("#", "data:")) for link in parsed.links)
    assert "<script" not in page
    for word in (
        "Layer by layer",
        "Inference",
        "Training",
        "By depth",
        "CUDA events",
        "jax is not installed",
    ):
        assert word in parsed.text, word
    assert page.count("<svg") == 1 + 3 + 1 + 1 + 1  # roofline, ratios, rates, steps, depths


def test_plots_take_the_pages_colours(page):
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert "var(--ours)" in drawings and "var(--ink)" in drawings
    assert "#212529" not in drawings


def test_networks_at_one_batch_are_bars():
    run = sample.networks()
    run.rows = [row for row in run.rows if row["batch"] == 32]
    text = report_page.page([run])
    assert text.count("<svg") == 3
    Page(text)


def test_page_of_a_cpu_says_so():
    run = sample.networks()
    run.header["device"] |= {"kind": "cpu", "name": "Some CPU"}
    text = Page(report_page.page([run])).text
    assert "say nothing about a GPU" in text


@pytest.mark.parametrize("suite", ["layers", "networks", "training", "primitives"])
def test_page_of_one_suite_and_of_nothing(suite):
    run = sample.layers(batches=(32,)) if suite == "layers" else getattr(sample, suite)()
    Page(report_page.page([run]))
    run.rows = []
    Page(report_page.page([run]))
    shown([run])


@pytest.mark.parametrize("seed", range(3))
def test_rows_and_figures_may_lack(seed):
    """A run that was cut anywhere, and figures that could not be had, still give a report."""
    draw = random.Random(seed)
    optional = ("floor_share", "floor", "tflops", "gbs", "peak_bytes", "error", "match", "iqr", "q1")
    runs = [sample.layers(batches=(32,)), sample.networks(), sample.training(), sample.primitives()]
    for run in runs:
        run.rows = [row for row in run.rows if draw.random() < 0.6]
        for row in run.rows:
            row[draw.choice(optional)] = None
    Page(report_page.page(runs))
    shown(runs)


def test_files(runs, tmp_path):
    written = report.write(runs, tmp_path, committed=tmp_path / "none")
    assert {path.name for path in written} == {
        *("layers.csv", "networks.csv", "training.csv", "primitives.csv", "report.html")
    }
    with (tmp_path / "layers.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(runs[0].rows)
    row = runs[0].rows[10]
    assert lines[10]["key"] == row["key"]
    assert float(lines[10]["seconds"]) == row["seconds"]
    assert float(lines[10]["ratio"]) == row["ratios"][row["best_peer"]]["ratio"]


def test_history_is_over_committed_records(tmp_path):
    for i, month in enumerate((9, 10)):
        run = sample.networks(i, date=f"2026-{month:02}-01T00:00:00Z")
        run.path = tmp_path / f"gpu-{month}/networks.json"
        run.path.parent.mkdir()
        run.save()
    (tmp_path / "other.json").write_text('{"something": "else"}')
    past = report.history(tmp_path)
    assert [run.header["date"][:7] for run in past] == ["2026-09", "2026-10"]
    assert 'id="history"' in report_page.page([sample.networks()], past)
    assert 'id="history"' not in report_page.page([sample.networks()], past[:1])


def test_a_place_that_cannot_be_written_is_said(runs, tmp_path):
    with pytest.raises(UserError, match="cannot write"):
        report.write(runs, tmp_path / "absent")


def test_records_survive_their_file(tmp_path):
    run = sample.layers()
    run.path = tmp_path / "layers.json"
    run.save()
    again = record.load(run.path)
    assert report_data.summary(again.rows) == report_data.summary(run.rows)


@pytest.mark.parametrize(
    ("low", "high"), [(0.32, 1.16), (0.9, 1.2), (0.2, 1.1), (0.95, 3.2), (0.1, 18.0), (0.6, 6.0)]
)
def test_ratios_have_room_for_their_labels(low, high):
    ticks = report_plots._ratio_ticks(low, high).tick_values(low, high)
    assert 1 in ticks and 2 <= len(ticks) <= 9
    gaps = [math.log(after / before) for before, after in itertools.pairwise(ticks)]
    assert min(gaps) >= 0.1 * math.log(high / low)
