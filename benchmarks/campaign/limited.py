"""A command within a time limit, which holds whatever the command does: its whole session is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

GRACE = 5.0  # seconds from SIGTERM to SIGKILL
KEPT = 200  # lines of output


class Result(NamedTuple):
    """code: the exit status, None where the limit was reached; lines: the end of stdout and stderr."""

    code: int | None
    seconds: float
    lines: list[str]

    @property
    def timed_out(self) -> bool:
        return self.code is None


def run(command: Sequence[str], limit: float, log: Path, root: Path, more: Mapping[str, str]) -> Result:
    """Run `command` in `root` for at most `limit` seconds, its output here and at the end of `log`.

    more: environment variables beside this process's own.  A program that cannot be started counts as exit
    status 127.
    """
    began = time.monotonic()
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **more}
    lines: deque[str] = deque(maxlen=KEPT)
    with log.open("a", encoding="utf-8") as book:
        book.write(f"\n$ {' '.join(command)}\n")
        book.flush()
        try:
            process = subprocess.Popen(
                command,
                cwd=root,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            book.write(f"{error}\n")
            return Result(127, time.monotonic() - began, [str(error)])
        reader = threading.Thread(target=_copy, args=(process, book, lines), daemon=True)
        reader.start()
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
            _kill(process)
        reader.join(GRACE)  # a grandchild that left the session may hold the pipe: not waited for
        return Result(code, time.monotonic() - began, list(lines))


def _copy(process: subprocess.Popen[str], book, lines: deque[str]) -> None:
    assert process.stdout is not None
    with contextlib.suppress(ValueError):  # the log was closed under a grandchild's output
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            book.write(line)
            book.flush()
            sys.stdout.write(line)
            sys.stdout.flush()


def _kill(process: subprocess.Popen[str]) -> None:
    """End the command and all that it started in its session."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
            if number == signal.SIGTERM:
                continue  # the rest of the session still gets its SIGKILL
            return
