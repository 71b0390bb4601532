"""Placement: hard rules never bend, deadlines are kept or refused, equal input, equal output."""

from __future__ import annotations

import math
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.capacity import PROFILES, Load, step_s
from serving.choice import AFFINITY_SLACK, share
from serving.placement.values import PolicyName, Route
from serving.placement.words import RETRY_S_DEFAULT, RETRY_S_MAX
from serving.records import (
    Burst,
    DataLabel,
    Overflow,
    Pending,
    Refuse,
    Residency,
    ResidencyLevel,
    Run,
    Surface,
    TargetState,
    Wait,
)
from serving.routing import free, in_line, place
from serving.rules import effective_residency, tighter

SLOW = PROFILES["cpu-embedded"]
HERE = DataLabel("cn", "self", on_premises=True)
CN, US, SG = (DataLabel(country, "x") for country in ("cn", "us", "sg"))
PREMISES, MAINLAND, ANYWHERE = (
    Residency(level)
    for level in (ResidencyLevel.PREMISES, ResidencyLevel.MAINLAND, ResidencyLevel.ANYWHERE)
)


def named(*countries: str) -> Residency:
    return Residency(ResidencyLevel.NAMED, frozenset(countries))


def state_of(**values: object) -> TargetState:
    state = TargetState()
    for name, value in values.items():
        setattr(state, name, value)
    return state


# -- residency

ADMITS = {
    "premises": (PREMISES, {HERE}),
    "mainland": (MAINLAND, {HERE, CN}),
    "named us": (named("us"), {HERE, US}),
    "named us and cn": (named("us", "cn"), {HERE, US, CN}),
    "named nobody": (named(), {HERE}),
    "anywhere": (ANYWHERE, {HERE, CN, US, SG}),
}


@pytest.mark.parametrize(("rule", "admitted"), ADMITS.values(), ids=ADMITS)
def test_a_rule_admits_exactly_these_labels(rule, admitted):
    assert {label for label in (HERE, CN, US, SG) if rule.admits(label)} == admitted


def test_no_rule_at_all_means_the_premises_only():
    assert not any(Residency().admits(label) for label in (CN, US, SG))


rules = st.one_of(
    st.sampled_from([PREMISES, MAINLAND, ANYWHERE]),
    st.frozensets(st.sampled_from(["cn", "us", "sg"])).map(lambda names: named(*names)),
)


@given(rules, rules)
def test_the_tighter_of_two_rules_admits_what_both_admit(one, other):
    both = tighter(one, other)
    for label in (HERE, CN, US, SG):
        assert both.admits(label) == (one.admits(label) and other.admits(label))


def test_a_call_can_tighten_its_key_s_rule_but_never_loosen_it(make):
    loose, tight = make.caller(ANYWHERE), make.caller(PREMISES)
    assert effective_residency(make.call(residency=PREMISES), loose) == PREMISES
    assert effective_residency(make.call(residency=ANYWHERE), tight) == PREMISES
    assert effective_residency(make.call(), loose) == ANYWHERE
    view = make.view([], [make.offering(label=US)])
    assert isinstance(place(make.call(residency=ANYWHERE), tight, view, 0.0), Refuse)


# -- laws over random fleets

labels = st.sampled_from([HERE, CN, US, SG])
numbers = st.integers(0, 40)
moments = st.sampled_from([0.0, 5.0, 15.0, math.inf])
states = st.builds(
    lambda out, waiting, since, at_s, open_s, full_s: state_of(
        unfinished=out, load=Load(waiting, out, waiting * 100, 0.0), load_at_s=at_s,
        since_calls=since, since_tokens=since * 50, open_until_s=open_s, full_until_s=full_s,
    ),
    numbers, numbers, numbers, st.sampled_from([-math.inf, 0.0, 9.0]), moments,
    st.sampled_from([0.0, 5.0, 15.0]),
)  # fmt: skip


