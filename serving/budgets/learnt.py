"""How long a feature's answers are: the 99th percentile of completion tokens, learnt. Pure.

A histogram whose bounds grow by a quarter; the percentile is the upper bound of its bucket, so it
errs to the long side. What was cut off at a cap tells only that the answer would have been longer:
it counts twice its length, else each cap would teach the next a shorter one.

What all processes learn is added up in the ledger's store (`remembered`), so that a restart forgets
nothing and a pod that sees little knows what the others saw.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Sequence
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
BUCKETS = len(_BOUNDS) + 1


class Feature(NamedTuple):
    """Whose answers."""

    tenant: str
    project: str
    feature: str
    model: str


Counts = list[int]
"""Answers by bucket."""


class Lengths:
    """Answer lengths by feature."""

    def __init__(self) -> None:
        self._seen: OrderedDict[Feature, Counts] = OrderedDict()
        self._new: dict[Feature, Counts] = {}
        """Learnt here and not yet told to the store; part of what was seen."""

    def learn(self, feature: Feature, tokens: int, *, is_cut: bool) -> None:
        """One answer ended, by itself or cut off at its cap. Mutates."""
        if tokens <= 0:
            return
        counts = self._seen.setdefault(feature, [0] * BUCKETS)
        bucket = bisect_left(_BOUNDS, tokens * 2 if is_cut else tokens)
        counts[bucket] += 1
        self._new.setdefault(feature, [0] * BUCKETS)[bucket] += 1
        self._seen.move_to_end(feature)
        self._bound()
        faded(counts)

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

    def take_new(self, features_max: int) -> dict[Feature, Counts]:
        """What was learnt since the last time, of so many features; the rest is next. Mutates."""
        found = dict(list(self._new.items())[:features_max])
        for feature in found:
            del self._new[feature]
        return found

    def give_back(self, untold: dict[Feature, Counts]) -> None:
        """What could not be told after all. Mutates."""
        for feature, counts in untold.items():
            self._new[feature] = added(counts, self._new.get(feature))

    def heard(self, rows: Iterable[tuple[Feature, Counts]]) -> None:
        """What all processes together saw, the one used last first; what this one learnt since
        comes on top. Mutates."""
        for feature, counts in reversed(list(rows)):
            self._seen[feature] = added(counts, self._new.get(feature))
            self._seen.move_to_end(feature)
        self._bound()

    def _bound(self) -> None:
        while len(self._seen) > FEATURES_MAX:
            feature, _ = self._seen.popitem(last=False)
            self._new.pop(feature, None)


def added(one: Sequence[int], other: Sequence[int] | None) -> Counts:
    """Both together."""
    return [a + b for a, b in zip(one, other, strict=True)] if other else list(one)


def faded(counts: Counts) -> Counts:
    """Halved once there are enough. Mutates, and returns what it was given."""
    if sum(counts) >= SEEN_MAX:
        counts[:] = [count // 2 for count in counts]
    return counts
