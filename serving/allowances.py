"""How much keys, projects and tenants may ask for: calls and tokens a minute, plans of five hours,
a week and a month, calls at once. Pure.

A call takes what it may cost when it is let in, once, however often it is tried, and settles to
what it did cost when it ends. Where the counters stand is for who makes them (`limits`): in this
process, each with its share of the limit, or in a store that processes share.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from serving.limits.base import Meter, Rule
from serving.limits.bucket import Bucket
from serving.limits.counted import Counted, rules
from serving.limits.slice import Slice
from serving.limits.standing import Standing, standing_of
from serving.records import Allowance, Call, Subject, Usage

SUBJECTS_MAX = 100_000
"""Counters kept; beyond it the longest unused are forgotten, full."""
UNKNOWN_ANSWER_TOKENS = 256
"""Reserved for an answer whose caller named no limit; settled to the truth at its end."""
Make = Callable[[str, Rule, float], Meter]
"""A counter by name, rule and the time now."""


class Exceeded(NamedTuple):
    """Which limit a call would break, and when it would not."""

    subject: Subject
    what: str
    """`requests per minute`, `tokens per week`, `calls at once` ..."""
    limit: int
    retry_after_s: float
    standing: Standing


class Use(NamedTuple):
    """How one limit stands, to show."""

    what: str
    limit: int
    left: int
    """As far as this process knows."""
    full_s: float
    """Seconds until all is there again; 0 when it is."""


class _Counters:
    """One subject's counters; they stay when its allowance changes."""

    __slots__ = ("allowance", "concurrent", "counted", "running")

    def __init__(self) -> None:
        self.running = 0
        self.concurrent = 0
        self.allowance = Allowance()
        self.counted: list[Counted] = []


def _part(limit: int, share: int) -> int:
    return max(1, limit // share) if limit else 0


class Lease:
    """What one call took; given back once."""

    __slots__ = ("_clock", "_counters", "_reserved", "_taken", "standing")

    def __init__(
        self, counters: list[_Counters], taken: list[tuple[Counted, int]], reserved: int,
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._counters = counters
        self._taken = taken
        self._reserved = reserved
        self._clock = clock
        self.standing = Standing()

    def settle(self, usage: Usage) -> None:
        """The call ended: its place is free, and its tokens are what it used. A plan is not charged
        for a call that no target worked for. Mutates; the second time it does nothing."""
        spent = usage.prompt_tokens + usage.completion_tokens
        counters, self._counters = self._counters, []
        taken, self._taken = self._taken, []
        for one in counters:
            one.running -= 1
        now_s = self._clock()
        for counted, window in taken:
            if counted.is_tokens:
                counted.meter.correct(spent - self._reserved, window, now_s)
            elif counted.is_plan and not spent:
                counted.meter.correct(-1, window, now_s)


class Allowances:
    """Every subject's counters in one process. `share` is how many processes count beside it;
    `rates` and `plans` make counters that they share. Without, each counts its part of the limit,
    and of a plan only since it started."""

    def __init__(
        self, share: int = 1, rates: Make | None = None, plans: Make | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:  # fmt: skip
        self._share = share
        self._rates = rates or self._own_rate
        self._plans = plans or self._own_plan
        self._clock = clock
        self._now_s = 0.0
        self._counters: OrderedDict[str, _Counters] = OrderedDict()

    def take(self, call: Call, subjects: tuple[Subject, ...], now_s: float) -> Lease | Exceeded:
        """Let a call in under all its subjects' allowances, or say which one it breaks: then
        nothing is taken from any. Mutates."""
        self._now_s = now_s
        tokens = call.prompt_tokens + _answer_tokens(call)
        found: list[_Counters] = []
        for subject in subjects:
            one = self._of(subject, now_s)
            found.append(one)
            broken = _broken(one, tokens, now_s)
            if broken is not None:
                return Exceeded(subject, *broken, _stand(found, now_s))
        taken: list[tuple[Counted, int]] = []
        for one in found:
            one.running += 1
            taken += [(c, c.meter.take(c.units(tokens), now_s)) for c in one.counted]
        lease = Lease(found, taken, tokens, self._clock or (lambda: self._now_s))
        lease.standing = _stand(found, now_s)
        return lease

    def uses(self, subject: Subject, now_s: float) -> list[Use]:
        """How a subject's limits stand."""
        one = self._of(subject, now_s)
        found = [
            Use(c.what, c.limit, max(0, math.floor(c.meter.left(now_s))), c.meter.full_s(now_s))
            for c in one.counted
        ]
        if one.concurrent:
            left = max(0, one.concurrent - one.running)
            found.append(Use("calls at once", one.allowance.concurrent, left, 0.0))
        return found

    def _own_rate(self, _: str, rule: Rule, now_s: float) -> Meter:
        return Bucket(_part(rule.limit, self._share), rule.length_s, now_s)

    def _own_plan(self, key: str, rule: Rule, now_s: float) -> Meter:
        return Slice(key, self._partly(rule), 1, now_s, lambda _: None)

    def _partly(self, rule: Rule) -> Rule:
        return rule._replace(limit=_part(rule.limit, self._share))

    def _of(self, subject: Subject, now_s: float) -> _Counters:
        one = self._counters.get(subject.id)
        if one is None:
            one = self._counters[subject.id] = _Counters()
            if len(self._counters) > SUBJECTS_MAX:
                self._forget()
        if one.allowance != subject.allowance:
            self._allow(one, subject, now_s)
        self._counters.move_to_end(subject.id)
        return one

    def _allow(self, one: _Counters, subject: Subject, now_s: float) -> None:
        """Count under this allowance from now on."""
        before = {counted.what: counted for counted in one.counted}
        one.allowance, one.counted = subject.allowance, []
        one.concurrent = _part(subject.allowance.concurrent, self._share)
        for what, name, rule in rules(subject.allowance):
            make = self._plans if rule.is_window else self._rates
            had = before.get(what)
            if had is not None and had.limit == rule.limit:
                one.counted.append(had)
                continue
            if had is not None and isinstance(had.meter, Slice):
                is_shared = make != self._own_plan
                had.meter.relimit(rule if is_shared else self._partly(rule), now_s)
                meter: Meter = had.meter
            else:
                meter = make(f"{subject.id} {name}", rule, now_s)
            is_tokens = name.startswith("tokens")
            one.counted.append(Counted(what, is_tokens, rule.is_window, rule.limit, meter))

    def _forget(self) -> None:
        """Drop the longest unused that has no call under way; those are as many as connections."""
        for id_, one in list(itertools.islice(self._counters.items(), 64)):
            if not one.running:
                del self._counters[id_]
                return
            self._counters.move_to_end(id_)


def _broken(one: _Counters, tokens: int, now_s: float) -> tuple[str, int, float] | None:
    """What would be broken, its limit, and in how many seconds it would not."""
    if one.concurrent and one.running >= one.concurrent:
        return "calls at once", one.allowance.concurrent, 1.0
    for counted in one.counted:
        units = counted.units(tokens)
        # A call larger than the whole limit is let in when all of it is there, and then owes.
        if not counted.meter.has(units, now_s):
            return counted.what, counted.limit, counted.meter.wait_s(units, now_s)
    return None


def _stand(found: list[_Counters], now_s: float) -> Standing:
    return standing_of([counted for one in found for counted in one.counted], now_s)


def _answer_tokens(call: Call) -> int:
    """What the answer may hold: all choices together."""
    limit = UNKNOWN_ANSWER_TOKENS if call.max_tokens is None else call.max_tokens
    return limit * call.n
