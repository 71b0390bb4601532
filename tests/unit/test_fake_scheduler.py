"""Continuous batching of the simulated engine: order, memory, time."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.capacity import PROFILES, Profile, estimate, step_s
from serving.fakes.scheduler import BLOCK_TOKENS, Scheduler, Sequence, Step


def small(**changes: int) -> Profile:
    """The CPU profile with other limits."""
    return msgspec.structs.replace(PROFILES["cpu-embedded"], **changes)


def do_step(scheduler: Scheduler) -> tuple[Step, list[int]]:
    step = scheduler.plan()
    assert step is not None
    return step, [sequence.key for sequence in scheduler.commit(step)]


def test_nothing_to_do_is_no_step():
    assert Scheduler(small()).plan() is None


def test_a_prompt_longer_than_the_budget_is_prefilled_in_chunks():
    scheduler = Scheduler(small(max_num_batched_tokens=100))
    scheduler.add(Sequence(1, 250))
    left = []
    produced = []
    for _ in range(3):
        produced.append(do_step(scheduler)[1])
        left.append(scheduler.load().queued_prefill_tokens)
    assert produced == [[], [], [1]]
    assert left == [150, 50, 0]


def test_a_step_takes_the_time_the_profile_states():
    profile = small()
    scheduler = Scheduler(profile)
    scheduler.add(Sequence(1, 40))
    assert do_step(scheduler)[0].duration_s == pytest.approx(step_s(profile, 1, 0, 40))
    assert do_step(scheduler)[0].duration_s == pytest.approx(step_s(profile, 1, 40, 0))


def test_running_sequences_decode_while_a_new_one_prefills():
    scheduler = Scheduler(small())
    scheduler.add(Sequence(1, 10))
    do_step(scheduler)
    scheduler.add(Sequence(2, 10))
    assert do_step(scheduler)[1] == [1, 2]


def test_the_batch_never_exceeds_its_slots_and_first_come_is_first_served():
    scheduler = Scheduler(small(max_num_seqs=2))
    for key in range(4):
        scheduler.add(Sequence(key, 10))
    assert do_step(scheduler)[1] == [0, 1]
    assert (scheduler.load().running, scheduler.load().waiting) == (2, 2)
    scheduler.remove(0)
    assert do_step(scheduler)[1] == [1, 2]


def test_a_sequence_removed_during_a_step_gains_nothing_and_frees_its_memory():
    scheduler = Scheduler(small())
    scheduler.add(Sequence(1, 100))
    step = scheduler.plan()
    scheduler.remove(1)
    assert step is not None
    assert scheduler.commit(step) == []
    assert scheduler.load().kv_use == 0.0
    assert scheduler.unfinished == 0


def test_when_memory_is_full_the_newest_starts_over_and_the_oldest_goes_on():
    scheduler = Scheduler(small(kv_tokens=4 * BLOCK_TOKENS))
    scheduler.add(Sequence(1, 2 * BLOCK_TOKENS))
    scheduler.add(Sequence(2, 2 * BLOCK_TOKENS))
    assert do_step(scheduler)[1] == [1, 2]
    assert do_step(scheduler)[1] == [1]
    assert scheduler.counters.preemptions == 1
    load = scheduler.load()
    assert (load.running, load.waiting) == (1, 1)
    assert load.queued_prefill_tokens == 2 * BLOCK_TOKENS + 1
    scheduler.remove(1)
    assert do_step(scheduler)[1] == [2]


def test_a_prompt_is_let_in_once_all_of_it_fits_though_it_is_computed_in_chunks():
    profile = small(kv_tokens=10 * BLOCK_TOKENS, max_num_batched_tokens=4 * BLOCK_TOKENS)
    scheduler = Scheduler(profile)
    scheduler.add(Sequence(1, 3 * BLOCK_TOKENS))
    do_step(scheduler)
    scheduler.add(Sequence(2, 7 * BLOCK_TOKENS))
    assert do_step(scheduler)[1] == [1], "the first has its fourth block now: six are free"
    assert (scheduler.load().running, scheduler.load().waiting) == (1, 1)
    assert scheduler.counters.preemptions == 0
    scheduler.remove(1)
    assert do_step(scheduler)[1] == []
    assert scheduler.load().kv_use == 0.4, "its memory is taken chunk by chunk"
    assert do_step(scheduler)[1] == [2]


def test_a_prompt_that_can_never_fit_is_refused():
    with pytest.raises(ValueError, match="exceeds KV memory"):
        Scheduler(small(kv_tokens=160)).add(Sequence(1, 160))


def test_admission_counts_whole_prompts_until_their_first_token():
    scheduler = Scheduler(small(max_num_batched_tokens=60))
    scheduler.add(Sequence(1, 100))
    scheduler.add(Sequence(2, 30))
    do_step(scheduler)
    assert scheduler.prompt_tokens_in_prefill == 130
    do_step(scheduler)
    assert scheduler.prompt_tokens_in_prefill == 30


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 150), st.integers(1, 20)), min_size=1, max_size=8))
def test_every_sequence_gets_all_its_tokens_and_memory_adds_up(jobs):
    scheduler = Scheduler(small(kv_tokens=256, max_num_batched_tokens=64, max_num_seqs=4))
    wanted = dict(enumerate(tokens for _, tokens in jobs))
    made = dict.fromkeys(wanted, 0)
    for key, (prompt, _) in enumerate(jobs):
        scheduler.add(Sequence(key, prompt))
    for _ in range(5_000):
        step = scheduler.plan()
        if step is None:
            break
        for sequence in scheduler.commit(step):
            made[sequence.key] += 1
            if made[sequence.key] == wanted[sequence.key]:
                scheduler.remove(sequence.key)
        assert 0.0 <= scheduler.load().kv_use <= 1.0
    assert made == wanted
    load = scheduler.load()
    assert (load.kv_use, load.queued_prefill_tokens, scheduler.unfinished) == (0.0, 0, 0)


@pytest.mark.parametrize("ahead", [0, 8, 64], ids=lambda count: f"{count} ahead")
def test_the_estimate_agrees_with_the_simulated_engine_while_memory_lasts(ahead):
    profile = PROFILES["qwen3-32b-fp8-h100"]
    scheduler = Scheduler(profile)
    for key in range(ahead):
        scheduler.add(Sequence(key, 1000))
    predicted = estimate(profile, scheduler.load(), 500, 128)
    scheduler.add(ours := Sequence(ahead, 500))
    now_s, first_s = 0.0, 0.0
    while ours.generated < 128:
        step = scheduler.plan()
        assert step is not None
        now_s += step.duration_s
        if ours in scheduler.commit(step) and ours.generated == 1:
            first_s = now_s
    assert predicted.first_token_s.p50 == pytest.approx(first_s, rel=0.1)
    assert predicted.complete_s.p50 == pytest.approx(now_s, rel=0.1)
