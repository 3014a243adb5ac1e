"""The campaign's look into the largest gaps: the profiler's command, its table, the program it watches."""

import json
import os
import stat
import sys

import pytest

from benchmarks.campaign import ncu, one_case, profiled, stages, tools
from benchmarks.campaign.book import Entry
from benchmarks.campaign.limited import Result
from benchmarks.campaign.stages import Context
from resnet_kernels.errors import UserError
from resnet_kernels.measure import gaps, record
from tests.measure_report import sample

NAME = "void rk::machine::entry<rk::sm90::Conv<rk::Tile<128, 256>, 2>, 384u, 1u, 196608u>(T1::Params)"
STALL = "smsp__average_warps_issue_stalled_{}_per_issue_active.ratio"
TABLE = {  # metric: (unit, a launch's value, another's)
    "gpu__time_duration.sum": ("ns", "123,456", "2000"),
    "sm__cycles_active.avg.pct_of_peak_sustained_elapsed": ("%", "91.5", "50"),
    "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed": ("%", "62.25", "0"),
    "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed": ("%", "40", "n/a"),
    "dram__bytes_read.sum": ("byte", "1,000,000", "0"),
    "dram__bytes_write.sum": ("Mbyte", "2.5", "0"),
    STALL.format("long_scoreboard"): ("inst", "1.25", "0"),
    STALL.format("gmma"): ("inst", "4.5", "0"),
    STALL.format("barrier"): ("inst", "0.5", "0"),
    STALL.format("wait"): ("inst", "0.25", "7"),
    STALL.format("selected"): ("inst", "1.0", "1"),
}


def table(*kernels):
    """As the profiler prints it: what it says first, the names, the units, a line a launch."""

    def line(cells):
        return ",".join(f'"{cell}"' for cell in cells) + "\n"

    text = '==PROF== Connected to process 7\n==PROF== Profiling "entry": 0%....100% - 9 passes\n'
    text += line(["ID", "Process ID", "Kernel Name", "Block Size", *TABLE])
    text += line(["", "", "", "", *(units for units, *_ in TABLE.values())])
    for i, kernel in enumerate(kernels):
        text += line([i, 7, kernel, "(384, 1, 1)", *(values[1 + i] for values in TABLE.values())])
    return text + "==PROF== Disconnected\n"


def test_a_table_is_read():
    first, second = ncu.read(table(NAME, "void at::vectorized(int)"))
    assert first["kernel"] == "sm90::Conv<Tile<128, 256>, 2>"
    assert first["seconds"] == pytest.approx(123.456e-6)
    assert (first["tensor"], first["working"], first["dram"]) == (62.25, 91.5, 40)
    assert (first["read"], first["written"]) == (1e6, pytest.approx(2.5e6))
    assert first["stalls"] == [["gmma", 4.5], ["long_scoreboard", 1.25], ["barrier", 0.5]]
    assert first["occupancy"] is None  # not in this table
    assert second["kernel"] == "void at::vectorized(int)"
    assert second["dram"] is None and second["stalls"] == [["wait", 7.0]]


@pytest.mark.parametrize("text", ["", "==ERROR== ERR_NVGPUCTRPERM - no permission\n", '"ID","Kernel Name"\n'])
def test_no_table_is_no_launch(text):
    assert ncu.read(text) == []


def test_names_of_older_and_newer_demanglers():
    tail = "(unsigned int)384, (unsigned int)1, (unsigned int)0>(T1::Params)"
    assert (
        ncu.kernel(f"void rk::machine::entry<rk::sm80::Copy<float, (int)4>, {tail}")
        == "sm80::Copy<float, (int)4>"
    )


def layers(tmp_path):
    run = sample.layers(batches=(256,))
    run.path = tmp_path / "layers.json"
    run.save()
    return [gap.ours["case"] for gap in gaps.largest(gaps.choose(run), profiled.CASES)]


def pretend(tmp_path, monkeypatch, text):
    """An ncu on PATH that is this Python program."""
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    fake = folder / "ncu"
    fake.write_text(f"#!{sys.executable}\n{text}")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


FAKE = """
import sys, pathlib
options = sys.argv[1:]
at = options.index(sys.executable)
options, program = options[:at], options[at:]
given = dict(zip(options, options[1:]))
assert given["--clock-control"] == "none" and given["--profile-from-start"] == "off"
assert given["--kernel-name"] == "regex:rk::machine::entry"
assert given["--page"] == "raw" and "--csv" in options
assert program[1:3] == ["-m", "benchmarks.campaign.one_case"] and pathlib.Path(program[3]).is_file()
assert program[4].startswith("layers/conv") and len(program) == 5
print("the program's own output")
"""


