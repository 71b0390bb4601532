"""Profiles by name: written down, or computed from a card on GPUs."""

from __future__ import annotations

import pytest

from models import profiles, sizing
from models.capacity import PROFILES, Load, estimate, step_s
from models.layout import Layout
from models.profiles import ProfileError, name_of, named
from models.steady import Demand, Room, steady
from serving.settings import Model, Settings, SettingsError, load


def test_a_written_profile_is_itself():
    assert named("cpu-embedded") is PROFILES["cpu-embedded"]


def test_a_card_on_gpus_becomes_a_profile_that_says_where_it_comes_from():
    found = named("qwen3-32b/bf16@2xh100-80")
    assert found.name == "qwen3-32b/bf16@2xh100-80"
    assert found.source.startswith("measured: calibration qwen3-32b-bf16-vllm-2xh100")
    assert found.base_s == pytest.approx(0.01405)
    assert found.kv_tokens == pytest.approx(300_000, rel=0.02)
    scaled = named("qwen3-32b/fp8@1xh100-80")
    assert "scaled by the roofline" in scaled.source
    assert "expect +-8%" in scaled.source


@pytest.mark.parametrize(
    "layout",
    [
        Layout(card="qwen3-32b", variant="fp8", gpu="h100-80"),
        Layout(card="qwen3-235b-a22b", variant="fp8", gpu="h200-141", tensor=1, data=8,
               is_expert_parallel=True),
        Layout(card="glm-5", variant="fp8", gpu="h200-141", tensor=8, is_expert_parallel=True),
    ],
    ids=["one GPU", "ranks", "whole experts"],
)  # fmt: skip
def test_a_layout_s_name_leads_back_to_it(layout):
    name = name_of(layout)
    assert profiles.NAME.fullmatch(name)
    found = named(name)
    assert found.name == name


def test_the_profile_s_step_is_the_step_model_s():
    known = sizing.load()
    layout = Layout(card="qwen3.6-35b-a3b", variant="fp8", gpu="h100-80", sequences=64)
    model = sizing.model_of(known, layout)
    profile = profiles.profile_for(known, layout)
    assert step_s(profile, 40, 60_000, 900) == pytest.approx(model.step_s(40, 60_000, 900))
    alone = estimate(profile, Load(), 1000, 100)
    steadied = steady(model, Room(64, 1 << 40), Demand(1000, 100, 1))
    decode = alone.complete_s.p50 - alone.first_token_s.p50
    assert decode / 100 == pytest.approx(steadied.per_token_s, rel=0.1)


def test_a_hybrid_gets_no_more_sequences_than_its_states_leave_room_for():
    assert named("qwen3.5-27b/bf16@1xh100-80").max_num_seqs < 64
    assert named("qwen3.5-27b/bf16@1xh200-141").max_num_seqs == 128


REFUSED = {
    "nonsense": ("nope", "known: qwen3-32b-fp8-h100"),
    "an unknown card": ("qwen4-32b/fp8@1xh100-80", "no model"),
    "an unknown variant": ("qwen3-32b/int2@1xh100-80", "no variant 'int2': bf16, fp8, awq"),
    "an unknown GPU": ("qwen3-32b/fp8@1xh900", "no GPU"),
    "a refused GPU": ("qwen3-32b/fp8@1xv100", "not supported"),
    "too small a GPU": ("qwen3-32b/bf16@1xa100-40", "the weights do not fit"),
    "no kernel": ("glm-5/fp8@8xa100-80", "compute capability"),
}


@pytest.mark.parametrize(("name", "expected"), REFUSED.values(), ids=REFUSED)
def test_a_profile_that_cannot_be_says_why(name, expected):
    with pytest.raises(ProfileError) as caught:
        named(name)
    assert expected in str(caught.value)


def test_settings_take_a_card_on_gpus_and_compute_its_profile_once():
    settings = Settings(models=(Model(name="m", profile="qwen3-32b/fp8@1xh100-80"),))
    (model,) = settings.models
    assert model.speed is model.speed
    assert model.speed.name == "qwen3-32b/fp8@1xh100-80"
    assert Model(name="m").speed is PROFILES["cpu-embedded"]


def test_settings_refuse_a_card_that_does_not_fit(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("models: [{name: mine, profile: qwen3-32b/bf16@1xa100-40}]")
    with pytest.raises(SettingsError, match="qwen3-32b/bf16@1xa100-40: the weights do not"):
        load(path, environ={})
