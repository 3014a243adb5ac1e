"""The kernels of kernels.cpp, compiled against both builds of the simulator."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import platform
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from resnet_kernels import simulator

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(__file__).with_name("kernels.cpp")
CSRC = ROOT / "csrc"
FLAGS = [
    *("-std=c++20", "-O2", "-fPIC", "-ffp-contract=off", "-fno-gnu-unique", "-fvisibility=hidden"),
    *("-Wall", "-Wextra", "-Werror"),
]
if platform.machine() == "x86_64":
    FLAGS.append("-march=x86-64-v3")
if SANITIZE := os.environ.get("RESNET_KERNELS_SANITIZE"):  # `make sanitize`
    FLAGS += ["-g", f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]


def sources() -> list[Path]:
    """The C++ of the simulator and of the test kernels."""
    machine = CSRC / "machine"
    here = sorted(SOURCE.parent.glob("*.cpp"))
    return [*here, *sorted(machine.glob("*.cpp")), *sorted((machine / "sim").rglob("*.cpp"))]


def _build(directory: Path, name: str) -> Path:
    """The shared object ``name``, compiled unless these very sources were compiled before."""
    import pybind11

    headers = sorted([*(CSRC / "machine").rglob("*.h"), *SOURCE.parent.glob("*.h"), CSRC / "api.h"])
    flags = [*FLAGS, f"-DRK_SIM_CHECKED={int(name == '_sim_checked')}", f"-DRK_MODULE={name}"]
    digest = hashlib.sha256(repr(flags).encode())
    for path in [*sources(), *headers]:
        digest.update(path.read_bytes())
    home = directory / f"{name}-{digest.hexdigest()[:16]}"
    output = home / f"{name}.so"
    if output.exists():
        return output
    home.mkdir(parents=True, exist_ok=True)
    includes = [
        f"-I{CSRC}",
        f"-I{CSRC / 'machine/sim'}",
        "-isystem",
        pybind11.get_include(),
        "-isystem",
        sysconfig.get_path("include"),
    ]
    compiler = os.environ.get("CXX", "g++")

    def compile_one(source: Path) -> str:
        target = home / f"{source.parent.name}_{source.stem}.o"
        command = [compiler, *flags, *includes, "-c", str(source), "-o", str(target)]
        subprocess.run(command, check=True, cwd=ROOT)
        return str(target)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources()))
    partial = output.with_suffix(f".{os.getpid()}")
    subprocess.run([compiler, *FLAGS, "-shared", *objects, "-o", str(partial), "-lpthread"], check=True)
    partial.rename(output)
    return output


class Machine:
    """One build of the simulator with the test kernels in it."""

    def __init__(self, library: Path) -> None:
        name = library.stem
        spec = importlib.util.spec_from_file_location(name, library)
        assert spec is not None and spec.loader is not None
        self.module: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)
        self._run = ctypes.CDLL(str(library)).rk_test_run
        self._run.restype = None

    def run(
        self,
        kernel: str,
        data: np.ndarray | None = None,
        *,
        out: int,
        blocks: int = 1,
        cluster: int = 1,
        threads: int = 128,
        smem: int = 0,
        pdl: bool = False,
        number: int = 0,
    ) -> np.ndarray:
        """Start ``kernel``; ``out`` 32-bit words come back.  RuntimeError with the simulator's message."""
        data = np.zeros(1, np.uint32) if data is None else np.ascontiguousarray(data)
        result = np.zeros(out, np.uint32)
        error = ctypes.create_string_buffer(4096)
        self._run(
            kernel.encode(),
            ctypes.c_uint32(blocks),
            ctypes.c_uint32(cluster),
            ctypes.c_uint32(threads),
            ctypes.c_uint32(smem),
            ctypes.c_uint32(pdl),
            ctypes.c_void_p(data.ctypes.data),
            ctypes.c_int64(data.nbytes),
            ctypes.c_void_p(result.ctypes.data),
            ctypes.c_int64(result.nbytes),
            ctypes.c_uint32(number),
            error,
            ctypes.c_size_t(len(error)),
        )
        if error.value:
            raise RuntimeError(error.value.decode())
        return result


def line(marker: str, source: str = "kernels.cpp") -> str:
    """ "kernels.cpp:N" of the line marked ``// @marker``."""
    for number, text in enumerate(SOURCE.with_name(source).read_text().splitlines(), 1):
        if text.endswith(f"// @{marker}"):
            return f"{source}:{number}"
    raise AssertionError(f"no line of {source} is marked @{marker}")


@pytest.fixture(scope="session")
def fast(pytestconfig: pytest.Config) -> Machine:
    return Machine(_build(pytestconfig.cache.mkdir("simulator"), "_sim"))


@pytest.fixture(scope="session")
def _checked_machine(pytestconfig: pytest.Config) -> Machine:
    return Machine(_build(pytestconfig.cache.mkdir("simulator"), "_sim_checked"))


@pytest.fixture
def checked(_checked_machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The checked build; `resnet_kernels.simulator` speaks of it during the test."""
    monkeypatch.setattr(simulator, "_checked", lambda: _checked_machine.module)
    _checked_machine.module.forget_sites()
    simulator._apply(simulator.Schedule(), True)
    return _checked_machine


@pytest.fixture(params=["fast", "checked"])
def machine(request: pytest.FixtureRequest) -> Machine:
    """Each build in turn."""
    return request.getfixturevalue(request.param)