@st.composite
def fleets(draw, make):
    """A view with some engines and offerings in any condition."""
    state = {}
    replicas, offerings = [], []
    for i in range(draw(st.integers(0, 4))):
        profile = draw(st.sampled_from([SLOW, PROFILES["instant"]]))
        replicas.append(
            make.replica(
                f"r{i}", label=draw(labels), profile=profile, limit=draw(st.integers(1, 40))
            )
        )
    for i in range(draw(st.integers(0, 3))):
        surfaces = draw(st.frozensets(st.sampled_from(list(Surface))))
        offerings.append(make.offering(f"o{i}", label=draw(labels), surfaces=surfaces))
    for target in (*replicas, *offerings):
        if draw(st.booleans()):
            state[target.id] = draw(states)
    pending = {}
    if draw(st.booleans()):
        pending["m"] = Pending("m", draw(st.sampled_from([1.0, 11.0, 19.0, 100.0])))
    return make.view(
        replicas, offerings, state=state, pending=pending, gateway_pods=draw(st.integers(1, 5))
    )


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_no_placement_ever_breaks_a_hard_rule(make, data):
    view = data.draw(fleets(make))
    rule = data.draw(rules)
    caller = make.caller(
        rule,
        overflow=data.draw(st.sampled_from(Overflow)),
        is_load_test=data.draw(st.booleans()),
    )
    tried = data.draw(st.frozensets(st.sampled_from(["r0", "r1", "o0", "o1"])))
    call = make.call(
        data.draw(st.integers(0, 1 << 60)),
        surface=data.draw(st.sampled_from(Surface)),
        first_token_by_s=data.draw(st.sampled_from([1.0, 12.0, 60.0])),
        residency=data.draw(st.none() | rules),
    )
    now_s = data.draw(st.sampled_from([0.0, 10.0, 20.0]))
    placement = place(call, caller, view, now_s, tried)
    if isinstance(placement, Run | Burst):
        target = placement.target
        state = view.state.get(target.id, TargetState())
        assert rule.admits(target.label)
        assert call.residency is None or call.residency.admits(target.label)
        assert target.id not in tried
        assert state.open_until_s <= now_s
        assert state.full_until_s <= now_s
    if isinstance(placement, Burst):
        assert caller.policy.overflow is Overflow.ALLOWED
        assert not caller.policy.is_load_test
        assert call.surface is not Surface.TOKENIZE
        assert call.surface in placement.target.surfaces
    if isinstance(placement, Run):
        assert state.unfinished < share(placement.target, view)
        is_in_time = now_s + placement.estimate.first_token_s.p50 <= call.first_token_by_s
        is_idle = not (state.unfinished or state.load.running or state.load.waiting)
        assert is_in_time or (is_idle and now_s < call.first_token_by_s)
    if isinstance(placement, Wait):
        assert now_s < placement.until_s <= min(call.first_token_by_s, view.hold_s_max)
    if isinstance(placement, Refuse) and placement.code != "residency_refused":
        assert placement.retry_after_s is not None
        assert 1.0 <= placement.retry_after_s <= RETRY_S_MAX
    assert place(call, caller, view, now_s, tried) == placement


# -- our own engines


def test_an_idle_engine_runs_the_call(make):
    placement = place(make.call(), make.caller(), make.view([make.replica()]), 0.0)
    assert isinstance(placement, Run)
    assert placement.reason == "local"


def test_an_unknown_model_is_refused_with_a_time_to_return(make):
    placement = place(make.call(), make.caller(), make.view(), 0.0)
    assert isinstance(placement, Refuse)
    assert (placement.code, placement.retry_after_s) == ("no_capacity", RETRY_S_DEFAULT)


@pytest.mark.parametrize(
    ("limit", "pods", "expected"), [(8, 1, 8), (8, 3, 3), (8, 8, 1), (8, 100, 1), (1, 2, 1)]
)
def test_a_pod_s_share_of_a_replica_is_rounded_up_and_never_nothing(make, limit, pods, expected):
    replica, state = make.replica(limit=limit), state_of(unfinished=expected - 1)
    view = make.view([replica], state={"r1": state}, gateway_pods=pods)
    assert free(replica, view) == 1
    assert isinstance(place(make.call(), make.caller(), view, 0.0), Run)
    state.unfinished = expected
    assert free(replica, view) == 0
    assert isinstance(place(make.call(), make.caller(), view, 0.0), Wait)


def test_a_full_engine_is_passed_over_while_another_has_room(make):
    replicas = [make.replica("r1"), make.replica("r2"), make.replica("r3")]
    first = place(make.call(), make.caller(), make.view(replicas), 0.0).target
    for full in (state_of(unfinished=8), state_of(full_until_s=9.0)):
        view = make.view(replicas, [make.offering()], state={first.id: full})
        placement = place(make.call(), make.caller(), view, 0.0)
        assert isinstance(placement, Run)
        assert placement.target is not first


