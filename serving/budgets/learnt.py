"""How long a feature's answers are: the 99th percentile of completion tokens, learnt. Pure.

A histogram whose bounds grow by a quarter; the percentile is the upper bound of its bucket, so it
errs to the long side. What was cut off at a cap tells only that the answer would have been longer:
it counts twice its length, else each cap would teach the next a shorter one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from typing import NamedTuple

FIRST_GUESS = 4096
"""Until enough was seen: as long as nearly all answers of chat models."""
SEEN_MIN = 100
"""Fewer say nothing of a 99th percentile."""
SEEN_MAX = 2000
"""Then all counts are halved: what was learnt fades as a feature changes."""
FEATURES_MAX = 10_000
"""Beyond it the longest unused is forgotten."""
SHARE = 0.99
_BOUNDS = tuple(round(16 * 1.25**i) for i in range(50))
"""16 to 900,000 tokens."""


class Feature(NamedTuple):
    """Whose answers."""

    tenant: str
    project: str
    feature: str
    model: str


class Lengths:
    """Answer lengths by feature."""

    def __init__(self) -> None:
        self._seen: OrderedDict[Feature, list[int]] = OrderedDict()

    def learn(self, feature: Feature, tokens: int, *, is_cut: bool) -> None:
        """One answer ended, by itself or cut off at its cap. Mutates."""
        if tokens <= 0:
            return
        counts = self._seen.get(feature)
        if counts is None:
            counts = self._seen[feature] = [0] * (len(_BOUNDS) + 1)
            if len(self._seen) > FEATURES_MAX:
                self._seen.popitem(last=False)
        self._seen.move_to_end(feature)
        counts[bisect_left(_BOUNDS, tokens * 2 if is_cut else tokens)] += 1
        if sum(counts) >= SEEN_MAX:
            counts[:] = [count // 2 for count in counts]

    def longest(self, feature: Feature) -> int:
        """Tokens that 99 of 100 of its answers keep to."""
        counts = self._seen.get(feature)
        total = sum(counts) if counts else 0
        if counts is None or total < SEEN_MIN:
            return FIRST_GUESS
        running = 0
        for bound, count in zip(_BOUNDS, counts, strict=False):
            running += count
            if running >= SHARE * total:
                return bound
        return _BOUNDS[-1]
