"""The simulated engine held against published measurements: fitted steps, and saturation."""

from __future__ import annotations

import random
from collections.abc import Mapping
from collections.abc import Sequence as Rows
from statistics import mean, median

import msgspec
import pytest

from autoscale.calls import paced
from autoscale.engines import Engine, Sequence
from benchmarks.scaling import points
from models import profiles, sizing
from models.capacity import PROFILES, Profile, step_s
from models.layout import Layout
from serving.fakes import scheduler

FITS = {
    # Step in ms = a + b B + c B ctx + p P (ctx, P in thousand tokens), fitted to published points
    # of AIConfigurator (silicon_sample.csv @ 095f58a51c4c), 2026-11-21.
    "qwen3-32b bf16, vllm, 2 h100": (14.05, 0.0625, 0.0492, 48.95),
    "qwen3-32b bf16, vllm, 4 h100": (9.26, 0.0608, 0.0253, 28.8),
    "qwen3-32b bf16, vllm, 8 h100": (7.02, 0.0659, 0.0107, 18.0),
    "qwen3-32b fp8, trtllm, 1 h100": (13.57, 0.1076, 0.0003, 73.0),
    "qwen3-235b fp8, vllm, 4 h200": (20.0, 0.217, 0.0597, 30.1),
}


def profile(a: float, b: float, c: float, p: float) -> Profile:
    return Profile("fit", "", a / 1e3, b / 1e3, c / 1e6, p / 1e6, 1e6 / p * 1e3, 4096, 10_000_000)


def loop(one: Profile, callers: int, prompt: int, output: int, answers: int) -> float:
    """Mean time per token of a closed loop, prompts of equal length, starts spread out."""
    engine, keys, done, spent_s = Engine(one, 0.0), callers, 0, 0.0
    for key in range(callers):
        engine.add(Sequence(key, prompt, output), key * 0.05)
    while done < answers:
        now_s = engine.next_s()
        for ended in engine.ended(now_s):
            if done >= callers:  # the first round is not steady
                spent_s += (now_s - ended.first_s) / (output - 1)
            done += 1
            engine.add(Sequence(keys, prompt, output), now_s)
            keys += 1
    return spent_s / (done - callers)


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize(("callers", "prompt", "output"), [(8, 1000, 200), (32, 2000, 500)])
def test_a_closed_loop_takes_the_fitted_time_per_token(
    name: str, callers: int, prompt: int, output: int
) -> None:
    a, b, c, p = FITS[name]
    context = (prompt + output / 2) / 1e3
    fitted_ms = a + b * callers + c * callers * context + p * callers * prompt / output / 1e3
    found_ms = loop(profile(a, b, c, p), callers, prompt, output, 8 * callers) * 1e3
    # Prompts of one's own round that come before the first token are not in a token's time.
    assert found_ms == pytest.approx(fitted_ms, rel=0.06)


def saturated(one: Profile, prompt: int, output: int, count: int = 400) -> float:
    """Requests a second when all prompts come at once."""
    engine, done, now_s = Engine(one, 0.0), 0, 0.0
    for key in range(count):
        engine.add(Sequence(key, prompt, output), 0.0)
    while done < count:
        now_s = engine.next_s()
        done += len(engine.ended(now_s))
    return count / now_s


LAB = [
    # GPUStack's performance lab @ 47277d79f4a5, vLLM 0.11, all prompts at once, requests/s.
    ("qwen3-14b", "h100-80", 217, 202, 15.7),
    ("qwen3-14b", "h100-80", 4000, 200, 2.20),
    ("qwen3-14b", "h100-80", 2000, 100, 5.06),
    ("qwen3-14b", "a100-80", 217, 202, 9.4),
    ("qwen3-14b", "a100-80", 4000, 200, 1.23),
    ("qwen3-14b", "a100-80", 2000, 100, 2.85),
    ("qwen3-32b", "h100-80", 217, 202, 5.6),
    ("qwen3-32b", "h100-80", 2000, 100, 1.52),
    ("qwen3-32b", "a100-80", 217, 202, 4.1),
    ("qwen3-32b", "a100-80", 2000, 100, 1.20),
]


@pytest.mark.parametrize(("card", "gpu", "prompt", "output", "measured"), LAB)
def test_saturation_is_within_a_factor_of_two_of_a_lab(
    card: str, gpu: str, prompt: int, output: int, measured: float
) -> None:
    layout = Layout(card=card, variant="bf16", gpu=gpu, context_tokens=8192, sequences=256)
    found = saturated(profiles.profile_for(sizing.load(), layout), prompt, output)
    print(f"{card} {gpu} {prompt}/{output}: {found:.2f}, measured {measured}")
    assert 0.5 < found / measured < 2.0


def test_chunks_bound_the_time_of_a_token() -> None:
    whole = PROFILES["qwen3-32b-fp8-h100"]
    small = paced(whole, 32, 0.1)
    assert small.max_num_batched_tokens == 1024
    found = {}
    for one in (whole, small):
        engine, first = Engine(one, 0.0), Sequence(1, 10, 3)
        engine.add(first, 0.0)
        engine.add(Sequence(2, 8000, 2), 0.016)  # the first token came, the second is under way
        end_s = engine.next_s()
        engine.ended(end_s)
        found[one.max_num_batched_tokens] = (end_s - first.first_s) / 2
    assert found[1024] <= 0.1 < found[8192]


