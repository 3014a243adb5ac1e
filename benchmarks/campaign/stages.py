"""The stages: what is run, in which order, and what is read out of it.

Every stage ends within its limit, leaves what it has found in the output directory, and begins where it was
stopped.  Without a GPU each stage rehearses: the same programs on the simulator, on a CPU or with nothing
selected, so that a mistake in a command shows before a GPU is at hand.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import limited, outcomes, tools
from .book import Entry
from .profiled import profiled

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
TEST_SECONDS = 120  # of one test on a GPU, where the slowest takes a few
RESTARTS = 8  # of pytest, after tests that brought it down
LEFT = 30.0  # seconds that a suite has after its last case began, for that case and its report
REHEARSED = 45.0  # seconds of a suite without a GPU
GOLDEN = ROOT / "tests/conformance/golden"  # the hardware's answers, for the simulator
ANSWERS = "conformance-"  # what their files' names begin with among the campaign's


@dataclass
class Context:
    """Where a stage runs: its files, its limit in seconds, and whether there is a GPU."""

    directory: Path
    limit: float
    gpu: bool

    def run(self, command: Sequence[str], limit: float, more: dict[str, str] | None = None) -> limited.Result:
        """A command of at most `limit` seconds; its output goes to the log too."""
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        return limited.run(
            command, limit, self.directory / "campaign.log", ROOT, {"PYTHONPATH": path, **(more or {})}
        )


Stage = Callable[[Context, Entry], None]


def device(context: Context, entry: Entry) -> None:
    """Which machine this is, and what is on it."""
    import torch

    facts: dict[str, object] = {"python": sys.version.split()[0], "torch": torch.__version__}
    facts |= {name: tools.find(name) for name in ("compute-sanitizer", "ncu")}
    facts["kernels"] = importlib.util.find_spec("resnet_kernels._C") is not None
    if context.gpu:
        properties = torch.cuda.get_device_properties(0)
        facts |= {
            "name": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "cache_bytes": properties.L2_cache_size,
            "memory_bytes": properties.total_memory,
            "cudnn": torch.backends.cudnn.version(),
        }
        query = "name,driver_version,clocks.sm,clocks.mem,temperature.gpu,power.draw"
        told = context.run(["nvidia-smi", f"--query-gpu={query}", "--format=csv"], context.limit)
        facts["nvidia-smi"] = told.lines[-1:]
    entry.details = facts
    name = facts.get("name", "no GPU: a rehearsal")
    kernels = "" if facts["kernels"] else "; resnet_kernels/_C.abi3.so is missing"
    entry.found = f"{name}, torch {torch.__version__}{kernels}"
    entry.status = "passed" if context.gpu and facts["kernels"] else "failed" if context.gpu else "no GPU"


def conformance(context: Context, entry: Entry) -> None:
    """Every instruction of the machine layer on hardware; its answers are kept for the simulator."""
    if context.gpu:
        _tests(context, entry, ["tests/conformance", "-m", "gpu"], {"RESNET_KERNELS_WRITE_GOLDEN": "1"})
        for file in GOLDEN.glob("sm_*.npz"):
            shutil.copy2(file, context.directory / f"{ANSWERS}{file.name}")
    else:
        _tests(context, entry, ["tests/conformance", "-k", "cuda or mma"], {})


def tests(context: Context, entry: Entry) -> None:
    """Every test that needs a GPU; those of conformance have their own stage."""
    chosen = ["tests", "-m", "gpu", "--ignore", "tests/lint", "--ignore", "tests/conformance"]
    _tests(context, entry, chosen, {"RESNET_KERNELS_FUZZ": "100"})


def _tests(context: Context, entry: Entry, chosen: list[str], more: dict[str, str]) -> None:
    """pytest on `chosen`, begun anew after a test that hung or brought it down, until all have an outcome."""
    file = context.directory / f"outcomes-{chosen[0].rpartition('/')[2]}.jsonl"
    limit_each = ["--timeout", str(TEST_SECONDS), "--timeout-method", "thread"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "benchmarks.campaign.outcomes"]
    command += ["-p", "no:cacheprovider", "--continue-on-collection-errors", *limit_each, *chosen]
    end, uncollected = time.monotonic() + context.limit, []
    for _ in range(RESTARTS):
        left = end - time.monotonic()
        if left < 1:
            break
        result = context.run(command, left, {outcomes.VARIABLE: str(file), **more})
        uncollected = re.findall(r"^ERROR ([^\s:]+\.py)(?:\s|$)", "\n".join(result.lines), re.M)
        if result.timed_out:
            outcomes.cut(file, TEST_SECONDS)
        if outcomes.finished(file) or not file.is_file():
            break
    known = outcomes.read(file)
    counts = Counter(told["outcome"] for told in known.values())
    bad = {test: told["why"] for test, told in known.items() if told["outcome"] in ("failed", "died")}
    entry.details = {"counts": dict(counts), "failures": bad, "not collected": uncollected}
    entry.found = ", ".join(f"{count} {what}" for what, count in sorted(counts.items())) or "no test ran"
    if bad:
        entry.found += f"; first: {next(iter(bad))}"
    if uncollected:
        entry.found += f"; {len(uncollected)} files could not be collected"
    if not outcomes.finished(file):
        entry.status = "incomplete" if known else "failed"
    elif bad or (context.gpu and not counts["passed"]):
        entry.status = "failed"
    else:
        entry.status = "passed" if context.gpu else "no GPU"


def sanitizers(context: Context, entry: Entry) -> None:
    """Each of compute-sanitizer's tools on small shapes; a tool that is not there is a failure."""
    program = [sys.executable, "-m", "benchmarks.campaign.small_shapes"]
    found: dict[str, str] = entry.details.setdefault("tools", {})
    end = time.monotonic() + context.limit
    tool = tools.find("compute-sanitizer")
    if not context.gpu:
        result = context.run([*program, "--backend", "simulator"], context.limit)
        found["simulator"] = result.lines[-1] if result.lines else ""
    for index, name in enumerate(TOOLS):
        if found.get(name, "").startswith(("0 errors", "failed")):
            continue
        if tool is None:
            found[name] = tools.missing("compute-sanitizer")
            continue
        share = (end - time.monotonic()) / (len(TOOLS) - index)
        if share < 1:
            found[name] = "incomplete: no time left"
            continue
        # Without the allocator's pool every tensor has bounds of its own.
        result = context.run(
            [tool, "--tool", name, "--error-exitcode", "86", *program],
            share,
            {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
        )
        found[name] = _judge(result)
    said: dict[str, list[str]] = {}
    for name, what in found.items():
        said.setdefault(what, []).append(name)
    entry.found = "; ".join(f"{', '.join(names)}: {what}" for what, names in said.items())
    told = [what for name, what in found.items() if name in TOOLS]
    if any(what.startswith("failed") for what in told):
        entry.status = "failed" if context.gpu else "no GPU"
    else:
        entry.status = "passed" if all(what.startswith("0 errors") for what in told) else "incomplete"


def _judge(result: limited.Result) -> str:
    """ "0 errors", "failed: ...", or "incomplete: ..."."""
    if result.timed_out:
        return f"incomplete: not done after {result.seconds:.0f} s"
    summaries = [line for line in result.lines if "SUMMARY" in line]
    summary = summaries[-1].strip("= ").strip() if summaries else "no summary"
    if result.code == 0 and re.search(r"SUMMARY: 0 (errors|hazards)", summary):
        return f"0 errors in {result.seconds:.0f} s"
    return f"failed: {summary}, exit status {result.code}"


def suite(name: str, options: Sequence[str]) -> Stage:
    """A stage that measures one suite of `resnet-kernels bench`, on a CPU a few cases of it."""

    def stage(context: Context, entry: Entry) -> None:
        seconds = max(1.0, context.limit - LEFT if context.gpu else min(context.limit, REHEARSED))
        chosen = list(options) if context.gpu else ["--quick"]
        command = [sys.executable, "-m", "resnet_kernels.cli", "bench", name, *chosen]
        command += ["--output", str(context.directory), "--time-limit", f"{seconds:.0f}"]
        result = context.run(command, context.limit)
        file = context.directory / f"{name}.json"
        rows, complete = _rows(file)
        measured = sum(row["status"] == "measured" for row in rows)
        ours = [row for row in rows if row["ours"]]
        wrong = [row["key"] for row in ours if row["status"] == "failed" or row["match"] is False]
        entry.details = {"rows": len(rows), "measured": measured, "wrong": wrong}
        entry.found = f"{measured} of {len(rows)} rows measured"
        if wrong:
            entry.found += f", {len(wrong)} of ours wrong, first: {wrong[0]}"
        if not rows:
            said = result.lines[-1] if result.lines else "no output"
            entry.found = f"nothing measured; the command said: {said}"
        if not complete and (context.gpu or not rows):
            entry.status = "incomplete" if rows else "failed"
        elif wrong:
            entry.status = "failed"
        else:
            entry.status = "passed" if context.gpu else "no GPU"

    return stage


def _rows(file: Path) -> tuple[list[dict], bool]:
    """(the rows of a record, whether it is complete)."""
    if not file.is_file():
        return [], False
    content = json.loads(file.read_text())
    return content["rows"], bool(content["complete"])


def tuned(context: Context, entry: Entry) -> None:
    """Every configuration of ResNet-50's convolutions: the table that goes before the cost model's choice.

    The command keeps the table after every convolution, so what was measured in time is there.
    """
    file = context.directory / "tuned.json"
    command = [sys.executable, "-m", "resnet_kernels.cli", "bench", "tune", "--batch", "256,32"]
    result = context.run([*command, "--dtype", "bfloat16", "--output", str(file)], context.limit)
    entries = len(json.loads(file.read_text())["entries"]) if file.is_file() else 0
    entry.details = {"entries": entries}
    said = result.lines[-1] if result.lines else "no output"
    entry.found = (
        f"{entries} convolutions tuned" if entries else f"nothing measured; the command said: {said}"
    )
    if context.gpu:
        entry.status = "passed" if result.code == 0 else "incomplete" if entries else "failed"
    else:
        entry.status = "no GPU" if "GPU" in said else "failed"


LAYER_PEERS = "eager_nhwc,folded_nhwc,cudnn_fused,cudnn_graph"  # compiling each layer would take hours
STAGES: dict[str, Stage] = {
    "device": device,
    "conformance": conformance,
    "tests": tests,
    "sanitizers": sanitizers,
    "primitives": suite("primitives", []),
    "tuned": tuned,
    "layers": suite(
        "layers",
        [
            *("--model", "resnet50", "--batch", "256,32", "--dtype", "bfloat16,float16"),
            *("--peers", LAYER_PEERS),
        ],
    ),
    "profiled": profiled,
    "networks": suite(
        "networks", ["--model", "resnet50,resnet18,resnet152", "--batch", "256,32,1", "--dtype", "bfloat16"]
    ),
    "training": suite(
        "training", ["--model", "resnet50,resnet18,cifar_resnet20,cifar_resnet110", "--dtype", "bfloat16"]
    ),
}
