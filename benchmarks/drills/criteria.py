"""What a drill asks beyond `books.always`: functions that make criteria. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from benchmarks.drills.ends import as_seen
from benchmarks.drills.values import REFUSED, WHOLE, Criterion, Evidence, Finding, Told
from models.worded import Worded

Which = Callable[[Told], bool]
FOREVER_S = 1e9


def asked(
    wave: str = "", from_s: float = 0.0, until_s: float = FOREVER_S, target: str = ""
) -> Which:
    """Requests of a wave, sent in that time, answered by that kind of target."""
    return lambda one: (
        wave in ("", one.wave) and from_s <= one.sent_s < until_s and target in one.target
    )


def answered(words: str, at_least: float, which: Which) -> Criterion:
    """So large a share of them got a whole answer, those aside that came again later."""

    def judge(evidence: Evidence) -> Finding:
        chosen = [one for one in evidence.told if which(one) and not one.will_come_again]
        good = sum(one.end == WHOLE for one in chosen)
        found = Worded("found.good", "{good} of {count}{others}", good=good, count=len(chosen),
                       others=_others(chosen))  # fmt: skip
        return Finding(words, found, bool(chosen) and good >= at_least * len(chosen))

    return judge


def count_of(words: str, least: int, most: int, which: Which) -> Criterion:
    """So many requests are like that."""

    def judge(evidence: Evidence) -> Finding:
        found = sum(map(which, evidence.told))
        return Finding(words, str(found), least <= found <= most)

    return judge


def refused_with(words: str, codes: Iterable[str], which: Which) -> Criterion:
    """Of those that were refused, all with one of the codes and a time to come again."""
    known = frozenset(codes)

    def judge(evidence: Evidence) -> Finding:
        chosen = [one for one in evidence.told if which(one) and one.end == REFUSED]
        bad = [one for one in chosen if one.code not in known or one.retry_after_s < 0]
        found = Worded("found.refused", "{count} refused{others}{bad}", count=len(chosen),
                       others=_others(chosen), bad=_worst(bad))  # fmt: skip
        return Finding(words, found, not bad)

    return judge


def first_within(words: str, seconds: float, share: float, which: Which) -> Criterion:
    """The first token of so many of the whole answers came within that time."""
    return _within(words, (seconds, share), which, lambda one: one.first_s)


def done_within(words: str, seconds: float, share: float, which: Which) -> Criterion:
    """The same of the end, whatever it was."""
    return _within(words, (seconds, share), which, lambda one: one.done_s)


def tries(words: str, target: str, most: int, from_s: float, until_s: float) -> Criterion:
    """At most so many tries on a target began in that time."""

    def judge(evidence: Evidence) -> Finding:
        from_ms = evidence.start_ms + from_s * 1e3
        until_ms = evidence.start_ms + until_s * 1e3
        found = sum(
            attempt.begin is not None
            and attempt.begin.target.startswith(target)
            and from_ms <= attempt.begin.at_ms < until_ms
            for attempts in evidence.books.attempts.values()
            for attempt in attempts
        )
        return Finding(words, str(found), found <= most)

    return judge


def tries_per_request(words: str, most: float) -> Criterion:
    """No storm of our own making."""

    def judge(evidence: Evidence) -> Finding:
        books = evidence.books
        total = sum(map(len, books.attempts.values()))
        ratio = total / max(1, len(books.rows))
        found = Worded("found.tries", "{tries} tries for {requests} requests", tries=total,
                       requests=len(books.rows))  # fmt: skip
        return Finding(words, found, ratio <= most)

    return judge


def never_left(words: str, tenant: str) -> Criterion:
    """No call of the tenant was meant to leave the premises, not once."""

    def judge(evidence: Evidence) -> Finding:
        left = [
            attempt.request_id
            for attempts in evidence.books.attempts.values()
            for attempt in attempts
            if attempt.intent is not None and attempt.intent.tenant == tenant
        ]
        mine = sum(row.tenant == tenant for row in evidence.books.rows.values())
        found = Worded("found.left", "{left} of {mine}", left=len(left), mine=mine)
        return Finding(words, found, mine > 0 and not left)

    return judge


def rows_with(words: str, outcome: str, least: int, most: int) -> Criterion:
    """So many request rows with this outcome."""

    def judge(evidence: Evidence) -> Finding:
        found = sum(row.outcome == outcome for row in evidence.books.rows.values())
        return Finding(words, str(found), least <= found <= most)

    return judge


def rows_for(words: str, reason: str, least: int, most: int) -> Criterion:
    """So many request rows whose decision had this reason."""

    def judge(evidence: Evidence) -> Finding:
        found = sum(row.reason == reason for row in evidence.books.rows.values())
        return Finding(words, str(found), least <= found <= most)

    return judge


def ended_within(words: str, outcome: str, seconds: float, least: int) -> Criterion:
    """At least so many rows with this outcome, each over in that time."""

    def judge(evidence: Evidence) -> Finding:
        rows = [row for row in evidence.books.rows.values() if row.outcome == outcome]
        longest_s = max((row.ended_ms - row.received_ms for row in rows), default=0) / 1e3
        found = Worded("found.ended", "{count}, the longest {seconds} s", count=len(rows),
                       seconds=f"{longest_s:.1f}")  # fmt: skip
        return Finding(words, found, len(rows) >= least and longest_s <= seconds)

    return judge


def reading(words: str, name: str, least: float, most: float) -> Criterion:
    """What a fault of the kind `read` found."""

    def judge(evidence: Evidence) -> Finding:
        found = evidence.readings[name]
        return Finding(words, f"{found:g}", least <= found <= most)

    return judge


def memory_grew(words: str, most_mib: float) -> Criterion:
    """The first gateway's RSS grew by no more than that, from the load's first second to its
    peak."""

    def judge(evidence: Evidence) -> Finding:
        first = evidence.rss_mib[0][1]
        grew = max(mib for _, mib in evidence.rss_mib) - first
        found = Worded("found.grew", "{grew} MiB over {first}", grew=f"{grew:.1f}",
                       first=f"{first:.1f}")  # fmt: skip
        return Finding(words, found, grew <= most_mib)

    return judge


def _within(
    words: str, bound: tuple[float, float], which: Which, moment: Callable[[Told], float]
) -> Criterion:
    seconds, share = bound

    def judge(evidence: Evidence) -> Finding:
        times = sorted(
            moment(one) - one.sent_s for one in evidence.told if which(one) and moment(one) >= 0
        )
        if not times:
            return Finding(words, Worded("found.none", "no such request"), False)
        at = times[max(0, math.ceil(share * len(times)) - 1)]
        found = Worded("found.within", "{seconds} s ({share} of {count})", seconds=f"{at:.2f}",
                       share=f"{share:.0%}", count=len(times))  # fmt: skip
        return Finding(words, found, at <= seconds)

    return judge


def _worst(bad: Sequence[Told]) -> str:
    """The first refusal that is not as it must be."""
    if not bad:
        return ""
    return Worded("found.worst", "; {status} {code}, Retry-After {seconds}", status=bad[0].status,
                  code=bad[0].code, seconds=f"{bad[0].retry_after_s:g}")  # fmt: skip


def _others(chosen: Sequence[Told]) -> str:
    """How the rest ended, by the names that reports have for it."""
    kinds = Counter((one.end, one.code) for one in chosen if one.end != WHOLE)
    told = ""
    for (end, code), count in sorted(kinds.items()):
        told = Worded("found.other", "{before}, {count} {end}{code}", before=told, count=count,
                      end=as_seen(end), code=f" {code}" if code else "")  # fmt: skip
    return told
