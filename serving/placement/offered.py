"""The best third party for a call among those that every rule allows. Pure.

What depends on the view alone (residency, switches, capability, prices) is sifted once for all
calls of a kind and kept with the view; what moves from call to call is asked of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from serving.codecs.coverage import needs
from serving.codecs.openai import RESERVED
from serving.placement import score
from serving.placement.fitness import Asked, hears, unfit
from serving.placement.score import DRIFT, FOREIGN, TIER, Expected, Terms
from serving.placement.tally import NEAR
from serving.placement.values import PolicyName, Route
from serving.records import (
    Call,
    Caller,
    FleetView,
    LatencyClass,
    Offering,
    Residency,
)
from serving.rules import EGRESS_POLICY_S_MAX, may_leave, may_see, may_use, owners

KINDS_MAX: Final = 1000
"""Kinds of calls that one view remembers."""
USUAL_TOKENS: Final = 1000
_PATIENT = (LatencyClass.PATIENT, LatencyClass.BATCH)
_COST, _LATENCY = PolicyName.COST_FIRST, PolicyName.LATENCY_FIRST
_NOTHING: Mapping[str, tuple[Offering, ...]] = {}
_NONE: frozenset[str] = frozenset()


class Ask(msgspec.Struct, frozen=True):
    """One call that wants a place, and what is known."""

    call: Call
    caller: Caller
    view: FleetView
    now_s: float
    tried: frozenset[str]
    route: Route
    residency: Residency


class Found(NamedTuple):
    """A third party, and what is expected of it."""

    offering: Offering
    score: float
    when: Expected


def offered(call: Call, view: FleetView) -> tuple[Offering, ...]:
    """Those behind the call's name: an adapter has its own. Its tenant's accounts come first."""
    name = call.adapter or call.model
    rows = view.offerings.get(name, ())
    if not view.theirs or not (own := view.theirs.get(call.tenant)):
        return rows
    return (*own.get(name, ()), *rows)


def best(ask: Ask, by: Terms) -> Found | None:
    """The third party with the lowest score; the owner's order where scores are equal. Of the
    caller's own accounts, where its key uses those; of ours only if the key may and none of its own
    can take the call."""
    for owner in owners(ask.caller):
        found = _best(ask, by, owner)
        if found is not None:
            return found
    return None


def _best(ask: Ask, by: Terms, owner: str) -> Found | None:
    call, view = ask.call, ask.view
    fit = _fit(ask, owner)
    if not fit or (not owner and ceiling(ask)):
        return None
    now_s, prompt, context = ask.now_s, call.prompt_tokens, call.prompt_tokens
    context += call.max_tokens or 0
    output = score.output_tokens(call)
    own_worth = 0.0 if by.policy in (_COST, _LATENCY) else FOREIGN
    second_micro, left_s, states, paces = by.second_micro, by.first_left_s, view.state, view.paces
    whole_left_s = by.complete_left_s
    out: frozenset[str] = ask.tried | call.unaffordable
    sound = call.sound
    found, least, when_found = None, float("inf"), None
    for base, fresh, answer, offering in fit:
        if fresh < 0.0 or offering.id == call.toward:
            is_warm = bool(call.session) and offering.id == call.toward
            money = score.money_micro(offering, call, is_warm=is_warm)
        else:
            money = prompt * fresh + output * answer
        total = base + money + own_worth
        if total >= least or context > offering.context_tokens or offering.id in out:
            continue  # cheaper ones cannot be beaten by one that is late too
        if sound is not None and not hears(offering, sound):
            continue
        state = states.get(offering.id)
        if state is not None and (state.open_until_s > now_s or state.full_until_s > now_s):
            continue
        when = score.expected(offering, call, state, now_s)
        first_s, complete_s = when
        total += second_micro * first_s.p50
        is_slow = complete_s is not None and complete_s > whole_left_s
        if (is_slow or first_s.p90 > left_s) and (late_s := by.late(when)):
            total += score.LATE + score.LATE_SECOND * late_s
        if total >= least:
            continue
        if paces:  # last: only of those that would be chosen
            pace = paces.get(offering.id)
            unfinished = 0 if state is None else state.unfinished
            if pace is not None and pace.holds_back(context, unfinished, now_s):
                continue
        found, least, when_found = offering, total, when
    if found is None or when_found is None:
        return None
    return Found(found, least, when_found)


def named(ask: Ask, offering_id: str, by: Terms) -> Found | None:
    """That one third party, if every rule allows it now."""
    call = ask.call
    if not any(o.id == offering_id for owner in owners(ask.caller) for *_, o in _fit(ask, owner)):
        return None
    pinned = replace(ask, tried=ask.tried | {o.id for o in offered(call, ask.view)} - {offering_id})
    return best(pinned, by)


def ceiling(ask: Ask) -> str:
    """The ceiling that keeps the call at home; empty when none does. Near a ceiling those stay that
    can wait."""
    most, tally, call = ask.route.ceilings, ask.view.tally, ask.call
    if most is None or tally is None:
        return ""
    states = ask.view.state
    out = sum([states[name].unfinished for name in _behind(call.model, ask.view) if name in states])
    now_ms = call.received_ms + round((ask.now_s - call.received_s) * 1e3)
    name, used = tally.reached(call.model, most, out, now_ms)
    bound = NEAR if call.latency_class in _PATIENT else 1.0
    return name if used >= bound else ""


def _behind(model: str, view: FleetView) -> tuple[str, ...]:
    """All third parties' models that stand for one of ours: its adapters' own tunings too, whose
    calls count as the model's."""
    kept: tuple[str, ...] | None = view.sifted.get(model)
    if kept is None:
        rows = (row for rows in view.offerings.values() for row in rows if row.model == model)
        kept = view.sifted[model] = tuple({row.id: None for row in rows})
    return kept


