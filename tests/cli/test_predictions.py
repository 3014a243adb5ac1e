"""resnet-kernels bench predict and report, as a user types them."""

import pytest

from resnet_kernels import _native

from ..measure_report import sample


@pytest.mark.skipif(not _native.simulator_built(checked=True), reason="the checked simulator is not built")
def test_predict(run, tmp_path):
    result = run("bench", "predict", "--model", "cifar_resnet20", "--quick", "--output", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "predicted, not measured" in result.output
    assert (tmp_path / "predicted.html").is_file()
    for batch in (1, 32, 256):
        assert f"dgrad, batch {batch}: " in result.output
    assert (tmp_path / "choices.md").is_file()
    assert (tmp_path / "choices.csv").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "alexnet"], "choose among"),
        (["--dtype", "float32"], "--dtype must be one of"),
        (["--capability", "75"], "--capability must be 80 or 90"),
    ],
)
def test_predict_says_what_is_wrong(run, arguments, said):
    result = run("bench", "predict", *arguments)
    assert result.exit_code == 2
    assert said in result.output


def test_report_of_records(run, tmp_path):
    book = sample.networks()
    book.path = tmp_path / "networks.json"
    book.save()
    result = run("bench", "report", str(book.path), "--output", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out/report.html").is_file()


def test_report_of_nonsense(run, tmp_path):
    (tmp_path / "x.json").write_text("{}")
    result = run("bench", "report", str(tmp_path / "x.json"))
    assert result.exit_code == 2
    assert "not a record of benchmarks" in result.output
    book = sample.networks()
    book.path = tmp_path / "networks.json"
    book.save()
    result = run("bench", "report", str(book.path), str(book.path))
    assert result.exit_code == 2
    assert "same suite" in result.output
