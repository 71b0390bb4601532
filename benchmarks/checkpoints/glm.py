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
