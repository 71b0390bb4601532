"""What the simulated engine answers on `/tokenize`. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from serving.fakes.generation import Rejection
from serving.fakes.text import tokenize


def counted(raw: bytes, max_model_len: int) -> dict[str, Any] | Rejection:
    """The tokens of a prompt or of messages."""
    try:
        body = msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.DecodeError as error:
        return Rejection(400, f"JSON decode error: {error}", "Bad Request", "body")
    prompt = body.get("prompt")
    messages = body.get("messages")
    if not isinstance(prompt, str) and not isinstance(messages, list):
        return Rejection(400, "prompt: field required", "Bad Request", "body.prompt")
    text = prompt if isinstance(prompt, str) else msgspec.json.encode(messages).decode()
    tokens = tokenize(text)
    return {
        "count": len(tokens), "max_model_len": max_model_len, "tokens": tokens,
        "token_strs": None,
    }  # fmt: skip
