"""What fits: against the table of the facts, against what was measured, with the reasons."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from models import catalog, gpu, memory
from models.layout import Layout
from models.memory import DoesNotFit, Fits, fit

CATALOG = catalog.load()
KINDS = gpu.load()
FACTS = next(
    (path for up in Path(__file__).resolve().parents
     if (path := up.parent / "shared" / "facts" / "models.yaml").is_file()), None,
)  # fmt: skip
KV_TOKENS_MIN = 32_000
WITH_A_TABLE_ELSEWHERE = {"Qwen/Qwen3.8-Flash-Next"}
"""Its recipe keeps 48 to 95 GiB in host memory; the table counts them on the GPUs."""


def tried(card: str, variant: str, gpu: str, tensor: int = 1, **more: object) -> Fits | DoesNotFit:
    layout = Layout(card=card, variant=variant, gpu=gpu, tensor=tensor, **more)  # type: ignore[arg-type]
    return fit(CATALOG.cards[card], KINDS.gpu(gpu), layout)


def fits(*given: object, **more: object) -> Fits:
    found = tried(*given, **more)  # type: ignore[arg-type]
    assert isinstance(found, Fits), found
    return found


def refused(*given: object, **more: object) -> str:
    found = tried(*given, **more)  # type: ignore[arg-type]
    assert isinstance(found, DoesNotFit), found
    return "; ".join(found.reasons)


@pytest.mark.skipif(FACTS is None, reason="shared/facts/models.yaml is not beside the checkout")
def test_the_fewest_gpus_are_those_of_the_facts_table():
    assert FACTS is not None
    rows = yaml.safe_load(FACTS.read_text(encoding="utf-8"))["models"]
    wrong, compared, tokens = [], 0, []
    for row in rows:
        for dtype, kinds in row["min_gpus"].items():
            hub = next(v["id"] for v in row["variants"] if v["dtype"] == dtype)
            card, variant = CATALOG.variant(hub)
            if row["id"] in WITH_A_TABLE_ELSEWHERE or variant is None:
                continue
            for name, wanted in kinds.items():
                compared += 1
                expected = wanted["min"] if wanted and wanted["min"] <= gpu.NODE_GPUS else None
                found = smallest(card.id, variant, name)
                if (found and found[0]) != expected:
                    wrong.append((row["id"], dtype, name, found, wanted))
                elif found and wanted and "kv_ktok" in wanted:
                    tokens.append(found[1] / 1e3 / wanted["kv_ktok"])
    assert not wrong
    assert compared > 380
    near = [ratio for ratio in tokens if abs(ratio - 1) <= 0.05]
    assert len(near) / len(tokens) > 0.95, sorted(tokens)[:5] + sorted(tokens)[-5:]


def smallest(card: str, variant: str, kind: str) -> tuple[int, int] | None:
    """(GPUs, KV tokens) as the table counts: 8 sequences of state, 32 thousand tokens left."""
    context = min(32_768, CATALOG.cards[card].context.native)
    for tensor in (1, 2, 4, 8):
        found = tried(
            card, variant, kind, tensor, context_tokens=context, sequences=8, features=frozenset()
        )
        if isinstance(found, Fits) and found.kv_tokens >= KV_TOKENS_MIN:
            return tensor, found.kv_tokens
    return None


def test_qwen3_32b_on_two_h100_holds_about_300_thousand_tokens():
    # Measured: 32 x 5k run clean, 64 x 5k (328k) already wait.
    assert fits("qwen3-32b", "bf16", "h100-80", 2).kv_tokens == pytest.approx(300_000, rel=0.02)


def test_glm_5_on_eight_h200_holds_between_what_ran_clean_and_what_queued():
    # Measured: 32 x 9.2k = 294k clean, 64 x 9.2k = 589k queue for 17 to 43 s.
    found = fits("glm-5", "fp8", "h200-141", 8, features=frozenset())
    assert 294_000 < found.kv_tokens < 589_000
    wider = fits("glm-5", "fp8", "h200-141", 8, features=frozenset({"fp8_kv"}))
    assert wider.kv_tokens > 1.5 * found.kv_tokens


def test_the_numbers_of_a_refusal_say_where_the_memory_went():
    assert refused("qwen3-32b", "bf16", "h100-80") == (
        "one sequence of 32768 tokens needs 8.0 GiB of KV: 72.8 GiB of each GPU - weights 62.2 - "
        "reserve 4.5 = 6.1 GiB"
    )
    assert "the weights do not fit" in refused("qwen3-235b-a22b", "bf16", "h100-80", 4)


def test_a_hybrid_s_states_bound_the_sequences_and_the_refusal_says_how_many_fit():
    text = refused("qwen3.5-27b", "bf16", "h100-80", sequences=256)
    assert "each holds 0.29 GiB of state" in text
    most = int(text.split("at most ")[1].split()[0])
    fits("qwen3.5-27b", "bf16", "h100-80", sequences=most)
    assert f"at most {most} fit" in refused("qwen3.5-27b", "bf16", "h100-80", sequences=most + 1)


def test_a_smaller_share_of_the_memory_leaves_less_for_context():
    whole = fits("qwen3-8b", "bf16", "h100-80")
    half = fits("qwen3-8b", "bf16", "h100-80", memory_share=0.5)
    assert half.kv_tokens < whole.kv_tokens / 2


def test_data_parallel_ranks_copy_the_attention_and_share_the_experts():
    one = fits("qwen3-235b-a22b", "fp8", "h200-141", 8, context_tokens=8192)
    ranks = fits(
        "qwen3-235b-a22b", "fp8", "h200-141", 1, data=8, is_expert_parallel=True,
        context_tokens=8192,
    )  # fmt: skip
    assert ranks.budget.weights > one.budget.weights
    assert ranks.budget.weights < 1.5 * one.budget.weights


def test_sequences_at_once_are_those_of_full_context():
    found = fits("qwen3-32b", "fp8", "h100-80", context_tokens=16_384, sequences=64)
    assert found.sequences == found.kv_tokens // 16_384 < 64


def test_what_stays_in_host_memory_is_not_counted_on_the_gpus():
    card = CATALOG.cards["qwen3.8-flash-next"]
    variant = card.variants["fp8"]
    found = fits("qwen3.8-flash-next", "fp8", "h100-80", 4)
    assert found.budget.weights * 4 == pytest.approx(variant.weights_gib - variant.host_gib)
    assert found.host_gib > variant.weights_gib
    assert found.budget.reserve > KINDS.gpu("h100").reserve_gib + memory.COLLECTIVE_GIB