def test_a_busy_engine_is_passed_over_when_another_keeps_the_deadline(make):
    replicas = [make.replica(name, profile=SLOW, limit=80) for name in ("r1", "r2")]
    view = make.view(replicas, [make.offering(first_token_s=0.1)])
    first = place(make.call(), make.caller(), view, 0.0).target
    # One call with a huge prompt: hardly any calls, but many seconds of work.
    busy = state_of(load=Load(0, 1, 100_000, 0.1), load_at_s=0.0)
    view = make.view(replicas, [make.offering(first_token_s=0.1)], state={first.id: busy})
    placement = place(make.call(), make.caller(), view, 0.0)
    assert isinstance(placement, Run)
    assert placement.target is not first


def test_tried_and_broken_engines_are_left_alone(make):
    replicas = [make.replica("r1"), make.replica("r2")]
    view = make.view(replicas, state={"r1": state_of(open_until_s=5.0)})
    assert place(make.call(), make.caller(), view, 4.9).target.id == "r2"
    refusal = place(make.call(), make.caller(), view, 2.0, frozenset({"r2"}))
    assert isinstance(refusal, Refuse)
    assert refusal.retry_after_s == 3.0, "until the breaker lets a probe through"
    assert place(make.call(), make.caller(), view, 5.0, frozenset({"r2"})).target.id == "r1"


def test_a_stale_report_is_not_used(make):
    replica = make.replica(profile=SLOW, limit=80)
    heavy = Load(waiting=60, running=16, queued_prefill_tokens=90_000, kv_use=1.0)
    state = state_of(load=heavy, load_at_s=0.0)
    view = make.view([replica], state={"r1": state}, stale_s=10.0)

    def at(now_s):
        return place(make.call(received_s=now_s, first_token_by_s=now_s + 60.0), make.caller(),
                     view, now_s)  # fmt: skip

    assert isinstance(at(10.0), Refuse)
    fresh = at(10.1)
    assert isinstance(fresh, Run)
    idle = place(make.call(), make.caller(), make.view([replica]), 0.0)
    assert fresh.estimate == idle.estimate, "nothing of the old report is left, KV use neither"


def test_without_reports_only_our_own_open_calls_count(make):
    replica = make.replica(profile=SLOW, limit=80)
    state = state_of(unfinished=2, since_calls=1000, since_tokens=500_000)
    view = make.view([replica], state={"r1": state})
    prompt_s = place(make.call(), make.caller(), view, 0.0).estimate.first_token_s.p50
    assert prompt_s == pytest.approx(2 * 500 / SLOW.prefill_tokens_per_s, rel=0.1), (
        "a thousand calls that ended long ago weigh nothing"
    )


def test_sends_since_the_report_are_added_to_it(make):
    replica = make.replica(profile=SLOW, limit=80)
    state = state_of(load=Load(0, 1, 100, 0.0), load_at_s=1.0)
    view = make.view([replica], state={"r1": state})
    before = place(make.call(), make.caller(), view, 1.0).estimate.first_token_s.p50
    state.since_calls, state.since_tokens = 3, 900
    after = place(make.call(), make.caller(), view, 1.0).estimate.first_token_s.p50
    assert after - before == pytest.approx(
        900 / SLOW.prefill_tokens_per_s + 3 * SLOW.per_sequence_s
    )


def test_prompts_queued_by_an_old_report_are_taken_for_computed_meanwhile(make):
    replica = make.replica(profile=SLOW, limit=80)
    state = state_of(load=Load(0, 1, 1000, 0.0), load_at_s=0.0)
    view = make.view([replica], state={"r1": state})

    def at(now_s):
        call = make.call(first_token_by_s=now_s + 60.0)
        return place(call, make.caller(), view, now_s).estimate.first_token_s.p50

    assert at(0.0) - at(1.0) == pytest.approx(1.0), "500 tokens a second"
    assert at(2.0) == pytest.approx(at(9.0)), "and no more than were queued"
    state.load = Load(1, 1, 1000, 0.99)
    assert at(0.0) == pytest.approx(at(1.0)), "nothing is computed while memory is full"


