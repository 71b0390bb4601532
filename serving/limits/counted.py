"""What of an allowance is counted, by what rule and under what name. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from serving.limits.base import Meter, Rule
from serving.records import Allowance

MINUTE_S, HOURS_5_S, WEEK_S, MONTH_S = 60.0, 5 * 3600.0, 7 * 86_400.0, 30 * 86_400.0


class Counted(NamedTuple):
    """One limit of a subject and its counter."""

    what: str
    is_tokens: bool
    is_plan: bool
    limit: int
    """As given, for all processes together."""
    meter: Meter

    def units(self, tokens: int) -> int:
        """What a call that may use so many tokens takes of it."""
        return tokens if self.is_tokens else 1


def rules(allowance: Allowance) -> Iterator[tuple[str, str, Rule]]:
    """What to count: in words, as the counter's name, and how."""
    a = allowance
    for text, name, length_s, requests, tokens in (
        ("minute", "60s", MINUTE_S, a.requests_per_min, a.tokens_per_min),
        ("5 hours", "5h", HOURS_5_S, a.requests_per_5h, a.tokens_per_5h),
        ("week", "7d", WEEK_S, a.requests_per_week, a.tokens_per_week),
        ("month (30 days)", "30d", MONTH_S, a.requests_per_month, a.tokens_per_month),
    ):
        for kind, limit in (("requests", requests), ("tokens", tokens)):
            if limit:
                rule = Rule(limit, length_s, length_s > MINUTE_S)
                yield f"{kind} per {text}", f"{kind} {name}", rule
