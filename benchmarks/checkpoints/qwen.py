"""`config.json` of tiny Qwen models: what kernels and parsers depend on is as published, the
rest is shrunk. Values as in transformers' configuration classes (5.19). Pure.
"""

from typing import Any

from benchmarks.checkpoints.vocabulary import Vocabulary

Config = dict[str, Any]
HIDDEN = 64


def _qwen(words: Vocabulary, model_type: str, architecture: str, **more: Any) -> Config:
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": words.ids["<|endoftext|>"],
        "eos_token_id": words.ids["<|im_end|>"],
        "dtype": "bfloat16",
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": 128,
        "max_position_embeddings": 40_960,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000},
        "tie_word_embeddings": True,
        "transformers_version": "5.19.0",
        "use_cache": True,
        "vocab_size": words.size,
        **more,
    }


def qwen3(words: Vocabulary) -> Config:
    return _qwen(words, "qwen3", "Qwen3ForCausalLM", use_sliding_window=False)


_QWEN_EXPERTS = {
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "moe_intermediate_size": 96,
    "norm_topk_prob": True,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "output_router_logits": False,
    "router_aux_loss_coef": 0.001,
}
_HYBRID = {
    "full_attention_interval": 4,
    "head_dim": 256,
    "layer_types": [*(["linear_attention"] * 3), "full_attention"],
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_value_head_dim": 128,
    "num_hidden_layers": 4,
}


def qwen3_moe(words: Vocabulary) -> Config:
    return _qwen(words, "qwen3_moe", "Qwen3MoeForCausalLM", **_QWEN_EXPERTS)


def qwen3_next(words: Vocabulary) -> Config:
    return _qwen(
        words,
        "qwen3_next",
        "Qwen3NextForCausalLM",
        **_QWEN_EXPERTS | _HYBRID,
        max_position_embeddings=262_144,
        partial_rotary_factor=0.25,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10_000_000,
            "partial_rotary_factor": 0.25,
        },
        shared_expert_intermediate_size=96,
        tie_word_embeddings=False,
    )


def _with_pictures(words: Vocabulary, text: Config, vision_type: str, **more: Any) -> Config:
    """A model whose language part is `text`, with a small vision tower."""
    top = ("architectures", "tie_word_embeddings", "dtype", "transformers_version")
    vision = {
        "model_type": vision_type,
        "depth": 2,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": HIDDEN,
        "in_channels": 3,
        "initializer_range": 0.02,
        "intermediate_size": 128,
        "num_heads": 2,
        "num_position_embeddings": 2304,
        "out_hidden_size": HIDDEN,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        **more,
    }
    return {
        **{key: text[key] for key in top},
        "model_type": text["model_type"].removesuffix("_text"),
        "image_token_id": words.ids["<|image_pad|>"],
        "video_token_id": words.ids["<|video_pad|>"],
        "vision_start_token_id": words.ids["<|vision_start|>"],
        "vision_end_token_id": words.ids["<|vision_end|>"],
        "text_config": {key: value for key, value in text.items() if key != "architectures"},
        "vision_config": vision,
    }


def qwen3_5(words: Vocabulary) -> Config:
    architecture = "Qwen3_5ForConditionalGeneration"
    text = _qwen(words, "qwen3_5_text", architecture, **_HYBRID | _QWEN3_5)
    return _with_pictures(words, text, "qwen3_5_vision")


def qwen3_5_moe(words: Vocabulary) -> Config:
    text = qwen3_5_moe_text(words)
    text["architectures"] = ["Qwen3_5MoeForConditionalGeneration"]
    return _with_pictures(words, text, "qwen3_5_moe_vision")


def qwen3_5_moe_text(words: Vocabulary) -> Config:
    more = _QWEN_EXPERTS | _HYBRID | _QWEN3_5 | {"shared_expert_intermediate_size": 96}
    return _qwen(words, "qwen3_5_moe_text", "Qwen3_5MoeForCausalLM", **more)


_QWEN3_5 = {
    "attn_output_gate": True,
    "mamba_ssm_dtype": "float32",
    "max_position_embeddings": 262_144,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10_000_000,
        "partial_rotary_factor": 0.25,
        "mrope_interleaved": True,
        "mrope_section": [11, 11, 10],
    },
}


def qwen3_vl(words: Vocabulary) -> Config:
    text = _qwen(words, "qwen3_vl_text", "Qwen3VLForConditionalGeneration", **_QWEN3_VL)
    return _with_pictures(words, text, "qwen3_vl_vision", deepstack_visual_indexes=[0, 1])


def qwen3_vl_moe(words: Vocabulary) -> Config:
    architecture = "Qwen3VLMoeForConditionalGeneration"
    text = _qwen(words, "qwen3_vl_moe_text", architecture, **_QWEN_EXPERTS | _QWEN3_VL)
    return _with_pictures(words, text, "qwen3_vl_moe_vision", deepstack_visual_indexes=[0, 1])


_QWEN3_VL = {
    "max_position_embeddings": 262_144,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 5_000_000,
        "mrope_interleaved": True,
        "mrope_section": [24, 20, 20],
    },
}