def test_calls_held_before_it_lengthen_the_wait_for_a_full_engine(make):
    """One slot frees after a second or so: the hundredth in line does not get that one."""
    profile = PROFILES["qwen3-32b-fp8-h100"]
    replicas = [make.replica(f"r{i}", profile=profile, limit=256) for i in range(2)]
    full = {r.id: state_of(unfinished=256, load=Load(0, 256), load_at_s=0.0) for r in replicas}
    call = make.call(first_token_by_s=5.0)

    def at(held):
        view = make.view(replicas, [make.offering()], state=full, held={"m": held})
        return place(call, make.caller(), view, 0.0)

    assert isinstance(at(0), Wait)
    assert isinstance(at(50), Wait)
    assert at(1000).reason == "overflow:full"
    # Where there is room again it is this call's turn: nobody stands before it.
    view = make.view(replicas, held={"m": 1000})
    assert place(call, make.caller(), view, 0.0).reason == "local"


def test_sends_after_a_report_stand_behind_those_that_waited_then(make):
    """Slots are free, but memory is not: who comes later does not run at once either."""
    replica = make.replica(profile=PROFILES["qwen3-32b-fp8-h100"], limit=80)
    state = state_of(load=Load(1, 10, 20_000, 0.9), load_at_s=0.0)
    view = make.view([replica], state={"r1": state})
    caller = make.caller()
    before = place(make.call(), caller, view, 1.0).estimate.first_token_s.p50
    state.since_calls = 3
    after = place(make.call(), caller, view, 1.0).estimate.first_token_s.p50
    assert after - before == pytest.approx(
        3 / 10 * 256 * step_s(replica.profile, 12, 117_000, 0), rel=0.1
    )


# -- affinity


def test_calls_of_one_session_go_to_one_engine_whatever_the_order_of_the_list(make):
    replicas = [make.replica(f"r{i}") for i in range(5)]
    for affinity in range(50):
        found = {
            place(make.call(n, affinity=affinity), make.caller(), make.view(order), 0.0).target.id
            for n in range(5)
            for order in (replicas, replicas[::-1])
        }
        assert len(found) == 1


def test_one_more_engine_moves_only_the_sessions_it_takes(make):
    replicas = [make.replica(f"r{i}") for i in range(5)]
    moved = 0
    for affinity in range(0, 1 << 32, (1 << 32) // 500):
        call = make.call(affinity=affinity)
        before = place(call, make.caller(), make.view(replicas[:4]), 0.0).target.id
        after = place(call, make.caller(), make.view(replicas), 0.0).target.id
        assert after in (before, "r4")
        moved += after == "r4"
    assert 60 < moved < 140, "about a fifth of 500"


@given(st.lists(st.integers(0, 39), min_size=2, max_size=6), st.integers(0, (1 << 32) - 1))
def test_affinity_holds_up_to_the_slack_above_the_mean_and_no_further(make, out, affinity):
    replicas = [make.replica(f"r{i}", limit=40) for i in range(len(out))]
    call = make.call(affinity=affinity)
    favourite = place(call, make.caller(), make.view(replicas), 0.0).target
    state = {r.id: state_of(unfinished=n) for r, n in zip(replicas, out, strict=True)}
    chosen = place(call, make.caller(), make.view(replicas, state=state), 0.0).target
    mean = sum(out) / len(out)
    if state[favourite.id].unfinished <= AFFINITY_SLACK * mean + 1:
        assert chosen is favourite
    elif len(out) == 2:
        assert chosen is not favourite, "both are candidates, and the other one is less loaded"


def test_overload_spreads_calls_over_the_other_engines(make):
    replicas = [make.replica(f"r{i}", limit=100) for i in range(4)]
    favourite = place(make.call(), make.caller(), make.view(replicas), 0.0).target
    view = make.view(replicas, state={favourite.id: state_of(unfinished=50)})
    picks = [place(make.call(n), make.caller(), view, 0.0).target.id for n in range(300)]
    assert set(picks) == {r.id for r in replicas} - {favourite.id}, "two choices, the less loaded"


def test_another_process_with_other_hash_seeds_places_alike(make):
    replicas = [make.replica(f"r{i}", limit=1000) for i in range(7)]
    heavy = {f"r{i}": state_of(unfinished=100 * i) for i in range(7)}
    view = make.view(replicas, state=heavy)
    here = [
        place(make.call(n * 7919, affinity=n * 104729), make.caller(), view, 0.0).target.id
        for n in range(100)
    ]
    plain = msgspec.json.encode(replicas).decode()
    script = f"""
import msgspec
from serving.records import *
from serving.routing import place
rows = msgspec.json.decode({plain!r}, type=tuple[Replica, ...])
state = {{}}
for i, row in enumerate(rows):
    state[row.id] = TargetState()
    state[row.id].unfinished = 100 * i
view = FleetView(replicas={{"m": rows}}, state=state)
caller = Caller("k", "t", "p", Policy())
for n in range(100):
    call = Call(f"{{n * 7919:032x}}", Surface.CHAT, "t", "m", "m", {{}}, 0.0, 0, 60.0, 600.0,
                LatencyClass.PATIENT, b"[]", 100, 10, 16, True, False, n * 104729)
    print(place(call, caller, view, 0.0).target.id)
"""
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed}, cwd=__file__.rsplit("/tests/", 1)[0],
        )  # fmt: skip
        assert done.stdout.split() == here


