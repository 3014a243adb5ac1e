"""Every kernel, precision and tile gives the exact answer on small integers.

In the fast build, and under every schedule of the checked one."""

from __future__ import annotations

import pytest

import resnet_kernels as rk

from .cases import CASES

SEEDS = range(3)


@pytest.mark.parametrize("name", CASES)
def test_exact(name: str) -> None:
    for seed in SEEDS:
        CASES[name].check(seed)


@pytest.mark.parametrize("name", CASES)
def test_exact_under_every_schedule(name: str) -> None:
    random = [rk.simulator.random_schedule(1), rk.simulator.pct_schedule(2)]
    with rk.simulator.checked():
        for seed, schedule in enumerate([*rk.simulator.ALL_SCHEDULES, *random]):
            with rk.simulator.schedule(schedule):
                CASES[name].check(seed)


@pytest.mark.parametrize(
    "name",
    [
        "conv_wgrad_of_norm-bf16-large",
        "conv_wgrad_tma-bf16-128x256 pair, point, split",
        "conv_fprop_stats-bf16-large",
        "conv_fprop_of_sum-bf16-pointwise",
        "conv_dgrad_of_bn-bf16-pointwise",
        "reducing-bf16",
        "stem_statistics-bf16",
    ],
)
def test_repeats_bit_by_bit(name: str) -> None:
    """Two runs with different numbers of worker threads give the same bits."""
    before = rk.simulator.workers()
    try:
        results = []
        for workers in (1, 2, 3):
            rk.simulator.workers(workers)
            results.append([got.clone() for got, _ in CASES[name].answers(0)])
    finally:
        rk.simulator.workers(before)
    for result in results[1:]:
        for first, other in zip(results[0], result, strict=True):
            assert (first == other).all()
