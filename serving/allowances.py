"""How much keys, projects and tenants may ask for: calls and tokens a minute, calls at once. Pure.

Token buckets that hold one minute's worth, refilled evenly, so that a limit is neither doubled at a
minute's edge nor wasted by a burst. A call takes what it may cost when it is let in, and settles to
what it did cost when it ends. One process's own counters: with several, each gets its share.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from typing import NamedTuple

from serving.records import Allowance, Call, Subject, Usage

SUBJECTS_MAX = 100_000
"""Counters kept; beyond it the longest unused are forgotten, full."""
UNKNOWN_ANSWER_TOKENS = 256
"""Reserved for an answer whose caller named no limit; settled to the truth at its end."""


class Bucket:
    """So many units a minute."""

    __slots__ = ("_at_s", "_left", "limit")

    def __init__(self, limit: int, now_s: float) -> None:
        self.limit = limit
        self._left = float(limit)
        self._at_s = now_s

    def left(self, now_s: float) -> float:
        """Units that may be taken now; negative after a call that cost more than it reserved."""
        refilled = self._left + (now_s - self._at_s) * self.limit / 60.0
        self._left, self._at_s = min(float(self.limit), refilled), now_s
        return self._left

    def take(self, units: float) -> None:
        """Take units, or give them back when negative. After `left` only."""
        self._left = min(float(self.limit), self._left - units)

    def wait_s(self, units: float) -> float:
        """Seconds until so many are there; what exceeds a whole minute's worth waits for a full
        bucket. After `left` only."""
        missing = min(units, float(self.limit)) - self._left
        return max(0.0, missing * 60.0 / self.limit)


class Standing(NamedTuple):
    """The tightest of a call's limits after it was let in, for the answer's headers; -1 is none."""

    requests_limit: int = -1
    requests_left: int = 0
    requests_full_s: float = 0.0
    tokens_limit: int = -1
    tokens_left: int = 0
    tokens_full_s: float = 0.0


class Exceeded(NamedTuple):
    """Which limit a call would break, and when it would not."""

    subject: Subject
    what: str
    """`requests per minute`, `tokens per minute`, `calls at once`."""
    limit: int
    retry_after_s: float
    standing: Standing


class _Counters:
    """One subject's counters; they stay when its allowance changes."""

    __slots__ = ("allowance", "concurrent", "requests", "running", "tokens")

    requests: Bucket | None
    tokens: Bucket | None

    def __init__(self, allowance: Allowance, now_s: float, share: int) -> None:
        self.running = 0
        self.allow(allowance, now_s, share)

    def allow(self, allowance: Allowance, now_s: float, share: int) -> None:
        """Count under this allowance from now on, of which `share` processes get a part each."""
        self.allowance = allowance
        self.concurrent = _part(allowance.concurrent, share)
        requests, tokens = allowance.requests_per_min, allowance.tokens_per_min
        self.requests = Bucket(_part(requests, share), now_s) if requests else None
        self.tokens = Bucket(_part(tokens, share), now_s) if tokens else None


