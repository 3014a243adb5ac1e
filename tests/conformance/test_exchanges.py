"""sm_90's instructions on words, against models in NumPy: mbarriers, bulk copies, clusters, fma.oob."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from .common import MACHINES, OUT_OF_BOUNDS, WORD, Case, Words, ask, bf16, random_words, require, rng


def reverse(x: Words) -> Words:
    return x[::-1]


def mbarrier(x: Words) -> Words:
    return np.concatenate([x[::-1] * WORD(phase + 1) for phase in range(3)], axis=1)


def stmatrix(count: int, trans: bool) -> Callable[[Words], Words]:
    def model(x: Words) -> Words:
        out = np.zeros((32, 8), np.uint16)
        for m in range(count):
            matrix = np.zeros((8, 8), np.uint16)
            halves = x[:, m].copy().view(np.uint16).reshape(32, 2)
            for lane in range(32):
                matrix[lane // 4, 2 * (lane % 4) : 2 * (lane % 4) + 2] = halves[lane]
            matrix = matrix.T if trans else matrix
            for row in range(8):
                out[x[8 * m + row, 4]] = matrix[row]
        return out.view(WORD)

    return model


def stmatrix_input(name: str) -> Words:
    x = random_words(name, 32, 8)
    x[:, 4] = rng(name).permutation(32)
    return x


def swap_blocks(x: Words) -> Words:
    return x.reshape(-1, 2, 64)[:, ::-1].reshape(-1, 1)


QUESTIONS: dict[str, tuple[Words, Callable[[Words], Words]]] = {
    "elect": (random_words("elect", 64, 1), lambda x: x + WORD(1)),
    "mbarrier": (random_words("mbarrier", 128, 1), mbarrier),
    "bulk_load": (random_words("bulk_load", 128, 1), reverse),
    "bulk_store": (random_words("bulk_store", 256, 1), lambda x: x),
    "stmatrix_x4": (stmatrix_input("sx4"), stmatrix(4, False)),
    "stmatrix_x4_trans": (stmatrix_input("sx4t"), stmatrix(4, True)),
    "stmatrix_x2": (stmatrix_input("sx2"), stmatrix(2, False)),
    "setmaxnreg": (random_words("setmaxnreg", 256, 1), lambda x: x),
    "griddepcontrol": (random_words("griddepcontrol", 32, 1), lambda x: x),
    "griddepcontrol_clusters": (random_words("griddepcontrol_clusters", 128, 1), lambda x: x),
    "cluster_ids": (
        np.zeros((128, 1), WORD),
        lambda x: np.stack([np.arange(128) // 32 % 2, np.full(128, 2)], axis=1).astype(WORD),
    ),
    "cluster_exchange": (
        random_words("cluster_exchange", 256, 1),
        lambda x: np.concatenate([swap_blocks(x), x + WORD(1)], axis=1),
    ),
    "cluster_bulk_copy": (random_words("cluster_bulk_copy", 128, 1), swap_blocks),
    "cluster_mbarrier": (random_words("cluster_mbarrier", 64, 1), lambda x: x),
}


# ---- fma.oob


def pairs(halves: np.ndarray) -> Words:
    """[32768, 2] halves -> one word each."""
    return np.ascontiguousarray(halves.astype(np.uint16)).view(WORD)


def fma_oob(kind: str, factor: str) -> Case:
    """All 65536 values times 0, plus 1: 1, NaN for infinity and NaN, 0 for the NaN out of bounds alone."""
    one = 0x3F80 if kind == "bf16" else 0x3C00
    infinity = 0x7F80 if kind == "bf16" else 0x7C00
    value = np.arange(65536).reshape(-1, 2)
    want = np.where((value & 0x7FFF) < infinity, one, 0x7FFF)
    want[value == OUT_OF_BOUNDS] = 0
    factors = [value, np.zeros_like(value)]
    operands = [*(factors if factor == "a" else factors[::-1]), np.full_like(value, one)]
    return Case(f"fma_oob_{kind}x2", np.hstack([pairs(each) for each in operands]), pairs(want), sm_90=True)


def fma_integers(kind: str) -> Case:
    """Small integers with that NaN among them; in the addend it is like any other."""
    drawn = rng(f"fma_oob {kind}").integers(-8, 9, (3, 32768, 2)).astype(np.float64)
    a, b, c = drawn
    want = encode(kind, a * b + c)
    outside = rng(f"outside {kind}").random(drawn.shape) < 0.1
    operands = np.where(outside, OUT_OF_BOUNDS, [encode(kind, each) for each in drawn])
    want[outside[2]] = 0x7FFF
    want[outside[0] | outside[1]] = 0
    return Case(f"fma_oob_{kind}x2", np.hstack([pairs(each) for each in operands]), pairs(want), sm_90=True)


def encode(kind: str, values: np.ndarray) -> np.ndarray:
    return bf16(values) if kind == "bf16" else values.astype(np.float16).view(np.uint16)


CASES = {
    **{name: Case(name, x, model(x.copy()), sm_90=True) for name, (x, model) in QUESTIONS.items()},
    **{f"fma_oob_{kind}_{factor}": fma_oob(kind, factor) for kind in ("bf16", "f16") for factor in "ab"},
    **{f"fma_oob_{kind}_integers": fma_integers(kind) for kind in ("bf16", "f16")},
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", CASES)
def test_exchange(machine: str, name: str) -> None:
    require(CASES[name], ask(machine, CASES[name]), CASES[name].want)
