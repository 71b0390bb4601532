"""The designed load: bounded cells, windows in which all decode, and a live simulated engine."""

from __future__ import annotations

import asyncio
from datetime import date

import pytest
import yaml

from ballast import measuring, overlay
from ballast.measuring import ANSWER_TOKENS, Plan, cells, window
from ballast.problem import ProblemError
from ballast.token_stream import Stream
from models import sizing
from models.calibration import FirstToken
from models.capacity import PROFILES
from models.layout import Layout
from models.learn import Learnt
from serving.fakes.engine import EngineSettings, start_engine


@pytest.mark.parametrize("sequences", [2, 7, 64])
@pytest.mark.parametrize("context", [512, 8192, 65_536])
def test_the_load_stays_within_its_bounds(sequences, context):
    plan = Plan("http://x/v1", sequences=sequences, context_tokens=context)
    found = list(cells(plan))
    assert len(found) >= 5
    assert len({count for count, _ in found}) >= 2
    for count, tokens in found:
        assert 1 <= count <= sequences
        assert tokens <= context // 2
        assert count * (tokens + ANSWER_TOKENS) <= 2 * context


def stream(start_s: float, step_s: float, tokens: int, prompt: int = 100) -> Stream:
    times = [start_s + step_s * i for i in range(tokens)]
    return Stream(prompt, 0.0, times, tokens)


def test_a_window_is_where_all_answers_decode_and_counts_what_they_hold():
    found = window([stream(0.0, 0.01, 48), stream(0.1, 0.01, 48)])
    assert found is not None
    assert found.sequences == 2
    assert found.step_s == pytest.approx(0.01, rel=0.03)
    # 11 tokens of the first came before the window; both made about 37 in it.
    assert found.context_tokens == pytest.approx(2 * 100 + 11 + 1 + 37, abs=3)


def test_too_short_a_window_tells_nothing():
    assert window([stream(0.0, 0.01, 24), stream(0.2, 0.01, 24)]) is None


def test_events_that_hold_several_tokens_are_counted_by_the_usage():
    paired = [Stream(100, 0.0, [0.02 * i for i in range(24)], 48) for _ in range(2)]
    found = window(paired)
    assert found is not None
    assert found.step_s == pytest.approx(0.01, rel=0.05)


def against(settings: EngineSettings, plan: Plan) -> Learnt:
    async def main() -> Learnt:
        engine = await start_engine(settings)
        try:
            url = f"{engine.url}/v1"
            return await measuring.measured(
                Plan(url, plan.model, plan.budget_s, plan.sequences, plan.context_tokens),
                lambda _: None,
            )
        finally:
            await engine.close()

    return asyncio.run(main())


@pytest.mark.full
def test_a_simulated_engine_s_coefficients_are_recovered_over_http():
    profile = PROFILES["qwen3-32b-bf16-2xh100"]
    settings = EngineSettings(profile=profile.name, max_model_len=65_536)
    found = against(settings, Plan("", sequences=16, context_tokens=16_384))
    # Real time passes here: the loop's own 1 ms of sleep and delivery is in every step.
    assert found.base_ms == pytest.approx(profile.base_s * 1e3, rel=0.1)
    assert found.per_kilo_prefill_ms == pytest.approx(profile.per_prefill_token_s * 1e6, rel=0.1)
    assert found.per_sequence_ms == pytest.approx(profile.per_sequence_s * 1e3, abs=0.1)
    assert found.loop_token_error is not None
    assert abs(found.loop_token_error) < 0.3


class Instant:
    """An engine that answers at once and counts what it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def answers(self, count: int, prompt_tokens: int, answer_tokens: int) -> list[Stream]:
        self.asked += 1
        return [stream(0.0, 0.01, answer_tokens, prompt_tokens)] * count


@pytest.mark.parametrize(("left_s", "rounds"), [(60.0, 7), (-1.0, 3)])
def test_the_closed_loop_begins_no_round_after_the_time_but_for_one_that_counts(left_s, rounds):
    engine = Instant()

    async def main() -> None:
        until_s = asyncio.get_running_loop().time() + left_s
        await measuring.closed_loop(engine, 2, until_s)

    asyncio.run(main())
    assert engine.asked == 2 * rounds


def test_an_engine_that_is_not_there_is_named():
    with pytest.raises(ProblemError, match=r"127\.0\.0\.1:9/v1"):
        measuring.measure(Plan("http://127.0.0.1:9/v1"), lambda _: None)


def test_a_missing_key_and_an_empty_secret_are_named(tmp_path):
    with pytest.raises(ProblemError, match="NO_SUCH_KEY is not set"):
        measuring.measure(Plan("http://127.0.0.1:9/v1", key_env="NO_SUCH_KEY"), lambda _: None)
    empty = tmp_path / "secret"
    empty.write_text("")
    with pytest.raises(ProblemError, match="is empty"):
        measuring.measure(Plan("http://127.0.0.1:9/v1", secret_file=empty), lambda _: None)


LEARNT = Learnt(
    base_ms=12.5, experts_ms=0.0, per_sequence_ms=0.05, per_kilo_context_ms=0.09,
    per_kilo_prefill_ms=51.0, touched=0.0, points=25, mean_error=0.012, max_error=0.04,
    prefill_error=0.01, loop_token_error=0.03, loop_first_error=-0.05,
    first_token=FirstToken(fixed_ms=20, per_kilo_ms=51, per_kilo_sequence_ms=3.5),
)  # fmt: skip


def test_what_was_measured_replaces_the_estimate_from_then_on(tmp_path):
    known = sizing.load()
    subject = overlay.subject_of(known, "qwen3-32b/fp8", "H100", 1, "0.32.0")
    path = overlay.write(subject, LEARNT, tmp_path, date(2026, 11, 25))
    assert path == tmp_path / "calibrations" / "qwen3-32b-fp8-1xh100-80-measured.yaml"
    (row,) = yaml.safe_load(path.read_text())
    assert "predicted +3.0% per token" in row["source"]
    after = sizing.model_of(
        sizing.load(tmp_path), Layout(card="qwen3-32b", variant="fp8", gpu="h100-80")
    )
    assert (after.basis, after.base_s) == ("fitted", 0.0125)


@pytest.mark.parametrize(
    ("card", "gpu", "expected"),
    [
        ("", "h100-80", "say what was measured"),
        ("qwen3-32b", "h100-80", "which variant"),
        ("qwen3-32b/int3", "h100-80", "no variant"),
        ("qwen3-32b/fp8", "h999", "no GPU"),
    ],
)
def test_an_overlay_needs_to_know_what_was_measured(card, gpu, expected):
    with pytest.raises(ProblemError, match=expected):
        overlay.subject_of(sizing.load(), card, gpu, 1, "unknown")
