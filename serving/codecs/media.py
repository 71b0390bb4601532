"""Pictures and other media inside a chat's parts: counted, and never fetched for a caller. Pure."""

from __future__ import annotations

import re
from typing import Any

from serving.errors import CallerError

WORDS = (b"_url", b"input_", b'"file"', b'"video"', b'"image"', b'"audio"', b"\\u00")
"""Words without which no part holds media. An escaped letter (\\u00..) could hide one."""
_TEXTS = frozenset({"text", "thinking", "refusal"})
"""Members of a part that are shown to the model, never fetched."""
_ADDRESS = re.compile(r"\s*(?:file:|[a-z][a-z0-9+.-]+:[/\\])", re.IGNORECASE)
MEDIA_BYTES = 4096
"""A picture is about a thousand tokens, whatever its file's size."""
_NO_FETCH = "media must be sent as data: URLs; this gateway fetches nothing for callers"


def check(messages: Any) -> tuple[int, int]:
    """Number and bytes of the inline media. Refuses anything a target would have to fetch for the
    caller: no address anywhere in a part but in its text. The part's type is not trusted: vLLM
    reads the `image_url` of a part that calls itself text when it has a `uuid`."""
    count = size = 0
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        todo: list[tuple[str, Any]] = [("", content)] if isinstance(content, list) else []
        while todo:
            key, value = todo.pop()
            if isinstance(value, dict):
                todo += value.items()
            elif isinstance(value, list):
                todo += [(key, item) for item in value]
            elif isinstance(value, str) and key not in _TEXTS:
                if _is_remote(key, value):
                    raise CallerError("remote_media_refused", _NO_FETCH, param="messages")
                if value.startswith("data:") or key == "data":
                    count, size = count + 1, size + len(value)
    return count, size


def _is_remote(key: str, value: str) -> bool:
    return not value.startswith("data:") and (
        key.endswith("url") or _ADDRESS.match(value) is not None
    )