def test_chunks_take_no_more_time_in_all() -> None:
    one = PROFILES["qwen3-32b-fp8-h100"]
    small = msgspec.structs.replace(one, max_num_batched_tokens=512)
    alone = 16 * 512 * one.per_prefill_token_s + 16 * step_s(small, 1, 8242, 0)
    engine = Engine(small, 0.0)
    engine.add(Sequence(1, 8192, 100), 0.0)
    assert engine.next_s() == pytest.approx(alone + 99 * step_s(small, 1, 8242, 0))


def test_the_published_points_are_met_as_nearly_as_the_documents_say() -> None:
    rows = list(points.seen())
    tokens = [abs(row.error) for row in rows if row.what == "token ms"]
    assert len(tokens) == 23
    assert median(tokens) < 0.035
    assert mean(tokens) < 0.105
    rates = [row.simulated / row.measured for row in rows if row.what == "requests/s"]
    assert len(rates) == 29
    assert min(rates) > 0.65
    assert 1.2 < median(rates) < 1.35, "a lab did less than our model predicts at the edge"


def drawn(rate: float, count: int) -> list[tuple[float, int, int]]:
    """(when, prompt, answer), with tails so long that memory runs full before the batch does."""
    lots, now_s, rows = random.Random(1), 0.0, []
    for _ in range(count):
        now_s += lots.expovariate(rate)
        prompt, output = lots.lognormvariate(5, 1.6), lots.lognormvariate(5, 1.1)
        rows.append((now_s, 1 + min(9_000, int(prompt)), 1 + min(4_000, int(output))))
    return rows


def events(one: Profile, rows: Rows[tuple[float, int, int]]) -> tuple[Mapping[int, float], int]:
    """Seconds to each first token, and preemptions."""
    engine, turn, firsts = Engine(one, 0.0), 0, {}
    while turn < len(rows) or engine.calls:
        if turn < len(rows) and rows[turn][0] <= engine.next_s():
            at_s, prompt, output = rows[turn]
            engine.add(Sequence(turn, prompt, output), at_s)
            turn += 1
            continue
        for ended in engine.ended(engine.next_s()):
            firsts[ended.key] = ended.first_s - rows[ended.key][0]
    return firsts, engine.preemptions


def steps(one: Profile, rows: Rows[tuple[float, int, int]]) -> tuple[Mapping[int, float], int]:
    """The same, by a scheduler that takes each step by itself."""
    engine, turn, firsts, now_s = scheduler.Scheduler(one), 0, {}, 0.0
    while turn < len(rows) or engine.unfinished:
        while turn < len(rows) and rows[turn][0] <= now_s:
            engine.add(scheduler.Sequence(turn, rows[turn][1]))
            turn += 1
        step = engine.plan()
        if step is None:
            now_s = rows[turn][0]
            continue
        now_s += step.duration_s
        for said in engine.commit(step):
            firsts.setdefault(said.key, now_s - rows[said.key][0])
            if said.generated >= rows[said.key][2]:
                engine.remove(said.key)
    return firsts, engine.counters.preemptions


def test_full_memory_delays_first_tokens_as_a_step_by_step_scheduler_does() -> None:
    one, rows = paced(PROFILES["qwen3-32b-fp8-h100"], 32, 0.1), drawn(3.0, 1000)
    one = msgspec.structs.replace(one, kv_tokens=16_000)
    found, sent_back = events(one, rows)
    wanted, truly_sent_back = steps(one, rows)
    assert len(found) == len(wanted) == len(rows)
    assert min(sent_back, truly_sent_back) > 10
    assert sent_back == pytest.approx(truly_sent_back, rel=0.3)
    assert mean(found.values()) == pytest.approx(mean(wanted.values()), rel=0.05)
    late, truly_late = (sum(s > 5.0 for s in firsts.values()) for firsts in (found, wanted))
    assert late == pytest.approx(truly_late, abs=0.01 * len(rows))
    assert late > 0.02 * len(rows), "memory was never full"


def test_the_newest_starts_over_when_memory_is_full_and_keeps_what_it_said() -> None:
    one = msgspec.structs.replace(PROFILES["qwen3-32b-fp8-h100"], kv_tokens=1000)
    engine = Engine(one, 0.0)
    old, new = Sequence(1, 400, 300), Sequence(2, 400, 300)
    engine.add(old, 0.0)
    engine.add(new, 0.0)
    full_s = engine.next_s()
    assert engine.ended(full_s) == []
    assert engine.preemptions == 1
    assert 90 < new.done < 110
    assert engine.load().waiting == 1
    first_s = new.first_s
    assert engine.ended(engine.next_s()) == [old]
    assert engine.ended(engine.next_s()) == [new]
    assert new.first_s == first_s, "it was heard before it was sent back"
    assert engine.calls == 0
    assert engine.load().kv_use == pytest.approx(0.0, abs=1e-9)


def test_an_answer_longer_than_all_memory_runs_alone() -> None:
    one = msgspec.structs.replace(PROFILES["qwen3-32b-fp8-h100"], kv_tokens=1000)
    engine, ended = Engine(one, 0.0), []
    for key in (1, 2, 3):
        engine.add(Sequence(key, 300, 2000), 0.0)
    while engine.calls:
        ended += [found.key for found in engine.ended(engine.next_s())]
    assert ended == [1, 2, 3]
