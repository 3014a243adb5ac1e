"""resnet-kernels bench: from the options to the files."""

import json

import pytest


def test_layers(run, tmp_path):
    """One small network's layers, and a comparison of the record with itself."""
    options = ("--quick", "--model", "cifar_resnet20", "--dtype", "float32", "--peers", "eager_nhwc")
    result = run("bench", "layers", *options, "--output", tmp_path)
    assert result.exit_code == 0, result.output
    assert "not our kernels" in result.stdout or "this package's kernels" in result.stdout
    found = json.loads((tmp_path / "layers.json").read_text())
    assert found["complete"] and found["header"]["options"]["models"] == ["cifar_resnet20"]
    assert {row["direction"] for row in found["rows"]} >= {"fprop", "dgrad", "wgrad", "elementwise"}
    assert all(row["match"] for row in found["rows"])
    assert (tmp_path / "report.html").exists()

    record = tmp_path / "layers.json"
    result = run("bench", "compare", record, record)
    assert result.exit_code == 0, result.output

    result = run("bench", "gaps", record, "-n", "3", "--model", "cifar_resnet20")
    assert result.exit_code == 0, result.output
    assert (
        "Largest gaps to the physical limit, float32" in result.stdout and "cifar_resnet20" in result.stdout
    )

    for row in found["rows"]:
        row["rounds"] = [3 * seconds for seconds in row["rounds"]]
    slower = tmp_path / "slower.json"
    slower.write_text(json.dumps(found))
    result = run("bench", "compare", record, slower)
    assert result.exit_code == 1 and "slower" in result.stdout


def test_out_of_time(run, tmp_path):
    result = run("bench", "primitives", "--quick", "--time-limit", "0", "--output", tmp_path)
    assert result.exit_code == 0, result.output
    assert "goes on where this one stopped" in result.stdout


def test_a_mismatch_is_a_failure(run, tmp_path, monkeypatch):
    """A kernel that is wrong somewhere ends the command with exit code 1, and the row is named."""
    from resnet_kernels import ops

    right = ops.global_avg_pool
    monkeypatch.setattr(ops, "global_avg_pool", lambda x: right(x) * 1.001)
    options = ("--quick", "--model", "cifar_resnet20", "--dtype", "float32", "--peers", "eager_nhwc")
    result = run("bench", "layers", *options, "--output", tmp_path)
    assert result.exit_code == 1
    named = [line for line in result.stdout.splitlines() if "not a match" in line]
    assert len(named) >= 1 and "global_avg_pool" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "names"),
    (
        (("layers", "--dtype", "float8"), "--dtype"),
        (("networks", "--model", "resnet51"), "--model"),
        (("training", "--batch", "many"), "--batch"),
        (("training", "--batch", "0"), "--batch"),
        (("layers", "--peers", "mkl"), "--peers"),
        (("layers", "--cache", "hot"), "--cache"),
        (("layers", "--backend", "tpu"), "backend"),
        (("compare", "none.json", "none.json"), "none.json"),
        (("gaps", "none.json"), "none.json"),
    ),
)
def test_wrong_options_are_one_line(run, tmp_path, monkeypatch, arguments, names):
    monkeypatch.chdir(tmp_path)
    result = run("bench", *arguments)
    assert result.exit_code == 2
    assert names in result.stderr and len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