def _part(limit: int, share: int) -> int:
    return max(1, limit // share) if limit else 0


class Lease:
    """What one call took; given back once."""

    __slots__ = ("_counters", "_reserved", "standing")

    def __init__(self, counters: list[_Counters], reserved: int, standing: Standing) -> None:
        self._counters = counters
        self._reserved = reserved
        self.standing = standing

    def settle(self, usage: Usage) -> None:
        """The call ended: its place is free, and its tokens are what it used. Mutates."""
        spent = usage.prompt_tokens + usage.completion_tokens
        counters, self._counters = self._counters, []
        for one in counters:
            one.running -= 1
            if one.tokens is not None:
                one.tokens.take(spent - self._reserved)


class Allowances:
    """Every subject's counters in one process. `share` is how many processes count beside it."""

    def __init__(self, share: int = 1) -> None:
        self._share = share
        self._counters: OrderedDict[str, _Counters] = OrderedDict()

    def take(self, call: Call, subjects: tuple[Subject, ...], now_s: float) -> Lease | Exceeded:
        """Let a call in under all its subjects' allowances, or say which one it breaks: then
        nothing is taken from any. Mutates."""
        tokens = call.prompt_tokens + _answer_tokens(call)
        found: list[_Counters] = []
        for subject in subjects:
            one = self._of(subject, now_s)
            found.append(one)
            broken = _broken(one, tokens, now_s)
            if broken is not None:
                return Exceeded(subject, *broken, _standing(found, now_s))
        for one in found:
            one.running += 1
            if one.requests is not None:
                one.requests.take(1)
            if one.tokens is not None:
                one.tokens.take(tokens)
        return Lease(found, tokens, _standing(found, now_s))

    def _of(self, subject: Subject, now_s: float) -> _Counters:
        one = self._counters.get(subject.id)
        if one is None:
            one = self._counters[subject.id] = _Counters(subject.allowance, now_s, self._share)
            if len(self._counters) > SUBJECTS_MAX:
                self._forget()
        elif one.allowance != subject.allowance:
            one.allow(subject.allowance, now_s, self._share)
        self._counters.move_to_end(subject.id)
        return one

    def _forget(self) -> None:
        """Drop the longest unused that has no call under way; those are as many as connections."""
        for id_, one in list(itertools.islice(self._counters.items(), 64)):
            if not one.running:
                del self._counters[id_]
                return
            self._counters.move_to_end(id_)


def _broken(one: _Counters, tokens: int, now_s: float) -> tuple[str, int, float] | None:
    """What would be broken, its limit, and in how many seconds it would not."""
    allowance = one.allowance
    if one.concurrent and one.running >= one.concurrent:
        return "calls at once", allowance.concurrent, 1.0
    if one.requests is not None and one.requests.left(now_s) < 1.0:
        wait_s = one.requests.wait_s(1.0)
        return "requests per minute", allowance.requests_per_min, wait_s
    if one.tokens is not None and one.tokens.left(now_s) < min(tokens, one.tokens.limit):
        # A call larger than a minute's worth is let in by a full bucket, which then owes.
        wait_s = one.tokens.wait_s(tokens)
        return "tokens per minute", allowance.tokens_per_min, wait_s
    return None


def _standing(found: list[_Counters], now_s: float) -> Standing:
    """The bucket of each kind that is nearest to empty."""
    standing = Standing()
    requests = [one.requests for one in found if one.requests is not None]
    tokens = [one.tokens for one in found if one.tokens is not None]
    for bucket in (*requests, *tokens):
        bucket.left(now_s)
    if requests:
        least = min(requests, key=_share_left)
        standing = standing._replace(
            requests_limit=least.limit, requests_left=_whole(least), requests_full_s=_full_s(least)
        )
    if tokens:
        least = min(tokens, key=_share_left)
        standing = standing._replace(
            tokens_limit=least.limit, tokens_left=_whole(least), tokens_full_s=_full_s(least)
        )
    return standing


def _share_left(bucket: Bucket) -> float:
    return -bucket.wait_s(bucket.limit)


def _whole(bucket: Bucket) -> int:
    return max(0, math.floor(bucket.limit - bucket.wait_s(bucket.limit) * bucket.limit / 60.0))


def _full_s(bucket: Bucket) -> float:
    return bucket.wait_s(bucket.limit)


def headers(standing: Standing) -> str:
    """OpenAI's `x-ratelimit-*` lines, each ended by CRLF."""
    lines = ""
    if standing.requests_limit >= 0:
        lines += (
            f"x-ratelimit-limit-requests: {standing.requests_limit}\r\n"
            f"x-ratelimit-remaining-requests: {standing.requests_left}\r\n"
            f"x-ratelimit-reset-requests: {standing.requests_full_s:.3f}s\r\n"
        )
    if standing.tokens_limit >= 0:
        lines += (
            f"x-ratelimit-limit-tokens: {standing.tokens_limit}\r\n"
            f"x-ratelimit-remaining-tokens: {standing.tokens_left}\r\n"
            f"x-ratelimit-reset-tokens: {standing.tokens_full_s:.3f}s\r\n"
        )
    return lines


def _answer_tokens(call: Call) -> int:
    """What the answer may hold: all choices together."""
    limit = UNKNOWN_ANSWER_TOKENS if call.max_tokens is None else call.max_tokens
    return limit * call.n
