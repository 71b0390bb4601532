"""`config.json` of the catalogue's models at their real size, from card and variant. Pure.

The writers of the tiny checkpoints give each architecture's fields, a card its sizes; what neither
says is left out, and transformers' configuration class of that architecture fills it in (ranks of
latent attention, vision towers). It is what vLLM reads to make an engine, not a copy of the
vendor's file: which fields were published and which stand in for it, docs/engine-flags.md says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from benchmarks.checkpoints import beyond, glm, qwen
from benchmarks.checkpoints.quantised import quantisation
from benchmarks.checkpoints.vocabulary import Vocabulary
from models.bulk import TIED_BELOW_B
from models.card import Card, Variant
from models.shape import Shape

Config = dict[str, Any]
FULL_EVERY: Final = 4
"""Layers of a hybrid from one full attention to the next."""
UNPUBLISHED: Final = {"indexer_budget": 2048, "output_gate_type": "silu"}
"""Of Flash-Next: vLLM asks for them, and they change no weight."""
SHRUNK: Final = frozenset({
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings",
    "moe_intermediate_size", "shared_expert_intermediate_size", "num_experts", "n_routed_experts",
    "n_shared_experts", "num_experts_per_tok", "q_lora_rank", "layer_types", "mlp_layer_types",
    "index_n_heads", "index_topk", "linear_num_heads", "linear_num_key_heads",
    "linear_num_value_heads", "hc_lowrank", "indexer_budget", "heads_per_ngram",
    "ngram_vocab_size_base", "ple_embed_dim", "split_ngram_parts", "num_nextn_predict_layers",
})  # fmt: skip
"""Fields of a tiny model that are smaller than the real one's, where a card or a class default
stands for the real value."""
SHRUNK_BEFORE_DENSE: Final = frozenset({"first_k_dense_replace"})
"""GLM-5's class says three dense layers; the tiny one has one."""


def config(card: Card, variant: Variant) -> Config:
    """What stands in the repository's `config.json`, as far as vLLM looks at it."""
    architecture = _architecture(card)
    whole = WRITERS[architecture](_Words(card.shape.vocabulary or 0))
    whole["architectures"] = [architecture]
    text = whole.get("text_config", whole)
    for name in SHRUNK | (SHRUNK_BEFORE_DENSE if card.shape.attention == "mla_dsa" else set()):
        text.pop(name, None)
    text.update(_sizes(card, text))
    if "vision_config" in whole:
        whole["vision_config"] = _tower(whole["vision_config"], card.shape)
        whole["tie_word_embeddings"] = text["tie_word_embeddings"]
    return whole | quantisation(card, variant)


def _architecture(card: Card) -> str:
    """Of the repository; a reranker's `hf_overrides` replace it."""
    stated = card.serving.architecture
    return STORED_AS.get(stated, stated)


class _Words(Vocabulary):
    """A vocabulary of the right size, without words."""

    def __init__(self, size: int) -> None:
        super().__init__({}, (), _Numbers(size), size)


