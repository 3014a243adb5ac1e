"""What times say: quartiles, and the ratio of two implementations with an exact confidence interval.

Ratios come from ranks, not from a normal distribution: times have a long tail, and a mean follows it.  On the
logarithms of the rounds' medians,

    paired       Hodges and Lehmann's estimate: the median of the Walsh averages (d_i + d_j) / 2, i <= j, of
                 the differences d by round; its interval is Wilcoxon's signed-rank test turned around
    independent  the median of all differences a_i - b_j; its interval is Mann and Whitney's test, likewise

(Hollander, Wolfe, Chicken: Nonparametric Statistical Methods, sections 3.2 and 4.2).  Both are exact for any
continuous distribution (the first for a symmetric one) and need no random numbers.  Too few rounds for the
level (under 6 pairs for 95 %) give an interval without bounds, hence the verdict "unclear".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

LEVEL = 0.95
TOLERANCE = 0.02  # ratios within 1 +- this are called the same


@dataclass(frozen=True)
class Quartiles:
    """Of all runs, in seconds."""

    median: float
    q1: float
    q3: float
    min: float
    max: float

    @property
    def iqr(self) -> float:
        return self.q3 - self.q1


def quartiles(times: Sequence[float]) -> Quartiles:
    """Linear interpolation between order statistics, as numpy.quantile; ValueError without a time."""
    if not times:
        raise ValueError("quartiles: times is empty")
    ordered = sorted(times)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        below = math.floor(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (ordered[above] - ordered[below]) * (place - below)

    return Quartiles(at(0.5), at(0.25), at(0.75), ordered[0], ordered[-1])


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two."""
    return quartiles(values).median


@dataclass(frozen=True)
class Ratio:
    """base / other with its 95 % interval: above 1 `other` is the faster one.

    verdict: "faster" or "slower" if the interval lies beyond 1 +- tolerance, "same" if inside, else
    "unclear".
    """

    ratio: float
    low: float
    high: float
    verdict: str


def ratio(
    base: Sequence[float], other: Sequence[float], *, paired: bool, tolerance: float = TOLERANCE
) -> Ratio:
    """How many times faster `other` is than `base`, from the rounds' times (seconds, above 0).

    Args:
        paired: round i of both was timed side by side, so that what they share (clocks, heat) cancels.

    Raises:
        ValueError: no times, or pairs of different number.
    """
    if not base or not other or (paired and len(base) != len(other)):
        raise ValueError(f"ratio: {len(base)} and {len(other)} rounds, paired={paired}")
    a, b = ([math.log(value) for value in times] for times in (base, other))
    if paired:
        d = [x - y for x, y in zip(a, b, strict=True)]
        differences = sorted((d[i] + d[j]) / 2 for i in range(len(d)) for j in range(i + 1))
        reach = _critical(_signed_rank_counts(len(d)))
    else:
        differences = sorted(x - y for x in a for y in b)
        reach = _critical(_rank_sum_counts(len(a), len(b)))
    low, high = (-math.inf, math.inf) if reach < 0 else (differences[reach], differences[-1 - reach])
    bounds = math.exp(low), math.exp(high) if high < math.inf else math.inf
    return Ratio(math.exp(median(differences)), *bounds, _verdict(*bounds, tolerance))


def _verdict(low: float, high: float, tolerance: float) -> str:
    if low > 1 + tolerance:
        return "faster"
    if high < 1 - tolerance:
        return "slower"
    return "same" if low >= 1 - tolerance and high <= 1 + tolerance else "unclear"


def _critical(counts: tuple[int, ...]) -> int:
    """The largest k with P(statistic <= k) <= (1 - LEVEL) / 2, -1 if even 0 is likelier than that."""
    total, below = sum(counts), 0
    for k, count in enumerate(counts):
        below += count
        if below > (1 - LEVEL) / 2 * total:
            return k - 1
    return len(counts) - 1


@lru_cache(maxsize=64)
def _signed_rank_counts(n: int) -> tuple[int, ...]:
    """How many subsets of the ranks 1 ... n have the sum 0, 1, ...: Wilcoxon's distribution under
    symmetry.
    """
    counts = [1] + [0] * (n * (n + 1) // 2)
    for rank in range(1, n + 1):
        for total in range(len(counts) - 1, rank - 1, -1):
            counts[total] += counts[total - rank]
    return tuple(counts)


@lru_cache(maxsize=64)
def _rank_sum_counts(m: int, n: int) -> tuple[int, ...]:
    """How many of the orders of m + n values have 0, 1, ... pairs (i, j) with a_i > b_j."""
    # ways[i][u]: of i values of a among the values of b so far, with u pairs; one value of b at a time.
    ways = [[int(u == 0) for u in range(m * n + 1)] for _ in range(m + 1)]
    for j in range(1, n + 1):
        for i in range(1, m + 1):
            # The largest of all is a value of a (j pairs more) or of b (already there: j - 1 of b).
            for u in range(m * n, j - 1, -1):
                ways[i][u] += ways[i - 1][u - j]
    return tuple(ways[m])
