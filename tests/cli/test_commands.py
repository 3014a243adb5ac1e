"""Each command says what it should, and everything a user can get wrong is one line and exit code 2."""

import subprocess
import sys

import pytest
import torch

import resnet_kernels as rk
from resnet_kernels import cli, machine


def test_help_version_and_no_arguments(run):
    assert run("--version").stdout.strip() == f"resnet-kernels {rk.__version__}"
    for arguments in ((), ("--help",), ("-h",)):
        result = run(*arguments)
        assert result.exit_code == 0
        for command in ("demo", "info", "models", "flops", "verify"):
            assert command in result.stdout
    for command in ("demo", "info", "models", "flops", "verify"):
        assert run(command, "--help").exit_code == 0


def test_models_shows_our_figures_beside_the_papers(run):
    text = run("models").stdout
    for figure in ("1.814", "3.664", "3.858", "4.089", "7.570", "7.801", "11.282", "11.514", "25.56", "11.3"):
        assert figure in text
    for name in rk.models.names():
        assert f" {name} " in text


def test_flops(run):
    text = run("flops", "resnet50", "--stride-in", "1x1").stdout
    assert "3.858 GMACs = 7.716 GFLOPs" in text and "The paper prints 3.8 GMACs" in text
    text = run("flops", "resnet18", "--input", "2,3,64,64", "--per-layer").stdout
    assert "layer4.1.conv2" in text and "conv+bn+add+relu" in text and "The paper" not in text
    assert text.count("layer") >= 19


def test_flops_without_a_name_is_the_paper_beside_ours(run):
    text = run("flops").stdout
    rows = [line.split("│")[1:-1] for line in text.splitlines() if line.startswith("│")]
    found = {(row[0].strip(), row[3].strip()): [cell.strip() for cell in row[4:]] for row in rows}
    assert found["vgg16", "15.3"] == ["15.470", "+1.1%", "the convolutions alone: 15.347"]
    assert found["plain34", "3.6"][0] == "3.644"
    assert found["cifar_resnet1202", "19.4"] == ["19.421", "+0.1%", "the same, rounded"]
    assert len(rows) == 16


def test_info_tells_what_is_there(run):
    result = run("info")
    assert result.exit_code == 0
    for word in (
        rk.__version__,
        "_sim_checked",
        "backends",
        torch.__version__.split("+")[0],
        machine.processor(),
    ):
        assert word in result.stdout
    assert ("GPU" in result.stdout) and ("none" in result.stdout or torch.cuda.is_available())


@pytest.mark.skipif(not rk.simulator.built(), reason="the simulator is not built")
def test_verify_on_the_simulator(run):
    result = run("verify", "--quick", "--backend", "simulator")
    assert result.exit_code == 0, result.stdout
    for word in ("conv_bn_act", "conv_bn_relu_maxpool", "bn_act", "max_pool", "linear", "tf32", "PASS"):
        assert word in result.stdout
    assert "FAIL" not in result.stdout and "76 of 76 pass" in result.stdout


def test_verify_judges_every_operator():
    from resnet_kernels.demo import verify, verify_training
    from resnet_kernels.training import operators

    judged = {problem.operator for problem in verify_training.PROBLEMS if problem.quick}
    assert judged == set(operators.SCHEMAS)
    inference = ["conv_bn_act", "conv_bn_relu_maxpool", "bn_act", "max_pool", "global_avg_pool", "linear"]
    assert {problem.operator for problem in verify.PROBLEMS if problem.quick} == set(inference)


def test_verify_fails_on_a_wrong_operator(run, monkeypatch):
    """One output of one operator off by a thousandth: exit code 1, and the line says which."""
    from resnet_kernels import ops

    right = ops.max_pool

    def wrong(*arguments, **keywords):
        y = right(*arguments, **keywords)
        if rk.backend.current() == "aten" and y.dtype == torch.float32:
            y.view(-1)[7] += 1e-3
        return y

    monkeypatch.setattr(ops, "max_pool", wrong)
    result = run("verify", "--quick", "--backend", "aten")
    assert result.exit_code == 1
    failed = [line for line in result.stdout.splitlines() if "FAIL" in line]
    assert len(failed) == 1 and "max_pool" in failed[0] and "f32" in failed[0]


