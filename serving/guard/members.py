"""The members of a call's body, by what their texts are to the guard. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias, get_args

import msgspec

CONTENT = frozenset({"messages", "prompt", "input", "suffix", "documents", "query", "queries",
                      "text_1", "text_2", "instructions", "prediction"})  # fmt: skip
"""Members whose texts the model reads."""
DESCRIBING = frozenset({"tools", "functions"})
"""Members in which only descriptions may be rewritten."""
UNREAD = frozenset({"model"})
IDS = frozenset({"role", "type", "id", "tool_call_id", "object", "detail", "format", "mime_type",
                  "file_id", "cache_control"})  # fmt: skip
"""Members that are no text of anybody's while they hold what an id holds; see `is_id`."""
Role: TypeAlias = Literal[
    "system", "developer", "user", "assistant", "tool", "function", "observation"
]
ROLES = frozenset(get_args(Role))
FIXED = frozenset({"name", "url", "data", "filename"})
"""Members that are read but never rewritten."""
MEDIA = frozenset({"image_url", "input_audio", "video_url", "audio_url", "image", "audio", "video",
                    "file", "prompt_embeds", "image_embeds"})  # fmt: skip
SPOKEN = "messages"
ALL, DESCRIPTIONS, NONE = "all", "descriptions", "none"
"""Which texts of a member may be rewritten."""
_NO_TEXTS = IDS | MEDIA
_looks_like_id = re.compile(r"[A-Za-z][\w.:+/-]{0,127}", re.ASCII).fullmatch


def mode_of(name: str) -> str:
    """Which texts of a body's member may be rewritten."""
    return ALL if name in CONTENT else DESCRIPTIONS if name in DESCRIBING else NONE


def mode_within(name: str, mode: str) -> str:
    """Which may be below a member of a member."""
    if name in FIXED or name in IDS:
        return NONE
    return ALL if mode == DESCRIPTIONS and name == "description" else mode


def is_id(name: str, value: Any) -> bool:
    """Whether a member needs no reading: an id by its name and by what it holds. A template writes
    out whatever role it is given, and a schema may call a property so."""
    if name not in IDS or type(value) is not str:
        return False
    return value in ROLES if name == "role" else _looks_like_id(value) is not None


def may_be_json(key: Any, text: str) -> bool:
    """Whether a text may be JSON whose escapes hide what it says."""
    return key == "arguments" or (text.lstrip()[:1] in ("{", "[") and "\\u" in text)


def texts_of(node: Any) -> Iterator[str]:
    """The texts of a decoded member, in no order; not its tokens."""
    nodes = [node]
    while nodes:
        node = nodes.pop()
        if isinstance(node, str):
            yield node
        elif isinstance(node, list):
            if not (node and isinstance(node[0], int)):
                nodes += node
        elif isinstance(node, dict):
            nodes += [value for name, value in node.items() if name not in _NO_TEXTS]


class _Said(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A message as most are."""

    role: Role
    content: str


_said = msgspec.json.Decoder(list[_Said]).decode


def spoken(raw: msgspec.Raw) -> list[str] | None:
    """The texts of messages that hold nothing but a role and a plain text each; None for others."""
    try:
        texts = [said.content for said in _said(raw)]
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    for text in texts:
        if may_be_json("content", text):
            return None
    return texts
