"""A pytest plugin: every test's outcome is on file as it comes, and tests that have one are left out.

    RESNET_KERNELS_OUTCOMES=outcomes.jsonl python -m pytest -p benchmarks.campaign.outcomes ...

A test that began and has no outcome brought its process down, or hung until it was killed: it "died" and is
not run again.  After an error that leaves CUDA unusable the session ends; another one goes on with the rest.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

VARIABLE = "RESNET_KERNELS_OUTCOMES"
END = {"session": "finished"}
LOST = ("illegal memory access", "unspecified launch failure", "device-side assert", "misaligned address")


def read(path: Path) -> dict[str, dict]:
    """Test -> {"outcome": passed, failed, skipped or died, "why": ..., "seconds": ...}."""
    found: dict[str, dict] = {}
    if path.is_file():
        for line in path.read_text().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # cut by a kill: its test died
            if "test" not in entry:
                continue
            if "cut" in entry:
                del found[entry["test"]]
                continue
            found.setdefault(entry["test"], {"outcome": "died", "why": "hung, or ended its process"})
            if "outcome" in entry and found[entry["test"]]["outcome"] != "failed":
                found[entry["test"]] = entry
    return found


def cut(path: Path, seconds: float) -> None:
    """Say of the test in progress that the session was ended under it, if it ran for less than `seconds`."""
    entries = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    if entries and "began" in entries[-1] and time.time() - entries[-1]["began"] < seconds:
        with path.open("a") as file:
            file.write(json.dumps({"test": entries[-1]["test"], "cut": True}) + "\n")


def finished(path: Path) -> bool:
    """Whether the last session on file came to its end, with every test that it had chosen."""
    lines = path.read_text().splitlines() if path.is_file() else []
    return bool(lines) and lines[-1] == json.dumps(END)


class Outcomes:
    """The hooks; one object a session."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.session: pytest.Session | None = None

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self.session = session

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        known = read(self.path)
        done = [item for item in items if item.nodeid in known]
        if done:
            items[:] = [item for item in items if item.nodeid not in known]
            config.hook.pytest_deselected(items=done)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._write({"test": nodeid, "began": time.time()})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.passed:
            return
        why = "" if report.passed else _reason(report)
        self._write(
            {
                "test": report.nodeid,
                "outcome": report.outcome,
                "why": why,
                "seconds": round(report.duration, 3),
            }
        )
        if report.failed and any(sign in report.longreprtext for sign in LOST) and self.session is not None:
            self.session.shouldstop = "CUDA is unusable in this process after that"

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not session.shouldstop:
            self._write(END)

    def _write(self, entry: dict) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _reason(report: pytest.TestReport) -> str:
    """The last line that says something."""
    if isinstance(report.longrepr, tuple):  # a skip: (file, line, reason)
        return str(report.longrepr[2])
    lines = [line for line in report.longreprtext.splitlines() if line.startswith("E ")]
    return (lines[0] if lines else report.longreprtext.splitlines()[-1]).removeprefix("E").strip()[:300]


def pytest_configure(config: pytest.Config) -> None:
    if path := os.environ.get(VARIABLE):
        config.pluginmanager.register(Outcomes(Path(path)), "resnet-kernels-outcomes")
