"""Every number of the cards against the collected facts, where those are at hand.

The facts are a file of the workplace, `shared/facts/models.yaml` beside or above the checkout; it
is not shipped, and without it these tests are skipped aloud. Where a card knows better, the reason
stands in `BETTER`; an entry that no longer differs fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.card import Card
from models.catalog import UnknownModelError, load

CATALOG = load()
HERE = Path(__file__).resolve()
FACTS = next(
    (path for up in HERE.parents if (path := up / "shared/facts/models.yaml").is_file()), None
)
MODELS: list[dict[str, Any]] = (
    yaml.safe_load(FACTS.read_text("utf-8"))["models"] if FACTS is not None else []
)
pytestmark = pytest.mark.skipif(FACTS is None, reason="no shared/facts/models.yaml above here")

NEXT = "vLLM 0.32 takes FP32 from config.json for Qwen3.5 only: Qwen3-Next keeps BF16"
DCA = "its 1M needs dual chunk attention, for which vLLM 0.32 has no kernel"
PORTS = "unknown in the facts; found in ports of the model that agree"
NIGHTLY = "the facts name a nightly; 0.32.0 is the first release we read"
HEADLESS = "vLLM 0.32 builds this head for the text model alone"
BETTER: dict[tuple[str, str], str] = {
    ("Qwen/Qwen3-Coder-Next", "state_mib_per_seq"): NEXT,
    ("Qwen/Qwen3-Next-80B-A3B-Instruct", "state_mib_per_seq"): NEXT,
    ("Qwen/Qwen3-30B-A3B-Instruct-2507", "max_len_yarn"): DCA,
    ("Qwen/Qwen3-235B-A22B-Instruct-2507", "max_len_yarn"): DCA,
    ("Qwen/Qwen3.8-Flash-Next", "heads"): PORTS,
    ("Qwen/Qwen3.8-Flash-Next", "kv_heads"): PORTS,
    ("Qwen/Qwen3.8-Flash-Next", "kv_bytes_per_token"): PORTS,
    ("Qwen/Qwen3.8-Flash-Next", "state_mib_per_seq"): PORTS,
    ("Qwen/Qwen3.8-2.4T-A95B", "hidden"): PORTS,
    ("Qwen/Qwen3.8-2.4T-A95B", "kv_heads"): PORTS,
    ("Qwen/Qwen3.8-2.4T-A95B", "head_dim"): PORTS,
    ("Qwen/Qwen3.8-2.4T-A95B", "expert_intermediate"): PORTS,
    ("Qwen/Qwen3.8-2.4T-A95B", "kv_bytes_per_token"): PORTS,
    ("Qwen/Qwen3.8-2.4T-A95B", "state_mib_per_seq"): PORTS,
    ("Qwen/Qwen3.8-2.4T-A95B", "spec_decode"): "the recipe gives MTP 3",
    ("Qwen/Qwen3.8-2.4T-A95B", "licence"): "the same doubt, as `unknown` with a note",
    ("Qwen/Qwen3.8-2.4T-A95B", "min_vllm"): NIGHTLY,
    ("Qwen/Qwen3.8-Flash-Next", "spec_decode"): "NVIDIA's recipe for Blackwell gives MTP 3",
    ("zai-org/GLM-4.5V", "spec_decode"): HEADLESS,
    ("zai-org/GLM-4.6V", "spec_decode"): HEADLESS,
    ("zai-org/GLM-4.7-Flash", "min_vllm"): NIGHTLY,
    (
        "zai-org/GLM-5.3-Flash",
        "state_mib_per_seq",
    ): "unknown in the facts; from transformers' class",
}
ATTENTION = {
    "gqa": "gqa", "gdn_hybrid": "gdn_hybrid", "mla": "mla", "mla_dsa": "mla_dsa",
    "gdn+sparse": "gdn_sparse_hybrid", "kda": "kda_mla_hybrid",
}  # fmt: skip
FORMATS = {
    "bf16": {"bf16"}, "fp8": {"fp8_block", "fp8_channel"}, "int4": {"awq_int4", "gptq_int4"},
    "w4a8": {"w4a8"},
}  # fmt: skip


def both(fact: dict[str, Any], card: Card) -> Iterator[tuple[str, Any, Any]]:
    """(key, what the facts say, what the card says); None in the facts is unknown there."""
    shape, given = card.shape, fact["shape"]
    yield "vllm_arch", fact["vllm_arch"].split()[0], card.serving.architecture
    yield "params_b", fact["params_b"], card.size.total_b
    yield "active_b", fact["active_b"], card.size.active_b
    yield "layers", given["layers"], shape.layers
    yield "full_attn_layers", given["full_attn_layers"], shape.attention_layers
    yield "hidden", given["hidden"], shape.hidden
    yield "heads", given["heads"], shape.heads
    yield "kv_heads", given["kv_heads"], shape.kv_heads
    yield "head_dim", given["head_dim"], shape.head_dim
    yield "attention", ATTENTION[fact["attention"].split()[0]], shape.attention
    yield "kv_bytes_per_token", fact.get("kv_bytes_per_token"), shape.kv_bytes
    state = shape.state_bytes_per_sequence / 2**20
    yield "state_mib_per_seq", fact.get("state_mib_per_seq", 0 if not state else None), state
    yield "max_len", fact["max_len"], card.context.native
    yield "max_len_yarn", fact.get("max_len_yarn", "none"), card.context.stretched or "none"
    yield "licence", fact["licence"], card.licence.id.casefold()
    yield "vision", "image" in fact["modalities"], card.capabilities.vision is not None
    yield "min_vllm", _version(fact["min_vllm"]), card.serving.vllm_min
    yield from _experts(fact.get("moe"), card)


def _experts(moe: dict[str, Any] | None, card: Card) -> Iterator[tuple[str, Any, Any]]:
    if moe is None:
        yield "moe", False, card.is_moe
        return
    assert card.shape.moe is not None
    numbers = [int(n) for n in re.findall(r"\d+", moe["experts"])]
    had = card.shape.moe
    yield "experts", [*numbers, 0][:3], [had.experts, had.experts_per_token, had.shared_experts]
    yield "expert_intermediate", moe["expert_intermediate"], had.expert_intermediate


def _version(text: str) -> str | None:
    found = re.search(r"\d+\.\d+(\.\d+)?", text)
    if found is None or "nightly of" in text:
        return None
    return found[0] if found[0].count(".") == 2 else f"{found[0]}.0"


def differences(fact: dict[str, Any]) -> dict[str, str]:
    card = CATALOG.card(fact["id"])
    found = {
        key: f"{key}: facts {said!r}, card {had!r}"
        for key, said, had in both(fact, card)
        if said != had
    }
    tokens = card.serving.speculation.tokens if card.serving.speculation else 0
    span = [int(n) for n in re.findall(r"\d+", fact.get("spec_decode", "0").split("(")[0])]
    if not (span and span[0] <= tokens <= span[-1]):
        found["spec_decode"] = f"spec_decode: facts {fact.get('spec_decode')}, card {tokens}"
    released = fact["released"]
    if ".." not in released and not card.life.released.startswith(released):
        found["released"] = f"released: facts {released}, card {card.life.released}"
    return found


@pytest.mark.parametrize("fact", MODELS, ids=[m["id"] for m in MODELS])
def test_a_card_says_what_the_facts_say_or_why_it_knows_better(fact):
    found = differences(fact)
    better = {key for model, key in BETTER if model == fact["id"]}
    assert not [line for key, line in found.items() if key not in better]
    assert not [key for key in better if key not in found], "no longer different: drop it"


@pytest.mark.parametrize("fact", MODELS, ids=[m["id"] for m in MODELS])
def test_every_variant_of_the_facts_is_there_with_its_weight(fact):
    for row in fact["variants"]:
        kind = row["dtype"].removesuffix("-thinking")
        if kind == "nvfp4":
            with pytest.raises(UnknownModelError):
                CATALOG.card(row["id"])
            continue
        card, key = CATALOG.variant(row["id"])
        variant = card.variants[key]
        assert variant.format in FORMATS[kind], row
        assert variant.weights_gib == fact["weights_gib"][kind], row
        owner, name = row["id"].split("/")
        there = {"zai-org": "ZhipuAI", "Qwen": "Qwen"}.get(owner)
        assert variant.modelscope == (f"{there}/{name}" if there else None)
        thinks = row["dtype"].endswith("-thinking")
        assert (card.thinking.mode == "always") == (thinks or "always on" in fact["thinking"])


@pytest.mark.parametrize("fact", MODELS, ids=[m["id"] for m in MODELS])
def test_parsers_and_the_switch_of_thinking_are_those_of_the_facts(fact):
    card = CATALOG.card(fact["id"])
    tool, reasoning = fact["parsers"]["tool"], fact["parsers"]["reasoning"]
    assert card.serving.tool_parser == (None if tool == "none registered" else tool)
    only = reasoning is not None and (" for " in reasoning)
    assert card.serving.reasoning_parser == (None if only else reasoning)
    if only:
        twin = CATALOG.card(next(v["id"] for v in fact["variants"] if "thinking" in v["dtype"]))
        assert twin.serving.reasoning_parser == reasoning.split(" for ")[0]
    if "enable_thinking=false" in fact["thinking"]:
        assert card.thinking.off == {"enable_thinking": False}


def test_all_models_of_the_facts_have_a_card_of_their_own():
    cards = [CATALOG.card(fact["id"]).id for fact in MODELS]
    assert len(cards) == len(set(cards)) == 54
    assert all(model in {fact["id"] for fact in MODELS} for model, _ in BETTER)
