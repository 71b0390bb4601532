"""The highest rate within the goal: bracket it, then halve the bracket. Pure.

A rate holds when most of its repeats hold. A repeat that the sender could not drive decides
nothing: the search ends there and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from benchmarks.load.values import Scenario
from benchmarks.telling import tell
from models.worded import Worded, packed, unpacked

REPEATS = 3
GROWTH = 2.0
TOLERANCE = 0.05
STEPS_MAX = 40
SHORTEST_S = 60.0
"""Of what is counted of a run: a queue that grows slowly looks like capacity for less."""


def shortened(scenario: Scenario, rate: float, answers: int) -> Scenario:
    """The scenario at `rate`, ended once about `answers` requests are counted; 0 = never.

    Its warm-up stays, for that is how long its author gives the target to fill up. Only for
    arrivals that are alike all the time, and single requests: bursts and traces have a shape, and
    a session's load grows until the first of them end.
    """
    is_even = scenario.arrivals.kind in ("poisson", "steady")
    if not answers or not is_even or any(kind.session for kind in scenario.kinds):
        return scenario
    enough_s = scenario.warmup_s + max(SHORTEST_S, answers / rate)
    return msgspec.structs.replace(scenario, duration_s=min(scenario.duration_s, enough_s))


class Tried(msgspec.Struct, frozen=True):
    """One run at one rate."""

    rate: float
    goodput: float
    """Share of the requests that kept their goal."""
    kept_per_s: float
    visible_p95_ms: float
    complete_p95_ms: float
    invalid: str = ""
    """Why the sender could not drive it."""


class Search(msgspec.Struct):
    """What is known so far. `share`: of the requests must keep the goal."""

    share: float
    start: float
    least: float
    most: float
    tolerance: float = TOLERANCE
    repeats: int = REPEATS
    tried: list[Tried] = []

    def next_rate(self) -> float | None:
        """What to try next; None = the search is over."""
        if len(self.tried) >= STEPS_MAX * self.repeats or self.limit():
            return None
        open_rate = self._undecided()
        if open_rate is not None:
            return open_rate
        good, bad = self.good(), self.bad()
        if good is None and bad is None:
            return self.start
        if bad is None:
            assert good is not None
            return None if good >= self.most else min(self.most, good * GROWTH)
        if good is None:
            return None if bad <= self.least else max(self.least, bad / GROWTH)
        if bad - good <= self.tolerance * bad:
            return None
        return (good + bad) / 2

    def verdict(self, rate: float) -> bool | None:
        """Whether a rate holds; None = more repeats are needed."""
        runs = [t.goodput >= self.share for t in self.tried if t.rate == rate and not t.invalid]
        needed = self.repeats // 2 + 1
        if sum(runs) >= needed:
            return True
        return False if len(runs) - sum(runs) >= needed else None

    def good(self) -> float | None:
        """The highest rate that holds, below every one that does not."""
        bad = self.bad()
        return max((r for r in self._rates() if self.verdict(r) and (bad is None or r < bad)),
                   default=None)  # fmt: skip

    def bad(self) -> float | None:
        """The lowest rate that does not."""
        return min((r for r in self._rates() if self.verdict(r) is False), default=None)

    def limit(self) -> str:
        """Why the sender is the limit; empty = it is not."""
        return next((
            Worded("capacity.at", "at {rate}/s: {why}", rate=f"{t.rate:g}", why=t.invalid)
            for t in self.tried if t.invalid), "")  # fmt: skip

    def _rates(self) -> list[float]:
        return sorted({t.rate for t in self.tried})

    def _undecided(self) -> float | None:
        return next((r for r in self._rates() if self.verdict(r) is None), None)


class Found(msgspec.Struct, frozen=True):
    """The answer."""

    rate: float | None
    above: float | None
    """The lowest rate that failed."""
    limit: str
    share: float
    tried: list[Tried]
    limit_said: Mapping[str, Any] | None = None
    """`limit` for a reader of another language."""


def found(search: Search) -> Found:
    """What a search that is over, or was stopped, knows."""
    limit = search.limit()
    return Found(search.good(), search.bad(), limit, search.share, list(search.tried),
                 packed(limit))  # fmt: skip


def sentence(answer: Found, what: str, goal: str) -> str:
    """The result in one sentence, with its code."""
    share = Worded("capacity.share", "{share} of requests within {goal}",
                   share=f"{answer.share:.0%}", goal=goal)  # fmt: skip
    if answer.rate is None:
        lowest = Worded("capacity.undecided", "no rate was decided")
        if answer.above:
            template = "even {rate} requests/s is too much"
            lowest = Worded("capacity.lowest", template, rate=f"{answer.above:.3g}")
        template = "{what} keeps {share} at no rate tried: {lowest}{but}."
        return Worded("capacity.none", template, what=what, share=share, lowest=lowest,
                      but=_but(answer))  # fmt: skip
    most = Worded("capacity.most", "the highest rate tried")
    if answer.above is not None:
        most = Worded("capacity.above", "{rate} is too much", rate=f"{answer.above:.3g}")
    template = "{what} holds {rate} requests/s with {share}; {most}{but}."
    return Worded("capacity.holds", template, what=what, rate=f"{answer.rate:.3g}", share=share,
                  most=most, but=_but(answer))  # fmt: skip


def sentence_zh(answer: Found, what: str, goal: str) -> str:
    """The same in Chinese."""
    return tell(sentence(answer, what, goal), "zh")


def _but(answer: Found) -> str:
    if not answer.limit:
        return ""
    template = "; the sender, not the target, was the limit {limit}"
    limit = unpacked(answer.limit_said, answer.limit)
    return Worded("capacity.sender", template, limit=limit)
