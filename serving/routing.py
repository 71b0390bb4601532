"""One placement for one call over one view of the fleet. Pure.

Hard rules first (`rules`), then whether a target can answer at all (`placement.fitness`); they
filter our own pools too and fail closed. Then the policy of the call's name: by default our own
engines in the order of prefix affinity and predicted wait, a third party's API where waiting would
miss the deadline, then the queue, then no. docs/routing.md tells it whole.
"""

from __future__ import annotations

from msgspec.structs import replace

from models.capacity import Estimate
from serving.choice import IDLE, Survey, choose, predict, scale_now, share, soonest, survey
from serving.placement import score, spill
from serving.placement.margin import beyond_s
from serving.placement.offered import Ask, Found, best, named
from serving.placement.score import Terms
from serving.placement.values import PLAIN, PolicyName, Route
from serving.placement.words import RETRY_S_DEFAULT, kept_home, retry_s, told, unserved
from serving.records import (
    OWN,
    Burst,
    Call,
    Caller,
    FleetView,
    LatencyClass,
    Pending,
    Placement,
    Refuse,
    Replica,
    Run,
    TargetState,
    Wait,
)
from serving.rules import BOUGHT, effective_residency, may_see, stopped, unpaid

_NONE: frozenset[str] = frozenset()
_OWN_PINS = ("", OWN)
_COST, _LATENCY = PolicyName.COST_FIRST, PolicyName.LATENCY_FIRST


def place(
    call: Call, caller: Caller, view: FleetView, now_s: float, tried: frozenset[str] = _NONE
) -> Placement:
    """Where this call goes now. `tried` names targets that failed it already."""
    route = route_of(call, view)
    ask = Ask(call, caller, view, now_s, tried, route, effective_residency(call, caller))
    placement = _placed(ask, route.policy)
    if isinstance(placement, Refuse):
        if call.unaffordable:
            paid = best(replace(ask, call=replace(call, unaffordable=_NONE)), _terms(ask))
            if paid is not None:
                return unpaid(call)
    elif call.route and not isinstance(placement, Wait):
        why = "" if placement.reason == "arm" else f"/{placement.reason}"
        placement = replace(placement, reason=call.route + why)
    if route.shadow is not None and isinstance(placement, Run | Burst):
        other = told(_placed(ask, route.shadow))
        placement = replace(placement, shadow=f"{route.shadow}={other}")
    return placement


def route_of(call: Call, view: FleetView) -> Route:
    """How calls to its name are placed; a model that a rule or a budget chose brings its own."""
    route = view.routes.get(call.alias, PLAIN)
    if route.model and route.model != call.model:
        route = view.routes.get(call.model, PLAIN)
    return route


def in_line(
    call: Call, caller: Caller, view: FleetView, now_s: float, tried: frozenset[str] = _NONE
) -> Wait:
    """How long a call for which there is room stands behind those that have waited longer. At the
    end it takes the room, or what `place` then finds."""
    ask = Ask(
        call, caller, view, now_s, tried, route_of(call, view), effective_residency(call, caller)
    )
    by = _terms(ask)
    found = best(ask, by)
    limit_s = min(call.first_token_by_s, call.received_s + view.hold_s_max)
    return Wait(score.until(call, found and found.when, limit_s, by), "in line")


def free(replica: Replica, view: FleetView) -> int:
    """How many more calls this pod may send to a replica."""
    state = view.state.get(replica.id, IDLE)
    return max(0, share(replica, view) - state.unfinished)


def own_engines(ask: Ask) -> Survey:
    """Our engines that may see the call and could serve it. Residency and switches are asked once
    for each label: the engines of one pool share it."""
    call, view = ask.call, ask.view
    rows = view.replicas.get(call.model, ()) if call.pin in _OWN_PINS else ()
    if call.surface in BOUGHT or (
        ask.route.is_thinking and call.latency_class is LatencyClass.LIVE
    ):
        rows = ()
    label, is_in, kept = None, False, []
    for replica in rows:
        if replica.label is not label:
            label = replica.label
            is_in = ask.residency.admits(label) and may_see(replica, view, ask.now_s)
        if is_in:
            kept.append(replica)
    return survey(call, tuple(kept), view, ask.now_s, ask.tried)


def _placed(ask: Ask, policy: PolicyName) -> Placement:
    call, view, now_s = ask.call, ask.view, ask.now_s
    if view.stops is not None and (why := stopped(call, view.stops)):
        return Refuse("stopped", "kill_switch", why, RETRY_S_DEFAULT)
    by = _terms(ask, policy)
    if call.toward and call.toward != OWN:
        found = named(ask, call.toward, by)
        if found is not None:
            return Burst(found.offering, "arm")
    own = own_engines(ask)
    if not own.roomy and not own.full:
        return _elsewhere(ask, by)
    if not own.roomy:
        chosen, predicted = soonest(call, own.full, view, now_s)
        return _wait_or_burst(ask, by, predicted, view.state.get(chosen.id, IDLE))
    chosen = choose(call, own.roomy, own.loads)
    predicted = predict(call, chosen, view.state.get(chosen.id, IDLE), view, now_s)
    if len(own.roomy) > 1 and beyond_s(predicted.first_token_s, by.margin) > by.first_left_s:
        # Neither affinity nor chance may miss a deadline that another engine would keep.
        chosen, predicted = soonest(call, own.roomy, view, now_s)
    return _run_or_burst(ask, by, chosen, predicted)


