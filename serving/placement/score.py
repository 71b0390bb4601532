"""The one score by which allowed targets are compared: what a call costs there, in millionths of a
US dollar, waiting and missed deadlines included. Pure. Lower is better.

The parts differ by orders of magnitude on purpose: a kept deadline outweighs everything, then an
answer that has not drifted, then the same weights, then (for `local-first`) our own engines, then
money and time against each other.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from models.capacity import Estimate, Quantiles
from serving.accounting import billed, price_at
from serving.placement.margin import beyond_s
from serving.placement.values import PolicyName, Route
from serving.records import Call, FleetView, Offering, Price, TargetState

LATE: Final = 1e15
LATE_SECOND: Final = 1e11
"""Of those that are late the earliest; a second is worth a tier."""
DRIFT, TIER, FOREIGN = 1e12, 1e11, 1e10
"""Above any price: a call of a million tokens at 1,000 dollars a million costs 1e9."""
UNKNOWN_MONEY: Final = 1e9
"""A price in a currency without a known rate: as if it were the dearest."""
SPENT_SHARE: Final = 0.1
"""What a credit or a prepaid quota counts of its price: it is paid, but spent on this call it is
gone for a dearer one. ASSUMED."""
GRACE_S: Final = 0.1
"""A held call wakes when it must leave or a little after, never before: by so much a third party
may be late and is still asked at once."""
OUTPUT_TOKENS: Final = 256
"""Of an answer whose length nobody named."""
_MTOK: Final = 1e6
_PAID_BEFORE: Final = ("credit", "prepaid")
_COST, _LATENCY = PolicyName.COST_FIRST, PolicyName.LATENCY_FIRST


class Expected(NamedTuple):
    """What a third party is expected to take, seconds; `complete_s` (the likely case) is None where
    only the first token is known."""

    first_token_s: Quantiles
    complete_s: float | None = None


def expected(
    offering: Offering, call: Call, state: TargetState | None, now_s: float
) -> Expected:  # fmt: skip
    """When a third party's first token and last are expected. The one place that says so."""
    if state is None or state.api is None:
        first_s = offering.first_token_s
        return Expected(Quantiles(first_s, first_s))
    pace, most = state.api, call.max_tokens
    tokens = pace.usual_tokens
    if most is not None and not 0.0 < tokens < most:
        tokens = most
    elif not tokens:
        tokens = call.answer_max or OUTPUT_TOKENS
    first = pace.first(call.prompt_tokens, now_s)
    return Expected(first, first.p50 + tokens * pace.token_s)


def money_micro(offering: Offering, call: Call, *, is_warm: bool = False) -> float:
    """What one call costs there, millionths of a dollar; own engines are paid by the hour. A warm
    prefix is charged at the cached price, a cold one is prefill that is paid again."""
    if not offering.exchange:
        return UNKNOWN_MONEY
    price = price_at(offering, call.received_ms, call.prompt_tokens)
    fresh = price.cached_micro_per_mtok if is_warm else price.input_micro_per_mtok
    spent = (
        billed(offering, call.prompt_tokens) * fresh
        + output_tokens(call) * price.output_micro_per_mtok
    )
    return spent * offering.exchange * spent_share(price) / _MTOK


def spent_share(price: Price) -> float:
    """What of a price counts: a tenant's own money as any."""
    return SPENT_SHARE if price.money_kind in _PAID_BEFORE else 1.0


def output_tokens(call: Call) -> int:
    """Expected of all its answers together: what it may say, else what its budget pays for."""
    if call.max_tokens is not None:
        return call.max_tokens * call.n
    return (call.answer_max or OUTPUT_TOKENS) * call.n


class Terms(msgspec.Struct, frozen=True, gc=False):
    """How a policy weighs a call's options; made once for a placement."""

    policy: PolicyName
    second_micro: float
    first_left_s: float
    complete_left_s: float
    now_s: float
    margin: float = 0.0
    """What our engines must keep beyond nine times of ten, in spreads; see `margin`."""

    def misses(self, first_s: Quantiles) -> float:
        """Seconds by which our first token is predicted to be late; 0 is in time. `cost-first`
        goes by the likely case, the others by nine of ten and what the late ones taught."""
        likely = first_s.p50 if self.policy is _COST else beyond_s(first_s, self.margin)
        return likely - self.first_left_s if likely > self.first_left_s else 0.0

    def late(self, when: Expected) -> float:
        """The same of a third party, whose last token counts where it is known. No margin: that
        was learnt of our engines."""
        first = when.first_token_s
        late_s = max(0.0, (first.p50 if self.policy is _COST else first.p90) - self.first_left_s)
        if not late_s and when.complete_s is not None:
            late_s = max(0.0, when.complete_s - self.complete_left_s)
        return late_s


def terms(call: Call, route: Route, policy: PolicyName, view: FleetView, now_s: float) -> Terms:
    """The terms of one placement."""
    margin = view.margins.of(call.model, call.latency_class, now_s)
    second = route.second_micro if policy is _LATENCY else 0.0
    first_left_s, whole_left_s = call.first_token_by_s - now_s, call.complete_by_s - now_s
    return Terms(policy, second, first_left_s, whole_left_s, now_s, margin)


def until(call: Call, when: Expected | None, limit_s: float, by: Terms) -> float:
    """How long a call may be held. A third party that would be in time must have it while it still
    is; one that is late anyway, or none, is asked when the limit is over."""
    if when is None or by.late(when) > GRACE_S:
        return limit_s
    first, complete_s = when
    last_s = call.first_token_by_s - (first.p50 if by.policy is _COST else first.p90)
    if complete_s is not None:
        last_s = min(last_s, call.complete_by_s - complete_s)
    return min(limit_s, last_s)


def of_own(estimate: Estimate, by: Terms) -> float:
    """The score of one of our engines: an hour that is paid anyhow costs nothing more."""
    score = by.second_micro * estimate.first_token_s.p50
    late_s = by.misses(estimate.first_token_s)
    return score + LATE + LATE_SECOND * late_s if late_s else score


def of_offering(offering: Offering, call: Call, view: FleetView, by: Terms) -> float:
    """The score of a third party's model."""
    when = expected(offering, call, view.state.get(offering.id), by.now_s)
    is_warm = call.toward == offering.id and bool(call.session)
    score = money_micro(offering, call, is_warm=is_warm) + TIER * (offering.tier - 1)
    score += by.second_micro * when.first_token_s.p50
    if by.policy not in (_COST, _LATENCY):
        score += FOREIGN
    if offering.id in view.drifting:
        score += DRIFT
    late_s = by.late(when)
    return score + LATE + LATE_SECOND * late_s if late_s else score
