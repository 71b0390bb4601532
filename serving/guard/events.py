"""SSE events of an answer as values, and values as events. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from serving.guard.choice import PLAIN, Choice, Unreadable
from serving.records import Usage

DONE = b"data: [DONE]"
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_PLAIN = b"data: {"
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)
_COPIED = ("id", "object", "created", "model", "system_fingerprint")


def read(raw: bytes) -> dict[str, Any] | None:
    """The JSON of an event; None for one that carries none (comment, end marker, field lines).
    Raises Unreadable."""
    payload = raw[6:] if raw.startswith(_PLAIN) and b"\n" not in raw else _payload(raw)
    return body(payload) if payload and payload != b"[DONE]" else None


def body(data: bytes) -> dict[str, Any]:
    """A JSON object. Raises Unreadable."""
    try:
        value = _decode(data)
    except _UNREADABLE as error:
        raise Unreadable(str(error)) from None
    if not isinstance(value, dict):
        raise Unreadable("not an object")
    return value


def is_done(raw: bytes) -> bool:
    """Whether this is the end marker."""
    return raw == DONE or (raw.startswith(b"data:") and raw[5:].strip() == b"[DONE]")


def _payload(raw: bytes) -> bytes:
    lines = raw.split(b"\n")
    return b"\n".join(line[5:].strip() for line in lines if line.startswith(b"data:"))


def written(raw: bytes, value: Mapping[str, Any]) -> bytes:
    """An event again, with the other lines it came with."""
    data = b"data: " + _encode(value)
    if raw.startswith(_PLAIN) and b"\n" not in raw:
        return data
    others = [line for line in raw.split(b"\n") if line and not line.startswith(b"data:")]
    return b"\n".join([*others, data])


def beside(event: Mapping[str, Any], **members: Any) -> bytes:
    """An event of our own in the likeness of another."""
    value: dict[str, Any] = {name: event[name] for name in _COPIED if name in event}
    return b"data: " + _encode(value | members)


def joined(raws: Iterable[bytes]) -> bytes:
    """Events as they are sent."""
    return b"".join([raw + b"\n\n" for raw in raws])


def choice(index: int, content: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
    """A choice with this content and this end."""
    return {"index": index, **content, "logprobs": None, "finish_reason": finish}


def usage(counted: Usage) -> dict[str, int]:
    """A usage as an event tells it."""
    prompt, completion = counted.prompt_tokens, counted.completion_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def encode(value: Any) -> bytes:
    """JSON."""
    return _encode(value)


def withheld(is_chat: bool, finish: str) -> dict[str, Any]:
    """A plain answer's body that says only that it was withheld."""
    empty = {"message": {"role": "assistant", "content": ""}} if is_chat else {"text": ""}
    kind = "chat.completion" if is_chat else "text_completion"
    return {"object": kind, "choices": [choice(0, empty, finish)]}


def cut(node: dict[str, Any], choice: Choice) -> None:
    """Leave of a choice of a plain answer what stood before a blocking term."""
    safe = choice.before[-1] if choice.before else {}
    body = node.get("message")
    if type(body) is dict:
        role = body.get("role", "assistant")
        node["message"] = {"role": role, "content": "", **safe.get("delta", {})}
        node["message"].pop("tool_calls", None)
        node["message"].pop("function_call", None)
    if "text" in node:
        node["text"] = safe.get("text", "")
    for name in node.keys() - PLAIN - {"message"}:
        node[name] = None
    node["finish_reason"] = "content_filter"
