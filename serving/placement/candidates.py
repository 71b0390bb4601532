"""All targets behind a call's name as its placement sees them: what each would take and cost, or
what keeps it out. Pure; for people who ask, never on the request path.
"""

from __future__ import annotations

from typing import Final

import msgspec

from serving.choice import IDLE, has_room, predict
from serving.codecs.coverage import needs
from serving.codecs.openai import RESERVED
from serving.placement import score
from serving.placement.fitness import UNFIT, Asked, unfit, weights
from serving.placement.offered import Ask, ceiling, offered
from serving.placement.values import Route
from serving.records import (
    Burst,
    Call,
    Caller,
    FleetView,
    LatencyClass,
    Offering,
    Placement,
    Refuse,
    Replica,
    Run,
    Wait,
)
from serving.routing import place, route_of
from serving.rules import HARD, effective_residency, keeps_out, stopped

NOW: Final = {
    "full": "it is full",
    "pace": "its provider's rate limit is used up for the moment",
    "ceiling": "a ceiling of its name on what may leave is reached",
    "adapter": "it does not have the adapter loaded",
    "thinking": UNFIT["thinking"],
}
"""Beside the hard rules and what a target cannot do: what may be over in a moment."""
WORDS: Final = HARD | UNFIT | NOW


class Candidate(msgspec.Struct, frozen=True):
    """One target."""

    id: str
    kind: str
    """`own` or `api`."""
    weights: str
    jurisdiction: str
    dropped: str
    """The first rule that keeps it out, a key of `WORDS`; empty: it is a candidate."""
    first_token_s: float
    """Predicted, as likely as not."""
    first_token_p90_s: float
    cost_micro: float
    """Of this call, millionths of a US dollar; own engines are paid by the hour."""
    score: float
    """Lower is better; above `score.LATE` it is predicted to miss the deadline."""


class Explained(msgspec.Struct, frozen=True):
    """A placement and what it was chosen from."""

    decision: str
    """`run`, `burst`, `wait` or `refuse`."""
    target: str
    reason: str
    message: str
    policy: str
    shadow: str
    margin: float
    """Spreads (p90 - p50) that our engines must keep beyond p90, learnt from late calls."""
    candidates: tuple[Candidate, ...]


def explained(call: Call, caller: Caller, view: FleetView, now_s: float) -> Explained:
    """Where a call would go now, and all that could have been."""
    placement = place(call, caller, view, now_s)
    route = route_of(call, view)
    residency = effective_residency(call, caller)
    ask = Ask(call, caller, view, now_s, frozenset(), route, residency)
    by = score.terms(call, route, route.policy, view, now_s)
    rows = [_of_own(row, ask, by) for row in view.replicas.get(call.model, ())]
    rows += [_of_offering(row, ask, by) for row in offered(call, view)]
    rows.sort(key=lambda row: (bool(row.dropped), row.score))
    told, target, message = _told(placement)
    shadow = placement.shadow if isinstance(placement, Run | Burst) else ""
    return Explained(
        told, target, placement.reason, message, route.policy, shadow, by.margin, tuple(rows)
    )  # fmt: skip


def _told(placement: Placement) -> tuple[str, str, str]:
    if isinstance(placement, Run):
        return "run", placement.target.id, ""
    if isinstance(placement, Burst):
        return "burst", placement.target.id, ""
    if isinstance(placement, Refuse):
        return "refuse", "", placement.message
    assert isinstance(placement, Wait)
    return "wait", "", ""


def _dropped(target: Replica | Offering, ask: Ask) -> str:
    """By a hard rule."""
    if ask.view.stops is not None and stopped(ask.call, ask.view.stops):
        return "stopped"
    asked = ask.call, ask.caller, ask.residency
    return keeps_out(target, asked, ask.view, ask.now_s, ask.tried)


def _of_own(row: Replica, ask: Ask, by: score.Terms) -> Candidate:
    call, view, now_s = ask.call, ask.view, ask.now_s
    dropped = _dropped(row, ask) or _unfit_own(row, call, ask.route)
    if not dropped and not has_room(row, view, now_s):
        dropped = "full"
    found = predict(call, row, view.state.get(row.id, IDLE), view, now_s)
    first = found.first_token_s
    return Candidate(
        row.id, "own", weights(row), row.label.jurisdiction, dropped, first.p50, first.p90, 0.0,
        score.of_own(found, by),
    )  # fmt: skip


def _unfit_own(row: Replica, call: Call, route: Route) -> str:
    if call.adapter and call.adapter not in row.adapters:
        return "adapter"
    return "thinking" if route.is_thinking and call.latency_class is LatencyClass.LIVE else ""


def _of_offering(row: Offering, ask: Ask, by: score.Terms) -> Candidate:
    call, view = ask.call, ask.view
    asked = Asked(call, ask.caller, ask.route, needs(call.fields, RESERVED))
    state = view.state.get(row.id)
    when = score.expected(row, call, state, ask.now_s).first_token_s
    return Candidate(
        row.id, "api", weights(row), row.label.jurisdiction,
        _dropped(row, ask) or unfit(row, call, asked) or _held(row, ask), when.p50, when.p90,
        score.money_micro(row, call), score.of_offering(row, call, view, by),
    )  # fmt: skip


def _held(row: Offering, ask: Ask) -> str:
    """What may be over in a moment."""
    state = ask.view.state.get(row.id)
    if state is not None and state.full_until_s > ask.now_s:
        return "full"
    pace, tokens = ask.view.paces.get(row.id), ask.call.prompt_tokens + (ask.call.max_tokens or 0)
    unfinished = 0 if state is None else state.unfinished
    if pace is not None and pace.holds_back(tokens, unfinished, ask.now_s):
        return "pace"
    return "ceiling" if not row.owner and ceiling(ask) else ""
