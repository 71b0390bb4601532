"""What forbids a layout before memory is counted: kernels, heads, widths, spread, context."""

from __future__ import annotations

import pytest

from models import catalog, gpu
from models.card import When
from models.layout import Layout
from models.rules import cautions, matches, refusals

CARDS = catalog.load().cards
KINDS = gpu.load()


def layout(card: str, variant: str, kind: str, tensor: int, **more: object) -> Layout:
    return Layout(card=card, variant=variant, gpu=kind, tensor=tensor, **more)  # type: ignore[arg-type]


REFUSED = {
    "sparse latent attention on A100": (("glm-5", "fp8", "a100-80", 8), "compute capability 90"),
    "heads that do not divide": (("glm-4.7-flash", "bf16", "h100-80", 8), "20 attention heads"),
    "a width cut below the scales": (
        ("qwen3.8-flash-next", "fp8", "h100-80", 8), "scale blocks of 16, below 32: spread the",
    ),
    "three GPUs": (("qwen3-8b", "bf16", "h100-80", 3), "no power of two"),
    "two machines": (("glm-5", "fp8", "h100-80", 16), "one machine of 8"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), REFUSED.values(), ids=REFUSED)
def test_a_forbidden_layout_is_refused_with_its_reason(given, expected):
    card, variant, kind, tensor = given
    found = refusals(CARDS[card], KINDS.gpu(kind), layout(card, variant, kind, tensor))
    assert any(expected in reason for reason in found), found


FEATURES = {
    "FP8 KV on A100": ("qwen3-32b", "a100-80", {"features": frozenset({"fp8_kv"})}, "FP8 KV"),
    "speculation without a head": (
        "qwen3-32b", "h100-80", {"features": frozenset({"speculation"})}, "no head to speculate"),
    "ranks of a dense model": ("qwen3-32b", "h100-80", {"data": 2}, "add replicas"),
    "spread experts of a dense model": (
        "qwen3-32b", "h100-80", {"is_expert_parallel": True}, "no experts"),
    "a longer context than it was made for": (
        "qwen3-32b", "h100-80", {"context_tokens": 200_000}, "131072 at most"),
}  # fmt: skip


@pytest.mark.parametrize(("card", "kind", "more", "expected"), FEATURES.values(), ids=FEATURES)
def test_a_forbidden_wish_is_refused_with_its_reason(card, kind, more, expected):
    found = refusals(CARDS[card], KINDS.gpu(kind), layout(card, "fp8", kind, 2, **more))
    assert any(expected in reason for reason in found), found


def test_whole_experts_may_be_spread_where_cut_ones_may_not():
    card = CARDS["qwen3.8-flash-next"]
    spread = layout(card.id, "fp8", "h200-141", 8, is_expert_parallel=True)
    assert refusals(card, KINDS.gpu("h200-141"), spread) == ()


def test_kv_heads_fewer_than_gpus_are_copied_and_not_refused():
    card = CARDS["qwen3-235b-a22b"]
    assert refusals(card, KINDS.gpu("h200-141"), layout(card.id, "bf16", "h200-141", 8)) == ()


def test_what_is_slow_or_untried_is_said_and_not_refused():
    found = cautions(CARDS["qwen3-32b"], KINDS.gpu("l20"), layout("qwen3-32b", "fp8", "l20-48", 2))
    assert any("arithmetic only" in text for text in found)
    assert any("over PCIe" in text for text in found)
    marlin = cautions(
        CARDS["qwen3-32b"], KINDS.gpu("a100-80"), layout("qwen3-32b", "fp8", "a100-80", 1)
    )
    assert any("Marlin" in text for text in marlin)


WHENS = {
    "nothing said": (When(), True),
    "capability below": (When(sm_below=90), False),
    "capability from": (When(sm_from=90, sm_below=100), True),
    "another GPU": (When(gpus=("a100-80",)), False),
    "this format": (When(formats=("fp8_block",)), True),
    "a feature that is off": (When(features=("speculation",)), False),
    "this split": (When(tensor_parallel=(2, 4)), True),
    "a longer context": (When(context_above=32_768), False),
}


@pytest.mark.parametrize(("when", "expected"), WHENS.values(), ids=WHENS)
def test_a_condition_holds_when_all_it_says_holds(when, expected):
    variant = CARDS["qwen3-32b"].variants["fp8"]
    one = layout("qwen3-32b", "fp8", "h100-80", 2)
    assert matches(when, variant, KINDS.gpu("h100-80"), one) is expected
