"""Hardware's answers to every conformance case: stored on a GPU, compared with the simulator ever after.

With RESNET_KERNELS_WRITE_GOLDEN=1 a run on a GPU stores them in golden/, one file a compute capability.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from . import test_exchanges, test_matrices, test_portable, test_tensors
from .common import SIMULATORS, Case, Words, ask, require

GOLDEN = Path(__file__).parent / "golden"
PORTABLE = test_portable.CASES
ALL = {**PORTABLE, **test_exchanges.CASES, **test_tensors.CASES, **test_matrices.CASES}


ABOUT = ("device", "refused")  # what else a file holds


def store(file: Path, device: str, answers: dict[str, Words], refused: tuple[str, ...] = ()) -> None:
    """`refused`: cases that raised an error instead."""
    file.parent.mkdir(exist_ok=True)
    partial = file.with_name("partial.npz")
    np.savez_compressed(partial, device=np.array(device), refused=np.array(refused, str), **answers)
    partial.replace(file)


def compare(file: Path, machine: str) -> None:
    """The machine gives the stored answers; both may be off by a bound."""
    with np.load(file) as golden:
        names = [name for name in golden.files if name not in ABOUT]
        assert names
        for name in names:
            require(ALL[name], ask(machine, ALL[name]), golden[name], slack=2.0)


@pytest.mark.gpu
@pytest.mark.skipif(
    "RESNET_KERNELS_WRITE_GOLDEN" not in os.environ, reason="stores the hardware's answers on request"
)
def test_store_the_hardware_s_answers() -> None:
    """Right or wrong: what the simulator has to learn is in the wrong ones."""
    major, minor = torch.cuda.get_device_capability()
    cases = ALL if (major, minor) == (9, 0) else PORTABLE
    file, device = GOLDEN / f"sm_{major}{minor}.npz", torch.cuda.get_device_name()
    answers, refused = {}, {}
    for name, case in cases.items():
        try:
            answers[name] = ask("cuda", case)
        except RuntimeError as error:
            refused[name] = error
        store(file, device, answers, tuple(refused))  # the next one may hang
        if name in refused:
            torch.cuda.synchronize()  # raises if no case can be asked after this one
    assert not refused


@pytest.mark.skipif(not list(GOLDEN.glob("sm_*.npz")), reason="no GPU has stored its answers yet")
@pytest.mark.parametrize("machine", SIMULATORS)
def test_simulator_against_stored_hardware(machine: str) -> None:
    for file in GOLDEN.glob("sm_*.npz"):
        compare(file, machine)


CHOSEN = ("fma", "random_mma_tf32", "tma_store_window", "tma_window_nan_f16", "wgmma_bf16_64_k_k_random")


@pytest.mark.parametrize("machine", SIMULATORS)
def test_what_is_stored_is_compared(machine: str, tmp_path: Path) -> None:
    """On a few cases, with the simulator in the place of hardware."""
    file = tmp_path / "golden" / "sm_00.npz"
    answers = {name: ask(machine, ALL[name]) for name in CHOSEN}
    store(file, "the simulator", answers)
    compare(file, machine)
    for name in CHOSEN:
        wrong = answers[name].copy()
        wrong[_defined(ALL[name])] ^= np.uint32(1 << 28)  # in a float's exponent
        store(file, "none", {**answers, name: wrong})
        with pytest.raises(AssertionError, match=ALL[name].primitive):
            compare(file, machine)


def _defined(case: Case) -> tuple[int, ...]:
    """A word that the primitive writes."""
    there = np.ones(case.want.shape, bool) if case.defined is None else case.defined
    return tuple(int(i) for i in np.argwhere(there)[0])
