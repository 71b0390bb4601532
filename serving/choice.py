"""Which of our own engines: its room, its predicted wait, and the pick among several. Pure.

Affinity first (a warm prefix is prefill saved), unless that engine is loaded above the mean; then
the less loaded of two candidates. All gateways pick alike without a word between them.
"""

from __future__ import annotations

import math

import msgspec

from models.api_pace import ApiPace
from models.capacity import Basis, Estimate, Load, Profile, basis
from models.pace import Pace, Tokens
from serving.lengths import Lengths
from serving.records import Call, FleetView, Offering, Replica, TargetState

AFFINITY_SLACK = 1.25
"""Affinity is skipped on a replica loaded above this multiple of the mean."""
PREDICTED_MAX = 8
"""Engines whose wait is predicted one by one."""
IDLE = TargetState()
"""Stands for a target nobody has sent to."""
UNSEEN = Pace()
"""Of an engine nobody has an answer of yet; never told anything."""
EXPECTED_TOKENS = 256
"""Length of an answer when the caller named no limit and too few were seen to say."""
_NO_TOKENS = Tokens(0.0, 0.0)
_MASK = (1 << 64) - 1


class Survey(msgspec.Struct, frozen=True):
    """Engines that may serve a call: those with room beside how loaded each is, and full ones."""

    roomy: list[Replica]
    loads: list[float]
    """Calls under way on each as a share of what it takes."""
    full: list[Replica]


def survey(
    call: Call, own: tuple[Replica, ...], view: FleetView, now_s: float, tried: frozenset[str]
) -> Survey:
    """Those of `own`, which may see the call, that could serve it. One pass: a fleet of fifty is
    looked at for every call."""
    roomy: list[Replica] = []
    loads: list[float] = []
    full: list[Replica] = []
    states, stale_s, pods, adapter = view.state, view.stale_s, view.gateway_pods, call.adapter
    for replica in own:
        if replica.id in tried or (adapter and adapter not in replica.adapters):
            continue
        state = states.get(replica.id)
        if state is None:
            roomy.append(replica)
            loads.append(0.0)
            continue
        if state.open_until_s > now_s:
            continue
        total, limit = state.unfinished, replica.limit
        if state.full_until_s > now_s or total >= (limit if pods == 1 else share(replica, view)):
            full.append(replica)
            continue
        if now_s - state.load_at_s <= stale_s:
            load = state.load
            reported = load.running + load.waiting + state.since_calls
            if reported > total:
                total = reported
        roomy.append(replica)
        loads.append(total / limit)
    return Survey(roomy, loads, full)


def has_room(replica: Replica, view: FleetView, now_s: float) -> bool:
    """Whether this pod may send it one more call now."""
    state = view.state.get(replica.id, IDLE)
    return share(replica, view) > state.unfinished and state.full_until_s <= now_s


def share(replica: Replica, view: FleetView) -> int:
    """Unfinished calls this pod may have on a replica."""
    if view.gateway_pods == 1:
        return replica.limit
    return max(1, math.ceil(replica.limit / view.gateway_pods))


def choose(call: Call, usable: list[Replica], loads: list[float]) -> Replica:
    """One of `usable`, which is not empty, by how loaded each is."""
    if len(usable) == 1:
        return usable[0]
    mean, affinity = sum(loads) / len(loads), call.affinity
    best, best_weight = 0, -1
    for i, replica in enumerate(usable):
        value = (affinity ^ replica.seed) & _MASK  # `_mix`, written out: once for each engine
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
        weight = value ^ (value >> 31)
        if weight > best_weight:
            best, best_weight = i, weight
    # One call more than that is no load: between idle engines affinity always holds.
    if loads[best] <= AFFINITY_SLACK * mean + 1.0 / usable[best].limit:
        return usable[best]
    # Two candidates by the request's own hash: no two gateways herd onto the same replica.
    seed = _mix(int(call.request_id[-12:], 16))
    first = seed % len(usable)
    second = (first + 1 + (seed >> 32) % (len(usable) - 1)) % len(usable)
    return usable[first if loads[first] <= loads[second] else second]


def _mix(value: int) -> int:
    """Spread bits (the finaliser of SplitMix64, Steele et al. 2014)."""
    value &= _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


SCALE_HALF_S = 60.0
"""What was learnt of an engine's speed loses half its weight in this time without news."""


def predict(
    call: Call, replica: Replica, state: TargetState, view: FleetView, now_s: float
) -> Estimate:
    """What the call would see there: the replica's own report and our sends since; a stale report
    counts for nothing."""
    profile = state.profile or replica.profile
    parts = _parts(call, replica, state, view, now_s)
    tokens = expected_tokens(call, state.lengths, profile)
    return (state.pace or UNSEEN).estimate(parts, tokens, scale_now(state, now_s))