class _Numbers(dict[str, int]):
    """Some id for each special token."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._below = size

    def __missing__(self, token: str) -> int:
        self._below -= 1
        self[token] = self._below
        return self._below


def _sizes(card: Card, text: Config) -> Config:
    shape = card.shape
    sizes: Config = {
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads if shape.is_latent else shape.kv_heads,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": card.context.native,
        "tie_word_embeddings": card.family == "qwen" and card.size.total_b < TIED_BELOW_B,
    }
    if not shape.is_latent:
        sizes["head_dim"] = shape.head_dim
    if shape.intermediate is not None:
        sizes["intermediate_size"] = shape.intermediate
    if card.serving.speculation is not None:
        sizes[f"{'mtp_num_hidden' if card.family == 'qwen' else 'num_nextn_predict'}_layers"] = 1
    return sizes | _experts(shape, text) | _hybrid(shape)


def _experts(shape: Shape, text: Config) -> Config:
    moe = shape.moe
    if moe is None:
        return {}
    sizes: Config = {
        "moe_intermediate_size": moe.expert_intermediate,
        "num_experts_per_tok": moe.experts_per_token,
    }
    if "routed_scaling_factor" in text:
        return sizes | {"n_routed_experts": moe.experts, "n_shared_experts": moe.shared_experts}
    shared = moe.shared_experts * moe.expert_intermediate
    sizes |= {"shared_expert_intermediate_size": shared} if shared else {}
    return sizes | {"num_experts": moe.experts}


def _hybrid(shape: Shape) -> Config:
    linear = shape.linear
    if linear is None:
        return {}
    kinds = ["full_attention" if (i + 1) % FULL_EVERY == 0 else "linear_attention"
             for i in range(shape.layers)]  # fmt: skip
    if shape.attention == "kda_mla_hybrid":
        return {"layer_types": kinds, "linear_num_heads": linear.value_heads}
    unpublished = shape.attention == "gdn_sparse_hybrid"
    return (UNPUBLISHED if unpublished else {}) | {
        "layer_types": kinds,
        "linear_num_key_heads": linear.key_heads,
        "linear_num_value_heads": linear.value_heads,
        "mamba_ssm_dtype": linear.state_dtype,
    }


def _tower(tiny: Config, shape: Shape) -> Config:
    """The vision tower of transformers' configuration class, into the model's width."""
    tower: Config = {"model_type": tiny["model_type"]}
    if shape.attention != "kda_mla_hybrid":
        tower["out_hidden_size"] = shape.hidden
    if shape.attention == "gdn_sparse_hybrid":
        tower["deepstack_visual_indexes"] = []  # vLLM asks, and the class does not say
    return tower


def glm4v(words: Vocabulary) -> Config:
    """GLM-4.6V-Flash: GLM-4-0414's layers behind a vision tower."""
    return _glm_with_pictures(glm.glm4(words), "glm4v", "Glm4vForConditionalGeneration")


def glm4v_moe(words: Vocabulary) -> Config:
    """GLM-4.5V and 4.6V: GLM-4.5-Air behind a vision tower."""
    text = glm.glm4_moe(words) | {"attention_bias": True}
    return _glm_with_pictures(text, "glm4v_moe", "Glm4vMoeForConditionalGeneration")


def _glm_with_pictures(text: Config, model_type: str, architecture: str) -> Config:
    rope = {"rope_type": "default", "rope_theta": 10_000, "partial_rotary_factor": 0.5}
    inner = {
        **{key: value for key, value in text.items() if key != "architectures"},
        "model_type": f"{model_type}_text",
        "rope_parameters": rope | {"mrope_section": [8, 12, 12]},
    }
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "dtype": "bfloat16",
        "text_config": inner,
        "vision_config": {"model_type": f"{model_type}_vision"},
    }


def qwen3_5_moe_text(words: Vocabulary) -> Config:
    """Qwen3.8-2.4T: Qwen3.5's layers without a vision tower."""
    text: Config = qwen.qwen3_5_moe(words)["text_config"]
    rope = {k: v for k, v in text["rope_parameters"].items() if not k.startswith("mrope")}
    return text | {"rope_parameters": rope}


STORED_AS: Final = {
    "Qwen3ForSequenceClassification": "Qwen3ForCausalLM",
    "Qwen3VLForSequenceClassification": "Qwen3VLForConditionalGeneration",
}
WRITERS: Final[dict[str, Callable[[Vocabulary], Config]]] = {
    "Qwen3ForCausalLM": qwen.qwen3,
    "Qwen3MoeForCausalLM": qwen.qwen3_moe,
    "Qwen3NextForCausalLM": qwen.qwen3_next,
    "Qwen3VLForConditionalGeneration": qwen.qwen3_vl,
    "Qwen3VLMoeForConditionalGeneration": qwen.qwen3_vl_moe,
    "Qwen3_5ForConditionalGeneration": qwen.qwen3_5,
    "Qwen3_5MoeForConditionalGeneration": qwen.qwen3_5_moe,
    "Qwen3_5MoeForCausalLM": qwen3_5_moe_text,
    "Qwen4ExpForConditionalGeneration": beyond.qwen3_8_flash_next,
    "Glm4ForCausalLM": glm.glm4,
    "Glm4MoeForCausalLM": glm.glm4_moe,
    "Glm4MoeLiteForCausalLM": glm.glm4_moe_lite,
    "Glm4vForConditionalGeneration": glm4v,
    "Glm4vMoeForConditionalGeneration": glm4v_moe,
    "GlmMoeDsaForCausalLM": beyond.glm_5,
    "Glm5NextForConditionalGeneration": beyond.glm_5_3_flash,
}