# -- deadlines


def busy(make, seconds, **changes):
    """A view whose one slow engine, with room, needs about so long to the first token."""
    replica = make.replica(profile=SLOW, limit=80)
    load = Load(0, 1, round((seconds - 0.044) * SLOW.prefill_tokens_per_s), 0.0)
    state = {"r1": state_of(load=load, load_at_s=0.0)}
    return make.view([replica], state=state, **changes)


def test_a_predicted_miss_bursts_where_that_is_allowed(make):
    view = busy(make, 30.0, offerings=[make.offering()])
    late = make.call(first_token_by_s=40.0)  # p50 fits, p90 (51 s) does not
    assert place(late, make.caller(), view, 0.0).reason == "overflow:predicted_wait"
    own = place(late, make.caller(overflow=Overflow.NEVER), view, 0.0)
    assert (own.target.id, own.reason) == ("r1", "local:tight")


def test_a_predicted_miss_without_burst_is_refused_at_once_with_a_time(make):
    view = busy(make, 30.0)
    refusal = place(make.call(first_token_by_s=10.0), make.caller(), view, 0.0)
    assert isinstance(refusal, Refuse)
    assert refusal.code == "deadline_unreachable"
    assert refusal.retry_after_s == pytest.approx(20.0, abs=0.5)


def test_an_api_slower_than_our_own_wait_is_not_used(make):
    view = busy(make, 30.0, offerings=[make.offering(first_token_s=52.0)])
    assert place(make.call(first_token_by_s=40.0), make.caller(), view, 0.0).reason == "local:tight"


@settings(max_examples=200, deadline=None)
@given(
    wait_s=st.floats(1.0, 120.0), left_s=st.floats(1.0, 120.0), api_s=st.floats(0.1, 120.0),
    policy=st.sampled_from(tuple(PolicyName)),
)  # fmt: skip
def test_no_call_is_refused_while_an_api_is_up_that_may_take_it(
    make, wait_s, left_s, api_s, policy
):
    """Late there as here: full engines would send it out, and room must not be worse than none."""
    routes = {"m": Route(model="m", policy=policy)}
    view = busy(make, wait_s, offerings=[make.offering(first_token_s=api_s)], routes=routes)
    found = place(make.call(first_token_by_s=left_s), make.caller(), view, 0.0)
    assert isinstance(found, Run | Burst), found


def test_a_long_answer_is_no_ground_to_refuse(make):
    view = make.view([make.replica(profile=SLOW)])
    call = make.call(max_tokens=1_000_000, complete_by_s=2.0)
    assert place(call, make.caller(), view, 0.0).reason == "local:tight"


# -- full engines


def test_a_full_fleet_holds_the_call_until_the_nearer_of_deadline_and_hold(make):
    view = make.view([make.replica()], state={"r1": state_of(unfinished=8)}, hold_s_max=20.0)
    assert place(make.call(), make.caller(), view, 1.0) == Wait(20.0, "full")
    assert place(make.call(first_token_by_s=5.0), make.caller(), view, 1.0) == Wait(5.0, "full")
    over = place(make.call(), make.caller(), view, 20.0)
    assert isinstance(over, Refuse)
    assert over.code == "no_capacity"


def test_a_held_call_leaves_while_a_third_party_would_still_be_in_time(make):
    full = {"r1": state_of(unfinished=8)}
    view = make.view([make.replica()], [make.offering(first_token_s=0.5)], state=full)
    call, caller = make.call(first_token_by_s=5.0, complete_by_s=60.0), make.caller()
    assert place(call, caller, view, 1.0) == Wait(4.5, "full")
    assert isinstance(place(call, caller, view, 4.4), Wait)
    assert place(call, caller, view, 4.5).reason == "overflow:full"
    assert in_line(call, caller, view, 1.0) == Wait(4.5, "in line")
    asleep = make.view(
        [], [make.offering(first_token_s=0.5)], pending={"m": Pending("m", 3.0)}, hold_s_max=20.0
    )
    assert place(call, caller, asleep, 1.0) == Wait(4.5, "loading")
    assert place(call, caller, asleep, 4.5).reason == "overflow:no_replica"


