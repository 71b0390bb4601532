"""`config.json` of tiny GLM models: what kernels and parsers depend on is as published, the
rest is shrunk. Values as in transformers' configuration classes (5.19). Pure.
"""

from typing import Any

from benchmarks.checkpoints.vocabulary import Vocabulary

Config = dict[str, Any]
HIDDEN = 64


def _glm(words: Vocabulary, model_type: str, architecture: str, **more: Any) -> Config:
    stops = ("<|endoftext|>", "<|user|>", "<|observation|>")
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "dtype": "bfloat16",
        "eos_token_id": [words.ids[token] for token in stops],
        "pad_token_id": words.ids["<|endoftext|>"],
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": 128,
        "max_position_embeddings": 131_072,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "partial_rotary_factor": 0.5,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1_000_000,
            "partial_rotary_factor": 0.5,
        },
        "tie_word_embeddings": False,
        "transformers_version": "5.19.0",
        "use_cache": True,
        "vocab_size": words.size,
        **more,
    }


_GLM_EXPERTS = {
    "moe_intermediate_size": 96,
    "n_group": 1,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_experts_per_tok": 2,
    "num_nextn_predict_layers": 0,
    "topk_group": 1,
}


def glm4(words: Vocabulary) -> Config:
    more = {"attention_bias": True, "max_position_embeddings": 32_768}
    return _glm(words, "glm4", "Glm4ForCausalLM", **more)


def glm4_moe(words: Vocabulary) -> Config:
    more = {"first_k_dense_replace": 1, "routed_scaling_factor": 2.5, "use_qk_norm": True}
    return _glm(words, "glm4_moe", "Glm4MoeForCausalLM", **_GLM_EXPERTS | more)


_GLM_PICTURES = {
    "image_token_id": "<|image|>",
    "image_start_token_id": "<|begin_of_image|>",
    "image_end_token_id": "<|end_of_image|>",
    "video_token_id": "<|video|>",
    "video_start_token_id": "<|begin_of_video|>",
    "video_end_token_id": "<|end_of_video|>",
}
_GLM_ROPE = {"rope_type": "default", "rope_theta": 10_000, "partial_rotary_factor": 0.5}


def _with_pictures(words: Vocabulary, text: Config, hidden: int) -> Config:
    """A model whose language part is `text`, with a small vision tower."""
    top = ("architectures", "tie_word_embeddings", "dtype", "transformers_version")
    kind = text["model_type"].removesuffix("_text")
    return {
        **{key: text[key] for key in top},
        "model_type": kind,
        **{key: words.ids[token] for key, token in _GLM_PICTURES.items()},
        "text_config": {key: value for key, value in text.items() if key != "architectures"},
        "vision_config": {
            "model_type": f"{kind}_vision",
            "attention_bias": False,
            "depth": 2,
            "hidden_act": "silu",
            "hidden_size": HIDDEN,
            "image_size": 336,
            "in_channels": 3,
            "intermediate_size": 128,
            "num_heads": 2,
            "out_hidden_size": hidden,
            "patch_size": 14,
            "rms_norm_eps": 1e-5,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
    }


def glm4v(words: Vocabulary) -> Config:
    """GLM-4.1V and 4.6V-Flash. Its heads are as wide as hidden size / heads, so hidden is larger:
    rotation is by three positions over halves of 32, which fit no narrower head."""
    more = {
        "attention_bias": True,
        "hidden_size": 256,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 65_536,
        "rope_parameters": _GLM_ROPE | {"mrope_section": [8, 12, 12]},
    }
    text = _glm(words, "glm4v_text", "Glm4vForConditionalGeneration", **more)
    return _with_pictures(words, text, hidden=256)


def glm4v_moe(words: Vocabulary) -> Config:
    """GLM-4.5V and 4.6V."""
    more = {
        "attention_bias": True,
        "first_k_dense_replace": 1,
        "max_position_embeddings": 65_536,
        "rope_parameters": _GLM_ROPE | {"mrope_section": [8, 12, 12]},
        "routed_scaling_factor": 1.0,
        "use_qk_norm": False,
    }
    text = _glm(words, "glm4v_moe_text", "Glm4vMoeForConditionalGeneration", **_GLM_EXPERTS | more)
    return _with_pictures(words, text, hidden=HIDDEN)


def glm4_moe_lite(words: Vocabulary) -> Config:
    latent = {
        "first_k_dense_replace": 1,
        "kv_lora_rank": 512,
        "max_position_embeddings": 202_752,
        "mlp_layer_types": ["dense", "sparse"],
        "num_key_value_heads": 4,
        "q_lora_rank": 96,
        "qk_nope_head_dim": 192,
        "qk_rope_head_dim": 64,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000},
        "routed_scaling_factor": 1.8,
        "topk_method": "noaux_tc",
        "v_head_dim": 256,
    }
    config = _glm(words, "glm4_moe_lite", "Glm4MoeLiteForCausalLM", **_GLM_EXPERTS | latent)
    return {key: config[key] for key in config if key not in ("head_dim", "partial_rotary_factor")}