def _parts(
    call: Call, replica: Replica, state: TargetState, view: FleetView, now_s: float
) -> Basis:
    profile = state.profile or replica.profile
    load = _load_now(state, profile, now_s, is_stale=now_s - state.load_at_s > view.stale_s)
    if view.held and not has_room(replica, view, now_s):
        load = _behind(load, call, view)
    return basis(profile, load, call.prompt_tokens)


def predict_api(call: Call, offering: Offering, state: TargetState, now_s: float) -> Estimate:
    """What the call would see at a third party's API."""
    pace = state.api or ApiPace(offering.first_token_s)
    return pace.estimate(call.prompt_tokens, expected_tokens(call, state.lengths, None), now_s)


def expected_tokens(call: Call, lengths: Lengths | None, profile: Profile | None) -> Tokens:
    """How long the answer will be: as such answers were, else as the profile says (taken for
    exponential), and never above what the caller allows."""
    most = call.max_tokens
    if most == 0:
        return _NO_TOKENS
    spread = lengths.expected(call) if lengths is not None else None
    if spread is not None:
        p50, p90 = spread
    else:
        mean = profile.mean_output_tokens if profile is not None else EXPECTED_TOKENS
        p50, p90 = mean * 0.693, mean * 2.303
    if most is None:
        return Tokens(p50, p90)
    return Tokens(p50 if p50 < most else most, p90 if p90 < most else most)


def _load_now(state: TargetState, profile: Profile, now_s: float, *, is_stale: bool) -> Load:
    """The report with our sends since it, less what ended and was computed meanwhile."""
    load, since, slots = state.load, state.since_calls, profile.max_num_seqs
    if is_stale:
        # Of the calls sent since a report that never came, only those still out count.
        total = state.unfinished
        queued = state.since_tokens * min(total, since) // max(1, since)
        running = min(total, slots)
        return Load(total - running, running, queued, 0.0)
    reported = load.running + load.waiting
    # Our own tickets are never fewer than the engine has: a report may have left before they came.
    total = reported + since - state.ended_calls
    if total < state.unfinished:
        total = state.unfinished
    running = slots
    if load.waiting and load.running < slots:
        # It waits for memory: who comes stands behind it, who ends lets it in.
        running = load.running
    if running > total:
        running = total
    queued = load.queued_prefill_tokens + state.since_tokens
    owed = owed_now(state, profile, now_s)
    held = load.kv_use + (queued - owed) / profile.kv_tokens
    if state.ended_calls and load.running:
        held -= load.kv_use * min(1.0, state.ended_calls / load.running)
    return Load(total - running, running, round(owed), held if held < 1.0 else 1.0)


def owed_now(state: TargetState, profile: Profile, now_s: float) -> float:
    """Prompt tokens the engine has yet to compute: reported and sent since, less what it should
    have computed meanwhile."""
    load = state.load
    owed = load.queued_prefill_tokens + state.since_tokens - state.computed
    if load.waiting and load.running < profile.max_num_seqs:
        return max(0.0, owed)  # memory is what they wait for: nothing is computed
    since_s = state.load_at_s if state.load_at_s > state.computed_at_s else state.computed_at_s
    owed -= (now_s - since_s) * profile.prefill_tokens_per_s
    return owed if owed > 0.0 else 0.0


def _behind(load: Load, call: Call, view: FleetView) -> Load:
    """The load of a full engine with its share of the calls that this pod holds for the model:
    they are served first."""
    held = view.held.get(call.model, 0)
    own = max(1, len(view.replicas.get(call.model, ())))
    return msgspec.structs.replace(load, waiting=load.waiting + -(-held // own))


def scale_now(state: TargetState, now_s: float) -> float:
    """Observed / predicted first token as it counts now: it fades towards 1 without news."""
    if state.scale == 1.0:
        return 1.0
    return 1.0 + (state.scale - 1.0) * math.pow(0.5, (now_s - state.scale_at_s) / SCALE_HALF_S)


def soonest(
    call: Call, among: list[Replica], view: FleetView, now_s: float
) -> tuple[Replica, Estimate]:
    """The replica with the shortest predicted wait; of many, among those with the least to do."""
    if len(among) > PREDICTED_MAX:
        states = view.state
        among = sorted(among, key=lambda r: _work(states.get(r.id, IDLE)))[:PREDICTED_MAX]
    best, least_s = among[0], math.inf
    if len(among) > 1:
        for replica in among:
            state = view.state.get(replica.id, IDLE)
            parts = _parts(call, replica, state, view, now_s)
            likely_s = (state.pace or UNSEEN).likely_s(parts, scale_now(state, now_s))
            if likely_s < least_s:
                best, least_s = replica, likely_s
    return best, predict(call, best, view.state.get(best.id, IDLE), view, now_s)


def _work(state: TargetState) -> int:
    """Prompt tokens waiting there, and calls: as good as a prediction to tell the idlest."""
    load = state.load
    queued = load.queued_prefill_tokens + state.since_tokens
    return queued + load.waiting + load.running + state.unfinished
