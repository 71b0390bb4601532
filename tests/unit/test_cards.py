"""The packaged cards as a whole: sized for humans, sourced, consistent, armed with the traps."""

from __future__ import annotations

import re
from datetime import date

import pytest

from models.card import Card, is_over
from models.catalog import FOLDER, SOURCES, load
from models.fact import Sourced

CATALOG = load()
CARDS = list(CATALOG.cards.values())
LINES_MAX = 90

each = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.id)


def test_every_line_of_both_families_is_there():
    ids = set(CATALOG.cards)
    assert len(ids) == 74
    for line in ("qwen3-", "qwen3-coder", "qwen3-next", "qwen3-vl-", "qwen3-embedding",
                 "qwen3-reranker", "qwen3guard", "qwen3.5-", "qwen3.6-", "qwen3.8-", "glm-4-",
                 "glm-z1", "glm-4.5", "glm-4.6", "glm-4.7", "glm-5"):  # fmt: skip
        assert any(name.startswith(line) for name in ids), line
    assert {card.capabilities.task for card in CARDS} == {
        "chat", "embedding", "rerank", "moderation",
    }  # fmt: skip


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_file_fits_on_a_screen(path):
    assert len(path.read_text("utf-8").splitlines()) <= LINES_MAX


def test_every_source_is_used_and_has_a_day():
    used = {name for card in CARDS for block in blocks(card) for name in block.source}
    assert used == set(CATALOG.sources), f"{SOURCES.name} and the cards differ"


def blocks(value) -> list[Sourced]:
    found = [value] if isinstance(value, Sourced) else []
    if isinstance(value, Card | Sourced):
        for name in type(value).model_fields:
            found += blocks(getattr(value, name))
    elif isinstance(value, dict):
        for inner in value.values():
            found += blocks(inner)
    return found


@pytest.mark.parametrize(
    ("card", "block"),
    [
        ("glm-4-9b-0414", "size"),
        ("glm-z1-9b-0414", "thinking"),
        ("qwen3-coder-next", "size"),
        ("qwen3-coder-next", "context"),
        ("qwen3.5-2b", "shape"),
        ("glm-4.6v-flash", "shape"),
        ("qwen3.8-2.4t-a95b", "shape"),
        ("qwen3.8-2.4t-a95b", "licence"),
        ("qwen3.8-flash-next", "shape"),
        ("glm-5.3", "shape"),
    ],
)
def test_what_nobody_has_re_read_carries_its_doubt(card, block):
    named = getattr(CATALOG.card(card), block).source
    assert any(CATALOG.sources[name].doubt for name in named)


@each
def test_thinking_and_its_parser_go_together(card):
    thinks = card.thinking.mode != "never"
    assert (card.serving.reasoning_parser is not None) == thinks
    assert card.thinking.is_on_by_default == thinks or card.thinking.mode == "switchable"
    if card.sampling is not None:
        assert (card.sampling.thinking is not None) == thinks
        assert card.sampling.plain is None or card.thinking.mode != "always"


@each
def test_tools_need_a_parser_and_a_chat(card):
    assert card.capabilities.tools == (card.serving.tool_parser is not None)
    assert not card.capabilities.tools or card.capabilities.task == "chat"
    pools = card.capabilities.task in ("embedding", "rerank")
    assert (card.serving.runner == "pooling") == pools
    assert (card.capabilities.embedding is not None) == (card.capabilities.task == "embedding")
    expected = {"embedding": "dimension", "rerank": "ordered"}
    assert card.probe.expect.startswith(expected.get(card.capabilities.task, "matches:"))


@each
def test_weights_shrink_with_their_format(card):
    widths = {"bf16": 2.0, "fp8_block": 1.0, "fp8_channel": 1.0,
              "awq_int4": 0.5, "gptq_int4": 0.5, "w4a8": 0.5}  # fmt: skip
    for variant in card.variants.values():
        raw_gib = card.size.total_b * 1e9 * widths[variant.format] / 2**30
        # Embeddings stay in BF16, which weighs most in small models; 4 bits come with scales.
        slack = 1.13 if "int4" in variant.format else 1.05
        assert raw_gib * 0.94 <= variant.weights_gib <= raw_gib * slack + 2.7
        assert variant.host_gib < variant.weights_gib


@each
def test_variants_are_named_like_their_format_and_none_is_for_blackwell(card):
    for name, variant in card.variants.items():
        assert variant.format.startswith(name)
        assert "nvfp4" not in variant.huggingface.casefold()
        assert variant.revision is None