def _fit(ask: Ask, owner: str) -> tuple[tuple[float, float, float, Offering], ...]:
    """(score that no call changes, micro a prompt token, micro an answer token, offering) of those
    that may answer calls of this kind, bought with that owner's accounts."""
    call, caller, view, residency = ask.call, ask.caller, ask.view, ask.residency
    sold = view.theirs.get(owner, _NOTHING) if owner else view.offerings
    rows = sold.get(call.adapter or call.model, ())
    if not rows or not may_leave(call, caller):
        return ()
    if ask.now_s - view.policy_at_s > EGRESS_POLICY_S_MAX:
        return ()
    wanted = needs(call.fields, RESERVED)
    asked = Asked(call, caller, ask.route, wanted)
    kind = (
        call.adapter or call.model, call.surface, residency.level, residency.jurisdictions,
        asked.tier_max, asked.is_live, wanted, call.pin, owner and (owner, caller.key_id),
        bool(call.batch),
    )  # fmt: skip
    fit = view.sifted.get(kind)
    if fit is None:
        asked.tokens, asked.sound = 0, None  # each call has its own
        # The cheapest of a usual call first, and it is quickly seen that no later one beats it.
        # Sorting keeps the owner's order among equals.
        fit = tuple(
            sorted(
                (
                    _priced(row, view)
                    for row in rows
                    if residency.admits(row.label)
                    and may_use(row, caller)
                    and may_see(row, view, ask.now_s)
                    and call.pin in ("", row.id)
                    and not unfit(row, call, asked)
                ),
                key=_usual,
            )
        )
        if len(view.sifted) < KINDS_MAX:
            view.sifted[kind] = fit
    return fit


def _usual(priced: tuple[float, float, float, Offering]) -> float:
    base, fresh, answer, row = priced
    if fresh < 0.0:
        fresh, answer = row.price.input_micro_per_mtok / 1e6, row.price.output_micro_per_mtok / 1e6
    return base + USUAL_TOKENS * fresh + score.OUTPUT_TOKENS * answer


def _priced(row: Offering, view: FleetView) -> tuple[float, float, float, Offering]:
    base = TIER * (row.tier - 1) + (DRIFT if row.id in view.drifting else 0.0)
    if row.rates or not row.exchange or row.hearing is not None:
        return base, -1.0, 0.0, row
    price = row.price
    share = row.exchange / 1e6 * score.spent_share(price)
    return base, price.input_micro_per_mtok * share, price.output_micro_per_mtok * share, row
