"""Step times: measured ones as they were fitted, others scaled by the roofline, with provenance."""

from __future__ import annotations

import msgspec
import pytest

from models import calibration, sizing
from models.bulk import bulk_of
from models.calibration import CalibrationError
from models.layout import Layout
from models.speed import NoCalibrationError, step_model

KNOWN = sizing.load()


def layout(card: str, variant: str, gpu: str, tensor: int = 1, **more: object) -> Layout:
    return Layout(card=card, variant=variant, gpu=gpu, tensor=tensor, **more)  # type: ignore[arg-type]


def model(*given: object, **more: object):
    return sizing.model_of(KNOWN, layout(*given, **more))  # type: ignore[arg-type]


def test_a_measured_configuration_is_used_as_it_was_fitted():
    found = model("qwen3-32b", "bf16", "h100-80", 2)
    assert (found.basis, found.calibration) == ("fitted", "qwen3-32b-bf16-vllm-2xh100")
    # 32 streams of 1,024 + 1,024: 20.1 ms measured.
    assert found.step_s(32, 32 * 1536, 32) * 1e3 == pytest.approx(20.1, rel=0.01)


def test_another_engine_s_fit_of_the_same_configuration_gives_way_to_vllm_on_its_neighbour():
    found = model("qwen3-32b", "fp8", "h100-80", 1)
    assert (found.basis, found.calibration) == ("scaled", "qwen3-32b-bf16-vllm-2xh100")


def test_weights_in_half_the_bytes_are_read_in_half_the_time_and_quantised_by_one_more_kernel():
    whole = model("qwen3-32b", "bf16", "h100-80", 1)
    half = model("qwen3-32b", "fp8", "h100-80", 1)
    read_s = {of: bulk("qwen3-32b", of) / 3.35e12 for of in ("bf16", "fp8")}
    assert half.base_s - read_s["fp8"] == pytest.approx(
        (whole.base_s - read_s["bf16"]) * 14 / 13, rel=1e-6
    )


def bulk(card: str, variant: str) -> float:
    known = KNOWN.catalog.cards[card]
    return bulk_of(known, known.variants[variant]).dense_bytes


def test_twice_the_bandwidth_reads_context_twice_as_fast():
    h100 = model("qwen3-14b", "bf16", "h100-80")
    a100 = model("qwen3-14b", "bf16", "a100-80")
    assert a100.per_context_token_s / h100.per_context_token_s == pytest.approx(3.35 / 2.039)
    assert a100.per_prefill_token_s > 2 * h100.per_prefill_token_s
    assert a100.error > h100.error


def test_experts_are_read_once_however_many_tokens_chose_them():
    found = model("qwen3-30b-a3b", "bf16", "h100-80")
    alone, some, many = (found.step_s(n, 0, 0) for n in (1, 32, 512))
    assert alone < some < many
    assert found.step_s(512, 0, 0) - found.step_s(256, 0, 0) == pytest.approx(
        256 * found.per_sequence_s, rel=0.02
    )


def test_ranks_choose_experts_together():
    one = model("qwen3-235b-a22b", "fp8", "h200-141", 1, data=8, is_expert_parallel=True)
    assert one.ranks == 8
    assert one.step_s(4, 0, 0) - one.base_s - 4 * one.per_sequence_s == pytest.approx(
        one.experts_s * (1 - (1 - one.touched) ** 32)
    )


def test_gpus_that_talk_over_pcie_pay_for_each_layer():
    near, far = model("qwen3-32b", "fp8", "l20-48", 1), model("qwen3-32b", "fp8", "l20-48", 2)
    assert far.base_s > near.base_s / 2 + 64 * 2 * 20e-6
    assert near.error == far.error == 0.4


def test_long_prompts_pay_for_attention_to_what_came_before():
    found = model("qwen3-32b", "fp8", "h100-80")
    assert found.prefill_s(4096) == found.per_prefill_token_s
    assert found.prefill_s(32_768) > 1.3 * found.per_prefill_token_s


def test_nothing_to_scale_from_is_an_error_that_names_the_remedy():
    its = KNOWN.configurations["qwen3-32b-bf16-vllm-2xh100"]
    with pytest.raises(NoCalibrationError, match="ballast models profile"):
        step_model(its, [])


def test_the_nearest_is_the_same_whatever_the_order():
    pairs = list(KNOWN.known())
    asked = msgspec.structs.replace(KNOWN.configurations["glm-5-fp8-sglang-8xh200"], card="x")
    assert step_model(asked, pairs) == step_model(asked, pairs[::-1])


def test_an_overlay_replaces_what_was_estimated(tmp_path):
    folder = tmp_path / calibration.OVERLAY
    folder.mkdir()
    (folder / "mine.yaml").write_text(
        "- {name: mine, card: qwen3-32b, variant: fp8, gpu: H100, engine: vllm,"
        " engine_version: '0.32.0', base_ms: 14, per_sequence_ms: 0.05, per_kilo_context_ms: 0.09,"
        " per_kilo_prefill_ms: 50, points: 20, mean_error: 0.01, max_error: 0.03,"
        " measured: 2026-11-25, source: test}\n"
    )
    known = sizing.load(tmp_path)
    found = sizing.model_of(known, layout("qwen3-32b", "fp8", "h100-80"))
    assert (found.basis, found.calibration, found.base_s) == ("fitted", "mine", 0.014)


FAULTS = {
    "no list": ("a: 1", "holds no list"),
    "no YAML": ("[", "expected"),
    "an unknown card": ("- {name: x, card: nope, variant: bf16, gpu: h100-80}", "x: "),
    "neither card nor foreign": ("- {name: x, gpu: h100-80, tensor: 0}", "tensor"),
}


@pytest.mark.parametrize(("text", "expected"), FAULTS.values(), ids=FAULTS)
def test_a_wrong_overlay_is_refused_by_file_and_name(tmp_path, text, expected):
    folder = tmp_path / calibration.OVERLAY
    folder.mkdir()
    (folder / "mine.yaml").write_text(text)
    with pytest.raises(CalibrationError, match=r"mine\.yaml") as caught:
        calibration.load(KNOWN.catalog, tmp_path)
    assert expected in str(caught.value)


def test_every_calibration_names_its_source_and_an_error():
    for one in KNOWN.calibrations:
        assert "silicon_sample.csv @ 095f58a51c4c" in one.source
        assert 0 < one.mean_error <= one.max_error
