"""How fast one account may be asked for one model, as the provider's own headers tell it. Pure.

A provider that says "997 of 1,000 requests left, all back in 6 s" is believed: calls it would
refuse go elsewhere before they are sent. What it has not told yet bounds nothing, and what it told
is forgotten once its window is over. All gateways draw on one account: of what it said was left,
each spends its part until it says so again, which it does with each answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

WINDOW_S: Final = 60.0
"""Of a limit whose header names no end: nearly all are per minute."""
WINDOW_S_MAX: Final = 3600.0
"""A day's quota that is used up is a refusal (`quota_window`), and the breaker's business."""
KEPT_BACK: Final = 0.02
"""Share of a limit that is never used: somebody else may draw on the same account."""
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_KINDS: Final = (
    # limit, remaining, reset; requests first. OpenAI and those that copied it; Anthropic; one pair.
    ("x-ratelimit-{}-requests", False),
    ("x-ratelimit-{}-tokens", True),
    ("anthropic-ratelimit-requests-{}", False),
    ("anthropic-ratelimit-tokens-{}", True),
    ("anthropic-ratelimit-input-tokens-{}", True),
    ("x-ratelimit-{}", False),
)


class _Quota:
    """One limit: what is left of it until when."""

    __slots__ = ("left", "limit", "pods", "spent", "until_s")

    def __init__(self, pods: int) -> None:
        self.pods = pods
        self.left = math.inf
        """Of all pods together, as it was told."""
        self.spent = 0.0
        """By this pod since then."""
        self.limit = math.inf
        self.until_s = 0.0

    def told(self, limit: float, left: float, until_s: float) -> None:
        self.limit, self.until_s, self.spent = limit, until_s, 0.0
        self.left = left - (limit * KEPT_BACK if math.isfinite(limit) else 0.0)

    def lacks(self, amount: float, now_s: float) -> bool:
        """A call larger than the whole limit is let through: only the provider can tell."""
        if now_s >= self.until_s or amount > self.limit:
            return False
        # One that is larger than a pod's part of the whole limit would fit into none.
        parts = 1 if amount > self.limit / self.pods else self.pods
        return self.left / parts - self.spent < amount


class Headroom:
    """What one account may still send for one model. Written by the backend, read by routing."""

    __slots__ = ("concurrent", "requests", "tokens")

    def __init__(self, concurrent: int = 0, pods: int = 1) -> None:
        self.requests, self.tokens = _Quota(pods), _Quota(pods)
        self.concurrent = max(1, concurrent // pods) if concurrent else 0
        """Calls at once, of this pod; 0 is unknown."""

    def holds_back(self, tokens: int, unfinished: int, now_s: float) -> bool:
        """Whether a call of so many tokens would be refused there now."""
        if self.concurrent and unfinished >= self.concurrent:
            return True
        return self.requests.lacks(1.0, now_s) or self.tokens.lacks(tokens, now_s)

    def until_s(self) -> float:
        """When the later of its windows ends."""
        return max(self.requests.until_s, self.tokens.until_s)

    def sent(self, tokens: int) -> None:
        """A call goes out: counted until the next answer tells."""
        self.requests.spent += 1.0
        self.tokens.spent += tokens

    def learn(self, headers: Mapping[str, str], now_s: float, utc_s: float) -> None:
        """Take in the head of an answer, good or bad. What cannot be read counts for nothing."""
        found: dict[bool, tuple[float, float, float]] = {}
        for is_tokens, limit, left, reset_s in _said(headers, utc_s):
            known = found.get(is_tokens)
            if known is None or left < known[1]:
                found[is_tokens] = limit, left, reset_s
        for is_tokens, (limit, left, reset_s) in found.items():
            quota = self.tokens if is_tokens else self.requests
            quota.told(limit, left, now_s + min(max(reset_s, 0.0), WINDOW_S_MAX))


def _said(headers: Mapping[str, str], utc_s: float) -> Iterator[tuple[bool, float, float, float]]:
    for pattern, is_tokens in _KINDS:
        left = _number(headers.get(pattern.format("remaining"), ""))
        if left is None:
            continue
        limit = _number(headers.get(pattern.format("limit"), ""))
        reset_s = _seconds(headers.get(pattern.format("reset"), ""), utc_s)
        yield is_tokens, limit or math.inf, left, WINDOW_S if reset_s is None else reset_s


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0.0 else None


def _seconds(text: str, utc_s: float) -> float | None:
    """`6m0s`, `20ms`, `12`, a moment since 1970 in seconds or milliseconds, or an ISO date."""
    spans = _SPAN.findall(text)
    if spans and "".join(a + b for a, b in spans) == text:
        return sum(float(amount) * _UNIT_S[unit] for amount, unit in spans)
    number = _number(text)
    if number is not None:
        if number < 1e9:
            return number
        return number / (1e3 if number > 1e11 else 1.0) - utc_s
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at.timestamp() - utc_s if at.tzinfo is not None else None
