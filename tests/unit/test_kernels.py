"""Kernels of one layer: counted, and what they explain of measured overheads."""

from __future__ import annotations

import pytest

from models import sizing
from models.bulk import bulk_of
from models.kernels import kernels
from models.roofline import times

KNOWN = sizing.load()

COUNTS = {
    ("qwen3-32b", "bf16"): 13,
    ("qwen3-32b", "fp8"): 14,
    ("qwen3-235b-a22b", "bf16"): 18,
    ("qwen3-235b-a22b", "fp8"): 21,
    ("glm-4.6", "bf16"): 22,
    ("qwen3.5-397b-a17b", "fp8"): 25,
    ("glm-5", "fp8"): 38,
}


@pytest.mark.parametrize(("card", "variant"), COUNTS)
def test_a_card_and_its_weights_tell_how_many_kernels_a_layer_starts(card: str, variant: str):
    known = KNOWN.catalog.cards[card]
    assert bulk_of(known, known.variants[variant]).kernels == COUNTS[card, variant]


def test_weights_quantised_by_channel_start_as_many_as_whole_ones():
    assert kernels(is_moe=False, weights="fp8_channel") == kernels(is_moe=False, weights="bf16")


def test_the_count_explains_overheads_of_dense_models_and_experts_within_a_third():
    paid_us = {}
    for one, its in KNOWN.known():
        if one.scales:
            beyond_s = one.base_ms * 1e-3 - times(its.bulk, its.gpu, its.spread).dense_s
            paid_us[one.name] = beyond_s / its.bulk.layers / its.bulk.kernels * 1e6
    middle = sorted(paid_us.values())[len(paid_us) // 2]
    assert middle == pytest.approx(5.3, abs=0.2)
    assert all(abs(us / middle - 1) < 1 / 3 for us in paid_us.values())


def test_a_foreign_model_may_start_more_than_others_of_its_make():
    its = KNOWN.configurations["minimax-m2.5-vllm-8xh200"]
    assert its.bulk.kernels == kernels(is_moe=True, weights="fp8_block") + 3
