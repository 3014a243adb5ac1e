"""README's figures are those of the records in benchmarks/results; keeping a campaign's records there."""

import json
import re

import pytest

from benchmarks import keep, performance
from benchmarks.campaign.book import pack
from resnet_kernels.errors import UserError
from resnet_kernels.measure import gaps, record, report
from resnet_kernels.measure import report_data as data
from tests.measure_report import sample

COMMAND = "resnet-kernels bench layers --model resnet50 --output {}/runs/campaign --time-limit 500"


@pytest.fixture
def campaign(tmp_path):
    """What a campaign on an invented H200 leaves."""
    return left(tmp_path / "campaign")


def left(folder, **more):
    folder.mkdir()
    for run in sample.everything(**more):
        run.header["device"]["name"] = "NVIDIA H200"
        run.header["command"] = COMMAND.format(folder)
        run.path = folder / f"{run.suite}.json"
        run.save()
    (folder / "campaign.json").write_text('{"device": {"status": "passed"}}\n')
    (folder / "campaign.log").write_text("much\n")
    return folder


@pytest.fixture
def results(tmp_path, campaign):
    keep.keep(campaign, tmp_path / "results", tmp_path / "golden")
    return tmp_path / "results"


def rows(text):
    """The Markdown tables' cells, a list a line."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"
    ]


# -----------------------------------------------------------------------------
# README


def test_readme_says_what_the_records_say():
    """If this fails: python -m benchmarks.performance."""
    text = performance.README.read_text(encoding="utf-8")
    held = text.partition(performance.BEGIN)[2].partition(performance.END)[0]
    assert held == performance.section(report.COMMITTED, performance.README.parent)
    for link in re.findall(r"\]\(([^)]+)\)", held):
        assert (performance.README.parent / link).is_file(), link


def test_without_a_gpu_s_record_there_are_no_speeds(tmp_path):
    text = performance.section(tmp_path, tmp_path)
    assert text.startswith("Nothing has been measured on a GPU yet") and "|" not in text
    run = sample.networks()
    run.header["device"] |= {"kind": "cpu", "name": "Some CPU"}
    run.path = tmp_path / "networks.json"
    run.save()
    assert performance.section(tmp_path, tmp_path) == text


def test_pytorch_s_composition_on_a_gpu_is_not_ours(tmp_path):
    run = sample.networks()
    for row in run.rows:
        row["backend"] = "aten" if row["ours"] else None
    run.path = tmp_path / "networks.json"
    run.save()
    assert performance.section(tmp_path, tmp_path).startswith("Nothing has been measured")


def test_figures_are_those_of_the_rows(results, tmp_path):
    text = performance.section(results, tmp_path)
    assert text.startswith("**NVIDIA H200**, 2026-11-20, PyTorch 2.11.0, cuDNN 91900, driver 580.1, ")
    told = {(cells[0], cells[2]): cells for cells in rows(text) if len(cells) == 8}
    assert {batch for what, batch in told if what == "ResNet-50, inference"} == {"256", "32", "8", "1"}
    assert ("ResNet-18, inference", "256") in told and ("ResNet-18, inference", "32") not in told
    networks = record.load(results / "h200/2026-11-20-networks.json").rows
    case = [row for row in networks if (row["name"], row["batch"]) == ("resnet50", 256)]
    ours, peer = data.best(case, ours=True), data.best(case, ours=False)
    cells = told["ResNet-50, inference", "256"]
    assert cells[3:6] == [*(data.number(row["images_per_second"]) for row in (ours, peer)), peer["label"]]
    assert cells[6] == f"{peer['seconds'] / ours['seconds']:.2f} ×"
    assert ("ResNet-50, training step", "256") in told
    assert ["copy, read and write", "float32", "4 000 GB/s"] in rows(text)


def test_means_are_over_cudnn_s_best_route(results, tmp_path):
    layers = record.load(results / "h200/2026-11-20-layers.json").rows
    ratios = []
    for case in data.cases(row for row in layers if data.group(row) == ("bfloat16", 32, "wgrad")).values():
        ours, peer = data.best(case, ours=True), gaps.cudnn(case)
        ratios.append(peer["seconds"] / ours["seconds"])
    cells = next(cells for cells in rows(performance.section(results, tmp_path)) if cells[0] == "wgrad")
    assert cells[2] == f"{data.geometric_mean(ratios):.2f} × ({sum(r >= 1 for r in ratios)} of {len(ratios)})"


def test_sources_are_linked_with_their_commands(results, tmp_path):
    text = performance.section(results, tmp_path)
    assert "- [training](results/h200/2026-11-20-training.json), 2026-11-20 (not complete): " in text
    assert "2026-11-20 (failed or wrong of ours: 1): `resnet-kernels bench layers --model resnet50" in text
    assert "](results/h200/2026-11-20-layers.png)" in text
    assert str(tmp_path) not in text
    assert all((tmp_path / link).is_file() for link in re.findall(r"\]\(([^)]+)\)", text))


def test_the_newest_record_counts(results, tmp_path):
    keep.keep(left(tmp_path / "later", date="2026-12-24T00:00:00Z"), results, tmp_path / "golden")
    text = performance.section(results, tmp_path)
    assert "2026-12-24-networks.json" in text and "2026-11-20-networks.json" not in text
    assert text.count("**NVIDIA H200**") == 1


def test_the_section_is_written_between_its_comments(results, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{performance.BEGIN}old\n{performance.END}after\n")
    assert performance.write(readme, results)
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text and "H200" in text
    assert not performance.write(readme, results)
    readme.write_text("nothing of the kind\n")
    with pytest.raises(UserError, match="lacks the comments"):
        performance.write(readme, results)


# -----------------------------------------------------------------------------
# Keeping


def test_records_are_kept_under_machine_and_date(results, campaign):
    names = {path.name for path in (results / "h200").iterdir()}
    suites = {f"2026-11-20-{suite}.json" for suite in record.SUITES}
    assert names == suites | {"2026-11-20-campaign.json", "2026-11-20-layers.png"}
    kept, was = (
        json.loads(path.read_text())
        for path in (results / "h200/2026-11-20-layers.json", campaign / "layers.json")
    )
    assert kept["header"].pop("command") == "resnet-kernels bench layers --model resnet50 --time-limit 500"
    was["header"].pop("command")
    assert kept == was


def test_directories_of_the_machine_are_left_behind():
    said = {"why": ["failed in /some/where/ops.py:3\n/a/b.py", "a/b per c/d"], "tool": "/usr/bin/ncu", "n": 2}
    kept = {"why": ["failed in ops.py:3\nb.py", "a/b per c/d"], "tool": "ncu", "n": 2}
    assert keep.without_directories(said) == kept


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100-80gb-hbm3"),
        ("NVIDIA GeForce RTX 4090", "geforce-rtx-4090"),
    ],
)
def test_a_machine_s_folder(name, folder):
    run = sample.primitives()
    run.header["device"]["name"] = name
    assert keep.machine(run) == folder
    run.header["device"]["kind"] = "cpu"
    assert keep.machine(run) == "cpu"


def test_an_archive_is_kept_too(campaign, tmp_path):
    pack(campaign, tmp_path / "campaign.tgz")
    written = keep.keep(tmp_path / "campaign.tgz", tmp_path / "results", tmp_path / "golden")
    assert written == keep.keep(
        campaign, tmp_path / "results", tmp_path / "golden"
    )  # the same again: nothing to refuse


def test_the_hardware_s_answers_go_to_the_tests(campaign, tmp_path):
    (campaign / "conformance-sm_90.npz").write_bytes(b"answers")
    written = keep.keep(campaign, tmp_path / "results", tmp_path / "golden")
    assert tmp_path / "golden/sm_90.npz" in written
    assert (tmp_path / "golden/sm_90.npz").read_bytes() == b"answers"
    (campaign / "conformance-sm_90.npz").write_bytes(b"others")
    with pytest.raises(UserError, match=r"sm_90.npz is there with other contents"):
        keep.keep(campaign, tmp_path / "results", tmp_path / "golden")


def test_other_contents_are_not_written_over_unasked(campaign, results, tmp_path):
    golden = tmp_path / "golden"
    file = results / "h200/2026-11-20-networks.json"
    file.write_text("{}")
    (results / "h200/2026-11-20-layers.json").unlink()
    with pytest.raises(UserError, match=r"networks.json is there with other contents: .* --replace"):
        keep.keep(campaign, results, golden)
    assert file.read_text() == "{}"
    assert not (results / "h200/2026-11-20-layers.json").exists()  # all or nothing
    keep.keep(campaign, results, golden, replace=True)
    assert record.load(file).suite == "networks"


def test_nothing_to_keep_is_said(tmp_path):
    with pytest.raises(UserError, match="there is no"):
        keep.keep(tmp_path / "none", tmp_path / "results", tmp_path / "golden")
    (tmp_path / "layers.json").write_text("{}")
    with pytest.raises(UserError, match="neither a campaign's directory nor its archive"):
        keep.keep(tmp_path / "layers.json", tmp_path / "results", tmp_path / "golden")
    (tmp_path / "layers.json").unlink()
    with pytest.raises(UserError, match=r"no record to keep: none of layers\.json"):
        keep.keep(tmp_path, tmp_path / "results", tmp_path / "golden")
    assert not (tmp_path / "results").exists()


def test_two_devices_are_not_one_campaign(campaign, tmp_path):
    file = campaign / "networks.json"
    file.write_text(file.read_text().replace("NVIDIA H200", "NVIDIA A100"))
    with pytest.raises(UserError, match="different devices"):
        keep.keep(campaign, tmp_path / "results", tmp_path / "golden")


def test_the_command_keeps_and_writes(campaign, tmp_path, monkeypatch, capsys):
    readme = tmp_path / "README.md"
    readme.write_text(performance.BEGIN + performance.END)
    monkeypatch.setattr(report, "COMMITTED", tmp_path / "results")
    monkeypatch.setattr(performance, "README", readme)
    monkeypatch.setattr(keep, "GOLDEN", tmp_path / "golden")
    monkeypatch.setattr("sys.argv", ["keep", str(campaign)])
    assert keep.main() == 0
    assert "NVIDIA H200" in readme.read_text() and "written: README.md" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["keep", str(tmp_path / "none")])
    with pytest.raises(SystemExit) as ended:
        keep.main()
    assert ended.value.code == 2 and "there is no" in capsys.readouterr().err