@pytest.mark.parametrize("after_s", [0.0, 1e-9, 0.001, 0.05])
def test_a_held_call_that_wakes_a_little_late_leaves_all_the_same(make, after_s):
    """No timer fires early: what was in time until then must not be taken for too late."""
    full = {"r1": state_of(unfinished=8)}
    offerings, call = [make.offering(first_token_s=0.5)], make.call(first_token_by_s=5.0)
    view = make.view([make.replica()], offerings, state=full)
    until_s = place(call, make.caller(), view, 1.0).until_s
    assert isinstance(place(call, make.caller(), view, until_s + after_s), Burst)
    asleep = make.view([], offerings, pending={"m": Pending("m", 4.9)}, hold_s_max=20.0)
    until_s = place(call, make.caller(), asleep, 1.0).until_s
    assert isinstance(place(call, make.caller(), asleep, until_s + after_s), Burst)


def test_a_third_party_that_would_be_late_anyway_is_asked_when_the_limit_is_over(make):
    full = {"r1": state_of(unfinished=8)}
    view = make.view([make.replica()], [make.offering(first_token_s=4.5)], state=full)
    call, caller = make.call(first_token_by_s=5.0), make.caller()
    assert place(call, caller, view, 1.0) == Wait(5.0, "full")
    assert place(call, caller, view, 5.0).reason == "overflow:full"


def test_a_late_answer_of_a_third_party_goes_before_none(make):
    """Ours is less late, though too late to begin: held calls whose turn comes last."""
    view = busy(make, 0.5, offerings=[make.offering(first_token_s=2.0)])
    late = make.call(first_token_by_s=0.2)
    assert place(late, make.caller(), view, 0.0).reason == "overflow:predicted_wait"
    bound = make.caller(overflow=Overflow.NEVER)
    assert place(late, bound, view, 0.0).code == "deadline_unreachable"


@given(st.floats(0.0, 9.0), st.floats(0.0, 6.0), st.floats(0.0, 6.0), st.booleans())
def test_who_may_leave_is_never_refused_for_being_late(make, now_s, own_s, api_s, is_full):
    state = {"r1": state_of(unfinished=8)} if is_full else {}
    view = busy(make, own_s, offerings=[make.offering(first_token_s=api_s)])
    view = msgspec.structs.replace(view, state=view.state | state)
    placement = place(make.call(first_token_by_s=5.0), make.caller(), view, now_s)
    assert not isinstance(placement, Refuse)
    if isinstance(placement, Wait):
        assert now_s < placement.until_s <= 5.0


def test_a_call_that_may_not_wait_goes_to_an_api_or_is_refused_at_once(make):
    state = {"r1": state_of(unfinished=8)}
    alone = make.view([make.replica()], state=state, hold_s_max=20.0)
    refusal = place(make.call(may_wait=False), make.caller(), alone, 1.0)
    assert (type(refusal), refusal.code) == (Refuse, "no_capacity")
    view = make.view([make.replica()], [make.offering()], state=state, hold_s_max=20.0)
    assert isinstance(place(make.call(), make.caller(), view, 1.0), Wait)
    assert isinstance(place(make.call(may_wait=False), make.caller(), view, 1.0), Burst)


def test_a_call_is_not_held_for_a_place_that_comes_too_late(make):
    replica = make.replica(profile=SLOW, limit=80)
    state = {"r1": state_of(unfinished=80, load=Load(64, 16, 3000, 0.5), load_at_s=0.0)}
    refusal = place(make.call(), make.caller(), make.view([replica], state=state), 0.0)
    assert isinstance(refusal, Refuse)
    assert refusal.retry_after_s > 20.0, "the predicted wait, not a guess"
    view = make.view([replica], [make.offering()], state=state)
    assert place(make.call(), make.caller(), view, 0.0).reason == "overflow:full"


def test_an_engine_that_says_full_sends_the_call_to_an_api_or_into_the_queue(make):
    state = {"r1": state_of(full_until_s=2.0)}
    view = make.view([make.replica()], [make.offering()], state=state)
    assert place(make.call(), make.caller(), view, 1.0).reason == "overflow:full"
    assert place(make.call(), make.caller(overflow=Overflow.NEVER), view, 1.0).reason == "full"
    assert place(make.call(), make.caller(), view, 2.0).reason == "local"


