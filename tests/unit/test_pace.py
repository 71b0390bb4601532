"""Learning how fast targets are: coefficients that settle, quantiles that hold, nothing absurd."""

from __future__ import annotations

import math
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.calibration.__main__ import is_good, row, truth
from benchmarks.calibration.world import World, off, slower
from models.api_pace import HALF_S, ApiPace
from models.capacity import PROFILES, Basis, Load, basis
from models.online import COEFFICIENT_MAX, COEFFICIENT_MIN, SPREAD_SEEN_MAX, Fit, Spread
from models.pace import FREE, FULL, QUEUED, SHORT, Pace, Tokens, regime_of
from serving.admission import Admission, Took
from serving.choice import expected_tokens, predict, predict_api
from serving.placement.score import expected
from serving.records import Burst, Run, TargetState, Usage

LARGE = PROFILES["qwen3-32b-fp8-h100"]
TOKENS = Tokens(100.0, 300.0)
seconds = st.floats(0, 1e6)
bases = st.builds(
    lambda own, before, step, wait, behind: Basis(
        own + before, step, wait, before, step / 2, step / 2, behind
    ),
    seconds, seconds, st.floats(1e-6, 10), seconds, st.booleans(),
)  # fmt: skip


# -- coefficients and spreads


def test_each_coefficient_finds_its_own_truth():
    fit, lots = Fit(2), random.Random(1)
    for _ in range(3000):
        terms = (lots.expovariate(1.0), lots.expovariate(1.0))
        fit.learn(terms, 0.7 * terms[0] + 1.4 * terms[1])
    assert fit.coefficients == pytest.approx([0.7, 1.4], rel=0.05)


@given(st.lists(st.tuples(seconds, seconds, st.floats(allow_nan=True)), max_size=50))
def test_no_observation_drives_a_coefficient_out_of_its_bounds(observations):
    fit = Fit(2)
    for one, other, seen in observations:
        fit.learn((one, other), seen)
    assert all(COEFFICIENT_MIN <= c <= COEFFICIENT_MAX for c in fit.coefficients)


def test_terms_that_always_move_together_do_not_part():
    """As they did with least squares: one at its bound, the other driven after it."""
    fit, lots = Fit(2), random.Random(2)
    for _ in range(5000):
        fit.learn((1.0, 0.8), 2.0 * lots.lognormvariate(0.0, 0.5))
    assert fit.of((1.0, 0.8)) == pytest.approx(2.0, rel=0.3)
    assert all(0.5 < c < 2.5 for c in fit.coefficients)


def test_a_spread_follows_its_latest_observations():
    spread, lots = Spread(0.0, 1.0), random.Random(3)
    assert (spread.p50, spread.p90) == (0.0, 1.0), "as foreseen until enough was seen"
    for level in (5.0, -2.0):
        for _ in range(SPREAD_SEEN_MAX):
            spread.add(lots.gauss(level, 0.5))
        assert spread.seen == SPREAD_SEEN_MAX
        assert spread.p50 == pytest.approx(level, abs=0.2)
        assert spread.p90 == pytest.approx(level + 0.64, abs=0.25)


@given(st.lists(st.floats(), max_size=400))
def test_a_spread_stays_finite_and_ordered(values):
    spread = Spread(0.0, 0.5)
    for value in values:
        spread.add(value)
    assert -math.inf < spread.p50 <= spread.p90 < math.inf


# -- engines


@given(bases, st.lists(st.tuples(bases, seconds, seconds), max_size=8), st.floats(0.2, 10))
def test_every_prediction_is_finite_and_ordered_whatever_was_seen(parts, history, scale):
    pace = Pace()
    for one, first_s, more_s in history:
        guess = pace.estimate(one, TOKENS, scale).guess
        pace.opened(guess, first_s, scale)
        pace.ended(guess, 50, first_s, first_s + more_s)
    said = pace.estimate(parts, TOKENS, scale)
    first, whole = said.first_token_s, said.complete_s
    assert 0 < first.p50 < first.p90 <= whole.p90 < math.inf
    assert first.p50 <= whole.p50 < whole.p90


