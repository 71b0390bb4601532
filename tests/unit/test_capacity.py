"""The estimate: monotone, finite, and true to the step-time model."""

from __future__ import annotations

import math

import msgspec
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


def bounds(one: Load, other: Load) -> tuple[Load, Load]:
    fields = Load.__struct_fields__
    return (
        Load(*(min(getattr(one, f), getattr(other, f)) for f in fields)),
        Load(*(max(getattr(one, f), getattr(other, f)) for f in fields)),
    )


@given(profiles, loads, loads, tokens, tokens)
def test_more_waiting_or_held_never_makes_the_estimate_shorter(profile, one, other, prompt, most):
    other = Load(other.waiting, one.running, other.queued_prefill_tokens, other.kv_use)
    less, more = bounds(one, other)
    before = all_seconds(estimate(profile, less, prompt, most))
    after = all_seconds(estimate(profile, more, prompt, most))
    assert all(a <= b * (1 + 1e-12) for a, b in zip(before, after, strict=True))


@given(profiles, loads, loads, tokens, tokens)
def test_more_running_never_makes_it_shorter_while_memory_lasts(profile, one, other, prompt, most):
    # In full memory more sequences are smaller ones, and one of them ends the sooner.
    profile = msgspec.structs.replace(profile, kv_tokens=1 << 60)
    one, other = (Load(x.waiting, x.running, x.queued_prefill_tokens) for x in (one, other))
    less, more = bounds(one, other)
    before = all_seconds(estimate(profile, less, prompt, most))
    after = all_seconds(estimate(profile, more, prompt, most))
    assert all(a <= b * (1 + 1e-12) for a, b in zip(before, after, strict=True))


@given(profiles, loads, tokens, tokens, tokens, tokens)
def test_a_longer_prompt_or_answer_never_makes_it_shorter(profile, load, p1, p2, m1, m2):
    before = all_seconds(estimate(profile, load, min(p1, p2), min(m1, m2)))
    after = all_seconds(estimate(profile, load, max(p1, p2), max(m1, m2)))
    assert all(a <= b * (1 + 1e-12) for a, b in zip(before, after, strict=True))


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


LARGE = PROFILES["qwen3-32b-fp8-h100"]


def test_a_prompt_that_does_not_fit_beside_those_that_run_waits_for_them():
    half = Load(running=8, kv_use=0.5)
    fits = estimate(LARGE, half, 50_000, 1).first_token_s.p50
    alone = estimate(LARGE, Load(), 70_000, 1).first_token_s.p50
    beside = estimate(LARGE, half, 70_000, 1).first_token_s.p50
    step = step_s(LARGE, 9, round(0.5 * LARGE.kv_tokens), 0)
    assert beside - fits > LARGE.mean_output_tokens * step / 8
    assert beside - alone > LARGE.mean_output_tokens * step / 8
    assert estimate(LARGE, Load(), 200_000, 1).first_token_s.p50 < 200_000 / 10_000, "none runs"


def test_the_prompts_of_those_that_wait_need_memory_too():
    load = Load(waiting=1, running=8, queued_prefill_tokens=60_000, kv_use=0.4)
    behind = estimate(LARGE, load, 20_000, 1).first_token_s.p50
    step = step_s(LARGE, 10, round(0.4 * LARGE.kv_tokens), 0)
    prefill = 80_000 / LARGE.prefill_tokens_per_s
    assert behind - prefill - step == pytest.approx(2 / 8 * LARGE.mean_output_tokens * step)


def test_what_is_short_of_memory_comes_free_as_answers_end():
    # Twice the whole memory is queued before it: two answers' time must pass.
    queued = round(2 * KV_FULL * LARGE.kv_tokens)
    found = estimate(LARGE, Load(1, 30, queued, KV_FULL), 0, 1).first_token_s.p50
    step = step_s(LARGE, 32, round(KV_FULL * LARGE.kv_tokens), 0)
    wait = found - queued / LARGE.prefill_tokens_per_s - step
    assert wait == pytest.approx(2 * LARGE.mean_output_tokens * step, rel=0.01)


def test_longer_answers_make_every_wait_longer():
    long = msgspec.structs.replace(LARGE, mean_output_tokens=2000)
    for load in (Load(running=300), Load(waiting=1, running=9, kv_use=KV_FULL)):
        short_s = estimate(LARGE, load, 10, 1).first_token_s.p50
        assert estimate(long, load, 10, 1).first_token_s.p50 > 5 * short_s


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
