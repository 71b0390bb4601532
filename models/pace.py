"""How fast one engine really is: what its profile foresees, corrected by what was seen. Pure.

A first token takes prefill, a step, and a wait for others to end; each part has a coefficient, for
each may be wrong by itself. What they leave unexplained is kept by regime (nothing before it, some
prompts before it, no room), whose median and ninth decile make p50 and p90.
"""

from __future__ import annotations

import math
from math import exp, hypot, log

import msgspec

from models.capacity import DECODE_P90, FIRST_TOKEN_P90, Basis, Estimate, Guess, Quantiles
from models.online import Fit, Spread

SHORTEST_S = 1e-9
"""Less is no duration."""
SURPRISE_MAX = 1.0
"""Of one observation's logarithm; more says no more."""
TOKENS_MIN = 8
"""Shorter answers tell nothing of the time per token."""
WHOLE_SEEN_MAX = 60
"""Completions whose spread is known: they follow the lengths of answers, which change at once."""
NARROWEST = 1.05
"""p90 / p50 at least: no prediction is surer than that."""
FREE, QUEUED, SHORT, FULL = range(4)


class Tokens(msgspec.Struct, frozen=True, gc=False):
    """Tokens of an answer to come."""

    p50: float
    p90: float


class Pace:
    """What was learnt of one engine."""

    __slots__ = ("_first", "_regimes", "_token", "_whole")

    def __init__(self) -> None:
        self._first = Fit(5)
        self._token = Fit(2)
        self._regimes = tuple(Spread(0.0, math.log(FIRST_TOKEN_P90)) for _ in range(4))
        self._whole = Spread(0.0, 1.0, seen_max=WHOLE_SEEN_MAX)

    def likely_s(self, basis: Basis, scale: float) -> float:
        """Seconds to the first token (p50): for whoever compares many."""
        return self._raw_s(basis, scale) * exp(self._regimes[regime_of(basis)].p50)

    def _raw_s(self, basis: Basis, scale: float) -> float:
        a, b, c, d, e = self._first.coefficients
        before_s = basis.before_s
        waited_s = (d if basis.is_behind else e) * basis.wait_s
        own_s = a * (basis.prefill_s - before_s)
        return (own_s + b * before_s + c * basis.step_s + waited_s) * scale

    def estimate(self, basis: Basis, tokens: Tokens, scale: float) -> Estimate:
        """First token and completion; `scale` corrects all of the first token's time."""
        first_s = self._raw_s(basis, scale)
        regime = self._regimes[regime_of(basis)]
        first50 = first_s * exp(regime.p50)
        first90 = first_s * exp(regime.p90)
        if first90 < first50 * NARROWEST:
            first90 = first50 * NARROWEST
        a, b = self._token.coefficients
        token_s = a * basis.alone_s + b * basis.shared_s
        decode50, decode90 = tokens.p50 * token_s, tokens.p90 * token_s * DECODE_P90
        whole50 = first50 + decode50
        whole90 = whole50 + hypot(first90 - first50, decode90 - decode50)
        log_spread = 0.0
        if whole50 > 0.0:
            spread = whole90 / whole50
            log_spread = log(spread if spread > NARROWEST else NARROWEST)
        guess = Guess(basis, first_s, whole50, log_spread)
        complete50 = whole50 * exp(self._whole.p50 * log_spread)
        if complete50 < first50:
            complete50 = first50
        complete90 = whole50 * exp(self._whole.p90 * log_spread)
        least90 = complete50 * NARROWEST
        if least90 < first90:
            least90 = first90
        if complete90 < least90:
            complete90 = least90
        return Estimate(Quantiles(first50, first90), Quantiles(complete50, complete90), guess)

    def opened(self, guess: Guess, seen_s: float, scale: float) -> float:
        """The first token came after `seen_s`; `scale` as it counts now. ln(seen / what the p50
        would be by now), bounded. Mutates.

        Compared with what is known now, not with what was said then: first tokens come late when
        queues are long, and a correction already made must not be made again for each of them.
        """
        basis = guess.basis
        terms = _terms(basis)
        foreseen_s = self._first.of(terms) * scale
        if not (SHORTEST_S < seen_s < math.inf and foreseen_s > SHORTEST_S):
            return 0.0
        off = math.log(seen_s / foreseen_s)
        regime = self._regimes[regime_of(basis)]
        surprise = off - regime.p50
        regime.add(off)
        self._first.learn(terms, seen_s)
        return min(max(surprise, -SURPRISE_MAX), SURPRISE_MAX)

    def ended(self, guess: Guess, tokens: int, first_s: float, whole_s: float) -> None:
        """An answer of so many tokens came to its end. Mutates."""
        basis = guess.basis
        if not SHORTEST_S < whole_s < math.inf:
            return
        if tokens >= TOKENS_MIN and whole_s > first_s > 0.0:
            self._token.learn((basis.alone_s, basis.shared_s), (whole_s - first_s) / (tokens - 1))
        if guess.complete_s > SHORTEST_S and guess.log_spread > 0.0:
            self._whole.add(math.log(whole_s / guess.complete_s) / guess.log_spread)


def _terms(basis: Basis) -> tuple[float, float, float, float, float]:
    """What a first token takes, in the order of the coefficients: those that wait for certain and
    those for whom memory may just do are different in kind."""
    before_s, wait_s = basis.before_s, basis.wait_s
    own_s = basis.prefill_s - before_s
    if basis.is_behind:
        return own_s, before_s, basis.step_s, wait_s, 0.0
    return own_s, before_s, basis.step_s, 0.0, wait_s


def regime_of(basis: Basis) -> int:
    """Which kind of wait it is."""
    if basis.wait_s > 0.0:
        return FULL if basis.is_behind else SHORT
    return QUEUED if basis.before_s > 0.5 * basis.prefill_s else FREE