def _terms(ask: Ask, policy: PolicyName | None = None) -> Terms:
    return score.terms(ask.call, ask.route, policy or ask.route.policy, ask.view, ask.now_s)


def _run_or_burst(ask: Ask, by: Terms, replica: Replica, predicted: Estimate) -> Placement:
    """A replica has room: run, unless its predicted wait misses the deadline or it is worth to
    leave."""
    is_whole = predicted.complete_s.p50 <= by.complete_left_s
    if is_whole and not by.misses(predicted.first_token_s):
        return _leaving(ask, by, replica, predicted) or Run(replica, "local", predicted)
    found = best(ask, by)
    if found is not None and _is_better(found, predicted, by):
        return Burst(found.offering, "overflow:predicted_wait")
    state = ask.view.state.get(replica.id, IDLE)
    wait_s, first_left_s = predicted.first_token_s.p50, by.first_left_s
    if _is_idle(state):
        # What was learnt under load does not hold for an idle engine; its profile does.
        wait_s /= max(1.0, scale_now(state, ask.now_s))
    if wait_s <= first_left_s:
        # Completion is an upper bound (the answer may stop early): never a ground to refuse.
        return Run(replica, "local:tight", predicted)
    if found is not None:  # late as well, and an answer all the same
        return Burst(found.offering, "overflow:predicted_wait")
    return Refuse(
        "deadline_unreachable",
        "predicted_wait",
        f"the predicted wait of {predicted.first_token_s.p50:.1f} s exceeds this call's deadline "
        f"of {max(0.0, first_left_s):.1f} s to the first token",
        retry_s(predicted.first_token_s.p50 - first_left_s),
    )


def _leaving(ask: Ask, by: Terms, replica: Replica, predicted: Estimate) -> Burst | None:
    """Leave though our engine would be in time: where speed is worth the money, or under a pressure
    that lasts, before the calls behind this one are late."""
    call = ask.call
    pressed = ask.view.spills.get(call.model)
    is_pressed = pressed is not None and pressed.share > 0.0
    if call.toward == OWN or not (is_pressed or by.policy is _LATENCY):
        return None
    found = best(ask, by)
    if found is None or by.late(found.when):
        return None
    if by.policy is _LATENCY and found.score < score.of_own(predicted, by):
        return Burst(found.offering, "latency:sooner")
    if pressed is not None and spill.leaves(call, found.offering, replica.profile, pressed):
        return Burst(found.offering, "overflow:pressure")
    return None


def _is_better(found: Found, own: Estimate, by: Terms) -> bool:
    """Whether a third party is less late than our engine, or not at all."""
    late_s = by.misses(own.first_token_s)
    if not late_s:
        if found.when.complete_s is None:  # as late as ours, for all we know
            return found.when.first_token_s.p90 < own.first_token_s.p90
        late_s = own.complete_s.p50 - by.complete_left_s
    return found.score < score.LATE + score.LATE_SECOND * late_s


def _is_idle(state: TargetState) -> bool:
    load = state.load
    return not (state.unfinished or load.running or load.waiting)


def _wait_or_burst(ask: Ask, by: Terms, predicted: Estimate, state: TargetState) -> Placement:
    """Replicas exist but are full."""
    call, now_s = ask.call, ask.now_s
    limit_s = min(call.first_token_by_s, call.received_s + ask.view.hold_s_max)
    is_expected = (
        call.may_wait
        and not ask.route.is_closed
        and now_s < limit_s
        and now_s + predicted.first_token_s.p50 <= limit_s
    )
    is_doubtful = state.full_until_s > now_s or by.misses(predicted.first_token_s) > 0.0
    is_to_leave = by.policy is _LATENCY or (is_doubtful and by.policy is not _COST)
    found = best(ask, by)
    until_s = score.until(call, found and found.when, limit_s, by)
    if found is not None and (is_to_leave or not is_expected or until_s <= now_s):
        return Burst(found.offering, "overflow:full")
    if is_expected:
        return Wait(until_s, "full")
    message = f"every replica of {call.model!r} is full{kept_home(ask)}"
    return Refuse("no_capacity", "full", message, retry_s(predicted.first_token_s.p50))


def _elsewhere(ask: Ask, by: Terms) -> Placement:
    """No replica of ours can be used now."""
    call, view, now_s = ask.call, ask.view, ask.now_s
    limit_s = min(call.first_token_by_s, call.received_s + view.hold_s_max)
    pending = view.pending.get(call.model) if call.pin in _OWN_PINS else None
    may_wait = call.may_wait and not ask.route.is_closed and now_s < limit_s
    is_worth = pending is not None and may_wait and _is_by(pending, limit_s, by)
    found = best(ask, by)
    until_s = score.until(call, found and found.when, limit_s, by)
    if found is not None and (by.policy is _LATENCY or not is_worth or until_s <= now_s):
        return Burst(found.offering, "overflow:retry" if ask.tried else "overflow:no_replica")
    if is_worth:
        return Wait(until_s, "loading")
    if pending is not None:
        wait_s = max(1.0, pending.expected_s - now_s)
        message = f"the engine of {call.model!r} is loading, expected in {wait_s:.0f} s"
        return Refuse("engine_loading", "loading", message + kept_home(ask), retry_s(wait_s))
    return unserved(ask)


def _is_by(pending: Pending, limit_s: float, by: Terms) -> bool:
    """Whether holding a call is worth it: nine starts of ten end in time; for `cost-first` half."""
    if by.policy is _COST:
        return pending.expected_s <= limit_s
    return max(pending.expected_s, pending.by_s) <= limit_s
