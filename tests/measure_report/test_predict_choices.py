"""The cost model's choices for a network: the same as dispatch's, labelled for what they are."""

import csv

import pytest
from rich.console import Console

from resnet_kernels import simulator, tuning
from resnet_kernels.measure import predict, predict_choices

pytestmark = pytest.mark.skipif(not simulator.built(), reason="the simulator is not built")


@pytest.fixture(scope="module")
def rows():
    return predict_choices.choices("resnet50", capability=90)


def test_every_convolution_at_every_batch(rows):
    groups = predict_choices.groups(rows)
    assert list(groups) == [(op, n) for op in tuning.OPERATIONS for n in (1, 32, 256)]
    assert {(op, len(found)) for (op, _), found in groups.items()} == {
        ("fprop", 23),
        ("dgrad", 22),
        ("wgrad", 23),
    }
    assert all(sum(row.times for row in found) >= 52 for found in groups.values())


def test_they_are_the_models(rows):
    for row in rows[::7]:
        c = row.choice
        assert c.chosen and not c.refused
        assert c.seconds == pytest.approx(max(c.memory, c.feed, c.math) + c.launches)
        assert 0 < c.efficiency <= 1


def test_no_network_beats_its_roofline(rows):
    """The model's terms are never less than the least bytes and FLOPs of the same rates."""
    for (operation, batch), found in predict_choices.groups(rows).items():
        if operation == "fprop":
            floors = predict.fused("resnet50", batch).floors
            least = sum(floor.math for floor in floors)
            assert predict_choices.total(found) > 0.95 * least


def test_larger_batches_take_longer(rows):
    groups = predict_choices.groups(rows)
    for operation in tuning.OPERATIONS:
        one, some, many = (predict_choices.total(groups[operation, n]) for n in (1, 32, 256))
        assert one < some < many
        assert many < 9 * some


def test_on_sm_80_all_is_portable():
    rows = predict_choices.choices("cifar_resnet20", [7], capability=80)
    assert {row.batch for row in rows} == {7}
    assert all(row.choice.configuration.startswith("sm80/") for row in rows)


def test_everything_written_says_predicted(rows, tmp_path):
    page, sheet = predict_choices.write(rows, "resnet50", tmp_path)
    text = page.read_text()
    assert text.count(predict.LABEL) == 1 + len(predict_choices.groups(rows))
    assert "| 3x3 512>512 7x7 | 2 | sm90/128x128 | 392 | 2.97 | 0.99 |" in text
    content = sheet.read_text()
    assert content.startswith(f"# {predict.LABEL}")
    lines = list(csv.DictReader(content.splitlines()[1:]))
    assert [float(line["predicted_seconds"]) for line in lines] == [row.choice.seconds for row in rows]
    assert {line["bound"] for line in lines} == {"memory", "feed", "math"}


def test_shown(rows):
    console = Console(width=160, record=True)
    predict_choices.show(rows, "resnet50", console)
    text = console.export_text()
    assert text.count(predict.LABEL) == len(predict_choices.groups(rows))
    assert "sm90/128x256" in text
