"""Learning from one observation after another: a few coefficients, and the spread of what they
leave. Bounded in memory and in value, so that one absurd observation moves nothing far. Pure.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence

RATE = 0.1
"""Of one observation: the last ten or twenty count."""
SURPRISE_MAX = 1.0
"""Logarithm of seen / foreseen beyond which an observation says no more."""
LEAST = 1e-12
"""A sum below it is none."""
COEFFICIENT_MIN, COEFFICIENT_MAX = 0.1, 10.0
"""An engine further from its profile has the wrong profile."""
SPREAD_SEEN_MIN = 20
"""Fewer observations say nothing of a ninth decile."""
SPREAD_SEEN_MAX = 150
SPREAD_MOST = 12.0
"""Of a logarithm or a score: 160,000 times."""


class Fit:
    """Coefficients of a sum of terms, each above zero. All start at 1: the terms as foreseen.

    An observation moves each by as much as its term had part in the sum, in logarithms (a gradient
    step on the squared logarithm of seen / foreseen). Least squares with forgetting was tried:
    where terms move together it drove one to its bound and the other after it.
    """

    __slots__ = ("coefficients",)

    def __init__(self, width: int) -> None:
        self.coefficients = [1.0] * width

    def of(self, terms: Sequence[float]) -> float:
        """The sum as it is known now."""
        total, known = 0.0, self.coefficients
        assert len(known) == len(terms)
        for i, term in enumerate(terms):
            total += known[i] * term
        return total

    def learn(self, terms: Sequence[float], seen: float) -> None:
        """The sum was `seen`. Mutates; what is unusable changes nothing."""
        foreseen = self.of(terms)
        if not (LEAST < foreseen < math.inf and LEAST < seen < math.inf):
            return
        off = min(max(math.log(seen / foreseen), -SURPRISE_MAX), SURPRISE_MAX) * RATE
        coefficients = self.coefficients
        for i, term in enumerate(terms):
            if term:  # without a part in the sum it had none in the error
                known = coefficients[i]
                found = known * math.exp(off * known * term / foreseen)
                found = found if found > COEFFICIENT_MIN else COEFFICIENT_MIN
                coefficients[i] = found if found < COEFFICIENT_MAX else COEFFICIENT_MAX


class Spread:
    """Median and ninth decile of the latest observations of one number."""

    __slots__ = ("_bounds", "_order", "_seen", "p50", "p90")

    def __init__(
        self,
        p50: float,
        p90: float,
        seen_min: int = SPREAD_SEEN_MIN,
        seen_max: int = SPREAD_SEEN_MAX,
    ) -> None:
        self._seen: deque[float] = deque()
        self._order: list[float] = []
        self._bounds = (seen_min, seen_max)
        self.p50, self.p90 = p50, p90

    @property
    def seen(self) -> int:
        """Observations it holds."""
        return len(self._order)

    def add(self, value: float) -> None:
        """One more. Mutates."""
        if not -math.inf < value < math.inf:
            return
        if not -SPREAD_MOST <= value <= SPREAD_MOST:
            value = min(max(value, -SPREAD_MOST), SPREAD_MOST)
        order = self._order
        self._seen.append(value)
        insort(order, value)
        least, most = self._bounds
        count = len(order)
        if count > most:
            del order[bisect_left(order, self._seen.popleft())]
            count = most
        if count >= least:
            self.p50 = order[count // 2]
            # One above the share seen: the next is new (split conformal prediction).
            self.p90 = order[min(count - 1, math.ceil(0.9 * (count + 1)) - 1)]
