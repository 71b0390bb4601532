"""Models of the catalogue that vLLM's CPU backend cannot run, and what it says. Values only.

Each has a tiny `config.json` and no weights (vLLM's `--load-format dummy` invents them), enough to
bring vLLM to its refusal. `docs/models-on-cpu.md` shows the same table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.checkpoints import glm, qwen
from benchmarks.checkpoints.vocabulary import Vocabulary, VocabularyName


@dataclass(frozen=True, slots=True)
class Beyond:
    """A model out of reach of a CPU."""

    stands_for: str
    vocabulary: VocabularyName
    config: Callable[[Vocabulary], dict[str, Any]]
    args: tuple[str, ...]
    """What brings vLLM past refusals that are not about the model."""
    reason: str
    """Words of vLLM's error, as it stands in the engine core's log."""

    def engine(self, name: str, folder: Path, secret_path: Path) -> dict[str, Any]:
        """Fields of the EngineSpec that vLLM refuses."""
        return {
            "model_name": name,
            "model_path": str(folder),
            "secret_path": str(secret_path),
            "dtype": "bfloat16",
            "max_model_len": 2048,
            "kv_cache_gib": 1,
            "tool_parser": None,
            "extra_args": ["--load-format", "dummy", *self.args],
        }


def glm_5(words: Vocabulary) -> dict[str, Any]:
    """GLM-5, 5.1, 5.2 and 5.3: latent attention over the tokens an indexer picks."""
    config = glm.glm4_moe_lite(words)
    return config | {
        "architectures": ["GlmMoeDsaForCausalLM"],
        "model_type": "glm_moe_dsa",
        "index_head_dim": 128,
        "index_n_heads": 4,
        "index_topk": 256,
    }


def glm_5_3_flash(words: Vocabulary) -> dict[str, Any]:
    """GLM-5.3-Flash: three linear (KDA) layers to each sparse latent one."""
    sparse = glm_5(words)
    text = {
        **{
            key: value
            for key, value in sparse.items()
            if key not in ("architectures", "rope_parameters")
        },
        "model_type": "glm5_next_text",
        "hc_mult": 4,
        "mhc": True,
        "indexer_rope_interleave": True,
        "mla_use_nope": True,
        "scoring_func": "sigmoid",
        "index_kpool": 16,
        "layer_types": [*(["linear_attention"] * 3), "full_attention"],
        "linear_conv_kernel_dim": 4,
        "linear_head_dim": 128,
        "linear_num_heads": 4,
        "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
        "num_hidden_layers": 4,
        "qk_nope_head_dim": 256,
        "qk_rope_head_dim": 0,
    }
    vision = {
        "model_type": "glm5_next_vision",
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 2,
        "out_hidden_size": 64,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "projection_intermediate_size": 128,
    }
    return {
        "architectures": ["Glm5NextForConditionalGeneration"],
        "model_type": "glm5_next",
        "dtype": "bfloat16",
        "text_config": text,
        "vision_config": vision,
    }


def qwen3_8_flash_next(words: Vocabulary) -> dict[str, Any]:
    """Qwen3.8-Flash-Next: gated delta nets and sparse attention over an n-gram table."""
    config = qwen.qwen3_5_moe(words)
    text = config["text_config"] | {
        "model_type": "qwen4_exp_text",
        "hc_count": 4,
        "hc_lowrank": 64,
        "indexer_budget": 256,
        "indexer_compress_ratio": 4,
        "indexer_head_dim": 128,
        "indexer_kv_heads": 1,
        "indexer_n_heads": 4,
        "heads_per_ngram": 1,
        "ngram_vocab_size_base": 1024,
        "ple_embed_dim": 64,
        "ple_layer_ids": [1],
        "split_ngram_parts": 1,
    }
    return config | {
        "architectures": ["Qwen4ExpForConditionalGeneration"],
        "model_type": "qwen4_exp",
        "text_config": text,
        "vision_config": config["vision_config"] | {"model_type": "qwen4_exp_vision"},
    }


BEYOND = {
    "tiny-glm-5": Beyond(
        stands_for="zai-org/GLM-5.2",
        vocabulary="glm4.5",
        config=glm_5,
        args=(),
        reason="Sparse Attention is not supported on CPU.",
    ),
    "tiny-glm-5.3-flash": Beyond(
        stands_for="zai-org/GLM-5.3-Flash",
        vocabulary="glm4.5",
        config=glm_5_3_flash,
        args=("--language-model-only", "--no-enable-prefix-caching"),
        reason="Sparse Attention is not supported on CPU.",
    ),
    "tiny-qwen3.8-flash-next": Beyond(
        stands_for="Qwen/Qwen3.8-Flash-Next",
        vocabulary="qwen3.5",
        config=qwen3_8_flash_next,
        args=("--language-model-only",),
        reason="pin_memory=True requires a CUDA or other accelerator backend",
    ),
}
