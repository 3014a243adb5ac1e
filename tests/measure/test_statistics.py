"""Quartiles are numpy's, intervals those of the exact rank tests, and verdicts say what the numbers say."""

import itertools
import math
import random

import numpy as np
import pytest

from resnet_kernels.measure import statistics


@pytest.mark.parametrize("count", (1, 2, 3, 10, 41))
def test_quartiles(count):
    times = np.random.default_rng(count).lognormal(size=count).tolist()
    found = statistics.quartiles(times)
    expected = np.quantile(times, (0.5, 0.25, 0.75))
    np.testing.assert_allclose((found.median, found.q1, found.q3), expected, rtol=1e-12)
    assert (found.min, found.max) == (min(times), max(times))
    assert found.iqr == pytest.approx(expected[2] - expected[1])


def test_quartiles_of_nothing():
    with pytest.raises(ValueError, match="empty"):
        statistics.quartiles([])


@pytest.mark.parametrize("n", (1, 2, 5, 8))
def test_signed_ranks_are_all_signs(n):
    subsets = itertools.product((0, 1), repeat=n)
    sums = [sum(rank for rank, sign in enumerate(signs, 1) if sign) for signs in subsets]
    counts = statistics._signed_rank_counts(n)
    assert list(counts) == [sums.count(total) for total in range(n * (n + 1) // 2 + 1)]


@pytest.mark.parametrize(("m", "n"), ((1, 1), (2, 3), (4, 2), (4, 5)))
def test_rank_sums_are_all_orders(m, n):
    pairs = [
        sum(place - i for i, place in enumerate(places)) for places in itertools.combinations(range(m + n), m)
    ]
    counts = statistics._rank_sum_counts(m, n)
    assert list(counts) == [pairs.count(total) for total in range(m * n + 1)]


def test_critical_values_of_the_tables():
    """Wilcoxon's and Mann and Whitney's printed tables at 5 %, two-sided."""
    wilcoxon = {6: 0, 8: 3, 10: 8, 12: 13, 15: 25, 20: 52}
    assert {n: statistics._critical(statistics._signed_rank_counts(n)) for n in wilcoxon} == wilcoxon
    whitney = {(4, 4): 0, (5, 5): 2, (6, 6): 5, (8, 8): 13, (10, 10): 23, (12, 8): 22}
    assert {pair: statistics._critical(statistics._rank_sum_counts(*pair)) for pair in whitney} == whitney


@pytest.mark.parametrize("paired", (True, False))
def test_interval_covers_the_truth(paired):
    """In 400 experiments with a known ratio at most the promised share misses it."""
    source, missed = random.Random(2015), 0
    for _ in range(400):
        drift = [math.exp(source.gauss(0, 0.3 if paired else 0)) for _ in range(10)]
        base = [1.2 * d * math.exp(source.gauss(0, 0.05)) for d in drift]
        other = [d * math.exp(source.gauss(0, 0.05)) for d in drift]
        found = statistics.ratio(base, other, paired=paired)
        missed += not found.low <= 1.2 <= found.high
    assert missed <= 34  # 5 % of 400 are 20; more than 34 has a probability below 1e-3


def noisy(seconds, share=0.005, count=8, seed=0):
    source = random.Random(seed)
    return [seconds * (1 + source.uniform(-share, share)) for _ in range(count)]


@pytest.mark.parametrize("paired", (True, False))
@pytest.mark.parametrize(
    ("other", "verdict"), ((1.1, "slower"), (0.9, "faster"), (1.0, "same"), (1.005, "same"))
)
def test_verdicts(paired, other, verdict):
    found = statistics.ratio(noisy(1.0), noisy(other, seed=1), paired=paired)
    assert found.verdict == verdict, found
    assert found.low <= found.ratio <= found.high


def test_noise_is_unclear():
    found = statistics.ratio(noisy(1.0, share=0.5), noisy(1.03, share=0.5, seed=1), paired=True)
    assert found.verdict == "unclear"


def test_few_rounds_are_unclear():
    found = statistics.ratio([2.0] * 5, [1.0] * 5, paired=True)
    assert (found.low, found.high, found.verdict) == (0, math.inf, "unclear")
    assert statistics.ratio([2.0] * 6, [1.0] * 6, paired=True).verdict == "faster"


def test_wrong_rounds():
    for base, other, paired in (([], [1.0], False), ([1.0], [], False), ([1.0], [1.0, 2.0], True)):
        with pytest.raises(ValueError, match="rounds"):
            statistics.ratio(base, other, paired=paired)
