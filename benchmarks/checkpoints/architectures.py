"""The architectures a tiny checkpoint is written for, and how each is served. Values only.

Configurations keep what kernels and parsers depend on as published (head widths, latent ranks,
norms, rotary parameters, special tokens, expert routing) and shrink what only costs time (hidden
size, layers, heads, experts). Runner, parsers and overrides are those of the card it stands for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from benchmarks.checkpoints import glm, qwen
from benchmarks.checkpoints.templates import TemplateName
from benchmarks.checkpoints.vocabulary import Vocabulary, VocabularyName
from models import catalog
from models.card import Serving

Config = dict[str, Any]
TEMPLATE_FILE = "chat_template.jinja"
CONTEXT_TOKENS = 8192
STEP_TOKENS = 2048
"""Tokens of one step: a long prompt takes several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """One architecture class of vLLM, tiny."""

    name: str
    """Folder of the checkpoint and name the engine serves it under."""
    stands_for: str
    """Hub id of a published model of this architecture, whose card says how it is served."""
    vocabulary: VocabularyName
    template: TemplateName | None
    config: Callable[[Vocabulary], Config]
    dtype: Literal["float32", "bfloat16"] = "float32"
    """float32 agrees with other implementations to five digits; vLLM's gated delta net on a CPU
    takes bfloat16 only."""
    is_multimodal: bool = False
    remembers_prefixes: bool = True
    """vLLM turns prefix caching off for latent attention on a CPU."""
    args: tuple[str, ...] = ()
    pools_last: bool = False
    """Its vector is the hidden state of an end token that the tokenizer adds."""

    @property
    def serving(self) -> Serving:
        """What the card says."""
        return _catalogue().card(self.stands_for).serving

    def engine(self, folder: Path, secret_path: Path) -> dict[str, Any]:
        """Fields of the EngineSpec that serves the checkpoint in `folder`."""
        extra = ["--max-num-batched-tokens", str(STEP_TOKENS), *self.args]
        if self.is_multimodal:
            extra.append("--language-model-only")
        if self.template == "reranker":
            extra += ["--chat-template", str(folder / TEMPLATE_FILE)]
        return {
            "model_name": self.name,
            "model_path": str(folder),
            "secret_path": str(secret_path),
            "dtype": self.dtype,
            "max_model_len": CONTEXT_TOKENS,
            "max_num_seqs": 4,
            "max_num_queued_reqs": 8,
            "kv_cache_gib": 1,
            "tool_parser": self.serving.tool_parser,
            "tool_strict_level": "parameter",
            "reasoning_parser": self.serving.reasoning_parser,
            "runner": self.serving.runner,
            "hf_overrides": self.serving.hf_overrides,
            "extra_args": extra,
        }


@cache
def _catalogue() -> catalog.Catalog:
    return catalog.load()


ARCHITECTURES = {
    each.name: each
    for each in (
        Architecture(
            name="tiny-qwen3",
            stands_for="Qwen/Qwen3-8B",
            vocabulary="qwen3",
            template="qwen3",
            config=qwen.qwen3,
        ),
        Architecture(
            name="tiny-qwen3-moe",
            stands_for="Qwen/Qwen3-30B-A3B",
            vocabulary="qwen3",
            template="qwen3",
            config=qwen.qwen3_moe,
        ),
        Architecture(
            name="tiny-qwen3.5",
            stands_for="Qwen/Qwen3.5-27B",
            vocabulary="qwen3.5",
            template="qwen3.5",
            config=qwen.qwen3_5,
            is_multimodal=True,
            dtype="bfloat16",
        ),
        Architecture(
            name="tiny-qwen3-vl",
            stands_for="Qwen/Qwen3-VL-8B-Instruct",
            vocabulary="qwen3",
            template="qwen3-instruct",
            config=qwen.qwen3_vl,
            is_multimodal=True,
        ),
        Architecture(
            name="tiny-qwen3-embedding",
            stands_for="Qwen/Qwen3-Embedding-0.6B",
            vocabulary="qwen3",
            template=None,
            config=qwen.qwen3,
            pools_last=True,
        ),
        Architecture(
            name="tiny-qwen3-reranker",
            stands_for="Qwen/Qwen3-Reranker-0.6B",
            vocabulary="qwen3",
            template="reranker",
            config=qwen.qwen3,
        ),
        Architecture(
            name="tiny-glm-4",
            stands_for="zai-org/GLM-4-9B-0414",
            vocabulary="glm4",
            template="glm4",
            config=glm.glm4,
        ),
        Architecture(
            name="tiny-glm-4.5",
            stands_for="zai-org/GLM-4.5-Air",
            vocabulary="glm4.5",
            template="glm4.5",
            config=glm.glm4_moe,
        ),
        Architecture(
            name="tiny-qwen3-next",
            stands_for="Qwen/Qwen3-Next-80B-A3B-Instruct",
            vocabulary="qwen3",
            template="qwen3-instruct",
            config=qwen.qwen3_next,
            dtype="bfloat16",
        ),
        Architecture(
            name="tiny-qwen3.5-moe",
            stands_for="Qwen/Qwen3.5-35B-A3B",
            vocabulary="qwen3.5",
            template="qwen3.5",
            config=qwen.qwen3_5_moe,
            is_multimodal=True,
            dtype="bfloat16",
        ),
        Architecture(
            name="tiny-qwen3.8-moe",
            stands_for="Qwen/Qwen3.8-2.4T-A95B",
            vocabulary="qwen3.5",
            template="qwen3.5",
            config=qwen.qwen3_5_moe_text,
            dtype="bfloat16",
        ),
        Architecture(
            name="tiny-qwen3-vl-moe",
            stands_for="Qwen/Qwen3-VL-30B-A3B-Instruct",
            vocabulary="qwen3",
            template="qwen3-instruct",
            config=qwen.qwen3_vl_moe,
            is_multimodal=True,
        ),
        Architecture(
            name="tiny-qwen3-vl-reranker",
            stands_for="Qwen/Qwen3-VL-Reranker-2B",
            vocabulary="qwen3",
            template="reranker",
            config=qwen.qwen3_vl,
            is_multimodal=True,
        ),
        Architecture(
            name="tiny-glm-4.6v-flash",
            stands_for="zai-org/GLM-4.6V-Flash",
            vocabulary="glm4.5",
            template="glm4.5",
            config=glm.glm4v,
            is_multimodal=True,
        ),
        Architecture(
            name="tiny-glm-4.5v",
            stands_for="zai-org/GLM-4.5V",
            vocabulary="glm4.5",
            template="glm4.5",
            config=glm.glm4v_moe,
            is_multimodal=True,
        ),
        Architecture(
            name="tiny-glm-4.7-flash",
            stands_for="zai-org/GLM-4.7-Flash",
            vocabulary="glm4.5",
            template="glm4.7",
            config=glm.glm4_moe_lite,
            remembers_prefixes=False,
            args=("--attention-backend", "CPU_MLA"),  # not AMX's where the CPU has it: see 0004
        ),
    )
}