@each
def test_stretching_says_all_that_vllm_replaces(card):
    stretch = card.context.stretch.get("text_config", card.context.stretch)
    if not stretch:
        return
    assert stretch["max_position_embeddings"] == card.context.stretched
    rope = stretch.get("rope_parameters")
    if rope is not None:
        assert {"rope_type", "rope_theta", "factor", "original_max_position_embeddings"} <= set(
            rope
        )
        assert rope["original_max_position_embeddings"] <= card.context.native
    assert ("text_config" in card.context.stretch) == (card.capabilities.vision is not None)


@each
def test_a_picture_costs_whole_tokens_and_fits_the_context(card):
    vision = card.capabilities.vision
    if vision is not None:
        assert vision.pixels_max % vision.pixels_per_token == 0
        tokens = vision.pixels_max // vision.pixels_per_token
        assert vision.images_max * tokens <= card.context.native


def actions(card: Card, **when: object) -> list[tuple[str, object]]:
    """What is to be done in a placement of which this is known."""
    features = set(when.get("features", ()))
    found = []
    for bad in card.known_bad:
        asked = bad.when
        if (
            (asked.sm_from is None or asked.sm_from <= when["sm"])
            and (asked.sm_below is None or when["sm"] < asked.sm_below)
            and (not asked.formats or when.get("format") in asked.formats)
            and (not asked.gpus or when.get("gpu") in asked.gpus)
            and (asked.context_above is None or when.get("context", 0) > asked.context_above)
            and features >= set(asked.features)
        ):
            found.append((bad.action, bad.drop or bad.args))
    return found


@each
def test_fp8_experts_on_ampere_name_marlin(card):
    for variant in card.variants.values():
        if card.is_moe and variant.format.startswith("fp8") and variant.sm_min < 89:
            asked = actions(card, sm=80, format=variant.format)
            assert ("add_args", ("--moe-backend", "marlin")) in asked


@each
def test_hybrids_never_guess_beside_the_prefix_cache_nor_on_ampere(card):
    if card.shape.attention not in ("gdn_hybrid", "gdn_sparse_hybrid"):
        return
    both = {"prefix_caching", "speculation"}
    assert ("drop_feature", "prefix_caching") in actions(card, sm=90, features=both)
    assert ("drop_feature", "speculation") in actions(card, sm=80, features={"speculation"})


@each
def test_sparse_latent_attention_is_refused_below_hopper(card):
    is_sparse = card.shape.attention in ("mla_dsa", "kda_mla_hybrid")
    assert (("refuse", ()) in actions(card, sm=80)) == is_sparse
    assert ("refuse", ()) not in actions(card, sm=90)
    assert all((v.sm_min == 90) == is_sparse for v in card.variants.values())


def test_glm_5_1_is_not_offered_beyond_128k_and_5_3_always_thinks():
    glm = CATALOG.card("glm-5.1")
    assert ("refuse", ()) in actions(glm, sm=90, context=200_000)
    assert glm.context.offered_max == 131_072
    for name in ("glm-5.3", "glm-5.3-flash"):
        thinking = CATALOG.card(name).thinking
        assert (thinking.mode, thinking.efforts) == ("always", ("low", "high", "max"))


ISSUES = {
    43559, 43650, 47194, 47861, 53912, 55506, 50729, 54317, 53982, 54114, 44550, 46367, 55625,
    36441, 34948, 39610, 54318, 55125, 34571, 52418, 55284, 28297, 41563, 41564, 52089, 54237,
    48801, 41114,
}  # fmt: skip
ELSEWHERE = {
    36489: "FP8 MoE on Ampere, as #54318",
    29341: "sleep at level 2 forgets the weights: for whoever sends engines to sleep",
    39056: "tool calls lost before 0.24: the pinned vLLM is newer",
    58192: "pictures are decoded before admission: for the gateway's limits",
}


def test_every_known_trouble_stands_in_a_card_or_has_its_place_elsewhere():
    told = " ".join(path.read_text("utf-8") for path in FOLDER.glob("*.yaml"))
    numbers = {int(number) for number in re.findall(r"#(\d+)", told)}
    assert numbers == ISSUES
    assert not numbers & set(ELSEWHERE)


def test_successors_lead_to_younger_models():
    for card in CARDS:
        if card.life.successor is not None:
            assert CATALOG.card(card.life.successor).life.released >= card.life.released


def test_a_month_is_over_when_its_last_day_is():
    assert not is_over(None, date(2030, 1, 1))
    assert not is_over("2026-11", date(2026, 11, 30))
    assert is_over("2026-11", date(2026, 12, 1))
    assert is_over("2026-11-21", date(2026, 11, 22))
    assert not is_over("2026-11-21", date(2026, 11, 21))
