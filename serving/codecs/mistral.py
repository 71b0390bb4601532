"""Mistral's accent of OpenAI's dialect: thinking stands in parts of the content. Pure."""

from __future__ import annotations

from typing import Any

from serving.codecs.accent import Accent
from serving.codecs.payloads import listed


def _unify(said: dict[str, Any]) -> None:
    if not isinstance(said.get("content"), list):
        return
    texts: list[str] = []
    thoughts: list[str] = []
    for part in listed(said["content"]):
        if part.get("type") == "thinking":
            thoughts += [str(inner.get("text") or "") for inner in listed(part.get("thinking"))]
        else:
            texts.append(str(part.get("text") or ""))
    said["content"] = "".join(texts)
    if thoughts:
        said["reasoning_content"] = "".join(thoughts)


MISTRAL = Accent(_unify)