def test_verify_reports_an_operator_that_raises(run, monkeypatch):
    from resnet_kernels import ops

    def broken(*arguments, **keywords):
        raise RuntimeError("the first line\nthe second")

    monkeypatch.setattr(ops, "global_avg_pool", broken)
    result = run("verify", "--quick", "--backend", "aten")
    assert result.exit_code == 1
    assert (
        "global_avg_pool 7x7, bf16, aten: the first line" in result.stdout and "second" not in result.stdout
    )


@pytest.fixture
def files(tmp_path):
    """Paths of every kind of wrong file."""
    from PIL import Image

    (tmp_path / "text.jpg").write_text("not an image")
    Image.new("RGB", (300, 300)).save(tmp_path / "good.png")
    truncated = (tmp_path / "good.png").read_bytes()[:200]
    (tmp_path / "truncated.png").write_bytes(truncated)
    (tmp_path / "foreign.pth").write_bytes(b"no weights")
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    torch.save(rk.models.resnet18(num_classes=10).state_dict(), tmp_path / "ten.pth")
    return tmp_path


BAD = [
    (("nothing",), "nothing"),
    (("flops", "--per-layer"), "name a network"),
    (("flops", "plain18", "--shortcut", "A"), "no shortcuts"),
    (("flops", "resnet51"), "resnet51"),
    (("flops", "resnet50", "--input", "1,3,x,224"), "--input"),
    (("flops", "resnet50", "--input", "1,3,224"), "--input"),
    (("flops", "resnet50", "--input", "1,4,224,224"), "3 channels"),
    (("flops", "resnet50", "--dtype", "int3"), "dtype"),
    (("flops", "resnet50", "--stride-in", "2x2"), "stride_in"),
    (("flops", "resnet50", "--bogus"), "--bogus"),
    (("verify", "--backend", "tpu"), "tpu"),
    (("demo", "--model", "vgg16"), "vgg16"),
    (("demo", "--backend", "tpu"), "tpu"),
    (("demo", "--dtype", "int8"), "int8"),
    (("demo", "--size", "8"), "--size"),
    (("demo", "--size", "big"), "--size"),
    (("demo", "--image", "{}/absent.jpg"), "no such file"),
    (("demo", "--image", "{}"), "directory"),
    (("demo", "--image", "{}/text.jpg"), "no image file"),
    (("demo", "--image", "{}/truncated.png"), "truncated.png"),
    (("demo", "--weights", "{}/absent.pth"), "absent.pth"),
    (("demo", "--weights", "{}/foreign.pth"), "foreign.pth"),
    (("demo", "--weights", "{}/empty.pth"), "empty"),
    (("demo", "--weights", "{}/other.pth"), "other.pth"),
    (("demo", "--model", "resnet18", "--weights", "{}/ten.pth"), "classes"),
    (("demo", "--output", "{}/nowhere/report.html"), "nowhere"),
    (("demo", "--output", "{}"), "directory"),
]


@pytest.mark.parametrize(
    ("arguments", "named"), BAD, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_bad_input_is_one_line_and_exit_code_2(run, files, arguments, named):
    small = ("--size", "32") if arguments[0] == "demo" and "--size" not in arguments else ()
    result = run(*(argument.format(files) for argument in arguments), *small)
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("resnet-kernels: ")
    assert named in lines[0]
    assert "Traceback" not in result.output


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_backend_that_is_not_here(run):
    for command in ("demo", "verify"):
        result = run(command, "--backend", "cuda")
        assert result.exit_code == 2 and "PyTorch finds no CUDA GPU" in result.stderr


def test_a_bug_is_not_disguised(run, monkeypatch):
    """Only what a user can put right is one line; anything else keeps its traceback."""
    monkeypatch.setattr(cli.terminal, "console", lambda: 1 / 0)
    assert isinstance(run("models").exception, ZeroDivisionError)


def test_as_a_program():
    command = [sys.executable, "-m", "resnet_kernels.cli"]
    good = subprocess.run([*command, "flops", "resnet18"], capture_output=True, text=True, check=True)
    assert "1.814" in good.stdout
    bad = subprocess.run([*command, "flops", "resnet19"], capture_output=True, text=True)
    assert bad.returncode == 2 and len(bad.stderr.strip().splitlines()) == 1