# -- no engine


@pytest.mark.parametrize(
    ("expected_s", "deadline_s", "now_s", "outcome"),
    [
        (10.0, 60.0, 0.0, Wait),
        (20.0, 60.0, 0.0, Wait),
        (20.1, 60.0, 0.0, Refuse),
        (10.0, 9.9, 0.0, Refuse),
        (10.0, 60.0, 20.0, Refuse),
    ],
    ids=["soon", "just in time", "after the hold", "after the deadline", "hold used up"],
)
def test_a_call_is_held_only_if_an_engine_is_expected_in_time(
    make, expected_s, deadline_s, now_s, outcome
):
    view = make.view(pending={"m": Pending("m", expected_s)})
    placement = place(make.call(first_token_by_s=deadline_s), make.caller(), view, now_s)
    assert type(placement) is outcome
    if isinstance(placement, Refuse):
        assert placement.code == "engine_loading"
        assert placement.retry_after_s == max(1.0, expected_s - now_s)


def test_an_engine_that_comes_too_late_is_bridged_by_an_api(make):
    view = make.view([], [make.offering()], pending={"m": Pending("m", 100.0)})
    assert place(make.call(), make.caller(), view, 0.0).reason == "overflow:no_replica"
    assert (
        place(make.call(), make.caller(), view, 0.0, frozenset({"r9"})).reason == "overflow:retry"
    )


@pytest.mark.parametrize(
    "changes",
    [{"open_until_s": 9.0}, {"open_until_s": math.inf}, {"full_until_s": 9.0}],
    ids=["open", "probing", "full"],
)
def test_offerings_are_taken_in_order_past_those_out_of_use(make, changes):
    offerings = [make.offering("a"), make.offering("b")]
    assert place(make.call(), make.caller(), make.view([], offerings), 1.0).target.id == "a"
    view = make.view([], offerings, state={"a": state_of(**changes)})
    assert place(make.call(), make.caller(), view, 1.0).target.id == "b"


# -- what a third party must know


def fields(**members):
    """As the codec reads them."""
    standard = {"model": "m", "messages": [1], "stream": True}
    text = msgspec.json.encode(standard | members)
    return msgspec.json.decode(text, type=dict[str, msgspec.Raw])


@pytest.mark.parametrize(
    ("name", "value"), [("guided_choice", ["a", "b"]), ("top_k", 5), ("x_unheard_of", 1)]
)
def test_a_call_that_no_api_would_understand_stays_at_home_or_is_refused_by_name(make, name, value):
    call = make.call(fields=fields(**{name: value}))
    elsewhere = make.view([], [make.offering()])
    refusal = place(call, make.caller(), elsewhere, 0.0)
    assert isinstance(refusal, Refuse)
    assert refusal.code == "no_capacity"
    assert name in refusal.message
    assert "messages" not in refusal.message
    assert refusal.retry_after_s == RETRY_S_DEFAULT
    assert isinstance(place(call, make.caller(), make.view([make.replica()], [make.offering()]),
                            0.0), Run)  # fmt: skip
    late = msgspec.structs.replace(call, first_token_by_s=40.0)
    view = busy(make, 30.0, offerings=[make.offering()])
    assert place(late, make.caller(), view, 0.0).reason == "local:tight", "late, but as asked"
    full = make.view([make.replica()], [make.offering()], state={"r1": state_of(full_until_s=9.0)})
    assert isinstance(place(call, make.caller(), full, 1.0), Wait)


@pytest.mark.parametrize(
    "members",
    [{"n": 1}, {"guided_choice": None}, {"use_beam_search": False}, {"user": "u"}],
    ids=str,
)
def test_a_member_that_changes_nothing_keeps_no_call_at_home(make, members):
    call = make.call(fields=fields(**members))
    speaks = make.offering().speaks - {"n"}
    view = make.view([], [make.offering(speaks=speaks)])
    assert isinstance(place(call, make.caller(), view, 0.0), Burst)


def test_the_first_api_that_knows_all_members_is_taken(make):
    speaks = make.offering().speaks
    offerings = [
        make.offering("a", speaks=speaks - {"n"}), make.offering("b", speaks=speaks - {"seed"}),
        make.offering("c"), make.offering("d"),
    ]  # fmt: skip
    view = make.view([], offerings)
    for members, target in (({}, "a"), ({"n": 2}, "b"), ({"seed": 1}, "a"),
                            ({"n": 2, "seed": 1}, "c")):  # fmt: skip
        call = make.call(fields=fields(**members))
        assert place(call, make.caller(), view, 0.0).target.id == target