def test_calls_are_told_apart_by_what_they_wait_for():
    free = basis(LARGE, Load(), 1000)
    queued = basis(LARGE, Load(running=1, queued_prefill_tokens=5000), 1000)
    short = basis(LARGE, Load(running=9, kv_use=0.949), 1000)
    full = basis(LARGE, Load(waiting=2, running=9, kv_use=0.949), 1000)
    slots = basis(LARGE, Load(running=LARGE.max_num_seqs), 1000)
    assert [regime_of(b) for b in (free, queued, short, full, slots)] == [
        FREE, QUEUED, SHORT, FULL, FULL,
    ]  # fmt: skip


def test_late_first_tokens_of_a_long_queue_do_not_correct_the_same_error_again_and_again():
    """A hundred calls wait when the first tells that all take half as long as foreseen."""
    pace, parts = Pace(), basis(LARGE, Load(waiting=50, running=256), 1000)
    said = [pace.estimate(parts, TOKENS, 1.0) for _ in range(100)]
    for one in said:
        pace.opened(one.guess, one.first_token_s.p50 / 2, 1.0)
    now = pace.estimate(parts, TOKENS, 1.0).first_token_s.p50
    assert now == pytest.approx(said[0].first_token_s.p50 / 2, rel=0.1)


def test_the_prompts_of_others_lengthen_every_token():
    busy = Load(running=40)
    plain = basis(LARGE, busy, 100)
    known = msgspec.structs.replace(LARGE, mean_prompt_tokens=1500, mean_output_tokens=300)
    more_s = 40 / 300 * 1500 * LARGE.per_prefill_token_s
    assert basis(known, busy, 100).shared_s - plain.shared_s == pytest.approx(more_s)
    assert basis(known, Load(), 100).shared_s == basis(LARGE, Load(), 100).shared_s


@pytest.mark.parametrize("rate", [1.6, 3.6], ids=["two fifths", "nine tenths"])
def test_predictions_are_true_to_an_engine_that_is_not_what_its_profile_says(rate):
    true = off(LARGE, 4)
    seen = World(LARGE, true, 4).run(700, rate, (slower(true), 0.6 * rate))
    seen.sort(key=lambda one: one.at_s)
    found = row(4, rate, "before", seen[100:350])
    assert is_good(found.first), found
    assert is_good(found.whole), found
    drifted = row(4, rate, "after", seen[350:])
    assert is_good(drifted.first), drifted


def test_what_counts_as_true_is_counted_right():
    one = truth([(1.0, 2.0, 1.1), (1.0, 2.0, 0.9), (1.0, 2.0, 3.0), (2.0, 3.0, 2.4)])
    assert one.bias == pytest.approx(0.15)
    assert one.error == pytest.approx(0.15)
    assert one.covered == 0.75


# -- how long an answer will be


def test_an_answer_is_never_expected_longer_than_its_limit(make):
    assert expected_tokens(make.call(max_tokens=0), None, LARGE) == Tokens(0.0, 0.0)
    assert expected_tokens(make.call(max_tokens=5), None, LARGE) == Tokens(5, 5)
    free = expected_tokens(make.call(max_tokens=None), None, LARGE)
    assert free.p50 < LARGE.mean_output_tokens < free.p90
    admission = Admission()
    for tokens in range(100, 200):
        admission.lengths.learn(make.call(), tokens)
    learnt = expected_tokens(make.call(max_tokens=170), admission.lengths, LARGE)
    assert learnt.p50 == pytest.approx(150, rel=0.1)
    assert learnt.p90 == 170


def test_longer_answers_are_expected_once_a_few_dozen_have_come(make):
    admission, rng = Admission(), random.Random(3)
    for turn in range(560):
        stretch = 1.0 if turn < 500 else 2.0
        admission.lengths.learn(
            make.call(), round(rng.lognormvariate(math.log(250 * stretch), 0.7))
        )
    learnt = expected_tokens(make.call(max_tokens=None), admission.lengths, LARGE)
    assert learnt.p50 > 1.5 * 250


# -- third parties


def stream(admission, make, offering, first_s, at_s=0.0, prompt=100, tokens=200):
    call = make.call(prompt_tokens=prompt, max_tokens=None)
    ticket = admission.issue(call, Burst(offering, "x"), 1, at_s)
    admission.opened(ticket, at_s + first_s, is_stream=True)
    admission.settled(ticket, call, Usage(prompt, tokens), Took(first_s, first_s + tokens * 0.05))
    admission.release(ticket, call)
    return ticket


