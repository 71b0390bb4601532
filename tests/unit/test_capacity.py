"""The estimate: monotone, finite, and true to the step-time model."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.capacity import (
    KV_FULL,
    PROFILES,
    SCALE_MAX,
    SCALE_MIN,
    Estimate,
    Load,
    estimate,
    ewma,
    step_s,
)

profiles = st.sampled_from(tuple(PROFILES.values()))
counts = st.integers(0, 5_000)
tokens = st.integers(0, 2_000_000)
scales = st.floats(SCALE_MIN, SCALE_MAX)
loads = st.builds(Load, counts, counts, tokens, st.floats(0, 1))


def all_seconds(one: Estimate) -> tuple[float, ...]:
    first, complete = one.first_token_s, one.complete_s
    return (first.p50, first.p90, complete.p50, complete.p90)


@given(profiles, loads, tokens, tokens, scales)
def test_every_estimate_is_finite_not_negative_and_ordered(profile, load, prompt, most, scale):
    first50, first90, complete50, complete90 = all_seconds(
        estimate(profile, load, prompt, most, scale)
    )
    assert 0 <= first50 <= first90 <= complete90 < math.inf
    assert first50 <= complete50 <= complete90


@given(profiles, loads, loads, tokens, tokens)
def test_more_load_never_makes_the_estimate_shorter(profile, one, other, prompt, most):
    less = Load(*(min(getattr(one, f), getattr(other, f)) for f in Load.__struct_fields__))
    more = Load(*(max(getattr(one, f), getattr(other, f)) for f in Load.__struct_fields__))
    before = all_seconds(estimate(profile, less, prompt, most))
    after = all_seconds(estimate(profile, more, prompt, most))
    assert all(a <= b * (1 + 1e-12) for a, b in zip(before, after, strict=True))


@given(profiles, loads, tokens, tokens, tokens, tokens)
def test_a_longer_prompt_or_answer_never_makes_it_shorter(profile, load, p1, p2, m1, m2):
    before = all_seconds(estimate(profile, load, min(p1, p2), min(m1, m2)))
    after = all_seconds(estimate(profile, load, max(p1, p2), max(m1, m2)))
    assert all(a <= b * (1 + 1e-12) for a, b in zip(before, after, strict=True))


@given(scales, st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0.001, 1))
def test_the_correction_stays_within_its_bounds(scale, observed, predicted, alpha):
    assert SCALE_MIN <= ewma(scale, observed, predicted, alpha) <= SCALE_MAX


def test_the_correction_settles_at_the_true_ratio():
    scale = 1.0
    for _ in range(200):
        scale = ewma(scale, observed_s=3.0, predicted_s=2.0)
    assert scale == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("observed", "predicted"),
    [(1.0, 0.0), (-1.0, 1.0), (math.nan, 1.0), (1.0, math.nan)],
    ids=["nothing predicted", "negative", "no observation", "no prediction"],
)
def test_an_unusable_pair_leaves_the_correction_as_it_is(observed, predicted):
    assert ewma(1.3, observed, predicted) == 1.3


def test_an_idle_engine_gives_the_first_token_after_prefill_and_one_step():
    profile = PROFILES["qwen3-32b-fp8-h100"]
    first = estimate(profile, Load(), 1370, 100).first_token_s.p50
    assert first == pytest.approx(0.1 + step_s(profile, 1, 0, 0))


def test_a_full_batch_adds_the_wait_for_a_slot():
    profile = PROFILES["cpu-embedded"]
    almost = Load(running=profile.max_num_seqs - 1)
    full = Load(running=profile.max_num_seqs)
    step = step_s(profile, profile.max_num_seqs, 0, 0)
    more = estimate(profile, full, 10, 1).first_token_s.p50
    less = estimate(profile, almost, 10, 1).first_token_s.p50
    assert more - less == pytest.approx(profile.mean_output_tokens * step / profile.max_num_seqs)


def test_full_memory_makes_a_call_wait_although_slots_are_free():
    profile = PROFILES["qwen3-32b-fp8-h100"]
    free = estimate(profile, Load(running=9, kv_use=KV_FULL - 0.01), 10, 1)
    full = estimate(profile, Load(running=9, kv_use=KV_FULL), 10, 1)
    assert full.first_token_s.p50 > free.first_token_s.p50 * 1.5


def test_the_scale_multiplies_every_duration():
    profile, load = PROFILES["cpu-embedded"], Load(running=3, queued_prefill_tokens=400)
    plain = all_seconds(estimate(profile, load, 50, 20))
    doubled = all_seconds(estimate(profile, load, 50, 20, scale=2.0))
    assert doubled == pytest.approx([2 * seconds for seconds in plain])


def test_a_step_adds_up_base_sequences_and_context_in_the_fit_s_units():
    # a + b B + c B ctx in ms with ctx in thousands, for 64 streams of 2,000 tokens.
    profile = PROFILES["qwen3-32b-bf16-2xh100"]
    assert step_s(profile, 64, 64 * 2000, 0) * 1e3 == pytest.approx(14.05 + 4.0 + 6.3, abs=0.05)


def test_every_profile_names_its_source_and_its_key():
    assert all(name == profile.name and profile.source for name, profile in PROFILES.items())
