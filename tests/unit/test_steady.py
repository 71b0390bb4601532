"""The closed form of a closed loop, held against the simulated scheduler and against limits."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import sizing
from models.capacity import Profile
from models.layout import Layout
from models.steady import Demand, Room, running_max, steady
from serving.fakes.scheduler import Scheduler, Sequence

KNOWN = sizing.load()
MODEL = sizing.model_of(
    KNOWN, Layout(card="qwen3-32b", variant="bf16", gpu="h100-80", tensor=2)
)  # fmt: skip
ROOMY = Room(slots=4096, kv_tokens=1 << 40)


def scheduler(kv_tokens: int, slots: int = 4096) -> Scheduler:
    """vLLM's rules on the same step times."""
    return Scheduler(
        Profile(
            name="test", source="test",
            base_s=MODEL.base_s,
            per_sequence_s=MODEL.per_sequence_s,
            per_context_token_s=MODEL.per_context_token_s,
            per_prefill_token_s=MODEL.per_prefill_token_s,
            prefill_tokens_per_s=1 / MODEL.per_prefill_token_s,
            max_num_seqs=slots,
            kv_tokens=kv_tokens,
        )
    )  # fmt: skip


class Seen(msgspec.Struct):
    """What callers of the simulated engine saw."""

    first_token_s: float
    per_token_s: float
    output_tokens_per_s: float
    preemptions: float


def simulate(engine: Scheduler, demand: Demand, answers: int) -> Seen:
    """A closed loop; the first answers end early by different amounts, so that callers are not in
    step, and are not counted."""
    now_s, key = 0.0, 0
    sent: dict[int, float] = {}
    first: dict[int, float] = {}
    done: list[tuple[float, float, float]] = []
    short: dict[int, int] = {}
    for _ in range(demand.concurrency):
        short[key] = 1 + key * demand.output_tokens // demand.concurrency
        engine.add(Sequence(key, demand.prompt_tokens))
        sent[key], key = now_s, key + 1
    warm = 0
    while len(done) < answers:
        step = engine.plan()
        assert step is not None
        now_s += step.duration_s
        for sequence in engine.commit(step):
            first.setdefault(sequence.key, now_s)
            if sequence.generated >= short.get(sequence.key, demand.output_tokens):
                engine.remove(sequence.key)
                if sequence.key in short:
                    warm += 1
                else:
                    done.append((sent[sequence.key], first[sequence.key], now_s))
                engine.add(Sequence(key, demand.prompt_tokens))
                sent[key], key = now_s, key + 1
    kept = done[len(done) // 2 :]
    tokens = demand.output_tokens
    return Seen(
        sum(f - s for s, f, _ in kept) / len(kept),
        sum(e - f for _, f, e in kept) / len(kept) / (tokens - 1),
        len(kept) * tokens / (kept[-1][2] - done[len(done) // 2 - 1][2]),
        engine.counters.preemptions / len(done),
    )


BELOW = {
    "short prompts": Demand(256, 128, 16),
    "as long as answers": Demand(512, 512, 24),
    "long prompts": Demand(4096, 128, 8),
}


@pytest.mark.parametrize("demand", BELOW.values(), ids=BELOW)
def test_below_the_limits_it_is_what_the_scheduler_does(demand):
    seen = simulate(scheduler(1 << 24), demand, demand.concurrency * 8)
    found = steady(MODEL, ROOMY, demand)
    assert found.limit == "none"
    assert found.per_token_s == pytest.approx(seen.per_token_s, rel=0.08)
    assert found.output_tokens_per_s == pytest.approx(seen.output_tokens_per_s, rel=0.08)


FULL = {
    "long prompts, short answers": Demand(2048, 128, 60),
    "answers a quarter of prompts": Demand(2048, 512, 60),
    "as long as each other": Demand(512, 512, 140),
    "answers longer than prompts": Demand(256, 1024, 140),
}


@pytest.mark.parametrize("demand", FULL.values(), ids=FULL)
def test_full_memory_keeps_callers_waiting_as_the_scheduler_does(demand):
    kv_tokens = 75_000
    seen = simulate(scheduler(kv_tokens), demand, demand.concurrency * 3)
    found = steady(MODEL, Room(slots=4096, kv_tokens=kv_tokens), demand)
    assert found.limit == "memory"
    assert found.output_tokens_per_s == pytest.approx(seen.output_tokens_per_s, rel=0.15)
    assert found.first_token_s == pytest.approx(seen.first_token_s, rel=0.35)
    assert found.preemptions == pytest.approx(seen.preemptions, rel=0.3, abs=0.15)


def test_full_slots_keep_callers_waiting_without_preemption():
    demand = Demand(512, 128, 48)
    seen = simulate(scheduler(1 << 24, slots=16), demand, 300)
    found = steady(MODEL, Room(slots=16, kv_tokens=1 << 40), demand)
    assert (found.limit, found.running, found.preemptions) == ("slots", 16, 0)
    assert found.output_tokens_per_s == pytest.approx(seen.output_tokens_per_s, rel=0.05)
    assert found.first_token_s == pytest.approx(seen.first_token_s, rel=0.1)


def test_what_was_measured_at_the_edge_of_memory_is_foreseen():
    # 2 x H100, 128 callers of 4,096 + 1,024: 58.8 s to the first token, then 55.2 ms.
    sized = sizing.size(
        KNOWN,
        Layout(card="qwen3-32b", variant="bf16", gpu="h100-80", tensor=2, context_tokens=5120,
               sequences=256, memory_share=0.9),
        Demand(4096, 1024, 128),
    )  # fmt: skip
    assert isinstance(sized, sizing.Sized)
    assert sized.steady.limit == "memory"
    assert sized.steady.first_token_s == pytest.approx(58.8, rel=0.15)
    assert sized.steady.per_token_s == pytest.approx(0.0552, rel=0.16)


demands = st.builds(
    Demand, st.integers(16, 32_000), st.integers(2, 4_000), st.integers(1, 500), st.floats(0, 1)
)
rooms = st.builds(Room, st.integers(1, 512), st.integers(40_000, 5_000_000), st.integers(0, 5_000))


@given(demands, rooms)
def test_callers_are_conserved_and_nothing_is_negative(demand, room):
    found = steady(MODEL, room, demand)
    assert found.running + found.waiting == pytest.approx(demand.concurrency)
    assert found.running <= min(demand.concurrency, room.slots) + 1e-9
    assert found.running <= running_max(room, demand) + 1e-9
    for value in msgspec.structs.astuple(found)[:6]:
        assert value >= 0
    assert (found.waiting > 0) == (found.limit != "none")


@given(demands, rooms)
def test_more_callers_never_make_it_faster(demand, room):
    more = msgspec.structs.replace(demand, concurrency=demand.concurrency + 1)
    before, after = steady(MODEL, room, demand), steady(MODEL, room, more)
    assert after.per_token_s >= before.per_token_s * (1 - 1e-9)
    assert after.first_token_s >= before.first_token_s * (1 - 1e-9)


def test_a_cached_prompt_costs_no_prefill():
    cold = steady(MODEL, ROOMY, Demand(4096, 256, 16))
    warm = steady(MODEL, ROOMY, Demand(4096, 256, 16, cached_share=0.75))
    assert warm.first_token_s < cold.first_token_s / 2
    assert warm.output_tokens_per_s > 1.2 * cold.output_tokens_per_s
