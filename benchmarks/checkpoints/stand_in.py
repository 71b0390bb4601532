"""A tokenizer that knows the special tokens of Qwen and GLM and no words. Pure.

Enough where vLLM only looks for a model's markers (`<think>`), without anybody's tables.
"""

from __future__ import annotations

from typing import Any

from benchmarks.checkpoints import vocabulary

UNKNOWN = "<unk>"
SPECIAL = dict.fromkeys((
    *vocabulary.QWEN_CONTROL, *vocabulary.QWEN_TEXT, *vocabulary.GLM_CONTROL,
    *vocabulary.GLM45_TEXT,
))  # fmt: skip


def files() -> dict[str, Any]:
    """Name and content of the files of its folder."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [
            {"id": 1 + index, "content": token, "special": True, **plain}
            for index, token in enumerate(SPECIAL)
        ],
        "model": {"type": "WordLevel", "vocab": {UNKNOWN: 0}, "unk_token": UNKNOWN},
    }
    named = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    # transformers asks every folder for a model's type.
    return {
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": named,
        "config.json": {"model_type": "qwen3"},
    }