def test_every_gap_is_profiled_once(tmp_path, monkeypatch, capsys):
    chosen = layers(tmp_path)
    write = f"pathlib.Path(given['--log-file']).write_text({table(NAME)!r})\n"
    seen = f"open({str(tmp_path / 'calls')!r}, 'a').write(program[4] + '\\n')\n"
    pretend(tmp_path, monkeypatch, FAKE + write + seen)
    entry = Entry()
    profiled.profiled(Context(tmp_path, 60, True), entry)
    assert (entry.status, entry.found) == ("passed", f"{profiled.CASES} of {profiled.CASES} layers")
    assert list(entry.details["cases"]) == chosen == (tmp_path / "calls").read_text().splitlines()
    assert len(list(tmp_path.glob("profile-layers-conv-*.csv"))) == profiled.CASES
    said = capsys.readouterr().out
    assert (
        "sm90::Conv<Tile<128, 256>, 2>" in said and "gmma 4.5" in said and "123 µs" in said and "4 MB" in said
    )
    again = Entry(**json.loads(json.dumps(vars(entry))))
    profiled.profiled(Context(tmp_path, 60, True), again)
    assert again.status == "passed" and len((tmp_path / "calls").read_text().splitlines()) == profiled.CASES


def test_the_profiler_s_complaint_is_said(tmp_path, monkeypatch):
    layers(tmp_path)
    write = (
        "pathlib.Path(given['--log-file']).write_text('==ERROR== ERR_NVGPUCTRPERM - no\\n')\nsys.exit(1)\n"
    )
    pretend(tmp_path, monkeypatch, FAKE + write)
    entry = Entry()
    profiled.profiled(Context(tmp_path, 60, True), entry)
    assert entry.status == "failed"
    assert "0 of 5 layers; failed: ==ERROR== ERR_NVGPUCTRPERM - no, exit status 1" in entry.found


def test_what_is_late_goes_on(tmp_path, monkeypatch):
    """One layer hangs, the others are there: a second run of the stage looks at that one alone."""
    chosen = layers(tmp_path)
    calls = []

    def run(self, command, limit, more=None):
        calls.append(command[-1])
        if len(calls) == 2:
            return Result(None, limit, [])
        log = command[command.index("--log-file") + 1]
        with open(log, "w") as file:
            file.write(table(NAME))
        return Result(0, 1.0, [])

    monkeypatch.setattr(Context, "run", run)
    monkeypatch.setattr(tools, "find", lambda name: name)
    entry = Entry()
    profiled.profiled(Context(tmp_path, 60, True), entry)
    assert entry.status == "incomplete" and "4 of 5 layers; incomplete: not done after" in entry.found
    profiled.profiled(Context(tmp_path, 60, True), entry)
    assert entry.status == "passed" and calls[5:] == [chosen[1]]
    none_left = Entry()
    profiled.profiled(Context(tmp_path, 0.5, True), none_left)
    assert (none_left.status, none_left.found) == ("incomplete", "0 of 5 layers; incomplete: no time left")


def test_without_the_profiler_the_stage_fails(tmp_path, monkeypatch):
    layers(tmp_path)
    monkeypatch.setattr(tools, "find", lambda name: None)
    entry = Entry()
    profiled.profiled(Context(tmp_path, 60, True), entry)
    assert (entry.status, entry.found) == ("failed", "failed: ncu is not on PATH and not in CUDA_HOME")


def test_without_layers_there_is_nothing_to_look_into(tmp_path):
    entry = Entry()
    profiled.profiled(Context(tmp_path, 60, False), entry)
    assert entry.status == "incomplete" and "layers.json" in entry.found


def test_it_comes_after_the_layers():
    names = list(stages.STAGES)
    assert names.index("profiled") == names.index("layers") + 1


# -----------------------------------------------------------------------------
# The program that is watched

OPTIONS = {
    "quick": True,
    "dtypes": ["bfloat16"],
    "batches": [1],
    "models": ["cifar_resnet20"],
    "peers": [],
    "cache": "cold",
    "backend": "auto",
    "time_limit": 30.0,
}
KEY = "layers/conv 3x3 3>16 32x32/bfloat16/n1/fprop/bn_relu"


@pytest.fixture
def small(tmp_path):
    run = record.Run("layers", {**sample.header(), "options": OPTIONS}, [], path=tmp_path / "layers.json")
    run.save()
    return run


def test_a_case_is_found_by_its_key(small):
    import torch

    case = one_case.find(small, KEY, torch.device("cpu"), "aten")
    assert (case.key, case.problem["x"]) == (KEY, [1, 3, 32, 32])
    assert one_case.call(case, "aten")
    with pytest.raises(UserError, match="no case 'layers/tea'"):
        one_case.find(small, "layers/tea", torch.device("cpu"), "aten")


def test_the_rehearsal_runs_it_on_the_simulator(small, tmp_path):
    """From the command of the stage to the kernels."""
    pytest.importorskip("resnet_kernels._sim", reason="the simulator is not built")
    small.add([])
    case = sample.layers(batches=(256,)).rows[0] | {"case": KEY, "count": {"cifar_resnet20": 1}}
    small.rows = [case]
    small.save()
    entry = Entry()
    profiled.profiled(Context(tmp_path, 120, False), entry)
    assert (entry.status, entry.found) == ("no GPU", f"{KEY}: finite"), entry
