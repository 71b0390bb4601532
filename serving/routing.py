"""One placement for one call over one view of the fleet. Pure.

Hard rules first: residency, surface, breaker, the caller's overflow right; they filter our own
pools too and fail closed. Then our own replicas in the order of prefix affinity and predicted wait,
then a third party's API when waiting would miss the deadline, then the queue, then no.
"""

from __future__ import annotations

import math

from models.capacity import Estimate, Load, estimate
from serving.records import (
    Burst,
    Call,
    Caller,
    FleetView,
    Offering,
    Overflow,
    Placement,
    Refuse,
    Replica,
    Residency,
    Run,
    Surface,
    Target,
    TargetState,
    Wait,
)

AFFINITY_SLACK = 1.25
"""Affinity is skipped on a replica loaded above this multiple of the mean."""
_NONE: frozenset[str] = frozenset()
_IDLE = TargetState()
_MASK = (1 << 64) - 1
RETRY_S_DEFAULT = 30.0
"""Nothing is known to be coming back: a client may as well ask again in half a minute."""
RETRY_S_MAX = 600.0


def place(
    call: Call, caller: Caller, view: FleetView, now_s: float, tried: frozenset[str] = _NONE
) -> Placement:
    """Where this call goes now. `tried` names targets that failed it already."""
    residency = effective_residency(call, caller)
    own = view.replicas.get(call.model, ())
    admitted = [r for r in own if residency.admits(r.label)]
    usable = [r for r in admitted if _is_usable(r, view, now_s, tried)]
    if usable:
        chosen = _choose(call, usable, view)
        state = view.state.get(chosen.id, _IDLE)
        predicted = _estimate(call, chosen, state, view, now_s)
        if _share(chosen, view) > state.unfinished and state.full_until_s <= now_s:
            return _run_or_burst(call, caller, view, now_s, (chosen, predicted, tried))
        return _wait_or_burst(call, caller, view, now_s, (predicted, state, tried))
    return _elsewhere(call, caller, view, now_s, tried)


def free(replica: Replica, view: FleetView) -> int:
    """How many more calls this pod may send to a replica."""
    state = view.state.get(replica.id, _IDLE)
    return max(0, _share(replica, view) - state.unfinished)


def effective_residency(call: Call, caller: Caller) -> Residency:
    """The tighter of the key's rule and the call's."""
    return call.residency or caller.policy.residency


def _is_usable(replica: Replica, view: FleetView, now_s: float, tried: frozenset[str]) -> bool:
    if replica.id in tried:
        return False
    state = view.state.get(replica.id)
    return state is None or state.open_until_s <= now_s


def _share(replica: Replica, view: FleetView) -> int:
    """Unfinished calls this pod may have on a replica."""
    if view.gateway_pods == 1:
        return replica.limit
    return max(1, math.ceil(replica.limit / view.gateway_pods))


def _estimate(
    call: Call, replica: Replica, state: TargetState, view: FleetView, now_s: float
) -> Estimate:
    load, profile = state.load, replica.profile
    is_stale = now_s - state.load_at_s > view.stale_s
    if is_stale or state.since_calls:
        if is_stale:
            total, queued = state.unfinished, state.since_tokens if state.unfinished else 0
        else:
            total = load.running + load.waiting + state.since_calls
            queued = load.queued_prefill_tokens + state.since_tokens
        running = min(total, profile.max_num_seqs)
        load = Load(total - running, running, queued, load.kv_use)
    expected = call.max_tokens or profile.mean_output_tokens
    return estimate(profile, load, call.prompt_tokens, expected, state.scale)


