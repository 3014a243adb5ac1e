"""Every instruction of the machine layer that sm_80 has, one tiny kernel each, against a model in NumPy.

The same kernels (csrc/kernels/conformance) run in both builds of the simulator and, where there is a GPU, on
it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from .common import (
    MACHINES,
    WORD,
    Case,
    Words,
    ask,
    awkward_floats,
    bf16,
    bits,
    random_words,
    require,
    rng,
    run,
)

# ---- models: [threads, words in] -> [threads, words out]


def ids(x: Words) -> Words:
    thread = np.arange(96)
    rows = [
        np.stack([thread, 0 * thread + 96, 0 * thread + block, *[0 * thread] * 2, 0 * thread + 3]
                 + [0 * thread + 1] * 2 + [thread % 32, thread // 32], axis=1)
        for block in range(3)
    ]  # fmt: skip
    return np.concatenate(rows).astype(WORD)


def shuffle(source: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[[Words], Words]:
    def model(x: Words) -> Words:
        lane = np.arange(32)
        wanted = source(lane, x[:, 1].astype(np.int64))
        return x[np.where((wanted < 0) | (wanted > 31), lane, wanted), :1]

    return model


def votes(x: Words) -> Words:
    out = []
    for warp in (x[:32, 0] & 1, x[32:, 0] & 1):
        ballot = sum(int(bit) << lane for lane, bit in enumerate(warp))
        out += [[ballot, ballot != 0, ballot == 2**32 - 1]] * 32
    return np.array(out, WORD)


def shared(size: int) -> Callable[[Words], Words]:
    def model(x: Words) -> Words:
        out = np.zeros((32, 16), np.uint8)
        out[:, :size] = x.view(np.uint8)[np.arange(32) ^ 1, :size]
        return out.view(WORD)

    return model


def cp_async(size: int) -> Callable[[Words], Words]:
    def model(x: Words) -> Words:
        out = np.full((32, 2, 16), 0xFF, np.uint8)
        source = x.view(np.uint8)
        for lane in range(32):
            for copy in range(2):
                count = x[lane, 8 + copy]
                out[lane, copy, :size] = 0
                out[lane, copy, :count] = source[lane, 16 * copy : 16 * copy + count]
        return out.reshape(32, 32).view(WORD)

    return model


def cp_async_input(name: str, size: int) -> Words:
    x = random_words(name, 32, 12)
    x[:, 8:10] = rng(name).integers(0, size + 1, (32, 2))
    x[:4, 8] = (0, size, 0, size)
    return x


def ldmatrix(count: int, trans: bool) -> Callable[[Words], Words]:
    def model(x: Words) -> Words:
        rows = x[x[:, 4], :4].copy().view(np.uint16)  # as the lanes' addresses name them
        out = np.zeros((32, count, 2), np.uint16)
        for m in range(count):
            matrix = rows[8 * m : 8 * m + 8]
            matrix = matrix.T if trans else matrix
            for lane in range(32):
                out[lane, m] = matrix[lane // 4, 2 * (lane % 4) : 2 * (lane % 4) + 2]
        return out.reshape(32, -1).view(WORD)

    return model


def ldmatrix_input(name: str) -> Words:
    x = random_words(name, 32, 8)
    x[:, 4] = rng(name).permutation(32)
    return x


def cvt_bf16x2(x: Words) -> Words:
    lo, hi = (bf16(x[:, i].copy().view(np.float32)).astype(WORD) for i in (0, 1))
    return (lo | hi << 16)[:, None]


def cvt_f16x2(x: Words) -> Words:
    with np.errstate(over="ignore"):
        halves = np.ascontiguousarray(x[:, :2]).view(np.float32).astype(np.float16)
    return halves.view(WORD)


def cvt_tf32(x: Words) -> Words:
    """Ten mantissa bits, ties away from zero."""
    wide = x.view(np.float32).astype(np.float64)
    with np.errstate(all="ignore"):
        exponent = np.maximum(np.frexp(wide)[1], -125)
        unit = np.ldexp(1.0, exponent - 11)
        scaled = np.abs(wide) / unit
        rounded = np.copysign(np.floor(scaled + 0.5) * unit, wide)
        return bits(np.where(np.isfinite(wide), rounded, wide))


def fma(x: Words) -> Words:
    with np.errstate(all="ignore"):
        a, b, c = (x[:, i].copy().view(np.float32).astype(np.longdouble) for i in range(3))
        return bits((a * b + c).astype(np.float32))[:, None]


def fma_input(name: str) -> Words:
    """Factors of 12 bits and close exponents: the product and the sum are exact in 64 mantissa bits."""
    generator = rng(name)
    a, b = generator.integers(-(2**12), 2**12, (2, 128))
    c = generator.integers(-(2**23), 2**23, 128) * 2.0 ** generator.integers(-12, 12, 128)
    return bits(np.stack([a, b, c, 0 * a], axis=1).astype(np.float32))


def max_nan(x: Words) -> Words:
    a, b = (x[:, i].copy().view(np.float32) for i in (0, 1))
    both_zero = (a == 0) & (b == 0)
    zero = np.where(np.signbit(a) & np.signbit(b), np.float32(-0.0), np.float32(0.0))
    return bits(np.where(both_zero, zero, np.maximum(a, b)))[:, None]


def unpack_bf16x2(x: Words) -> Words:
    return np.concatenate([x << 16, x & WORD(0xFFFF0000)], axis=1)


def unpack_f16x2(x: Words) -> Words:
    return bits(x.view(np.float16).astype(np.float32))


def mma_matrices(kind: str, x: Words) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A [16, k], B [k, 8], D [16, 8] in float64, gathered element by element as the PTX ISA draws them."""
    d = np.zeros((16, 8))
    k = 8 if kind == "tf32" else 16
    a, b = np.zeros((16, k)), np.zeros((k, 8))
    for lane in range(32):
        g, t = divmod(lane, 4)
        for i in range(4):
            d[g + 8 * (i >= 2), 2 * t + i % 2] = x[lane, i : i + 1].view(np.float32)[0]
        if kind == "tf32":
            words = (x[lane, 4:10] & WORD(0xFFFFE000)).view(np.float32)
            for i in range(4):
                a[g + 8 * (i % 2), t + 4 * (i // 2)] = words[i]
            for i in range(2):
                b[t + 4 * i, g] = words[4 + i]
            continue
        halves = x[lane, 4:10].copy().view(np.uint16)
        if kind == "bf16":
            values = (halves.astype(WORD) << 16).view(np.float32)
        else:
            values = halves.view(np.float16)
        for i in range(8):
            a[g if i in (0, 1, 4, 5) else g + 8, 2 * t + i % 2 + (8 if i >= 4 else 0)] = values[i]
        for i in range(4):
            b[2 * t + i % 2 + (8 if i >= 2 else 0), g] = values[8 + i]
    return a, b, d


def mma_input(kind: str, integers: bool) -> Words:
    generator = rng(f"{kind} {integers}")

    def draw(words: int) -> np.ndarray:
        if integers:
            return generator.integers(-128, 129, (32, words)).astype(np.float64)
        return generator.standard_normal((32, words))

    d, factors = draw(4), draw(12)
    x = np.zeros((32, 12), WORD)
    x[:, :4] = bits(d * (1000 if integers else 1))
    if kind == "tf32":
        x[:, 4:10] = bits(factors[:, :6])
        if not integers:
            x[:, 4:10] |= WORD(0x1FFF)  # the hardware ignores these bits
    elif kind == "bf16":
        x[:, 4:10] = bf16(factors.astype(np.float32)).view(WORD)
    else:
        x[:, 4:10] = factors.astype(np.float16).view(WORD)
    return x


def mma_rows(accumulator: np.ndarray) -> np.ndarray:
    """D [16, 8] -> what the lanes hold, [32, 4]."""
    lane = np.arange(32)[:, None]
    i = np.arange(4)[None, :]
    return accumulator[lane // 4 + 8 * (i // 2), 2 * (lane % 4) + i % 2]


def mma_exact(kind: str) -> Callable[[Words], Words]:
    def model(x: Words) -> Words:
        a, b, d = mma_matrices(kind, x)
        return bits(mma_rows(a @ b + d))

    return model


def reversed_blocks(x: Words) -> Words:
    return x.reshape(2, 128)[:, ::-1].reshape(-1, 1)


def named_barrier(x: Words) -> Words:
    return np.concatenate([x[:64], x[:64][::-1]])


def neighbours(x: Words) -> Words:
    return x[np.arange(64) ^ 13]


def same(x: Words) -> Words:
    return x


def exchange_input(name: str) -> Words:
    x = random_words(name, 32, 2)
    x[:, 1] %= 32
    return x


# name -> (input [threads, words], model)
QUESTIONS: dict[str, tuple[Words, Callable[[Words], Words]]] = {
    "ids": (np.zeros((288, 1), WORD), ids),
    "barrier": (random_words("barrier", 256, 1), reversed_blocks),
    "named_barrier": (random_words("named_barrier", 128, 1), named_barrier),
    "warp_sync": (random_words("warp_sync", 64, 1), neighbours),
    "shfl_xor": (exchange_input("shfl_xor"), shuffle(lambda lane, operand: lane ^ operand)),
    "shfl_down": (exchange_input("shfl_down"), shuffle(lambda lane, operand: lane + operand)),
    "shfl_up": (exchange_input("shfl_up"), shuffle(lambda lane, operand: lane - operand)),
    "shfl_idx": (exchange_input("shfl_idx"), shuffle(lambda lane, operand: operand)),
    "votes": (random_words("votes", 64, 1), votes),
    **{f"global_{n}": (random_words("global", 64, 4), same) for n in (1, 2, 4, 8, 16)},
    **{f"global_nc_{n}": (random_words("global_nc", 64, 4), same) for n in (1, 2, 4, 8, 16)},
    **{f"shared_{n}": (random_words("shared", 32, 4), shared(n)) for n in (2, 4, 8, 16)},
    **{f"cp_async_{n}": (cp_async_input(f"cp_async_{n}", n), cp_async(n)) for n in (4, 8, 16)},
    "ldmatrix_x4": (ldmatrix_input("x4"), ldmatrix(4, False)),
    "ldmatrix_x4_trans": (ldmatrix_input("x4t"), ldmatrix(4, True)),
    "ldmatrix_x2": (ldmatrix_input("x2"), ldmatrix(2, False)),
    "ldmatrix_x2_trans": (ldmatrix_input("x2t"), ldmatrix(2, True)),
    **{f"mma_{kind}": (mma_input(kind, True), mma_exact(kind)) for kind in ("bf16", "f16", "tf32")},
    "fma": (fma_input("fma"), fma),
    "max_nan": (awkward_floats("max_nan", 128, 2), max_nan),
    "cvt_bf16x2": (awkward_floats("cvt_bf16x2", 128, 2), cvt_bf16x2),
    "cvt_f16x2": (awkward_floats("cvt_f16x2", 128, 2), cvt_f16x2),
    "cvt_tf32": (awkward_floats("cvt_tf32", 128, 1), cvt_tf32),
    "unpack_bf16x2": (random_words("unpack_bf16x2", 128, 1), unpack_bf16x2),
    "unpack_f16x2": (random_words("unpack_f16x2", 128, 1), unpack_f16x2),
}
# Results that are floats: NaNs compare equal, whatever their payload.  Element type of the result.
FLOATS = {
    "fma": np.float32,
    "max_nan": np.float32,
    "cvt_tf32": np.float32,
    "cvt_f16x2": np.float16,
    "unpack_bf16x2": np.float32,
    "unpack_f16x2": np.float32,
}


def random_mma(kind: str) -> Case:
    x = mma_input(kind, False)
    a, b, d = mma_matrices(kind, x)
    bound = 2.0**-21 * mma_rows(np.abs(a) @ np.abs(b) + np.abs(d))
    return Case(f"mma_{kind}", x, bits(mma_rows(a @ b + d)), bound=bound)


CASES = {
    **{name: Case(name, x, model(x.copy()), FLOATS.get(name)) for name, (x, model) in QUESTIONS.items()},
    **{f"random_mma_{kind}": random_mma(kind) for kind in ("bf16", "f16", "tf32")},
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", CASES)
def test_primitive(machine: str, name: str) -> None:
    require(CASES[name], ask(machine, CASES[name]), CASES[name].want)


@pytest.mark.parametrize("machine", MACHINES)
def test_unanimous_votes(machine: str) -> None:
    for x in (np.zeros((64, 1), WORD), np.ones((64, 1), WORD)):
        assert np.array_equal(run(machine, "votes", x), votes(x))


@pytest.mark.parametrize("machine", MACHINES)
def test_unknown_primitives_and_sizes_are_refused(machine: str) -> None:
    with pytest.raises(RuntimeError, match="unknown primitive 'wgmma'"):
        run(machine, "wgmma", np.zeros((1, 1), WORD))
    with pytest.raises(RuntimeError, match="fma takes 512 contiguous int32 words"):
        run(machine, "fma", np.zeros((1, 1), WORD))
