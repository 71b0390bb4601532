"""Scenario and seed in, conversations out: the same every time. Pure but for its own generators.

Arrivals, mix and lengths draw from generators of their own, so that another rate leaves the
lengths alone. Rates that change are drawn by thinning (Lewis and Shedler 1979).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from random import Random

import msgspec

from benchmarks.load.values import Arrivals, Conversation, Length, Scenario, ScenarioError, Turn
from models.worded import Worded

CONVERSATIONS_MAX = 2_000_000
CLOSED_RATE = 5_000.0
"""Conversations drawn for each second and connection of a closed loop, at most: it takes the next
one when it is ready, and must not run out."""
CLOSED_MAX = 500_000


class Row(msgspec.Struct, frozen=True, gc=False):
    """One request of a trace."""

    at_s: float
    prompt: int
    output: int


def made(scenario: Scenario, seed: int, rows: Sequence[Row] = ()) -> list[Conversation]:
    """All conversations in the order of their beginnings. Raises ScenarioError."""
    mix, lengths = Random(f"{seed}/mix"), Random(f"{seed}/lengths")
    kinds = scenario.kinds
    shares = [kind.share for kind in kinds]
    found = []
    for number, (at_s, row) in enumerate(_arrivals(scenario, seed, rows)):
        if number >= CONVERSATIONS_MAX:
            template = "more than {most} conversations; make it shorter"
            raise ScenarioError(Worded("schedule.long", template, most=CONVERSATIONS_MAX))
        place = mix.choices(range(len(kinds)), shares)[0]
        kind = kinds[place]
        document = mix.randrange(kind.prefix.documents) if kind.prefix is not None else -1
        if row is not None:
            turns: tuple[Turn, ...] = (Turn(max(1, row.prompt), max(1, row.output)),)
        else:
            turns = tuple(_turns(scenario, place, lengths))
        found.append(Conversation(number, at_s, place, document, turns))
    if not found:
        template = "the schedule is empty: raise the rate, or the duration"
        raise ScenarioError(Worded("schedule.empty", template))
    return found


def shard(all_of_them: Sequence[Conversation], place: int, count: int) -> Sequence[Conversation]:
    """The part of one of `count` processes: every request is in exactly one."""
    return all_of_them[place::count]


def peak_rate(arrivals: Arrivals) -> float:
    """Conversations a second at the most; 0 where only the trace knows."""
    match arrivals.kind:
        case "bursts":
            return max(arrivals.rate, arrivals.off_rate)
        case "ramp":
            return max(arrivals.rate, arrivals.until_rate)
        case "poisson" | "steady":
            return arrivals.rate
        case _:
            return 0.0


def fitted(scenario: Scenario, rows: Sequence[Row]) -> tuple[Scenario, str]:
    """A run ends with its trace: a silent rest would thin out every figure a second. And what is
    to be said of that, or of requests that come too late for the run. Raises ScenarioError."""
    arrivals, last = scenario.arrivals, len(rows) - 1
    if arrivals.kind not in ("trace", "ledger") or last < 0:
        return scenario, ""
    span_s = (rows[-1].at_s - rows[0].at_s) / arrivals.speed
    # As long as its mean gap after the last: then the rate is that of the gaps.
    end_s = rows[-1].at_s / arrivals.speed + (span_s / last if span_s > 0 else 1.0)
    if end_s >= scenario.duration_s:
        here = sum(row.at_s / arrivals.speed < scenario.duration_s for row in rows)
        if here == len(rows):
            return scenario, ""
        template = (
            "{here} of the trace's {count} requests fall into {seconds} s; the others are not "
            "sent: raise --duration-s or --speed."
        )
        return scenario, Worded("note.trace_goes_on", template, here=here, count=len(rows),
                                seconds=f"{scenario.duration_s:g}")  # fmt: skip
    if end_s <= scenario.warmup_s:
        template = "the trace ends after {seconds} s, within the warm-up: lower --warmup-s"
        raise ScenarioError(Worded("schedule.short", template, seconds=f"{end_s:.3g}"))
    template = "The trace ends after {seconds} s, and the run with it."
    said = Worded("note.trace_ends", template, seconds=f"{end_s:.4g}")
    return msgspec.structs.replace(scenario, duration_s=round(end_s, 6)), said


def at_rate(scenario: Scenario, rate: float, rows: Sequence[Row] = ()) -> Scenario:
    """The same scenario at another mean rate. Raises ScenarioError for a closed loop."""
    arrivals = scenario.arrivals
    change = msgspec.structs.replace
    match arrivals.kind:
        case "closed":
            template = "a closed loop has no rate to search: take another kind of arrival"
            raise ScenarioError(Worded("schedule.closed", template))
        case "bursts":
            now = arrivals.on_s * arrivals.rate + arrivals.off_s * arrivals.off_rate
            factor = rate * (arrivals.on_s + arrivals.off_s) / now
            moved = change(
                arrivals, rate=arrivals.rate * factor, off_rate=arrivals.off_rate * factor
            )
        case "trace" | "ledger":
            span = rows[-1].at_s - rows[0].at_s if len(rows) > 1 else 0.0
            if span <= 0:
                template = "{source}: one moment only: it has no rate to change"
                raise ScenarioError(Worded("schedule.moment", template, source=arrivals.source))
            moved = change(arrivals, speed=rate * span / len(rows))
        case "ramp":
            moved = change(arrivals, kind="poisson", rate=rate)
        case _:
            moved = change(arrivals, rate=rate)
    return change(scenario, arrivals=moved)


def _arrivals(
    scenario: Scenario, seed: int, rows: Sequence[Row]
) -> Iterator[tuple[float, Row | None]]:
    arrivals, end_s = scenario.arrivals, scenario.duration_s
    chance = Random(f"{seed}/arrivals")
    match arrivals.kind:
        case "trace" | "ledger":
            for row in rows:
                if row.at_s / arrivals.speed < end_s:
                    yield row.at_s / arrivals.speed, row
        case "steady":
            for number in range(math.ceil(end_s * arrivals.rate - 1e-9)):
                yield number / arrivals.rate, None
        case "closed":
            for _ in range(int(min(CLOSED_MAX, end_s * CLOSED_RATE * arrivals.concurrency))):
                yield 0.0, None
        case _:
            for at_s in _thinned(arrivals, end_s, chance):
                yield at_s, None


def _thinned(arrivals: Arrivals, end_s: float, chance: Random) -> Iterator[float]:
    most = peak_rate(arrivals)
    at_s = chance.expovariate(most)
    while at_s < end_s:
        if chance.random() * most < rate_at(arrivals, at_s, end_s):
            yield at_s
        at_s += chance.expovariate(most)


def rate_at(arrivals: Arrivals, at_s: float, end_s: float) -> float:
    """Conversations a second at a moment."""
    if arrivals.kind == "bursts":
        is_on = at_s % (arrivals.on_s + arrivals.off_s) < arrivals.on_s
        return arrivals.rate if is_on else arrivals.off_rate
    if arrivals.kind == "ramp":
        return arrivals.rate + (arrivals.until_rate - arrivals.rate) * at_s / end_s
    return arrivals.rate


def _turns(scenario: Scenario, place: int, chance: Random) -> Iterator[Turn]:
    kind = scenario.kinds[place]
    session = kind.session
    count = drawn(session.turns, chance) if session is not None else 1
    for number in range(count):
        think_s = 0.0
        if number and session is not None and session.think_s:
            think_s = chance.expovariate(1.0 / session.think_s)
        yield Turn(drawn(kind.prompt, chance), drawn(kind.output, chance), think_s)


def drawn(length: Length, chance: Random) -> int:
    """One length."""
    value = (
        length.median * math.exp(chance.gauss(0.0, length.spread))
        if length.spread
        else (float(length.median))
    )
    return min(length.most, max(length.least, round(min(value, 1e9))))
