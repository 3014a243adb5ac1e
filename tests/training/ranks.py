"""Two processes joined by gloo, which run functions of the tests side by side on the CPU.

The processes live as long as the fixture, are handed ("module:function", arguments) and answer with its
result or its traceback.  Nothing can wait for ever: collectives give up after `TIMEOUT`, and so does a test
whose processes do not answer.
"""

from __future__ import annotations

import datetime
import importlib
import os
import pickle
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

TIMEOUT = 120  # seconds
ROOT = Path(__file__).parents[2]


class Ranks:
    """The processes; `run` calls a function in all of them and returns the results in order of rank.

    folder: an empty one, where the processes find each other.
    """

    def __init__(self, folder: Path, size: int = 2) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._connections: list[Any] = []
        for rank in range(size):
            here, there = socket.socketpair()
            with there:
                arguments = [str(there.fileno()), str(folder / "store"), str(rank), str(size)]
                process = subprocess.Popen(
                    [sys.executable, "-m", "tests.training.ranks", *arguments],
                    cwd=ROOT,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                    pass_fds=(there.fileno(),),
                )
            self._processes.append(process)
            self._connections.append(Connection(here.detach()))

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        name = f"tests.training.{function.__module__.rpartition('.')[2]}:{function.__qualname__}"
        for connection in self._connections:
            connection.send((name, arguments))
        answers = []
        for rank, connection in enumerate(self._connections):
            if not connection.poll(2 * TIMEOUT):
                self.close()
                raise AssertionError(f"rank {rank} does not answer")
            answers.append(pickle.loads(connection.recv_bytes()))  # EOFError: the process has died
        for rank, (ok, answer) in enumerate(answers):
            assert ok, f"rank {rank}:\n{answer}"
        return [answer for _, answer in answers]

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.kill()
            process.wait()


def serve(connection: Connection, store: str, rank: int, size: int) -> None:
    """What each process does: answer until the other end is closed."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False  # strict float32, as in all tests of training
    wait = datetime.timedelta(seconds=TIMEOUT)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size, timeout=wait)
    while True:
        try:
            name, arguments = connection.recv()
        except EOFError:
            return
        module, _, function = name.partition(":")
        try:
            torch.manual_seed(0)
            answer = True, getattr(importlib.import_module(module), function)(*arguments)
        except Exception:
            answer = False, traceback.format_exc()
        # As bytes: `send` would hand tensors over in shared memory, which wants a common key.
        connection.send_bytes(pickle.dumps(answer))


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
