"""Names, shapes and random values of a checkpoint's tensors, from its `config.json`. Pure.

Names are those of the published repositories: one tensor per expert but for Qwen3-VL's, gate and up
apart, Qwen3.5's projections apart, GLM-4-0414's together. vLLM refuses a name it does not know and
a parameter it is not given, so an engine that starts proves them. Values keep activations near 1 in
every layer, and no two tensors are equal: what is loaded into the wrong place changes the answer.
"""

import zlib
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

Config: TypeAlias = dict[str, Any]
Shape: TypeAlias = tuple[int, ...]
Named: TypeAlias = Iterator[tuple[str, Shape]]
Array: TypeAlias = Any  # a numpy array; numpy's own types are not checked here

EMBEDDING_SCALE = 0.1
"""Small beside what the layers add, or tied embeddings would only repeat the last token."""
ZERO_CENTRED = ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text")
"""Their norms multiply by 1 + weight."""

FUSED = ("glm4", "glm4v_text")
"""Dense GLM-4: gate and up in one tensor, norms after attention and feed-forward too, none of
queries and keys."""


def tensors(config: Config, seed: int) -> Iterator[tuple[str, Array]]:
    """(name, float32 values) of the model that `config` describes, the same on every machine."""
    text = config.get("text_config", config)
    is_zero_centred = text["model_type"] in ZERO_CENTRED
    for name, shape in named_shapes(config):
        # Each tensor has its own stream, so that one more layer changes no other tensor.
        generator = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
        yield name, _values(name, generator.standard_normal(shape, np.float32), is_zero_centred)


def _values(name: str, noise: Array, is_zero_centred: bool) -> Array:
    """Standard normal `noise` shifted and scaled to what a tensor of this name holds."""
    if name.endswith(("embed_tokens.weight", "lm_head.weight")):
        return noise * EMBEDDING_SCALE
    if name.endswith("A_log"):
        return np.log(1 + 15 / (1 + np.exp(-noise)))  # rates between 1 and 16
    if noise.ndim == 1 and "norm" in name and name.endswith("weight"):
        is_plain = not is_zero_centred or ".linear_attn." in name or "visual." in name
        return noise * 0.1 + (1 if is_plain else 0)
    if noise.ndim == 1:
        return noise * 0.1
    inputs = noise.shape[1:-1] if ".experts." in name and noise.ndim == 3 else noise.shape[1:]
    return noise / np.sqrt(np.prod(inputs, dtype=np.float32))


def named_shapes(config: Config) -> Named:
    """Every tensor of the checkpoint."""
    text = config.get("text_config", config)
    stem = "model.language_model" if "text_config" in config else "model"
    hidden = text["hidden_size"]
    yield f"{stem}.embed_tokens.weight", (text["vocab_size"], hidden)
    for layer in range(text["num_hidden_layers"]):
        for name, shape in _layer(text, layer):
            yield f"{stem}.layers.{layer}.{name}", shape
    yield f"{stem}.norm.weight", (hidden,)
    if not config.get("tie_word_embeddings", False):
        yield "lm_head.weight", (text["vocab_size"], hidden)
    if vision := config.get("vision_config"):
        is_glm = vision["model_type"].startswith("glm4v")
        for name, shape in _glm_vision(vision) if is_glm else _vision(vision):
            yield f"model.visual.{name}", shape


def _layer(text: Config, layer: int) -> Named:
    norms = ["input_layernorm", "post_attention_layernorm"]
    if text["model_type"] in FUSED:
        norms += ["post_self_attn_layernorm", "post_mlp_layernorm"]
    for norm in norms:
        yield f"{norm}.weight", (text["hidden_size"],)
    if text.get("layer_types", ["full_attention"] * (layer + 1))[layer] == "linear_attention":
        part, attention = "linear_attn", _linear_attention(text)
    else:
        latent = "kv_lora_rank" in text
        part, attention = "self_attn", _latent_attention(text) if latent else _attention(text)
    yield from ((f"{part}.{name}", shape) for name, shape in attention)
    mlp = _experts(text) if is_sparse(text, layer) else _mlp(text, text["intermediate_size"])
    yield from ((f"mlp.{name}", shape) for name, shape in mlp)


