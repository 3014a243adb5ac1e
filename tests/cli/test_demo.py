"""The demonstration on a small network: what the report says is what was computed."""

import html
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
import torchvision

import resnet_kernels as rk
from resnet_kernels.demo import compare, networks, photograph
from resnet_kernels.demo.run import Options, demonstrate
from resnet_kernels.machine import choose
from resnet_kernels.measure import predict

BACKENDS = ["aten"] + ["simulator"] * rk.simulator.built()


class Text(HTMLParser):
    """The text a reader sees, and every address the page refers to."""

    def __init__(self, page):
        super().__init__()
        self.seen, self.addresses, self.tags, self.inside = [], [], [], ""
        self.feed(page)
        self.text = re.sub(r"\s+", " ", " ".join(self.seen))

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.inside = tag
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_data(self, data):
        if self.inside not in ("style", "script"):
            self.seen.append(data)


@pytest.mark.parametrize("backend", BACKENDS)
def test_demo_writes_a_report_that_holds_everything(run, tmp_path, backend):
    output = tmp_path / "report.html"
    result = run("demo", "--model", "resnet18", "--size", 64, "--backend", backend, "--output", output)
    assert result.exit_code == 0, result.output
    assert "PASS" in result.stdout and "FAIL" not in result.stdout
    assert "predicted, not measured" in result.stdout and str(output) in result.stdout

    page = output.read_text()
    seen = Text(page)
    for phrase in (
        "ResNet-18",
        "random weights",
        "china",
        "flower",
        "predicted, not measured",
        "conv_fprop",
        "layer4",
        rk.__version__,
        torch.__version__,
        "11.282",
    ):
        assert phrase.lower() in seen.text.lower(), phrase
    assert all(address.startswith(("data:", "#")) for address in seen.addresses)
    assert "script" not in seen.tags and "link" not in seen.tags and "@import" not in page
    assert page.count("<svg") == 4 and seen.tags.count("img") >= 7
    assert "nan" not in seen.text.lower().split()
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    if backend == "simulator":
        assert "stem_fprop" in seen.text and "no race" in seen.text
    assert not list(tmp_path.glob("*.part"))


def test_demo_with_real_weights_names_classes(run, tmp_path):
    torch.manual_seed(0)
    weights, output = tmp_path / "weights.pth", tmp_path / "report.html"
    torch.save(torchvision.models.resnet18().state_dict(), weights)
    image = photograph.shipped()[1]
    arguments = (
        "--model",
        "resnet18",
        "--size",
        64,
        "--backend",
        "aten",
        "--image",
        image,
        "--weights",
        weights,
    )
    result = run("demo", *arguments, "--output", output)
    assert result.exit_code == 0, result.output
    seen = Text(output.read_text())
    assert "random weights" not in seen.text and "weights from weights.pth" in seen.text.lower()
    assert "What it sees in flower" in seen.text and "china" not in seen.text
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    assert sum(html.unescape(name) in seen.text for name in _IMAGENET_CATEGORIES) >= 5


def test_demo_fails_when_a_unit_is_wrong(run, tmp_path, monkeypatch):
    right = compare._our_unit

    def wrong(model, name, x):
        y = right(model, name, x)
        return y * 1.5 if name == "layer3.0" else y

    monkeypatch.setattr(compare, "_our_unit", wrong)
    output = tmp_path / "report.html"
    result = run("demo", "--model", "resnet18", "--size", 64, "--backend", "aten", "--output", output)
    assert result.exit_code == 1 and "FAIL" in result.stdout
    assert 'class="fail"' in output.read_text()


