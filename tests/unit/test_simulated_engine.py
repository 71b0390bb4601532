"""The simulated engine held against published measurements: fitted steps, and saturation."""

from __future__ import annotations

from statistics import mean, median

import msgspec
import pytest

from autoscale.calls import paced
from autoscale.engines import Engine, Sequence
from benchmarks.scaling import points
from models import profiles, sizing
from models.capacity import PROFILES, Profile, step_s
from models.layout import Layout

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
        engine.add(Sequence(2, 8000, 2), first.first_s)
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
    assert median(tokens) < 0.04
    assert mean(tokens) < 0.11
    rates = [row.simulated / row.measured for row in rows if row.what == "requests/s"]
    assert len(rates) == 29
    assert min(rates) > 0.65
    assert 1.3 < median(rates) < 1.45, "a lab did less than our model predicts at the edge"
