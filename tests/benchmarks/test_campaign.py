"""The hardware campaign without a GPU: limits, resuming, and every stage's command."""

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.campaign import limited, outcomes, stages, tools
from benchmarks.campaign.book import Book, Entry, pack, take_over
from benchmarks.campaign.stages import ROOT, Context


def context(path, limit=60.0, gpu=False):
    return Context(path, limit, gpu)


def script(path, text):
    """An executable file."""
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


# -----------------------------------------------------------------------------
# Time limits


def test_output_and_status_come_back(tmp_path):
    program = "import os; print('said', os.environ['MORE']); raise SystemExit(3)"
    result = limited.run([sys.executable, "-c", program], 30, tmp_path / "log", tmp_path, {"MORE": "much"})
    assert (result.code, result.lines, result.timed_out) == (3, ["said much"], False)
    assert "said much" in (tmp_path / "log").read_text()


def test_a_program_that_is_not_there(tmp_path):
    result = limited.run(["no-such-program"], 5, tmp_path / "log", tmp_path, {})
    assert result.code == 127


STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def test_the_limit_holds_against_a_stubborn_program(tmp_path, monkeypatch):
    """It ignores SIGTERM and has a child: both are gone soon after the limit."""
    monkeypatch.setattr(limited, "GRACE", 0.5)
    began = time.monotonic()
    result = limited.run([sys.executable, "-c", STUBBORN], 2, tmp_path / "log", tmp_path, {})
    assert result.timed_out
    assert time.monotonic() - began < 10
    child = Path(f"/proc/{result.lines[0]}/stat")
    for _ in range(50):
        if not child.exists() or child.read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("the child is still alive")


# -----------------------------------------------------------------------------
# Tests with outcomes on file

SAMPLE = """
import os, time

def test_passes(): pass
def test_fails(): assert 1 == 2, "as it should"
def test_hangs(): time.sleep(600)
def test_crashes(): os.kill(os.getpid(), 9)
def test_loses_the_gpu(): raise RuntimeError("CUDA error: an illegal memory access was encountered")
def test_comes_last(): pass
"""


def run_sample(tmp_path, monkeypatch, limit):
    sample = tmp_path / "test_sample.py"
    sample.write_text(SAMPLE)
    monkeypatch.setattr(stages, "TEST_SECONDS", 3)
    entry = Entry()
    stages._tests(
        context(tmp_path, limit), entry, [str(sample), "-c", os.devnull, "--rootdir", str(tmp_path)], {}
    )
    return entry, {
        k.rpartition("::")[2]: v for k, v in outcomes.read(tmp_path / "outcomes-test_sample.py.jsonl").items()
    }


def test_every_test_gets_an_outcome_though_some_hang_or_crash(tmp_path, monkeypatch):
    entry, found = run_sample(tmp_path, monkeypatch, 120)
    assert {name: told["outcome"] for name, told in found.items()} == {
        "test_passes": "passed",
        "test_fails": "failed",
        "test_hangs": "died",
        "test_crashes": "died",
        "test_loses_the_gpu": "failed",
        "test_comes_last": "passed",
    }
    assert entry.status == "failed"
    assert "as it should" in found["test_fails"]["why"]
    assert "2 died, 2 failed, 2 passed" in entry.found
    # Nothing is left: a second run of the stage finds the same without running a test again.
    again, same = run_sample(tmp_path, monkeypatch, 60)
    assert same == found
    assert again.found == entry.found


def test_a_stage_without_time_is_incomplete_and_goes_on(tmp_path, monkeypatch):
    sample = tmp_path / "test_slow.py"
    sample.write_text(
        "import time\nimport pytest\n@pytest.mark.parametrize('i', range(6))\ndef test(i): time.sleep(1)\n"
    )
    arguments = [str(sample), "-c", os.devnull, "--rootdir", str(tmp_path)]
    entry = Entry()
    stages._tests(context(tmp_path, 3.5), entry, arguments, {})
    assert entry.status == "incomplete"
    done = outcomes.read(tmp_path / "outcomes-test_slow.py.jsonl")
    assert 0 < len(done) < 6
    stages._tests(context(tmp_path, 60), entry, arguments, {})
    assert len(outcomes.read(tmp_path / "outcomes-test_slow.py.jsonl")) == 6
    assert entry.status == "no GPU", entry
    assert entry.found == "6 passed"


