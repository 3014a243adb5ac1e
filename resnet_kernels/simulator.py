"""The CUDA simulator: runs this package's kernels on the CPU, slowly and suspiciously.

    import resnet_kernels as rk

    with rk.backend("simulator"):                       # the fast build: values only
        y = rk.ops.conv_bn_act(x, weight, padding=1)

    with rk.backend("simulator"), rk.simulator.checked():
        with rk.simulator.record() as launches:         # what each launch moved
            y = rk.ops.conv_bn_act(x, weight, padding=1)
        print(launches[0]["kernel"], launches[0]["shared"])
        for s in rk.simulator.ALL_SCHEDULES:            # other orders of execution
            with rk.simulator.schedule(s):
                rk.ops.conv_bn_act(x, weight, padding=1)

The fast build (``_sim``) runs one fixed schedule without checks.  The checked build (``_sim_checked``) starts
shared memory and outputs as NaN, checks every access (bounds, alignment, the buffer's role, initialisation),
finds data races on shared memory by happens-before whatever the schedule, conflicting stores to an output,
divergent collectives and deadlocks; it raises RuntimeError that names kernel, block, thread and source line.

What it cannot tell: time, occupancy, registers, the GPU's memory model beyond happens-before.

`schedule`, `record`, `sites` and `mutate` speak of the checked build, hold for the whole process and are not
to be changed while another thread runs a kernel.  Importing this module loads nothing; the first call that
needs a build raises ImportError ("... build it with `make build` ...") if it is missing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

from . import _native

#: True inside `checked`: the router of the operators reads it.  Use `checked` to change it.
checked_enabled: bool = False

COMPLETIONS = ("eager", "late", "random")
PACINGS = ("lockstep", "run-ahead", "random")
ORDERS = ("forward", "reverse", "random")
KINDS = ("policy", "pct")


@dataclass(frozen=True)
class Schedule:
    """One way through the freedom that CUDA leaves to the hardware.

    completion: when an asynchronous copy lands: "eager" when issued, "late" at the wait that guarantees it,
        "random" somewhere between and out of order.
    pacing: how long a warp keeps the core: "lockstep" for one warp-wide instruction, "run-ahead" until it
        blocks, "random" drawn after each instruction.
    order: which lane of a warp and which warp of a block goes first: "forward", "reverse", "random".
    kind: "policy" is what the three say; "pct" replaces pacing and the order of warps by probabilistic
        concurrency testing: random strict priorities with ``changes`` random points at which the running
        warp falls behind all others (Burckhardt et al., ASPLOS 2010).
    seed: of all that is random.  The same schedule on the same launches does the same again, with any
        number of workers.
    """

    completion: str = "eager"
    pacing: str = "run-ahead"
    order: str = "forward"
    kind: str = "policy"
    changes: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for field, choices in (
            ("completion", COMPLETIONS),
            ("pacing", PACINGS),
            ("order", ORDERS),
            ("kind", KINDS),
        ):
            if getattr(self, field) not in choices:
                wanted = ", ".join(map(repr, choices))
                raise ValueError(f"Schedule: {field} must be one of {wanted}, got {getattr(self, field)!r}")
        if not 0 <= self.changes <= 1000:
            raise ValueError(f"Schedule: changes must be in 0..1000, got {self.changes}")
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"Schedule: seed must be in 0..2**64-1, got {self.seed}")


#: The eight fixed schedules: eager or late, lockstep or run-ahead, forward or reverse.
ALL_SCHEDULES: tuple[Schedule, ...] = tuple(
    Schedule(completion, pacing, order)
    for completion, pacing, order in itertools.product(
        ("eager", "late"), ("lockstep", "run-ahead"), ("forward", "reverse")
    )
)


def random_schedule(seed: int) -> Schedule:
    """Everything random, from ``seed``."""
    return Schedule("random", "random", "random", seed=seed)


def pct_schedule(seed: int, changes: int = 3) -> Schedule:
    """Probabilistic concurrency testing with ``changes`` change points, copies landing at random."""
    return Schedule("random", "random", "random", kind="pct", changes=changes, seed=seed)


@dataclass(frozen=True)
class Site:
    """An instruction of a kernel that orders others: a wait, a commit, a fence or a barrier."""

    kernel: str
    file: str
    line: int
    kind: str  # cp_async_wait, barrier_sync, mbarrier_arrive, fence_proxy_async, wgmma_commit, ...

    def __str__(self) -> str:
        return f"{self.kernel}: {self.kind} at {self.file}:{self.line}"


_schedule = Schedule()
_races = True


def _checked() -> ModuleType:
    return _native.simulator(checked=True)


def _apply(new: Schedule, races: bool) -> None:
    global _schedule, _races
    _checked().set_controls(**asdict(new), races=races)
    _schedule, _races = new, races


def built(checked: bool = False) -> bool:
    """True if the fast build is there, with ``checked`` the checked one."""
    return _native.simulator_built(checked)


@contextmanager
def checked() -> Iterator[None]:
    """Inside the block the backend "simulator" is the checked build."""
    global checked_enabled
    previous, checked_enabled = checked_enabled, True
    try:
        yield
    finally:
        checked_enabled = previous


@contextmanager
def schedule(new: Schedule, *, races: bool = True) -> Iterator[Schedule]:
    """Run the checked build under another schedule inside the block.

    With ``races=False`` races and unfinished copies are not reported; they then show, if at all, in the
    results, under the schedules that bring them out.
    """
    if not isinstance(new, Schedule):
        raise TypeError(f"schedule: wants a Schedule, got {new!r}")
    previous = (_schedule, _races)
    _apply(new, races)
    try:
        yield new
    finally:
        _apply(*previous)


@contextmanager
def record() -> Iterator[list[dict[str, Any]]]:
    """Collect the counters of the checked build's launches; the list is filled when the block ends.

    One dict a launch:

    - ``kernel``, ``grid`` (three numbers), ``block`` (threads), ``smem`` (bytes)
    - ``global``: by role ("activation", "weight", "vector", "output", "partial"), in 32-byte sectors:
      ``unique_read`` and ``unique_written``, distinct ones over the grid; ``requested``, distinct ones of
      each warp instruction, summed; and ``useful``, the bytes that lanes asked for
    - ``shared``: warp ``instructions``, ``wavefronts`` they took, and ``conflict_free``, what they would have
      taken without bank conflicts
    - ``sites``: the same by source line: ``file``, ``line``, ``kind``, ``shared``, and for global memory
      ``instructions``, ``requested``, ``useful``
    - ``macs``: multiply-adds issued through mma; ``steps``: warp-wide instructions
    """
    module = _checked()
    module.take_records()
    module.record(True)
    launches: list[dict[str, Any]] = []
    try:
        yield launches
    finally:
        module.record(False)
        launches.extend(module.take_records())


def conflicts(launch: dict[str, Any]) -> dict[str, int]:
    """The bank conflicts of a recorded launch: source line -> wavefronts beyond the conflict-free ones."""
    found: dict[str, int] = {}
    for site in launch["sites"]:
        extra = site["shared"]["wavefronts"] - site["shared"]["conflict_free"]
        if extra:
            found[f"{site['file']}:{site['line']} {site['kind']}"] = extra
    return found


def sites() -> list[Site]:
    """The waits, commits and barriers that kernels have executed in the checked build so far."""
    return [Site(**site) for site in _checked().sites()]


def forget_sites() -> None:
    """Begin the list of `sites` anew."""
    _checked().forget_sites()


@contextmanager
def mutate(site: Site) -> Iterator[Site]:
    """Leave one wait, commit or barrier out of its kernel inside the block: a test must then fail.

    Raises ValueError if no kernel has executed the site yet.
    """
    module = _checked()
    module.disable(**asdict(site), disabled=True)
    try:
        yield site
    finally:
        module.disable(**asdict(site), disabled=False)


def workers(count: int | None = None) -> int:
    """How many threads share a launch; with ``count``, set it for both builds (0: one per processor)."""
    modules = [_native.simulator(kind) for kind in (False, True) if _native.simulator_built(kind)]
    if not modules:
        _native.simulator()
    if count is not None:
        if not 0 <= count <= 1024:
            raise ValueError(f"workers: count must be in 0..1024, got {count}")
        for module in modules:
            module.set_workers(count)
    return int(modules[0].workers())


@contextmanager
def multiprocessors(count: int) -> Iterator[None]:
    """Inside the block the simulated GPU has ``count`` multiprocessors instead of an H200's 132.

    Tile choices, splits and persistent grids depend on the number: a small machine makes small problems take
    the ways of large ones.
    """
    if not 1 <= count <= 1024:
        raise ValueError(f"multiprocessors: count must be in 1..1024, got {count}")
    modules = [_native.simulator(kind) for kind in (False, True) if _native.simulator_built(kind)]
    previous = [module.set_sm_count(count) for module in modules]
    try:
        yield
    finally:
        for module, old in zip(modules, previous, strict=True):
            module.set_sm_count(old)


@contextmanager
def compute_capability(value: int) -> Iterator[None]:
    """Inside the block the simulated GPU is of compute capability ``value``: 80, or its usual 90.

    Dispatch chooses kernels by it.
    """
    if value not in (80, 90):
        raise ValueError(f"compute_capability: value must be 80 or 90, got {value}")
    modules = [_native.simulator(kind) for kind in (False, True) if _native.simulator_built(kind)]
    previous = [module.set_compute_capability(value) for module in modules]
    try:
        yield
    finally:
        for module, old in zip(modules, previous, strict=True):
            module.set_compute_capability(old)


def benchmark(checked: bool = False) -> dict[str, float]:
    """Measure the simulator itself on one core, in processor time; takes some seconds.

    Keys: ``switch_ns`` (a lane, a rendezvous), ``mma_gflops`` and ``wgmma_gflops`` (tile kernels),
    ``fma_gflops``, ``copy_gbytes``.
    """
    return dict(_native.simulator(checked).benchmark())
