"""By how much more than nine times of ten our engine must be in time to be given a call: learnt
from those that were given to it as in time and were late. Pure but for its own numbers.

Nine of ten is little where many calls are close to their deadline: one of ten such calls is late,
whatever the fleet. A margin of k asks for p90 + k (p90 - p50) before the deadline. Each late call
adds to k, each timely one takes a little off, in such parts that k stands still when the share of
late calls is the one aimed at (Robbins and Monro 1951); so it is 0 while fewer are late.
"""

from __future__ import annotations

from math import exp2
from typing import Final

from models.capacity import Quantiles

LATE: Final = 0.005
"""Share of calls given to engines as in time that may be late. Of the hundredth that a promise of
99 of 100 allows, the other half is for third parties, slow tokens and refusals."""
MOST: Final = 1.0
"""Largest margin, in spreads. An engine that is late by more has stopped being predictable, and
its breaker, its pace and the rescue of its calls are for that."""
STEP: Final = 0.1
"""What a late call adds, less its own share: a full margin after ten in a row, gone after two
thousand in time. The best of 0.02, 0.05 and 0.1 on training windows (0155)."""
HALF_S: Final = 21_600.0
"""A margin loses half in this time, as an engine's edge does: it was learnt under a load that may
be over. Beside what timely calls take off that is little from a call in ten seconds on."""


class _Margin:
    """Of one model's calls of one class."""

    __slots__ = ("at_s", "late", "seen", "spreads")

    def __init__(self) -> None:
        self.spreads = 0.0
        self.at_s = 0.0
        """When it was last moved."""
        self.seen = self.late = 0
        """Calls since the start that were judged in time, and those of them that were not."""


class Margins:
    """One process's, by model and class. Written where first tokens are seen, read by routing."""

    __slots__ = ("_all", "_late", "_most")

    def __init__(self, late: float = LATE, most: float = MOST) -> None:
        self._late, self._most = late, most
        self._all: dict[tuple[str, str], _Margin] = {}

    def of(self, model: str, latency_class: str, now_s: float) -> float:
        """Spreads between p50 and p90 to be kept beyond p90; 0 where nothing was learnt."""
        known = self._all.get((model, latency_class))
        return 0.0 if known is None or not known.spreads else _now(known, now_s)

    def seen(self, key: tuple[str, str], said: Quantiles, left_s: float, took_s: float,
             now_s: float) -> None:  # fmt: skip
        """A first token of ours came after `took_s`, which had been predicted as `said` when
        `left_s` were left. Calls that the margin of now would not give to an engine teach nothing:
        they had nowhere else to go, or were placed before it grew."""
        if not self._most:
            return
        known = self._all.get(key)
        if known is None:
            known = self._all[key] = _Margin()
        spreads = _now(known, now_s)
        if beyond_s(said, spreads) > left_s:
            return
        known.seen += 1
        if took_s > left_s:
            known.late += 1
            spreads += STEP * (1.0 - self._late)
        else:
            spreads -= STEP * self._late
        known.spreads = min(max(spreads, 0.0), self._most)
        known.at_s = now_s

    def told(self, now_s: float) -> dict[tuple[str, str], tuple[float, int, int]]:
        """By model and class: the margin, and calls judged in time with those of them late."""
        return {key: (_now(m, now_s), m.seen, m.late) for key, m in self._all.items()}


def beyond_s(first: Quantiles, spreads: float) -> float:
    """When a first token is there, so many spreads surer than nine times of ten; seconds."""
    return first.p90 + spreads * (first.p90 - first.p50)


def _now(known: _Margin, now_s: float) -> float:
    if not known.spreads:
        return 0.0
    return known.spreads * exp2(-max(0.0, now_s - known.at_s) / HALF_S)


NONE: Final = Margins(most=0.0)
"""Stands for a fleet that learns none."""
