"""Predictions: counted on crops, extrapolated, and labelled for what they are."""

import csv
import json

import pytest

from resnet_kernels import _native, flops
from resnet_kernels.measure import predict, predict_layers, predict_report
from resnet_kernels.measure.predict_layers import Predicted, Traffic

needs_simulator = pytest.mark.skipif(
    not _native.simulator_built(checked=True), reason="the simulator's checked build is missing"
)


@pytest.fixture(scope="module")
def rows():
    return predict_layers.layers("cifar_resnet20", 128, most=3)


def test_a_floor_is_what_arithmetic_says():
    """conv3 of ResNet-50's first block, batch 256, by hand: 925 MB and 26.3 GFLOP."""
    floor = next(f for f in predict.fused("resnet50", 256).floors if f.layer.name == "layer1.1.conv3")
    pixels = 256 * 56 * 56
    moved = 2 * (pixels * 64 + 2 * pixels * 256 + 64 * 256) + 16 * 256
    assert floor.layer.bytes == moved
    assert floor.seconds == pytest.approx(moved / predict.BANDWIDTH)
    assert floor.bound == "memory"
    assert 2 * floor.layer.macs == 2 * pixels * 64 * 256


def test_a_network_cannot_beat_its_arithmetic():
    for name in ("resnet18", "resnet50"):
        prediction = predict.fused(name, 64)
        assert prediction.seconds >= 2 * flops.count(name, (64, 3, 224, 224)).macs / predict.PEAK
        assert prediction.images_per_second == pytest.approx(64 / prediction.seconds)


def test_extrapolation_is_a_line():
    one, two = Traffic(10, 20, 30, 40, 50, 60), Traffic(13, 24, 35, 40, 50, 120)
    assert one.grown(two, 1) == one
    assert one.grown(two, 2) == two
    assert one.grown(two, 101).touched == 10 + 3 * 100
    assert one.grown(two, 0.5).macs == 30


@needs_simulator
def test_what_is_counted_is_what_there_is_to_do(rows):
    """Never less than the least, and in forward products not a tenth more: the crops give whole tiles."""
    assert {(row.direction, row.epilogue) for row in rows} >= {("fprop", "bn_relu"), ("wgrad", "none")}
    for row in rows:
        ratios = row.ratios()
        assert ratios["touched"] > 0.99, row
        assert ratios["macs"] > 0.99, row
        assert row.seconds >= 0.99 * row.floor
    bodies = [row for row in rows if row.direction == "fprop" and "3>" not in row.name]
    assert bodies
    for row in bodies:
        assert row.ratios()["touched"] < 1.1, row


@needs_simulator
def test_extrapolation_agrees_with_a_larger_run(rows):
    """Counted on one and two crops, the traffic of four is known."""
    from dataclasses import replace

    from resnet_kernels import backend, simulator
    from resnet_kernels.measure import problems

    conv = problems.convolutions(["cifar_resnet20"])[1]
    crop = replace(conv, h=16, w=8)
    with backend("simulator"), simulator.checked(), simulator.multiprocessors(1):
        found = predict_layers._predict(crop, 4, "bfloat16", "fprop", "stats")
        case = predict_layers.convolutions.case(
            crop, 4, "bfloat16", "fprop", "stats", predict_layers.Choice(predict_layers.torch.device("cpu")),
            predict_layers.Ours("simulator", ""),
        )  # fmt: skip
        counted = predict_layers.counted(predict_layers._run(case))
    assert found.traffic.macs == counted.macs
    assert found.traffic.touched == pytest.approx(counted.touched, rel=0.01)


@needs_simulator
def test_everything_written_says_predicted(rows, tmp_path):
    json_file, csv_file, page = predict_report.write(rows, "cifar_resnet20", tmp_path)
    content = json.loads(json_file.read_text())
    assert content["label"] == predict.LABEL
    assert len(content["rows"]) == len(rows)
    text = csv_file.read_text()
    assert text.startswith(f"# {predict.LABEL}")
    lines = list(csv.DictReader(text.splitlines()[1:]))
    assert [float(line["predicted_seconds"]) for line in lines] == [row.seconds for row in rows]
    assert page.read_text().count(predict.LABEL) > len(predict_report.ways(rows))


def test_the_whole_is_the_sum_of_its_layers():
    traffic = Traffic(2 * predict.BANDWIDTH, 1, 1, 1, 1, 0)
    row = Predicted("a", "fprop", "bn", "bfloat16", 1, {"net": 3}, (), int(predict.BANDWIDTH), 0, traffic)
    assert predict_report.total([row, row], "net") == (pytest.approx(6), pytest.approx(12))
    assert predict_report.total([row], "another") == (0, 0)


@pytest.mark.parametrize(
    ("change", "word"), [({"dtype": "float32"}, "dtype"), ({"network": "alexnet"}, "alexnet")]
)
def test_wrong_arguments(change, word):
    with pytest.raises(ValueError, match=word):
        predict_layers.layers(**{"network": "resnet18", "batch": 1, **change})
