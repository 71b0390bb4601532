"""What our own engines have to spare for a caller, and what a call would meet now. Pure.

The answer is placement's own: a call that nobody sends is placed over the same view by the same
rules, so what is told never differs from what would happen, and nobody learns of a target that
would not be used for it. What depends on the call's content (masks, sensitivity, its fields) and
budgets are not in it.
"""

from __future__ import annotations

import msgspec

from models.capacity import KV_FULL, Estimate, Profile, Quantiles, step_s
from serving.choice import IDLE, predict_api, soonest
from serving.records import (
    Burst,
    Call,
    Caller,
    FleetView,
    Offering,
    Placement,
    Refuse,
    Replica,
    Run,
    TargetState,
    Wait,
)
from serving.routing import free, place
from serving.rules import effective_residency, may_see


class Own(msgspec.Struct, frozen=True):
    """Our own engines that this caller may use."""

    replicas: int
    free_slots: int
    free_tokens_per_s: float
    """Of answers, beyond what runs now."""
    held: int
    """Calls in this pod's queue for the model, of all callers."""
    reports_age_s: float | None
    """Of the oldest report counted; none: no engine has reported."""
    first_token: Estimate | None
    """Of the soonest, whether it would be used or not."""


class Spare(msgspec.Struct, frozen=True):
    """What a call would meet now."""

    placement: Placement
    expected: Estimate | None
    """Where it would be sent, or, held, by the soonest engine."""
    own: Own
    overflow: Estimate | None
    """At the third party that would take it; None: there is none, or it may not leave."""
    next_s: Quantiles | None
    """Until an engine that starts is expected; None: nobody knows of one."""


def spare(call: Call, caller: Caller, view: FleetView, now_s: float) -> Spare:
    """What this call would meet."""
    placement = place(call, caller, view, now_s)
    residency = effective_residency(call, caller)
    usable = [
        replica
        for replica in view.replicas.get(call.model, ())
        if residency.admits(replica.label)
        and may_see(replica, view, now_s)
        and view.state.get(replica.id, IDLE).open_until_s <= now_s
    ]
    if isinstance(placement, Refuse) and placement.code == "stopped":
        usable = []
    own = _own(call, usable, view, now_s)
    bare = msgspec.structs.replace(view, replicas={}, pending={})
    beyond = place(call, caller, bare, now_s)
    overflow = _at(call, beyond.target, view, now_s) if isinstance(beyond, Burst) else None
    if isinstance(placement, Run):
        expected: Estimate | None = placement.estimate
    elif isinstance(placement, Burst):
        expected = _at(call, placement.target, view, now_s)
    else:
        expected = own.first_token if isinstance(placement, Wait) else None
    pending = view.pending.get(call.model)
    next_s = None
    if pending is not None:
        by_s = max(pending.expected_s, pending.by_s)
        next_s = Quantiles(max(0.0, pending.expected_s - now_s), max(0.0, by_s - now_s))
    return Spare(placement, expected, own, overflow, next_s)


def _at(call: Call, offering: Offering, view: FleetView, now_s: float) -> Estimate:
    return predict_api(call, offering, view.state.get(offering.id, IDLE), now_s)


def _own(call: Call, usable: list[Replica], view: FleetView, now_s: float) -> Own:
    slots, tokens_per_s, age_s = 0, 0.0, None
    for replica in usable:
        state = view.state.get(replica.id, IDLE)
        room = min(free(replica, view), _room(replica, state))
        slots += room
        tokens_per_s += _rate(replica, state, room)
        if (at_s := state.load_at_s) > float("-inf"):
            age_s = max(age_s or 0.0, now_s - at_s)
    first = soonest(call, usable, view, now_s)[1] if usable else None
    held = view.held.get(call.model, 0)
    return Own(len(usable), slots, tokens_per_s, held, age_s, first)


def _room(replica: Replica, state: TargetState) -> int:
    """Sequences more that its batch and memory take."""
    profile, load = state.profile or replica.profile, state.load
    each = profile.mean_prompt_tokens + profile.mean_output_tokens / 2
    memory = (KV_FULL - load.kv_use) * profile.kv_tokens - load.queued_prefill_tokens
    slots = profile.max_num_seqs - max(load.running + load.waiting, state.unfinished)
    return max(0, min(slots, int(memory / max(1.0, each))))


def _rate(replica: Replica, state: TargetState, room: int) -> float:
    """Tokens of answers a second that so many sequences more would add."""
    profile = state.profile or replica.profile
    running = max(state.load.running, state.unfinished)
    return max(0.0, _made(profile, running + room) - _made(profile, running))


def _made(profile: Profile, sequences: int) -> float:
    if sequences <= 0:
        return 0.0
    each = profile.mean_prompt_tokens + profile.mean_output_tokens // 2
    prefill = sequences * profile.mean_prompt_tokens // max(1, profile.mean_output_tokens)
    took_s = step_s(profile, sequences, sequences * each, prefill)
    return sequences / took_s if took_s > 0.0 else 0.0
