"""Tickets: issued as often as released, whatever happens in between."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.capacity import PROFILES, Load, estimate
from serving.admission import FULL_S, Admission, RetryBudget, Took
from serving.breaker import PROBE_S
from serving.choice import EXPECTED_TOKENS, SCALE_HALF_S, predict, scale_now
from serving.errors import Kind
from serving.lengths import GROUPS_MAX, SEEN_MIN, Lengths
from serving.records import Burst, LatencyClass, Run, Usage

SLOW = PROFILES["cpu-embedded"]


def run(replica, load=Load(), scale=1.0):  # noqa: B008 - an immutable value
    return Run(replica, "local", estimate(replica.profile, load, 10, 16, scale))


def issue(admission, make, call=None, placement=None, now_s=0.0):
    return admission.issue(call or make.call(), placement or run(make.replica()), 1, now_s)


def test_a_ticket_names_its_target_reason_and_number(make):
    admission = Admission()
    ticket = admission.issue(make.call(7), run(make.replica()), 2, 3.5)
    assert (ticket.request_id, ticket.attempt, ticket.issued_s) == (f"{7:032x}", 2, 3.5)
    assert (ticket.target.id, ticket.reason, ticket.is_egress) == ("r1", "local", False)
    assert admission.state["r1"].unfinished == admission.running("m") == 1
    admission.release(ticket, make.call(7))
    assert (admission.issued, admission.released, admission.running("m")) == (1, 1, 0)


def test_bytes_to_an_api_are_egress_and_expected_as_its_row_states(make):
    offering = make.offering(first_token_s=0.7)
    ticket = issue(Admission(), make, placement=Burst(offering, "overflow:full"))
    assert ticket.is_egress
    assert ticket.estimate.first_token_s.p50 == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(None, SLOW.mean_output_tokens), (5, 5), (10**9, SLOW.mean_output_tokens)],
)
def test_an_engine_is_expected_to_answer_at_usual_length(make, limit, expected):
    placement = run(make.replica(profile=SLOW))
    ticket = issue(Admission(), make, make.call(max_tokens=limit), placement)
    assert ticket.completion_tokens == expected


def test_an_api_is_expected_to_use_what_the_caller_allows(make):
    burst = Burst(make.offering(), "x")
    assert issue(Admission(), make, make.call(max_tokens=9), burst).completion_tokens == 9
    unlimited = issue(Admission(), make, make.call(max_tokens=None), burst)
    assert unlimited.completion_tokens == EXPECTED_TOKENS


def test_a_second_release_is_our_own_bug(make):
    admission = Admission()
    ticket = issue(admission, make)
    admission.release(ticket, make.call())
    with pytest.raises(AssertionError):
        admission.release(ticket, make.call())


def test_a_revoked_ticket_was_never_there(make):
    admission = Admission()
    state = admission.know("r1")
    kept = [name for name in state.__slots__ if name != "computed_at_s"]
    before = [getattr(state, name) for name in kept]
    admission.revoke(issue(admission, make), make.call())
    assert [getattr(state, name) for name in kept] == before
    assert (admission.issued, admission.released, admission.running("m")) == (0, 0, 0)


def test_a_revoked_probe_leaves_room_for_the_next(make):
    admission = Admission()
    state = admission.know("r1")
    state.open_until_s = 5.0
    ticket = issue(admission, make, now_s=6.0)
    assert state.open_until_s == 6.0 + PROBE_S
    admission.revoke(ticket, make.call())
    assert state.open_until_s == 6.0


def test_a_report_takes_in_our_sends_since_the_last_one(make):
    admission = Admission()
    issue(admission, make, make.call(prompt_tokens=70))
    state = admission.state["r1"]
    assert (state.since_calls, state.since_tokens) == (1, 70)
    admission.reported("r1", Load(running=1), 2.0)
    assert (state.since_calls, state.since_tokens, state.unfinished) == (0, 0, 1)
    assert (state.load, state.load_at_s) == (Load(running=1), 2.0)


def predicted(admission, make, replica, now_s=0.0, **call):
    """As the pipeline places a call: predict, then issue."""
    view = make.view([replica], state=admission.state)
    said = predict(make.call(**call), replica, admission.know(replica.id), view, now_s)
    return issue(admission, make, make.call(**call), Run(replica, "local", said), now_s)


def test_what_an_engine_takes_is_learnt_from_its_streams_only(make):
    admission, replica = Admission(), make.replica(profile=SLOW)
    first_s = predicted(admission, make, replica).estimate.first_token_s.p50
    for second in range(300):
        ticket = predicted(admission, make, replica, float(second))
        admission.opened(ticket, second + 3 * first_s, is_stream=True)
        admission.reported("r1", Load(), float(second))
        admission.release(ticket, make.call())
    now = predicted(admission, make, replica, 300.0)
    assert now.estimate.first_token_s.p50 == pytest.approx(3 * first_s, rel=0.02)
    admission.opened(now, 1e6, is_stream=False)
    admission.release(now, make.call())
    admission.reported("r1", Load(), 300.0)
    again = predicted(admission, make, replica, 300.0)
    again_s = again.estimate.first_token_s.p50
    assert again_s == pytest.approx(3 * first_s, rel=0.2), "a plain answer tells none"


def test_a_bad_minute_counts_less_and_less_without_news(make):
    admission, replica = Admission(), make.replica(profile=SLOW)
    ticket = predicted(admission, make, replica)
    admission.opened(ticket, 1000.0, is_stream=True)
    state = admission.state["r1"]
    assert state.scale_at_s == 1000.0
    assert 1.0 < scale_now(state, 1060.0) < scale_now(state, 1000.0) == state.scale


@pytest.mark.parametrize("learnt", [9.0, 0.2])
def test_what_was_learnt_halves_its_distance_to_one_in_a_minute_without_news(make, learnt):
    state = Admission().know("r1")
    state.scale, state.scale_at_s = learnt, 100.0
    assert scale_now(state, 100.0) == pytest.approx(learnt)
    for halves in range(1, 5):
        expected = 1.0 + (learnt - 1.0) / 2**halves
        assert scale_now(state, 100.0 + halves * SCALE_HALF_S) == pytest.approx(expected)
    assert scale_now(state, 1e6) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("retry_after_s", "seconds"), [(None, FULL_S), (0.0, FULL_S), (2.0, 2.0), (1e9, 5.0)]
)
def test_a_full_engine_is_asked_again_soon_and_its_breaker_stays_shut(make, retry_after_s, seconds):
    admission = Admission()
    for _ in range(20):
        admission.failed(issue(admission, make), Kind.FULL, retry_after_s, 10.0)
    state = admission.state["r1"]
    assert (state.full_until_s, state.open_until_s) == (10.0 + seconds, 0.0)


def test_failures_open_the_breaker_and_first_content_closes_it(make):
    admission = Admission()
    for _ in range(3):
        admission.failed(issue(admission, make), Kind.CONNECT, None, 0.0)
    state = admission.state["r1"]
    assert state.open_until_s == 10.0
    admission.opened(issue(admission, make, now_s=11.0), 11.5, is_stream=True)
    assert state.open_until_s == 0.0


def test_an_undecided_probe_makes_room_for_another(make):
    admission = Admission()
    admission.know("r1").open_until_s = 5.0
    admission.undecided(issue(admission, make, now_s=6.0), 7.0)
    assert admission.state["r1"].open_until_s == 7.0


def test_targets_that_left_are_forgotten_once_idle(make):
    admission = Admission()
    ticket = issue(admission, make)
    admission.know("r2")
    admission.forget({"r3"})
    assert set(admission.state) == {"r1"}, "it still has a call under way"
    admission.release(ticket, make.call())
    admission.forget({"r3"})
    assert not admission.state
    assert not admission._breakers


# -- how long answers are


def settle(admission, make, tokens, times=1, **call):
    for _ in range(times):
        ticket = issue(admission, make, make.call(**call))
        admission.settled(ticket, make.call(**call), Usage(10, tokens), Took(0.1, 1.0))
        admission.release(ticket, make.call(**call))


def test_an_engine_s_profile_takes_on_the_length_that_answers_are_seen_to_have(make):
    admission = Admission()
    settle(admission, make, 900, SEEN_MIN - 1)
    assert admission.know("r1").profile is None, "too few say nothing"
    settle(admission, make, 900)
    assert admission.know("r1").profile.mean_output_tokens == 900
    settle(admission, make, 100, 300)
    assert 100 <= admission.know("r1").profile.mean_output_tokens < 150, "and follows it"


def test_answers_without_a_count_teach_no_length(make):
    admission = Admission()
    ticket = issue(admission, make)
    for usage in (Usage(10, 900, is_estimated=True), Usage(10, 0)):
        for _ in range(2 * SEEN_MIN):
            admission.settled(ticket, make.call(), usage, Took(0.1, 1.0))
    assert admission.lengths.usual("m") == 0.0
    assert admission.lengths.expected(make.call()) is None


def test_a_call_without_a_limit_is_expected_to_be_as_long_as_the_model_s_answers(make):
    admission = Admission()
    settle(admission, make, 700, SEEN_MIN)
    burst = Burst(make.offering(), "x")
    assert issue(admission, make, make.call(max_tokens=None), burst).completion_tokens == 700
    assert issue(admission, make, make.call(max_tokens=None)).completion_tokens == 700
    assert issue(admission, make, make.call(max_tokens=50)).completion_tokens == 50


def test_a_tenant_s_own_class_is_told_apart_from_the_model_s_mean(make):
    lengths = Lengths()
    long = make.call(tenant="b", latency_class=LatencyClass.BATCH)
    for tokens in range(50, 150):
        lengths.learn(make.call(), tokens)
        lengths.learn(long, 40 * tokens)
    short, other = lengths.expected(make.call()), lengths.expected(long)
    assert short.p50 == pytest.approx(100, rel=0.15)
    assert short.p90 == pytest.approx(140, rel=0.15)
    assert (other.p50, other.p90) == pytest.approx((4000, 5600), rel=0.15)
    stranger = lengths.expected(make.call(tenant="c"))
    assert short.p90 < stranger.p90 < other.p90 * 1.2, "it is taken for one of all"
    assert lengths.usual("m") == pytest.approx(20.5 * 100, rel=0.5)


def test_lengths_forget_the_longest_unused_tenant_but_not_the_model(make):
    lengths = Lengths()
    for number in range(GROUPS_MAX + 50):
        lengths.learn(make.call(tenant=f"t{number}"), 10)
    assert len(lengths._groups) == GROUPS_MAX
    assert lengths.usual("m") == pytest.approx(10.0)


@given(st.lists(st.integers(-5, 1 << 40), max_size=60))
def test_no_answer_however_long_breaks_what_is_expected(make, answers):
    lengths = Lengths()
    for tokens in answers:
        lengths.learn(make.call(), tokens)
    spread = lengths.expected(make.call())
    assert spread is None or 0 < spread.p50 <= spread.p90 < 1 << 41


STEPS = ("issue", "release", "revoke", "report", "forget", "open", "fail", "leave")
steps = st.lists(
    st.tuples(
        st.sampled_from(STEPS),
        st.integers(0, 2), st.integers(0, 9),
    ),
    max_size=60,
)  # fmt: skip


@given(steps)
def test_no_interleaving_loses_or_invents_a_ticket(make, steps):
    admission, out = Admission(), []
    targets = [make.replica("r0"), make.replica("r1"), make.offering("o1")]
    for now_s, (step, which, pick) in enumerate(steps):
        target, call = targets[which], make.call(model=f"m{which}")
        if step == "issue":
            placement = Burst(target, "x") if which == 2 else run(target)
            out.append((admission.issue(call, placement, 1, float(now_s)), call))
        elif step == "report":
            admission.reported(target.id, Load(pick, pick), float(now_s))
        elif step == "forget":
            admission.forget({"r0"})
        elif out:
            ticket, call = out[pick % len(out)]
            if step == "open":
                admission.opened(ticket, float(now_s), is_stream=True)
            elif step == "fail":
                admission.failed(ticket, list(Kind)[pick], None, float(now_s))
            elif step == "leave":
                admission.undecided(ticket, float(now_s))
            else:
                out.remove((ticket, call))
                (admission.release if step == "release" else admission.revoke)(ticket, call)
        assert admission.issued - admission.released == len(out)
        for state in admission.state.values():
            assert min(state.unfinished, state.since_calls, state.since_tokens) >= 0
        assert sum(s.unfinished for s in admission.state.values()) == len(out)
        assert sum(admission.running(f"m{i}") for i in range(3)) == len(out)
    for ticket, call in out:
        admission.release(ticket, call)
    assert admission.issued == admission.released
    assert not admission._running


# -- the retry budget


def taken(budget: RetryBudget, most: int = 10_000) -> int:
    return next(n for n in range(most) if not budget.take())


def test_a_quiet_gateway_may_always_retry_its_minimum_each_minute():
    budget = RetryBudget(0.1, 10)
    for minute in range(5):
        budget.called(61.0 * minute)
        assert taken(budget) >= 10


def test_retries_are_a_share_of_the_calls():
    budget = RetryBudget(0.1, 10)
    for _ in range(1000):
        budget.called(1.0)
    assert taken(budget) == 110


def test_an_outage_s_retries_stay_a_share_for_ever():
    budget, retries = RetryBudget(0.1, 10), 0
    for minute in range(20):
        for _ in range(1000):
            budget.called(61.0 * minute)
        retries += taken(budget)
    assert retries <= 20 * (0.1 * 1000 + 10) + 10


def test_no_ratio_and_no_minimum_means_no_retry():
    budget = RetryBudget(0.0, 0)
    budget.called(0.0)
    assert not budget.take()
