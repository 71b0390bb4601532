"""How sure a figure is: 95 % intervals of shares, means, percentiles and their differences. Pure.

Shares: Wilson (1927). A difference of two shares: Newcombe (1998, Statistics in Medicine 17:873,
his method 10), made of both sides' Wilson intervals. Requests of one session are alike, so they
count by group: a ratio's variance by the linearised (delta) method over groups (Deng, Knoblich and
Lu, 2018, KDD), and a share's sample size divided by the design effect that follows (Kish, 1965).
Percentiles: order statistics, free of any law (Conover, 1971).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, sqrt
from statistics import NormalDist

import msgspec

LEVEL = 0.95
Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
GROUPS_FEW = 30
"""Groups below which the normal law is no good stand-in for what is unknown."""


class Interval(msgspec.Struct, frozen=True):
    """A figure and where it lies with 95 %."""

    low: float
    value: float
    high: float

    @property
    def is_off_zero(self) -> bool:
        """A difference that is unlikely to be chance alone."""
        return self.low > 0 or self.high < 0


class Ratio(msgspec.Struct, frozen=True):
    """A sum over a sum, by groups."""

    value: float
    deviation: float
    """Its standard error."""
    whole: float
    """The lower sum: what a share is of."""
    groups: int


def wilson(found: float, of: float) -> Interval | None:
    """A share's interval; None of nothing."""
    if of <= 0:
        return None
    share = found / of
    middle = share + Z * Z / (2 * of)
    half = Z * sqrt(share * (1 - share) / of + Z * Z / (4 * of * of))
    scale = 1 + Z * Z / of
    return Interval(
        max(0.0, min(share, (middle - half) / scale)),
        share,
        min(1.0, max(share, (middle + half) / scale)),
    )


def ratio(groups: Sequence[tuple[float, float]]) -> Ratio | None:
    """Of (upper, lower) sums of each group; None where the lower ones add up to nothing."""
    some = [(upper, lower) for upper, lower in groups if lower]
    upper, lower = sum(u for u, _ in some), sum(w for _, w in some)
    if not lower:
        return None
    value, count = upper / lower, len(some)
    if count < 2:
        return Ratio(value, 0.0, lower, count)
    squares = sum((u - value * w) ** 2 for u, w in some)
    return Ratio(value, sqrt(squares * count / (count - 1)) / lower, lower, count)


def share(groups: Sequence[tuple[float, float]]) -> Interval | None:
    """A share's interval where requests come in groups; None of nothing."""
    found = ratio(groups)
    return None if found is None else wilson(found.value * _effective(found), _effective(found))


def _effective(found: Ratio) -> float:
    """How many independent requests tell as much."""
    spread = found.value * (1 - found.value) / found.whole
    return found.whole / max(1.0, found.deviation**2 / spread) if spread > 0 else found.whole


def mean(groups: Sequence[tuple[float, float]]) -> Interval | None:
    """A mean's interval from (sum, count) of each group; None of nothing."""
    found = ratio(groups)
    if found is None:
        return None
    half = Z * found.deviation
    return Interval(found.value - half, found.value, found.value + half)


def shares_differ(one: Interval, other: Interval) -> Interval:
    """`one` less `other`, of shares."""
    gap = one.value - other.value
    low = gap - sqrt((one.value - one.low) ** 2 + (other.high - other.value) ** 2)
    high = gap + sqrt((one.high - one.value) ** 2 + (other.value - other.low) ** 2)
    return Interval(low, gap, high)


def means_differ(one: Interval, other: Interval) -> Interval:
    """`one` less `other`, of means."""
    gap = one.value - other.value
    half = sqrt((one.high - one.value) ** 2 + (other.high - other.value) ** 2)
    return Interval(gap - half, gap, gap + half)


def percentile(counts: Sequence[tuple[float, int]], at: float) -> Interval | None:
    """Of (value, count) in order of values; None of fewer than can bound it: the interval's ranks
    must exist."""
    total = sum(count for _, count in counts)
    half = Z * sqrt(total * at * (1 - at))
    low, high = floor(total * at - half), ceil(total * at + half)
    if low < 1 or high > total:
        return None
    return Interval(_ranked(counts, low), _ranked(counts, ceil(total * at)), _ranked(counts, high))


def _ranked(counts: Sequence[tuple[float, int]], rank: int) -> float:
    before = 0
    for value, count in counts:
        before += count
        if before >= rank:
            return value
    raise AssertionError(f"no rank {rank} of {before}")


def paired(both: int, one_only: int, other_only: int, neither: int) -> Interval | None:
    """How much oftener `one` passes than `other`, both asked the same questions (Newcombe, 1998,
    Statistics in Medicine 17:2635, his method 10); None of nothing."""
    of = both + one_only + other_only + neither
    one, other = wilson(both + one_only, of), wilson(both + other_only, of)
    if one is None or other is None:
        return None
    product = (
        (both + one_only) * (other_only + neither) * (both + other_only) * (one_only + neither)
    )
    joint = float(both * neither - one_only * other_only)
    if joint > 0:
        joint = max(0.0, joint - of / 2)
    alike = joint / sqrt(product) if product else 0.0
    gap = one.value - other.value
    below, above = one.value - one.low, other.high - other.value
    low = gap - sqrt(max(0.0, below**2 - 2 * alike * below * above + above**2))
    below, above = other.value - other.low, one.high - one.value
    high = gap + sqrt(max(0.0, below**2 - 2 * alike * below * above + above**2))
    return Interval(low, gap, high)
