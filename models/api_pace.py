"""How fast a third party's API answers: time to first token by size of prompt, and time per token,
as the latest answers were. Pure.

It starts from the time its row states, counted as a few observations, and returns to that when no
answer came for long: a provider that was slow an hour ago is not slow for ever.
"""

from __future__ import annotations

import math
from bisect import bisect_left

from models.capacity import Estimate, Quantiles
from models.online import Spread
from models.pace import SHORTEST_S, TOKENS_MIN, Tokens

SIZES = (1_000, 4_000, 16_000, 64_000)
"""Prompt tokens; beyond the last is a bucket of its own."""
STATED_SPREAD = (-0.4, -0.2, 0.0, 0.2, 0.7)
"""ln of the observations that a stated median counts as: its ninth decile is twice that."""
TOKEN_S = 0.02
"""Per token of the answer before anything was seen; 50 tokens a second."""
FRESH_S = 60.0
"""News no older than this count in full."""
MEAN_WEIGHT = 0.02
"""Of the newest answer in the mean length."""
USUAL_SEEN_MIN = 20
"""Answers of which a median says what is usual; five slow ones in a row do not move it then."""
HALF_S = 600.0
"""What was seen loses half its weight against what is stated in this time without news."""


class ApiPace:
    """What was learnt of one offering; see the module."""

    __slots__ = (
        "_at_s", "_first", "_stated", "_token", "_told", "token_s", "usual_tokens",
    )  # fmt: skip

    def __init__(self, stated_first_s: float) -> None:
        self._stated = max(stated_first_s, 1e-3)
        self._first: list[Spread | None] = [None] * (len(SIZES) + 2)
        """By size; the last is of all sizes together."""
        self._told: list[Quantiles | None] = [None] * len(self._first)
        """The same as seconds, for whoever compares many."""
        self._token = _started(TOKEN_S)
        self.token_s = TOKEN_S
        """Per token of the answer, as likely below as above."""
        self.usual_tokens = 0.0
        """Of its answers, about the last fifty; 0 before there was one."""
        self._at_s = -math.inf

    def first(self, prompt_tokens: int, now_s: float) -> Quantiles:
        """Seconds to the first token of a call sent now."""
        found = self._told[bisect_left(SIZES, prompt_tokens)] or self._told[-1]
        if found is None:
            return Quantiles(self._stated, 2.0 * self._stated)
        return self._faded(found, now_s)

    def _faded(self, found: Quantiles, now_s: float) -> Quantiles:
        """What was seen, and the less of it the longer ago."""
        stated = self._stated
        age_s = now_s - self._at_s
        if age_s < FRESH_S:
            return found
        weight = math.pow(0.5, age_s / HALF_S)
        return Quantiles(
            found.p50**weight * stated ** (1.0 - weight),
            found.p90**weight * (2.0 * stated) ** (1.0 - weight),
        )

    def usual_first_s(self, prompt_tokens: int, now_s: float) -> float | None:
        """The median of `first`; None before enough answers to prompts of about that size, or of
        all sizes, came to tell what is usual there."""
        for place in (bisect_left(SIZES, prompt_tokens), -1):
            spread, told = self._first[place], self._told[place]
            if told and spread and spread.seen >= USUAL_SEEN_MIN + len(STATED_SPREAD):
                return self._faded(told, now_s).p50
        return None

    def estimate(self, prompt_tokens: int, tokens: Tokens, now_s: float) -> Estimate:
        """What a call sent now would see."""
        first = self.first(prompt_tokens, now_s)
        whole50 = first.p50 + tokens.p50 * self.token_s
        decode = tokens.p90 * math.exp(self._token.p90) - tokens.p50 * self.token_s
        whole90 = whole50 + math.hypot(first.p90 - first.p50, decode)
        return Estimate(first, Quantiles(whole50, whole90))

    def opened(self, prompt_tokens: int, seen_s: float, now_s: float) -> None:
        """The first token of a stream came after `seen_s`. Mutates."""
        if not SHORTEST_S < seen_s < math.inf:
            return
        self._at_s = now_s
        for place in (bisect_left(SIZES, prompt_tokens), -1):
            spread = self._first[place]
            if spread is None:
                spread = self._first[place] = _started(self._stated)
            spread.add(math.log(seen_s))
            self._told[place] = Quantiles(math.exp(spread.p50), math.exp(spread.p90))

    def ended(self, tokens: int, first_s: float, whole_s: float) -> None:
        """An answer of so many tokens came to its end. Mutates."""
        if tokens > 0:
            known = self.usual_tokens or float(tokens)
            self.usual_tokens = known + MEAN_WEIGHT * (tokens - known)
        if tokens >= TOKENS_MIN and math.inf > whole_s > first_s + SHORTEST_S:
            self._token.add(math.log((whole_s - first_s) / (tokens - 1)))
            self.token_s = math.exp(self._token.p50)


def _started(stated: float) -> Spread:
    """A spread that has seen what is stated a few times."""
    level = math.log(stated)
    spread = Spread(level, level + math.log(2.0), seen_min=len(STATED_SPREAD), seen_max=64)
    for off in STATED_SPREAD:
        spread.add(level + off)
    return spread