def is_sparse(text: Config, layer: int) -> bool:
    """Whether this layer has experts."""
    if "mlp_layer_types" in text:
        return bool(text["mlp_layer_types"][layer] == "sparse")
    has_experts = "num_experts" in text or "n_routed_experts" in text
    return has_experts and layer >= text.get("first_k_dense_replace", 0)


def _attention(text: Config) -> Named:
    hidden, width = text["hidden_size"], text["head_dim"]
    # The hybrids' query projection carries the output gate beside the query.
    doubled = 2 if text["model_type"] in ZERO_CENTRED else 1
    rows = {
        "q_proj": text["num_attention_heads"] * width * doubled,
        "k_proj": text["num_key_value_heads"] * width,
        "v_proj": text["num_key_value_heads"] * width,
    }
    for name, count in rows.items():
        yield f"{name}.weight", (count, hidden)
        if text.get("attention_bias"):
            yield f"{name}.bias", (count,)
    yield "o_proj.weight", (hidden, text["num_attention_heads"] * width)
    if text["model_type"] not in FUSED and text.get("use_qk_norm", True):
        yield "q_norm.weight", (width,)
        yield "k_norm.weight", (width,)


def _latent_attention(text: Config) -> Named:
    hidden, heads = text["hidden_size"], text["num_attention_heads"]
    rope, plain = text["qk_rope_head_dim"], text["qk_nope_head_dim"]
    yield "q_a_proj.weight", (text["q_lora_rank"], hidden)
    yield "q_a_layernorm.weight", (text["q_lora_rank"],)
    yield "q_b_proj.weight", (heads * (plain + rope), text["q_lora_rank"])
    yield "kv_a_proj_with_mqa.weight", (text["kv_lora_rank"] + rope, hidden)
    yield "kv_a_layernorm.weight", (text["kv_lora_rank"],)
    yield "kv_b_proj.weight", (heads * (plain + text["v_head_dim"]), text["kv_lora_rank"])
    yield "o_proj.weight", (hidden, heads * text["v_head_dim"])


def _linear_attention(text: Config) -> Named:
    hidden, heads = text["hidden_size"], text["linear_num_value_heads"]
    keys = text["linear_num_key_heads"] * text["linear_key_head_dim"]
    values = heads * text["linear_value_head_dim"]
    if text["model_type"] == "qwen3_next":
        yield "in_proj_qkvz.weight", (2 * keys + 2 * values, hidden)
        yield "in_proj_ba.weight", (2 * heads, hidden)
    else:
        yield "in_proj_qkv.weight", (2 * keys + values, hidden)
        yield "in_proj_z.weight", (values, hidden)
        yield "in_proj_b.weight", (heads, hidden)
        yield "in_proj_a.weight", (heads, hidden)
    yield "conv1d.weight", (2 * keys + values, 1, text["linear_conv_kernel_dim"])
    yield "A_log", (heads,)
    yield "dt_bias", (heads,)
    yield "norm.weight", (text["linear_value_head_dim"],)
    yield "out_proj.weight", (hidden, values)


def _mlp(text: Config, width: int) -> Named:
    hidden = text["hidden_size"]
    if text["model_type"] in FUSED:
        yield "gate_up_proj.weight", (2 * width, hidden)
    else:
        yield "gate_proj.weight", (width, hidden)
        yield "up_proj.weight", (width, hidden)
    yield "down_proj.weight", (hidden, width)