def _choose(call: Call, usable: list[Replica], view: FleetView) -> Replica:
    if len(usable) == 1:
        return usable[0]
    loads = [_pressure(r, view) for r in usable]
    mean = sum(loads) / len(loads)
    best, best_weight = 0, -1
    for i, replica in enumerate(usable):
        weight = _mix(call.affinity ^ replica.seed)
        if weight > best_weight:
            best, best_weight = i, weight
    if loads[best] <= AFFINITY_SLACK * mean + 1.0 / len(loads):
        return usable[best]
    # Two candidates by the request's own hash: no two gateways herd onto the same replica.
    seed = _mix(int(call.request_id[-12:], 16))
    first = seed % len(usable)
    second = (first + 1 + (seed >> 32) % (len(usable) - 1)) % len(usable)
    return usable[first if loads[first] <= loads[second] else second]


def _pressure(replica: Replica, view: FleetView) -> float:
    """Calls under way on a replica as a share of what it takes."""
    state = view.state.get(replica.id, _IDLE)
    total = max(state.load.running + state.load.waiting + state.since_calls, state.unfinished)
    return total / replica.limit


def _mix(value: int) -> int:
    """Spread bits (the finaliser of SplitMix64, Steele et al. 2014)."""
    value &= _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


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
    if predicted.first_token_s.p50 <= first_left_s:
        # Completion is an upper bound (the answer may stop early): never a ground to refuse.
        return Run(replica, "local:tight", predicted)
    return Refuse(
        "deadline_unreachable",
        "predicted_wait",
        f"the predicted wait of {predicted.first_token_s.p50:.1f} s exceeds this call's deadline "
        f"of {max(0.0, first_left_s):.1f} s to the first token",
        _retry_s(predicted.first_token_s.p50 - first_left_s),
    )


def _wait_or_burst(
    call: Call, caller: Caller, view: FleetView, now_s: float,
    option: tuple[Estimate, TargetState, frozenset[str]],
) -> Placement:  # fmt: skip
    """Replicas exist but are full."""
    predicted, state, tried = option
    limit_s = min(call.first_token_by_s, call.received_s + view.hold_s_max)
    offering = _offering(call, caller, view, now_s, tried)
    misses = now_s + predicted.first_token_s.p90 > call.first_token_by_s
    if offering is not None and (misses or state.full_until_s > now_s or now_s >= limit_s):
        return Burst(offering, "overflow:full")
    if now_s < limit_s:
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
    pending = view.pending.get(call.model)
    if pending is not None and pending.expected_s <= limit_s and now_s < limit_s:
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
    soonest_s = _soonest(call, view, now_s)
    return Refuse("no_capacity", "no_target", message, _retry_s(soonest_s))


def _soonest(call: Call, view: FleetView, now_s: float) -> float:
    """Seconds until a target that is out of use may be asked again."""
    targets: tuple[Target, ...] = (
        *view.replicas.get(call.model, ()),
        *view.offerings.get(call.model, ()),
    )
    states = (view.state.get(target.id, _IDLE) for target in targets)
    again = (max(s.open_until_s, s.full_until_s) for s in states)
    return (
        min((at for at in again if now_s < at < math.inf), default=now_s + RETRY_S_DEFAULT) - now_s
    )


def _offering(
    call: Call, caller: Caller, view: FleetView, now_s: float, tried: frozenset[str]
) -> Offering | None:
    """The first third-party API that every hard rule allows."""
    policy = caller.policy
    if policy.overflow is not Overflow.ALLOWED or policy.is_load_test:
        return None
    if call.surface is Surface.TOKENIZE:
        return None
    residency = effective_residency(call, caller)
    for offering in view.offerings.get(call.model, ()):
        if offering.id in tried or call.surface not in offering.surfaces:
            continue
        state = view.state.get(offering.id)
        if state is not None and max(state.open_until_s, state.full_until_s) > now_s:
            continue
        if residency.admits(offering.label):
            return offering
    return None


def _is_residency_bound(call: Call, caller: Caller, view: FleetView) -> bool:
    residency = effective_residency(call, caller)
    targets: tuple[Target, ...] = (
        *view.replicas.get(call.model, ()),
        *view.offerings.get(call.model, ()),
    )
    return bool(targets) and not any(residency.admits(t.label) for t in targets)


def _retry_s(wait_s: float) -> float:
    return min(max(1.0, wait_s), RETRY_S_MAX)
