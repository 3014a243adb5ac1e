"""Loads the compiled machines: ``_C`` (GPU), ``_sim`` and ``_sim_checked`` (simulator, fast and checked).

Each is one shared object that registers kernels for the operators of `_register` when it is loaded.  ``_C``
loads with the package, if it was built, because a GPU tensor may reach an operator from anywhere (an
exported program, say); the simulators load when they are first asked for.  A missing or unloadable object
is reported when it is needed, with the step that builds it, so that everything else keeps working without
it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from types import ModuleType

_BUILD = "build it with `make build` in the project's root"


def _load(name: str, what: str) -> ModuleType:
    """The extension module ``resnet_kernels.<name>``; ImportError says how to build it, or why it fails."""
    full = f"{__package__}.{name}"
    if importlib.util.find_spec(full) is None:
        raise ImportError(f"{full} ({what}) is not built: {_BUILD}")
    try:
        return importlib.import_module(full)
    except ImportError as error:
        raise ImportError(f"{full} ({what}) is built but does not load: {error}; {_BUILD} again") from error


@functools.cache
def simulator(checked: bool = False) -> ModuleType:
    """The simulator's module, the checked build if asked for.  ImportError if it is not built."""
    if checked:
        return _load("_sim_checked", "the simulator with checks")
    return _load("_sim", "the simulator")


def simulator_built(checked: bool = False) -> bool:
    """True if the simulator's shared object is there (it is not loaded by asking)."""
    return importlib.util.find_spec(f"{__package__}.{'_sim_checked' if checked else '_sim'}") is not None


def _try_cuda() -> ImportError | None:
    try:
        _load("_C", "the CUDA kernels")
    except ImportError as error:
        return error
    return None


def load_cuda() -> None:
    """Load the CUDA kernels if they are built; what went wrong otherwise is kept for `require_cuda`."""
    global _cuda_error
    _cuda_error = _try_cuda()


def require_cuda() -> None:
    """Return if the CUDA kernels are loaded; ImportError otherwise."""
    if _cuda_error is not None:
        raise ImportError(str(_cuda_error)) from _cuda_error


_cuda_error: ImportError | None = ImportError("the CUDA kernels were not loaded")
