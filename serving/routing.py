"""One placement for one call over one view of the fleet. Pure.

Hard rules first (`rules`, and what no budget pays for), then surface, breaker, the caller's
overflow right; they filter our own pools too and fail closed. Then our own replicas in the order of
prefix affinity and predicted wait, then a third party's API when waiting would miss the deadline,
then the queue, then no.
"""

from __future__ import annotations

import math

from msgspec.structs import replace

from models.capacity import Estimate
from serving.choice import IDLE, choose, has_room, predict, scale_now, share, soonest
from serving.codecs.coverage import needs
from serving.codecs.openai import RESERVED
from serving.records import (
    OWN,
    POOLED,
    Burst,
    Call,
    Caller,
    FleetView,
    Offering,
    Overflow,
    Pending,
    Placement,
    Refuse,
    Replica,
    Run,
    Surface,
    Target,
    TargetState,
    Wait,
)
from serving.rules import effective_residency, may_see, stopped, unpaid

_NONE: frozenset[str] = frozenset()
_OWN_PINS = ("", OWN)
RETRY_S_DEFAULT = 30.0
"""Nothing is known to be coming back: a client may as well ask again in half a minute."""
RETRY_S_MAX = 600.0


def place(
    call: Call, caller: Caller, view: FleetView, now_s: float, tried: frozenset[str] = _NONE
) -> Placement:
    """Where this call goes now. `tried` names targets that failed it already."""
    placement = _placed(call, caller, view, now_s, tried)
    if call.unaffordable and isinstance(placement, Refuse):
        paid = _offering(replace(call, unaffordable=_NONE), caller, view, now_s, tried)
        if paid is not None:
            return unpaid(call)
    return placement


def _placed(
    call: Call, caller: Caller, view: FleetView, now_s: float, tried: frozenset[str]
) -> Placement:
    if view.stops is not None and (why := stopped(call, view.stops)):
        return Refuse("stopped", "kill_switch", why, RETRY_S_DEFAULT)
    residency = effective_residency(call, caller)
    own = view.replicas.get(call.model, ()) if call.pin in _OWN_PINS else ()
    admitted = [r for r in own if residency.admits(r.label)]
    usable = [r for r in admitted if _is_usable(r, view, now_s, tried)]
    if call.adapter:
        usable = [r for r in usable if call.adapter in r.adapters]
    if not usable:
        return _elsewhere(call, caller, view, now_s, tried)
    roomy = [r for r in usable if has_room(r, view, now_s)]
    if not roomy:
        chosen, predicted = soonest(call, usable, view, now_s)
        state = view.state.get(chosen.id, IDLE)
        return _wait_or_burst(call, caller, view, now_s, (predicted, state, tried))
    chosen = choose(call, roomy, view, now_s)
    predicted = predict(call, chosen, view.state.get(chosen.id, IDLE), view, now_s)
    if len(roomy) > 1 and now_s + predicted.first_token_s.p90 > call.first_token_by_s:
        # Neither affinity nor chance may miss a deadline that another engine would keep.
        chosen, predicted = soonest(call, roomy, view, now_s)
    return _run_or_burst(call, caller, view, now_s, (chosen, predicted, tried))


def free(replica: Replica, view: FleetView) -> int:
    """How many more calls this pod may send to a replica."""
    state = view.state.get(replica.id, IDLE)
    return max(0, share(replica, view) - state.unfinished)


def _is_usable(replica: Replica, view: FleetView, now_s: float, tried: frozenset[str]) -> bool:
    if replica.id in tried or not may_see(replica, view, now_s):
        return False
    state = view.state.get(replica.id)
    return state is None or state.open_until_s <= now_s


def _run_or_burst(
    call: Call, caller: Caller, view: FleetView, now_s: float,
    option: tuple[Replica, Estimate, frozenset[str]],
) -> Placement:  # fmt: skip
    """A replica has room: run, unless its predicted wait misses the deadline."""
    replica, predicted, tried = option
    first_left_s = call.first_token_by_s - now_s
    complete_left_s = call.complete_by_s - now_s
    if predicted.first_token_s.p90 <= first_left_s and predicted.complete_s.p50 <= complete_left_s:
        return Run(replica, "local", predicted)
    offering = _offering(call, caller, view, now_s, tried)
    if offering is not None and offering.first_token_s < predicted.first_token_s.p90:
        return Burst(offering, "overflow:predicted_wait")
    state = view.state.get(replica.id, IDLE)
    wait_s = predicted.first_token_s.p50
    if _is_idle(state):
        # What was learnt under load does not hold for an idle engine; its profile does.
        wait_s /= max(1.0, scale_now(state, now_s))
    if wait_s <= first_left_s:
        # Completion is an upper bound (the answer may stop early): never a ground to refuse.
        return Run(replica, "local:tight", predicted)
    return Refuse(
        "deadline_unreachable",
        "predicted_wait",
        f"the predicted wait of {predicted.first_token_s.p50:.1f} s exceeds this call's deadline "
        f"of {max(0.0, first_left_s):.1f} s to the first token",
        _retry_s(predicted.first_token_s.p50 - first_left_s),
    )


def _is_idle(state: TargetState) -> bool:
    load = state.load
    return not (state.unfinished or load.running or load.waiting)


