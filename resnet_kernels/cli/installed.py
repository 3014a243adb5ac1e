"""resnet-kernels info."""

from __future__ import annotations

from pathlib import Path

from .. import __version__
from . import terminal
from .application import app


@app.command()
def info() -> None:
    """What is installed and built, and which machine runs the kernels here."""
    import platform

    import torch

    from .. import _native, machine
    from ..demo.show import table

    shown = table(f"resnet_kernels {__version__}", "", "")
    shown.show_header = False
    for name, built, what in (
        ("_C", _built("_C"), "kernels for GPUs"),
        ("_sim", _native.simulator_built(), "simulator"),
        ("_sim_checked", _native.simulator_built(checked=True), "simulator with checks and counters"),
    ):
        shown.add_row(
            name, f"{what}: " + ("built" if built else "[yellow]not built[/] (`make build` makes it)")
        )
    shown.add_row("architectures", _architectures())
    absent = machine.why_no_gpu()
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        shown.add_row("GPU", f"{torch.cuda.get_device_name()}, compute capability {major}.{minor}")
    else:
        shown.add_row("GPU", "none")
    shown.add_row("kernels on the GPU", "ready" if absent is None else absent)
    shown.add_row("CPU", machine.processor())
    backends = ["aten"] + ["simulator"] * _native.simulator_built() + ["cuda"] * (absent is None)
    shown.add_row("backends", ", ".join(backends))
    cuda = torch.version.cuda
    shown.add_row("PyTorch", f"{torch.__version__} ({'for CUDA ' + cuda if cuda else 'CPU only'})")
    shown.add_row("Python", platform.python_version())
    terminal.console().print(shown)


def _built(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(f"resnet_kernels.{name}") is not None


def _architectures() -> str:
    """The GPU code inside _C, by the names that stand in the file."""
    import importlib.util
    import re

    spec = importlib.util.find_spec("resnet_kernels._C")
    if spec is None or spec.origin is None:
        return "none: _C is not built"
    code = Path(spec.origin).read_bytes()
    found = sorted({match.decode() for match in re.findall(rb"\b(?:sm|compute)_\d{2,3}[a-z]?\b", code)})
    return ", ".join(found) or "unknown"
