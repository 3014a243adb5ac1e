"""Which machine runs an operator: the GPU's kernels, the simulator, or PyTorch's own composition.

The choice is one plain module global, read when an operator runs: compiled and exported programs keep the
operators in their graphs and obey the backend that is chosen when they run, not the one they were made
under.  (A ContextVar would break ``torch.compile(fullgraph=True)``.)  The global belongs to the process:
threads share it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

import torch

from . import _native

CHOICES = ("auto", "cuda", "simulator", "aten")

# The least compute capability the kernels are written for: mma.sync with bf16 and TF32, cp.async.
MIN_CAPABILITY = (8, 0)

_Function = TypeVar("_Function", bound=Callable[..., Any])

_current = "auto"
_capability: dict[int, tuple[int, int]] = {}


class backend:
    """Choose the machine that runs the operators; a setter, and a context manager that restores the choice.

        rk.backend("aten")                  # from here on
        with rk.backend("simulator"): ...   # inside the block
        rk.backend.current()                # "aten"

    | name        | tensors on a GPU                     | tensors on a CPU                      |
    |-------------|--------------------------------------|---------------------------------------|
    | "auto"      | this package's kernels; aten below compute capability 8.0 | aten             |
    | "cuda"      | this package's kernels               | ValueError                            |
    | "simulator" | ValueError                           | the kernels, on the simulator         |
    | "aten"      | PyTorch's own composition            | PyTorch's own composition             |

    "aten" alone takes float64.  The choice holds for the whole process, all threads included.  Switch outside
    of a compiled region: for CPU tensors a compiled program follows the switch without a recompile.

    Raises:
        TypeError: ``name`` is not a string.
        ValueError: ``name`` is none of the four; the message lists them.
    """

    def __init__(self, name: str) -> None:
        global _current
        if not isinstance(name, str):
            raise TypeError(f"backend: name must be one of {', '.join(map(repr, CHOICES))}, got {name!r}")
        if name not in CHOICES:
            raise ValueError(f"backend: name must be one of {', '.join(map(repr, CHOICES))}, got {name!r}")
        self._previous = _current
        self.name = name
        _current = name

    def __enter__(self) -> backend:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        global _current
        _current = self._previous

    def __repr__(self) -> str:
        return f"backend({self.name!r})"

    @staticmethod
    def current() -> str:
        """The name of the chosen backend."""
        return _current

    @staticmethod
    def choices() -> tuple[str, ...]:
        """The names `backend` takes."""
        return CHOICES


def traced_constant(function: _Function) -> _Function:
    """Calls of ``function`` become constants in a compiled program.

    What `torch.compiler.assume_constant_result` does, without importing dynamo (0.7 s).
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def for_cpu(operator: str) -> str:
    """What runs ``operator`` on CPU tensors: "aten" or "simulator".  ValueError under "cuda"."""
    if _current == "simulator":
        return "simulator"
    if _current == "cuda":
        raise ValueError(
            f"{operator}: x is on the CPU, but the backend is 'cuda': move the tensors to a GPU, or choose "
            "rk.backend('auto'), 'simulator' or 'aten'"
        )
    return "aten"


def for_cuda(operator: str, device: torch.device) -> str:
    """What runs ``operator`` on tensors of a GPU: "cuda" or "aten".

    Raises:
        ValueError: the backend is "simulator", or "cuda" on a GPU below compute capability 8.0.
        ImportError: the CUDA kernels are not built.
    """
    if _current == "aten":
        return "aten"
    if _current == "simulator":
        raise ValueError(
            f"{operator}: x is on {device}, but the backend is 'simulator', which computes on the CPU: move "
            "the tensors there (x.cpu()), or choose rk.backend('auto'), 'cuda' or 'aten'"
        )
    capability = device_capability(device.index)
    if capability < MIN_CAPABILITY:
        if _current == "auto":
            return "aten"
        raise ValueError(
            f"{operator}: {device} has compute capability {capability[0]}.{capability[1]}, the kernels need "
            f"{MIN_CAPABILITY[0]}.{MIN_CAPABILITY[1]} or newer: choose rk.backend('auto') or 'aten'"
        )
    require_cuda()
    return "cuda"


@traced_constant
def device_capability(index: int | None) -> tuple[int, int]:
    """Compute capability (major, minor) of GPU ``index``, asked of the driver once."""
    key = -1 if index is None else index
    if key not in _capability:
        _capability[key] = torch.cuda.get_device_capability(index)
    return _capability[key]


@traced_constant
def require_cuda() -> None:
    """Return if the CUDA kernels are loaded; ImportError, naming the build step, otherwise."""
    _native.require_cuda()