def _wait_or_burst(
    call: Call, caller: Caller, view: FleetView, now_s: float,
    option: tuple[Estimate, TargetState, frozenset[str]],
) -> Placement:  # fmt: skip
    """Replicas exist but are full."""
    predicted, state, tried = option
    limit_s = min(call.first_token_by_s, call.received_s + view.hold_s_max)
    offering = _offering(call, caller, view, now_s, tried)
    misses = now_s + predicted.first_token_s.p90 > call.first_token_by_s
    is_expected = (
        call.may_wait and now_s < limit_s and now_s + predicted.first_token_s.p50 <= limit_s
    )
    if offering is not None and (misses or state.full_until_s > now_s or not is_expected):
        return Burst(offering, "overflow:full")
    if is_expected:
        return Wait(limit_s, "full")
    return Refuse(
        "no_capacity", "full", f"every replica of {call.model!r} is full",
        _retry_s(predicted.first_token_s.p50),
    )  # fmt: skip


def _elsewhere(
    call: Call, caller: Caller, view: FleetView, now_s: float, tried: frozenset[str]
) -> Placement:
    """No replica of ours can be used now."""
    limit_s = min(call.first_token_by_s, call.received_s + view.hold_s_max)
    pending = view.pending.get(call.model) if call.pin in _OWN_PINS else None
    if pending is not None and call.may_wait and now_s < limit_s and _is_by(pending, limit_s):
        return Wait(limit_s, "loading")
    offering = _offering(call, caller, view, now_s, tried)
    if offering is not None:
        return Burst(offering, "overflow:retry" if tried else "overflow:no_replica")
    if pending is not None:
        wait_s = max(1.0, pending.expected_s - now_s)
        message = f"the engine of {call.model!r} is loading, expected in {wait_s:.0f} s"
        return Refuse("engine_loading", "loading", message, _retry_s(wait_s))
    if _is_residency_bound(call, caller, view):
        message = f"no target for {call.model!r} is allowed by this key's residency"
        return Refuse("residency_refused", "residency", message)
    message = f"no target for {call.model!r} can take this call now"
    if caller.policy.overflow is not Overflow.ALLOWED and view.offerings.get(call.model):
        message += "; this key may not overflow to a third party's API"
    unknown = _unknown_fields(call, view)
    if call.adapter:
        message = f"no engine that can take this call now has adapter {call.adapter!r} loaded"
    elif unknown:
        message += f"; third parties do not know {', '.join(unknown)}"
    soonest_s = _soonest(call, view, now_s)
    return Refuse("no_capacity", "no_target", message, _retry_s(soonest_s))


def _is_by(pending: Pending, limit_s: float) -> bool:
    """Whether holding a call is worth it: nine starts of ten end in time."""
    return max(pending.expected_s, pending.by_s) <= limit_s


def _soonest(call: Call, view: FleetView, now_s: float) -> float:
    """Seconds until a target that is out of use may be asked again."""
    targets: tuple[Target, ...] = (
        *view.replicas.get(call.model, ()),
        *view.offerings.get(call.model, ()),
    )
    states = (view.state.get(target.id, IDLE) for target in targets)
    again = (max(s.open_until_s, s.full_until_s) for s in states)
    return (
        min((at for at in again if now_s < at < math.inf), default=now_s + RETRY_S_DEFAULT) - now_s
    )


def _offering(
    call: Call, caller: Caller, view: FleetView, now_s: float, tried: frozenset[str]
) -> Offering | None:
    """The first third-party API that every hard rule allows."""
    policy, is_pooled = caller.policy, call.surface in POOLED
    if policy.overflow is not Overflow.ALLOWED or policy.is_load_test:
        return None
    if call.surface is Surface.TOKENIZE or call.adapter:
        return None
    residency = effective_residency(call, caller)
    candidates = view.offerings.get(call.model, ())
    wanted = needs(call.fields, RESERVED) if candidates else _NONE
    for offering in candidates:
        if offering.id in tried or offering.id in call.unaffordable:
            continue
        if call.surface not in offering.surfaces or call.pin not in ("", offering.id):
            continue
        if (is_pooled and not offering.is_same_weights) or not may_see(offering, view, now_s):
            continue
        state = view.state.get(offering.id)
        if state is not None and max(state.open_until_s, state.full_until_s) > now_s:
            continue
        fits = call.prompt_tokens + (call.max_tokens or 0) <= offering.context_tokens
        if fits and wanted <= offering.speaks and residency.admits(offering.label):
            return offering
    return None


def _unknown_fields(call: Call, view: FleetView) -> list[str]:
    """Members of the call that keep it from every third party."""
    offerings = view.offerings.get(call.model, ())
    if not offerings:
        return []
    wanted = needs(call.fields, RESERVED)
    return sorted(frozenset.intersection(*(wanted - o.speaks for o in offerings)))[:8]


def _is_residency_bound(call: Call, caller: Caller, view: FleetView) -> bool:
    residency = effective_residency(call, caller)
    targets: tuple[Target, ...] = (
        *view.replicas.get(call.model, ()),
        *view.offerings.get(call.model, ()),
    )
    return bool(targets) and not any(residency.admits(t.label) for t in targets)


def _retry_s(wait_s: float) -> float:
    return min(max(1.0, wait_s), RETRY_S_MAX)
