"""How the tightest of a call's limits stand, and the headers that say so. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from serving.limits.base import Meter
from serving.limits.counted import Counted


class Standing(NamedTuple):
    """The tightest of a call's limits after it was let in, for the answer's headers; -1 is none."""

    requests_limit: int = -1
    requests_left: int = 0
    requests_full_s: float = 0.0
    tokens_limit: int = -1
    tokens_left: int = 0
    tokens_full_s: float = 0.0


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


def standing_of(every: list[Counted], now_s: float) -> Standing:
    """Of each kind the counter of which the least part is left."""
    standing = Standing()
    least = _least((c for c in every if not c.is_tokens), now_s)
    if least is not None:
        standing = standing._replace(
            requests_limit=least.limit, requests_left=_whole(least, now_s),
            requests_full_s=least.full_s(now_s),
        )  # fmt: skip
    least = _least((c for c in every if c.is_tokens), now_s)
    if least is not None:
        standing = standing._replace(
            tokens_limit=least.limit, tokens_left=_whole(least, now_s),
            tokens_full_s=least.full_s(now_s),
        )  # fmt: skip
    return standing


def _least(counted: Iterable[Counted], now_s: float) -> Meter | None:
    meters = [one.meter for one in counted]
    return min(meters, key=lambda m: m.left(now_s) / m.limit, default=None)


def _whole(meter: Meter, now_s: float) -> int:
    return max(0, math.floor(meter.left(now_s)))