def _experts(text: Config) -> Named:
    count = text.get("num_experts") or text["n_routed_experts"]
    hidden = text["hidden_size"]
    yield "gate.weight", (count, hidden)
    if text["model_type"] == "qwen3_vl_moe_text":
        yield "experts.gate_up_proj", (count, hidden, 2 * text["moe_intermediate_size"])
        yield "experts.down_proj", (count, text["moe_intermediate_size"], hidden)
        return
    for expert in range(count):
        for name, shape in _mlp(text, text["moe_intermediate_size"]):
            yield f"experts.{expert}.{name}", shape
    if "n_routed_experts" in text:
        yield "gate.e_score_correction_bias", (count,)
        shared = text["n_shared_experts"] * text["moe_intermediate_size"]
        yield from ((f"shared_experts.{name}", shape) for name, shape in _mlp(text, shared))
    elif shared := text.get("shared_expert_intermediate_size"):
        yield from ((f"shared_expert.{name}", shape) for name, shape in _mlp(text, shared))
        yield "shared_expert_gate.weight", (1, hidden)


def _vision(vision: Config) -> Named:
    hidden, patch = vision["hidden_size"], vision["patch_size"]
    yield (
        "patch_embed.proj.weight",
        (*(hidden, vision["in_channels"], vision["temporal_patch_size"], patch, patch),),
    )
    yield "patch_embed.proj.bias", (hidden,)
    yield "pos_embed.weight", (vision["num_position_embeddings"], hidden)
    for block in range(vision["depth"]):
        stem = f"blocks.{block}"
        yield from _affine(f"{stem}.norm1", (hidden,))
        yield from _affine(f"{stem}.norm2", (hidden,))
        yield from _affine(f"{stem}.attn.qkv", (3 * hidden, hidden))
        yield from _affine(f"{stem}.attn.proj", (hidden, hidden))
        yield from _affine(f"{stem}.mlp.linear_fc1", (vision["intermediate_size"], hidden))
        yield from _affine(f"{stem}.mlp.linear_fc2", (hidden, vision["intermediate_size"]))
    merged = hidden * vision["spatial_merge_size"] ** 2
    mergers = {"merger": hidden}
    for index, _ in enumerate(vision.get("deepstack_visual_indexes", ())):
        mergers[f"deepstack_merger_list.{index}"] = merged
    for stem, normed in mergers.items():
        yield from _affine(f"{stem}.norm", (normed,))
        yield from _affine(f"{stem}.linear_fc1", (merged, merged))
        yield from _affine(f"{stem}.linear_fc2", (vision["out_hidden_size"], merged))


def _glm_vision(vision: Config) -> Named:
    hidden, patch, out = vision["hidden_size"], vision["patch_size"], vision["out_hidden_size"]
    merge = vision["spatial_merge_size"]
    places = (vision["image_size"] // patch) ** 2
    yield "embeddings.position_embedding.weight", (places, hidden)
    pixels = (vision["in_channels"], vision["temporal_patch_size"], patch, patch)
    yield from _affine("patch_embed.proj", (hidden, *pixels))
    for block in range(vision["depth"]):
        stem = f"blocks.{block}"
        yield f"{stem}.norm1.weight", (hidden,)
        yield f"{stem}.norm2.weight", (hidden,)
        yield f"{stem}.attn.qkv.weight", (3 * hidden, hidden)
        yield f"{stem}.attn.proj.weight", (hidden, hidden)
        yield from _gated(f"{stem}.mlp", hidden, out)
    yield "merger.proj.weight", (out, out)
    yield from _affine("merger.post_projection_norm", (out,))
    yield from _gated("merger", out, vision["intermediate_size"])
    yield "post_conv_layernorm.weight", (hidden,)
    yield from _affine("downsample", (out, hidden, merge, merge))
    yield "post_layernorm.weight", (hidden,)


def _gated(stem: str, hidden: int, width: int) -> Named:
    yield f"{stem}.gate_proj.weight", (width, hidden)
    yield f"{stem}.up_proj.weight", (width, hidden)
    yield f"{stem}.down_proj.weight", (hidden, width)


def _affine(stem: str, shape: Shape) -> Named:
    yield f"{stem}.weight", shape
    yield f"{stem}.bias", shape[:1]