def test_only_members_that_all_apis_lack_are_named(make):
    speaks = make.offering().speaks
    offerings = [make.offering("a"), make.offering("b", speaks=speaks - {"seed"} | {"top_k"})]
    call = make.call(fields=fields(seed=1, top_k=5, guided_regex="x"))
    refusal = place(call, make.caller(), make.view([], offerings), 0.0)
    assert refusal.message.endswith("do not know guided_regex")


@pytest.mark.parametrize(
    ("prompt_tokens", "max_tokens", "fits"),
    [(92, 8, True), (93, 8, False), (100, None, True), (101, None, False), (1, 100, False)],
)
def test_a_prompt_too_long_for_an_api_is_not_sent_there(make, prompt_tokens, max_tokens, fits):
    call = make.call(prompt_tokens=prompt_tokens, max_tokens=max_tokens)
    small, large = make.offering("small", context_tokens=100), make.offering("large")
    target = place(call, make.caller(), make.view([], [small, large]), 0.0).target
    assert target.id == ("small" if fits else "large")
    alone = place(call, make.caller(), make.view([], [small]), 0.0)
    assert isinstance(alone, Burst if fits else Refuse)


def test_an_idle_engine_is_never_refused_on_a_prediction(make):
    """Else an engine that was slow once is never asked again, and never shows that it is fast."""
    replica = make.replica(profile=SLOW, limit=80)
    slow = state_of(scale=1e6, scale_at_s=0.0)
    view = make.view([replica], state={"r1": slow})
    call = make.call(first_token_by_s=10.0)
    placement = place(call, make.caller(), view, 0.0)
    assert (type(placement), placement.reason) == (Run, "local:tight")
    assert place(call, make.caller(), make.view([replica], [make.offering()], state={"r1": slow}),
                 0.0).reason == "overflow:predicted_wait"  # fmt: skip
    assert isinstance(place(call, make.caller(), view, 10.0), Refuse), "its time is over"
    for busy_now in ({"unfinished": 1}, {"load": Load(0, 1, 0, 0.0)}, {"load": Load(1, 0, 0, 0.0)}):
        state = state_of(scale=1e6, scale_at_s=0.0, load_at_s=0.0, **busy_now)
        refusal = place(call, make.caller(), make.view([replica], state={"r1": state}), 0.0)
        assert isinstance(refusal, Refuse), busy_now


def test_without_an_admitted_target_the_reason_is_residency(make):
    view = make.view([], [make.offering(label=US), make.offering("b", label=SG)])
    refusal = place(make.call(), make.caller(MAINLAND), view, 0.0)
    assert isinstance(refusal, Refuse)
    assert (refusal.code, refusal.retry_after_s) == ("residency_refused", None)


def test_an_engine_of_ours_that_is_down_is_no_matter_of_residency(make):
    """It passes: the caller comes again, as with any engine that is down."""
    rows, home = [make.offering(label=US)], DataLabel("cn", "self", on_premises=True)
    view = make.view([], rows, homes=frozenset({("m", home)}))
    refusal = place(make.call(), make.caller(PREMISES), view, 0.0)
    assert (refusal.code, refusal.retry_after_s) == ("no_capacity", 30.0)
    for other in (("m", DataLabel("us", "self", on_premises=True)), ("other", home)):
        view = make.view([], rows, homes=frozenset({other}))
        assert place(make.call(), make.caller(PREMISES), view, 0.0).code == "residency_refused"


def test_our_own_pool_abroad_is_filtered_like_anybody_s(make):
    view = make.view([make.replica(label=US)])
    assert place(make.call(), make.caller(PREMISES), view, 0.0).code == "residency_refused"
    assert isinstance(place(make.call(), make.caller(named("us")), view, 0.0), Run)


@pytest.mark.parametrize("seconds", [0.0, 0.2, math.inf, 1e12], ids=str)
def test_the_time_to_return_is_within_its_bounds(make, seconds):
    view = make.view(pending={"m": Pending("m", 1000.0 + seconds)})
    refusal = place(make.call(first_token_by_s=900.0), make.caller(), view, 1000.0)
    assert 1.0 <= refusal.retry_after_s <= RETRY_S_MAX
