"""What all tests share: what is built, what is skipped and why, seeds, and the size of the fuzz tests.

RESNET_KERNELS_FUZZ (default 200) is the number of random problems in each hypothesis test that does not say
otherwise; `make test-long` sets 20,000.  A failing problem is printed with the code that replays it.
"""

import importlib.util
import os

import hypothesis
import pytest
import torch

FUZZ = int(os.environ.get("RESNET_KERNELS_FUZZ", "200"))
MACHINES = {"_C": "the GPU's kernels", "_sim": "the simulator", "_sim_checked": "the simulator with checks"}

hypothesis.settings.register_profile(
    "resnet_kernels",
    max_examples=FUZZ,
    deadline=None,  # the first problem pays for compilation and thread pools
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("resnet_kernels")


def built(machine: str) -> bool:
    """Whether the shared object resnet_kernels.<machine> exists (it is not loaded)."""
    return importlib.util.find_spec(f"resnet_kernels.{machine}") is not None


def gpu() -> str | None:
    """The GPU the kernels run on: its name; None without one of compute capability 8.0 or newer."""
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0):
        return None
    return torch.cuda.get_device_name()


def pytest_report_header() -> list[str]:
    missing = [machine for machine in MACHINES if not built(machine)]
    there = ", ".join(machine for machine in MACHINES if machine not in missing) or "nothing"
    lines = [
        f"resnet_kernels: GPU: {gpu() or 'none (tests marked gpu are skipped)'}; torch {torch.__version__}; "
        f"built: {there}; {FUZZ} problems a fuzz test"
    ]
    for machine in missing:
        lines.append(f"resnet_kernels: {machine} ({MACHINES[machine]}) is NOT built: run `make build`")
    return lines


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The same at the end, where the quiet mode has left out the header."""
    if terminalreporter.verbosity < 0:
        for line in pytest_report_header():
            terminalreporter.write_line(line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked gpu need a GPU and _C.  On a machine with a GPU a missing _C is a failure, not a skip."""
    if gpu() is not None:
        if not built("_C") and any(item.get_closest_marker("gpu") for item in items):
            raise pytest.UsageError("there is a GPU, but resnet_kernels._C is not built: run `make build`")
        return
    skip = pytest.mark.skip(reason="needs a CUDA GPU of compute capability 8.0 or newer")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def seed() -> None:
    """Every test starts from the same seed, whatever ran before it."""
    torch.manual_seed(0)
