"""Writes a tiny checkpoint as a folder vLLM can serve: config, tokenizer, template and weights.

Seeded and without torch: the same bytes on every machine with the same numpy. Nothing is fetched.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.checkpoints.architectures import TEMPLATE_FILE, Architecture, Config
from benchmarks.checkpoints.templates import chat_template
from benchmarks.checkpoints.tensors import tensors
from benchmarks.checkpoints.vocabulary import Vocabulary, vocabulary
from serving.engine.embedded import write_safetensors

SEED = 20_261_125


def write(architecture: Architecture, parent: Path, seed: int = SEED) -> Path:
    """Write the checkpoint into `parent / architecture.name` and return that folder.

    A folder that is there is taken as complete: it appears under its name only when all is written.
    """
    folder = parent / architecture.name
    if folder.is_dir():
        return folder
    parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{architecture.name}.", dir=parent))
    try:
        _fill(architecture, scratch, seed)
        scratch.chmod(0o755)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def write_config(name: str, words: Vocabulary, config: Config, parent: Path) -> Path:
    """Write a folder without weights, for vLLM's `--load-format dummy`."""
    folder = parent / name
    folder.mkdir()
    _write_files(folder, _described(config, words))
    return folder


def _fill(architecture: Architecture, folder: Path, seed: int) -> None:
    words = vocabulary(architecture.vocabulary)
    config = architecture.config(words)
    files = _described(config, words)
    if architecture.pools_last:
        files["tokenizer.json"] = words.tokenizer | {"post_processor": _ends_with_end(words)}
        files["modules.json"] = _MODULES
        files["1_Pooling/config.json"] = _POOLING | {
            "word_embedding_dimension": config["hidden_size"]
        }
    _write_files(folder, files)
    if architecture.template is not None:
        (folder / TEMPLATE_FILE).write_text(chat_template(architecture.template), encoding="utf-8")
    write_safetensors(folder / "model.safetensors", dict(tensors(config, seed)), "bfloat16")


def _write_files(folder: Path, files: dict[str, Any]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        indent = None if name == "tokenizer.json" else 1
        path.write_text(json.dumps(content, ensure_ascii=False, indent=indent), encoding="utf-8")


def _described(config: Config, words: Vocabulary) -> dict[str, Any]:
    """The JSON files every checkpoint has, by name."""
    files = {
        "config.json": config,
        "generation_config.json": _generation_config(config),
        "tokenizer_config.json": tokenizer_config(config, words),
        "tokenizer.json": words.tokenizer,
    }
    if "vision_config" in config:
        files["preprocessor_config.json"] = _pictures(config["vision_config"])
        files["video_preprocessor_config.json"] = _films(config["vision_config"])
    return files


def tokenizer_config(config: dict[str, Any], words: Vocabulary) -> dict[str, Any]:
    """Class and special tokens; the template has a file of its own."""
    is_qwen = "<|im_end|>" in words.ids
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.get("text_config", config)["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>" if is_qwen else "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }


def _generation_config(config: dict[str, Any]) -> dict[str, Any]:
    """Where answers stop; sampling values are left to the request."""
    text = config.get("text_config", config)
    pad = text.get("pad_token_id", text.get("bos_token_id"))
    stops = text["eos_token_id"]
    return {
        "eos_token_id": stops if isinstance(stops, list) else [stops, pad],
        "pad_token_id": pad,
    }


def _ends_with_end(words: Vocabulary) -> dict[str, Any]:
    """Qwen3-Embedding's text ends with <|endoftext|>, whose hidden state is the vector."""
    end = "<|endoftext|>"
    return {
        "type": "TemplateProcessing",
        "single": [
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": end, "type_id": 0}},
        ],
        "pair": [
            {"Sequence": {"id": "A", "type_id": 0}},
            {"Sequence": {"id": "B", "type_id": 1}},
            {"SpecialToken": {"id": end, "type_id": 0}},
        ],
        "special_tokens": {end: {"id": end, "ids": [words.ids[end]], "tokens": [end]}},
    }


_MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {
        "idx": 2,
        "name": "2",
        "path": "2_Normalize",
        "type": "sentence_transformers.models.Normalize",
    },
]
_POOLING = {
    "pooling_mode_cls_token": False,
    "pooling_mode_mean_tokens": False,
    "pooling_mode_max_tokens": False,
    "pooling_mode_lasttoken": True,
    "include_prompt": True,
}


def _pictures(vision: dict[str, Any]) -> dict[str, Any]:
    """How pictures become patches; sizes are in square pixels."""
    return {
        "size": {"shortest_edge": 65_536, "longest_edge": 16_777_216},
        "patch_size": vision["patch_size"],
        "temporal_patch_size": vision["temporal_patch_size"],
        "merge_size": vision["spatial_merge_size"],
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "processor_class": "Glm4vProcessor" if _is_glm(vision) else "Qwen3VLProcessor",
        "image_processor_type": "Glm4vImageProcessor"
        if _is_glm(vision)
        else "Qwen2VLImageProcessorFast",
    }


def _films(vision: dict[str, Any]) -> dict[str, Any]:
    pictures = _pictures(vision)
    del pictures["image_processor_type"]
    return pictures | {
        "size": {"shortest_edge": 4096, "longest_edge": 25_165_824},
        "video_processor_type": f"{'Glm4v' if _is_glm(vision) else 'Qwen3VL'}VideoProcessor",
    }


def _is_glm(vision: dict[str, Any]) -> bool:
    kind: str = vision["model_type"]
    return kind.startswith("glm4v")
