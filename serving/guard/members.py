"""The members of a call's body, by what their texts are to the guard. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

CONTENT = frozenset({"messages", "prompt", "input", "suffix", "documents", "query", "queries",
                      "text_1", "text_2", "instructions", "prediction"})  # fmt: skip
"""Members whose texts the model reads."""
DESCRIBING = frozenset({"tools", "functions"})
"""Members in which only descriptions may be rewritten."""
UNREAD = frozenset({"model"})
IDS = frozenset({"role", "type", "id", "tool_call_id", "object", "detail", "format", "mime_type",
                  "file_id", "cache_control"})  # fmt: skip
"""Members that are no text of anybody's."""
FIXED = frozenset({"name", "url", "data", "filename"})
"""Members that are read but never rewritten."""
MEDIA = frozenset({"image_url", "input_audio", "video_url", "audio_url", "image", "audio", "video",
                    "file", "prompt_embeds", "image_embeds"})  # fmt: skip
_NO_TEXTS = IDS | MEDIA


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