def test_an_api_is_taken_at_its_row_s_word_until_it_has_answered(make):
    offering = make.offering(first_token_s=0.8)
    said = predict_api(make.call(), offering, TargetState(), 0.0)
    assert said.first_token_s.p50 == pytest.approx(0.8)
    assert said.first_token_s.p90 == pytest.approx(1.6)


def test_an_api_s_first_token_is_learnt_by_size_of_prompt(make):
    admission, offering = Admission(), make.offering(first_token_s=0.8)
    for number in range(80):
        stream(admission, make, offering, 0.4 + 0.002 * number, number)
        stream(admission, make, offering, 4.0 + 0.02 * number, number, prompt=30_000)

    def at(prompt):
        call = make.call(prompt_tokens=prompt, max_tokens=None)
        return predict_api(call, offering, admission.state[offering.id], 80.0)

    assert at(500).first_token_s.p50 == pytest.approx(0.5, rel=0.1)
    assert at(500).first_token_s.p90 == pytest.approx(0.55, rel=0.1)
    assert at(20_000).first_token_s.p50 == pytest.approx(5.0, rel=0.1)
    assert at(2_000).first_token_s.p50 < 5.0, "nothing of that size: as all together"
    assert at(500).complete_s.p50 == pytest.approx(0.5 + 200 * 0.05, rel=0.3)


def test_what_an_api_was_seen_to_take_is_what_placement_weighs(make):
    admission, offering = Admission(), make.offering(first_token_s=0.8)
    call = make.call(prompt_tokens=500, max_tokens=None)
    assert expected(offering, call, None, 0.0).first_token_s.p90 == 0.8, "its row's word"
    for number in range(80):
        stream(admission, make, offering, 0.4 + 0.002 * number, number, tokens=300)
    state = admission.state[offering.id]
    seen = expected(offering, call, state, 80.0)
    assert seen.first_token_s == predict_api(call, offering, state, 80.0).first_token_s
    assert seen.complete_s == pytest.approx(0.5 + 300 * 0.05, rel=0.15)
    short = expected(offering, make.call(prompt_tokens=500, max_tokens=10), state, 80.0)
    assert short.complete_s < 1.5


def test_an_api_that_was_slow_is_given_another_chance_in_time(make):
    pace = ApiPace(0.5)
    for second in range(100):
        pace.opened(100, 8.0, float(second))
    assert pace.estimate(100, TOKENS, 100.0).first_token_s.p50 == pytest.approx(8.0)
    later = [pace.estimate(100, TOKENS, 100.0 + n * HALF_S).first_token_s.p50 for n in (1, 2, 9)]
    assert later[0] == pytest.approx(2.0, rel=0.05)
    assert 8.0 > later[0] > later[1] > later[2] == pytest.approx(0.5, rel=0.01)


@given(st.lists(st.tuples(st.integers(0, 200_000), st.floats(), seconds), max_size=60), seconds)
def test_an_api_s_prediction_is_finite_and_ordered(observations, now_s):
    pace = ApiPace(0.5)
    for prompt, seen_s, at_s in observations:
        pace.opened(prompt, seen_s, at_s)
        pace.ended(100, 1.0, seen_s)
    said = pace.estimate(500, TOKENS, now_s)
    assert 0 < said.first_token_s.p50 <= said.first_token_s.p90 < math.inf
    assert said.first_token_s.p50 <= said.complete_s.p50 <= said.complete_s.p90 < math.inf


# -- what the live state adds to a report


def test_calls_that_ended_since_the_report_have_made_room(make):
    admission, replica = Admission(), make.replica(profile=LARGE, limit=400)
    view = make.view([replica], state=admission.state)
    out = []
    for number in range(256):
        call = make.call(number)
        said = predict(call, replica, admission.know("r1"), view, 0.0)
        out.append((admission.issue(call, Run(replica, "local", said), 1, 0.0), call))
    admission.reported("r1", Load(0, 256, 0, 0.5), 1.0)
    full = predict(make.call(), replica, admission.state["r1"], view, 1.0)
    for ticket, call in out[:128]:
        admission.release(ticket, call)
    half = predict(make.call(), replica, admission.state["r1"], view, 1.0)
    assert full.guess.basis.wait_s > 0.0 == half.guess.basis.wait_s
    assert half.guess.basis.step_s < full.guess.basis.step_s