# -----------------------------------------------------------------------------
# compute-sanitizer


def test_an_absent_tool_is_a_failure(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setattr(tools, "find", lambda name: None)
    entry = Entry()
    stages.sanitizers(context(tmp_path, gpu=True), entry)
    assert entry.status == "failed"
    assert entry.found.startswith(
        "memcheck, racecheck, initcheck, synccheck: failed: compute-sanitizer is not"
    )


FAKE = """
import sys, json, os
tool = sys.argv[sys.argv.index("--tool") + 1]
assert sys.argv[sys.argv.index("--error-exitcode") + 1] == "86"
assert sys.argv[-2:] == ["-m", "benchmarks.campaign.small_shapes"], sys.argv
assert os.environ["PYTORCH_NO_CUDA_MEMORY_CACHING"] == "1"
bad = tool == "{bad}"
what = "RACECHECK SUMMARY: %d hazards displayed" if tool == "racecheck" else "ERROR SUMMARY: %d errors"
print("=========", what % (3 if bad else 0))
sys.exit(86 if bad else 0)
"""


@pytest.mark.parametrize("bad", ["none", "racecheck", "memcheck"])
def test_tools_are_judged_one_by_one(tmp_path, monkeypatch, bad):
    fake = script(tmp_path / "compute-sanitizer", FAKE.replace("{bad}", bad))
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    entry = Entry()
    stages.sanitizers(context(tmp_path, gpu=True), entry)
    assert entry.status == ("passed" if bad == "none" else "failed"), entry
    for tool, found in entry.details["tools"].items():
        assert found.startswith("failed: " if tool == bad else "0 errors"), (tool, found)


def test_small_shapes_are_right_on_the_simulator(tmp_path):
    """The program that compute-sanitizer watches."""
    pytest.importorskip("resnet_kernels._sim", reason="the simulator is not built")
    entry = Entry()
    stages.sanitizers(context(tmp_path), entry)
    assert entry.details["tools"]["simulator"].endswith(" 0 wrong")


# -----------------------------------------------------------------------------
# Suites and the whole


def test_a_suite_is_measured_and_resumed(tmp_path):
    entry = Entry()
    stage = stages.STAGES["primitives"]
    stage(context(tmp_path, limit=120), entry)
    assert entry.status == "no GPU", entry
    assert entry.details["measured"] == entry.details["rows"] > 0
    record = json.loads((tmp_path / "primitives.json").read_text())
    assert record["complete"]


def test_tuning_is_rehearsed_and_counted(monkeypatch, tmp_path):
    entry = Entry()
    stages.tuned(context(tmp_path, limit=60), entry)
    assert entry.status == "no GPU" and "GPU" in entry.found, entry

    def stopped(self, command, limit):
        (tmp_path / "tuned.json").write_text('{"entries": [{}, {}]}')
        return limited.Result(limit, None, ["out of time"])

    monkeypatch.setattr(Context, "run", stopped)
    stages.tuned(context(tmp_path, gpu=True), entry)
    assert entry.status == "incomplete" and entry.details == {"entries": 2}


@pytest.mark.parametrize("name", ["primitives", "layers", "networks", "training"])
def test_the_command_line_takes_a_gpu_s_options(name, monkeypatch, tmp_path):
    """They parse, are checked as a run checks them, and choose cases."""
    from typer.testing import CliRunner

    from resnet_kernels.cli import app, bench
    from resnet_kernels.measure import runner, suites
    from resnet_kernels.measure.case import Ours
    from resnet_kernels.measure.peers import Choice

    taken = []
    nothing = limited.Result(1, 0, [])
    monkeypatch.setattr(Context, "run", lambda self, command, limit: taken.append(command) or nothing)
    stages.STAGES[name](context(tmp_path, gpu=True), Entry())
    assert taken[0][1:5] == ["-m", "resnet_kernels.cli", "bench", name]
    parsed = []
    monkeypatch.setattr(bench, "_run", lambda *arguments: parsed.append(arguments))
    result = CliRunner().invoke(app, taken[0][3:])
    assert result.exit_code == 0, result.output
    (which, quick, output, batch, dtype, model, peers, cache, backend, limit) = parsed[0]
    assert (which, quick, output, limit) == ((name,), False, tmp_path, 30)
    batches = tuple(int(size) for size in bench._list(batch))
    lists = [bench._list(text) for text in (dtype, model, peers)]
    options = suites.Options(False, lists[0], batches, *lists[1:], cache, backend, limit)
    runner.check(options)
    choice = Choice(torch.device("cpu"), options.peers)
    found = list(suites.cases(name, options, choice, Ours("aten", "ours")))
    assert len(found) > 5
    if name == "layers":
        first = {(case.dtype, case.batch) for case in found[:20]}
        assert first == {("bfloat16", 256)}


def test_what_an_earlier_campaign_found_is_not_looked_for_again(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    book = Book(old)
    book.entry("device").status = "passed"
    book.save()
    command = [sys.executable, "-m", "benchmarks.campaign", "--output", str(new), "--from", str(old)]
    done = subprocess.run([*command, "--stages", "device"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "=== device" not in done.stdout
    again = subprocess.run(
        [*command, "--stages", "device", "--again"], cwd=ROOT, capture_output=True, text=True
    )
    assert "=== device" in again.stdout


def test_time_in_all_is_kept(tmp_path):
    command = [sys.executable, "-m", "benchmarks.campaign", "--output", str(tmp_path), "--total", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "===" not in done.stdout
    assert done.stdout.count("no time left") == len(stages.STAGES)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--stages", "tea"], "no stage 'tea'"),
        (["--limit", "900"], "--limit"),
        (["--from", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_in_the_arguments_are_said(arguments, said):
    command = [sys.executable, "-m", "benchmarks.campaign", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert said in done.stderr


def test_one_stage_s_mistake_is_its_own(tmp_path, monkeypatch, capsys):
    """An exception in a stage becomes its result, and the next stage runs."""
    from benchmarks.campaign import __main__ as program

    def broken(context, entry):
        raise RuntimeError("as it should")

    def works(context, entry):
        entry.status = "passed"

    monkeypatch.setattr(program, "STAGES", {"broken": broken, "works": works})
    assert program._campaign(["broken", "works"], tmp_path, 10, 60, False, None) == 1
    book = Book(tmp_path)
    assert (book.entries["broken"].status, book.entries["works"].status) == ("failed", "passed")
    assert "RuntimeError: as it should" in capsys.readouterr().out


def test_a_campaign_survives_its_archive(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    (old / "layers.json").write_text("old")
    (old / ".hidden").write_text("no")
    (new / "kept.json").write_text("new")
    pack(old, tmp_path / "campaign.tgz")
    take_over(tmp_path / "campaign.tgz", new)
    assert {path.name for path in new.iterdir()} == {"layers.json", "kept.json"}


def test_files_of_an_earlier_campaign_never_replace_new_ones(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    for folder, text in ((old, "old"), (new, "new")):
        folder.mkdir()
        (folder / "layers.json").write_text(text)
    (old / "more.json").write_text("old")
    take_over(old, new)
    assert (new / "layers.json").read_text() == "new"
    assert (new / "more.json").read_text() == "old"


@pytest.mark.slow
def test_the_whole_campaign_rehearses(tmp_path):
    """Every stage, as `make gpu` runs it on a machine without a GPU."""
    command = [sys.executable, "-m", "benchmarks.campaign", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    book = Book(tmp_path)
    assert list(book.entries) == list(stages.STAGES)
    assert {entry.status for entry in book.entries.values()} == {"no GPU"}, done.stdout
    assert (tmp_path / "report.html").is_file()
    assert done.returncode == 1
    assert "this was a rehearsal" in done.stdout
