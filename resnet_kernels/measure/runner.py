"""Runs a suite: device, ceilings, header; then case after case into the file, until done or out of time."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .. import machine
from ..errors import UserError
from . import environment, record, suites
from .case import Ours
from .clock import CpuClock, CudaClock
from .engine import QUICK, Effort, Engine
from .peers import NAMES, Choice
from .problems import NETWORKS
from .roofline import TORCH_DTYPES, Ceilings, ceilings

EFFORT = {"cuda": Effort(), "cpu": Effort(rounds=8, seconds=0.8, most=40, warm_up=0.1)}
Advance = Callable[[str, int, int], None]


def check(options: suites.Options) -> None:
    """UserError for what no run can be made of: the option, what it got and what it takes."""
    for option, given, known in (
        ("--dtype", options.dtypes, tuple(TORCH_DTYPES)),
        ("--model", options.models, NETWORKS),
        ("--peers", options.peers, tuple(NAMES)),
        ("--cache", (options.cache,), suites.CACHES),
    ):
        for value in given:
            if value not in known:
                raise UserError(f"{option}: no {value!r}; choose among {', '.join(known)}")
    if any(batch < 1 for batch in options.batches):
        raise UserError(f"--batch must be at least 1, got {min(options.batches)}")


def who(options: suites.Options) -> tuple[torch.device, Ours, str]:
    """(where to measure, what `ours` is there, and a sentence on it).

    Raises:
        UserError: a backend that cannot run here.
    """
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")
    backend = options.backend
    if backend == "auto":
        backend = ("cuda" if machine.why_no_gpu() is None else "aten") if gpu else "aten"
    elif backend == "simulator":
        device = torch.device("cpu")
        machine.choose(backend)
    elif backend != "aten":
        machine.choose(backend)
    if backend == "cuda":
        name = torch.cuda.get_device_name(device)
        return device, Ours(backend, "resnet_kernels"), f"this package's kernels on {name}"
    if backend == "simulator":
        text = "this package's kernels on the simulator: its times say nothing about a GPU"
        return device, Ours(backend, "resnet_kernels (simulated)"), text
    reason = machine.why_no_gpu() or "asked for"
    text = f"PyTorch's composition of our operators ({reason}): not our kernels"
    return device, Ours(backend, "resnet_kernels (aten)"), text


def run(
    suite: str, options: suites.Options, directory: Path, deadline: float, advance: Advance
) -> record.Run:
    """Measure a suite into directory/suite.json.

    Args:
        deadline: of `time.monotonic`; no case begins after it.
        advance: called with (the next case, how many are done, of how many).

    Raises:
        UserError: an option or a file that does not fit.
    """
    check(options)
    device, ours, sentence = who(options)
    choice = Choice(device, options.peers, options.quick)
    found = list(suites.cases(suite, options, choice, ours))
    header = environment.describe(device)
    header |= {
        "command": environment.command(),
        "options": options.as_json(),
        "timer": CudaClock.name if device.type == "cuda" else CpuClock.name,
        "ours": sentence,
        "peers": {},
    }
    book = record.begin(suite, header, directory)
    limits = _ceilings(book, sorted({case.dtype for case in found}), device)
    effort = QUICK if options.quick else EFFORT[device.type]
    engine = Engine(device, ours.backend, limits, effort, options.cache)
    done = book.cases()
    for index, case in enumerate(found):
        if case.key in done:
            continue
        if time.monotonic() > deadline:
            return book
        advance(case.key, index, len(found))
        rows = engine.measure(case)
        book.header["peers"] |= {row.implementation: row.reason for row in rows if row.status == "absent"}
        book.add([row for row in rows if row.status != "absent"])
        if device.type == "cuda":
            torch.cuda.empty_cache()
    book.complete = True
    book.header["peers"] = _never(book)
    book.save()
    return book


def _ceilings(book: record.Run, dtypes: list[str], device: torch.device) -> Ceilings:
    """Of the file's first session, so that all of its shares are of one measure; measured if there is
    none.
    """
    known: dict[str, Any] | None = book.header.get("ceilings")
    if known is not None and set(dtypes) <= known["peak"].keys():
        return Ceilings(known["bandwidth"], known["peak"])
    clock = CudaClock(True) if device.type == "cuda" else CpuClock()
    measured = ceilings(dtypes, clock, device)
    book.header["ceilings"] = measured.as_json()
    return measured


def _never(book: record.Run) -> dict[str, str]:
    """Of the peers that were absent somewhere, those that were so everywhere."""
    measured = {row["implementation"] for row in book.rows}
    return {name: reason for name, reason in book.header["peers"].items() if name not in measured}


def wrong(book: record.Run) -> list[dict[str, Any]]:
    """The rows of ours that failed, or computed something else."""
    return [row for row in book.rows if row["ours"] and (row["status"] == "failed" or row["match"] is False)]