def test_units_agree_with_the_oracle_and_macs_are_counted():
    shots = [photograph.load(path, 64) for path in photograph.shipped()]
    assert shots[0].pixels.shape == (1, 3, 64, 64)
    machine = choose("aten")
    pixels = torch.cat([shot.pixels for shot in shots])
    nets = networks.prepare("resnet50", "float32", None, pixels, machine.device)
    result = compare.Comparison()
    compare.units(nets, machine, shots[0].pixels, result, lambda step: None)
    assert (
        [unit.name for unit in result.units]
        == compare.unit_names(nets.ours)
        == rk.reference.units(nets.state)
    )
    assert all(unit.ours < 1e-5 and unit.passed for unit in result.units)
    assert result.units[-2].shape == (1, 2048, 2, 2)
    compare.logits(nets, machine, "china", shots[0].pixels, result, lambda step: None)
    assert result.passed and result.logits[0].error_ours < 1e-4
    assert (
        sum(row.macs for row in result.record.rows.values())
        == rk.flops.count("resnet50", (1, 3, 64, 64)).macs
    )
    assert {row.operator: row.calls for row in result.record.rows.values()} == {
        "conv_bn_relu_maxpool": 1,
        "conv_fprop": 52,
        "global_avg_pool": 1,
        "linear": 1,
    }


@pytest.mark.skipif(not rk.simulator.built(), reason="the simulator is not built")
def test_float32_on_the_simulator_is_strict():
    """PyTorch's default of TF32 in convolutions does not reach the demonstration."""
    options = Options(model="resnet18", size=32, dtype="float32", backend="simulator")
    before = torch.backends.cudnn.conv.fp32_precision
    result = demonstrate(options)
    assert torch.backends.cudnn.conv.fp32_precision == before
    assert result.passed and all(unit.ours < 1e-6 for unit in result.comparison.units)
    rows = {row.layer: row for row in result.counters.rows}
    assert set(rows) == {"conv1", "layer1.1.conv1", "layer1.1.conv2", "avgpool", "fc"}
    for name, row in rows.items():
        if "max_pool" not in row.kernel:  # in float32 the stem's pooling is a kernel of its own
            assert row.tensors <= row.touched <= 1.05 * row.tensors, name


def test_random_weights_are_fixed_and_calibrated():
    """The same photographs give the same network, with activations of sane scale in every stage."""
    shots = [photograph.load(path, 64) for path in photograph.shipped()]
    pixels = torch.cat([shot.pixels for shot in shots])
    state = torch.get_rng_state()
    first, second = (
        networks.prepare("resnet18", "bfloat16", None, pixels, torch.device("cpu")) for _ in range(2)
    )
    assert torch.equal(state, torch.get_rng_state())
    assert all(np.array_equal(first.state[key], second.state[key]) for key in first.state)
    scales = []
    rk.reference.resnet(
        first.state, shots[0].pixels.numpy(), 18, hook=lambda s: scales.append(np.abs(s.y).mean())
    )
    assert min(scales) > 0.05 and max(scales) < 20


def test_photograph_is_resized_cropped_and_normalised(tmp_path):
    from PIL import Image

    Image.new("RGB", (512, 300), (255, 0, 128)).save(tmp_path / "flat.png")
    pixels = photograph.load(tmp_path / "flat.png").pixels
    assert pixels.shape == (1, 3, 224, 224) and pixels.is_contiguous(memory_format=torch.channels_last)
    want = [(v / 255 - m) / s for v, m, s in zip((255, 0, 128), photograph.MEAN, photograph.STD, strict=True)]
    assert torch.allclose(pixels.amax((0, 2, 3)), torch.tensor(want), atol=1e-6)
    for path in photograph.shipped():
        transform = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.transforms()
        with Image.open(path) as image:
            theirs = transform(image)[None]
        assert (photograph.load(path).pixels - theirs).abs().mean() < 0.02


def test_predictions_are_floors():
    fused, eager = predict.fused("resnet50", 256), predict.eager("resnet50", 256)
    assert len(fused.floors) == 55 and len(eager.floors) > 3 * 55
    assert (
        60_000 < fused.images_per_second < 65_000 and eager.images_per_second < 0.5 * fused.images_per_second
    )
    for floor in fused.floors:
        assert floor.seconds == max(
            floor.layer.bytes / predict.BANDWIDTH, floor.layer.macs * 2 / predict.PEAK
        )


def test_without_scikit_learn_the_message_says_what_to_do(monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sklearn" else find(name))
    with pytest.raises(photograph.UserError, match="--image FILE"):
        photograph.shipped()
