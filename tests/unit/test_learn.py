"""What a client saw gives the coefficients back; too little is refused."""

from __future__ import annotations

import pytest

from models.capacity import PROFILES, Profile, step_s
from models.learn import Decoding, Loop, NotEnoughError, Prompt, checked, learn, predicted
from models.profiles import named
from models.steady import Demand

FIXED_S = 0.012


def seen_of(profile: Profile) -> tuple[list[Decoding], list[Prompt]]:
    """What a perfect client would see of an engine with that profile."""
    decodings = [
        Decoding(count, held, step_s(profile, count, int(held), 0))
        for count in (1, 2, 4, 8, 16, 32, 64)
        for held in (count * 100, count * 100 + 16_000, 64_000)
    ]
    prompts = [
        Prompt(tokens, FIXED_S + tokens * profile.per_prefill_token_s)
        for tokens in (64, 512, 2048, 4096)
    ]
    return decodings, prompts


@pytest.mark.parametrize("name", ["qwen3-32b-bf16-2xh100", "cpu-embedded"])
def test_a_dense_engine_s_coefficients_come_back(name):
    profile = PROFILES[name]
    found = learn(*seen_of(profile))
    assert found.base_ms == pytest.approx(profile.base_s * 1e3, rel=1e-3)
    assert found.per_sequence_ms == pytest.approx(profile.per_sequence_s * 1e3, rel=1e-3)
    assert found.per_kilo_context_ms == pytest.approx(
        profile.per_context_token_s * 1e6, rel=1e-3, abs=1e-5
    )
    assert found.per_kilo_prefill_ms == pytest.approx(profile.per_prefill_token_s * 1e6, rel=1e-3)
    assert found.first_token.fixed_ms == pytest.approx(FIXED_S * 1e3, rel=1e-3)
    assert found.max_error < 1e-3


def test_an_engine_with_experts_tells_their_reading_from_its_sequences():
    profile = named("qwen3.6-35b-a3b/fp8@1xh100-80")
    found = learn(*seen_of(profile), touched=1 - profile.untouched)
    assert found.experts_ms == pytest.approx(profile.experts_s * 1e3, rel=1e-2)
    assert found.base_ms == pytest.approx(profile.base_s * 1e3, rel=1e-2)


def test_a_closed_loop_that_was_not_fitted_is_predicted_and_compared():
    profile = PROFILES["qwen3-32b-bf16-2xh100"]
    found = learn(*seen_of(profile))
    demand = Demand(256, 64, 16)
    truth = predicted(found, demand)
    again = checked(found, Loop(demand, truth.first_token_s * 2, truth.per_token_s))
    assert again.loop_first_error == pytest.approx(-0.5)
    assert again.loop_token_error == pytest.approx(0.0)


def test_too_few_batches_or_prompts_are_refused():
    decodings, prompts = seen_of(PROFILES["cpu-embedded"])
    with pytest.raises(NotEnoughError, match="4 batches were timed"):
        learn(decodings[:4], prompts)
    with pytest.raises(NotEnoughError, match="of two sizes"):
        learn([Decoding(1, 100.0 * i, 0.1) for i in range(1, 9)], prompts)
    with pytest.raises(NotEnoughError, match="prompts of 3 lengths"):
        learn(decodings, prompts[:2])
