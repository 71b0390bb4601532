"""A chat of the OpenAI dialect, read in full for a dialect that words it differently. Pure.

What cannot be said there is refused by name, never left out: the caller would get another answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from serving import errors
from serving.errors import Kind, UpstreamError
from serving.records import Call
from serving.unreadable import UNREADABLE

PARTS_MAX = 10_000
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,")
_decode = msgspec.json.Decoder().decode


class Media(NamedTuple):
    """A picture or other file inside a message."""

    mime: str
    base64: str


class Tool(NamedTuple):
    """A function the model may call."""

    name: str
    description: str | None
    schema: Any
    is_strict: bool


class ToolCall(NamedTuple):
    """A call the model made."""

    id: str
    name: str
    arguments: dict[str, Any]
    signature: str | None
    """What the provider wants to see again beside it."""


class Choice(NamedTuple):
    """Whether tools must be called."""

    mode: str
    """`auto`, `none`, `required`."""
    name: str | None = None
    """The one that must be."""


def unsayable(name: str, why: str) -> UpstreamError:
    """This dialect has no words for a member of the call."""
    message = f"{name}: {why}"
    return UpstreamError(
        Kind.BAD_REQUEST, message, sent=False, status=400,
        body=errors.body("upstream_refused", message, name),
    )  # fmt: skip


def member(call: Call, name: str) -> Any:
    """A member of the body, decoded; None where it is absent."""
    raw = call.fields.get(name)
    if raw is None:
        return None
    try:
        return _decode(raw)
    except UNREADABLE:
        raise unsayable(name, "cannot be read") from None


def messages(call: Call) -> list[dict[str, Any]]:
    """The messages, each an object with a role."""
    found = member(call, "messages")
    if not isinstance(found, list) or not all(
        isinstance(m, dict) and isinstance(m.get("role"), str) for m in found
    ):
        raise unsayable("messages", "each must be an object with a role")
    return found


def parts(content: Any, *, only_text: bool = False) -> Iterator[str | Media]:
    """Texts and media of a message's content; empty texts are left out."""
    if content is None:
        return
    if isinstance(content, str):
        if content:
            yield content
        return
    if not isinstance(content, list) or len(content) > PARTS_MAX:
        raise unsayable("messages", f"content must be a string or up to {PARTS_MAX} parts")
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("text", "refusal"):
            text = part.get(kind)
            if not isinstance(text, str):
                raise unsayable("messages", f"a part of type {kind} without its text")
            if text:
                yield text
        elif kind == "image_url" and not only_text:
            yield _media(part)
        else:
            raise unsayable("messages", f"this provider takes no part of type {str(kind)[:40]!r}")


def text(content: Any) -> str:
    """The text of a content that may hold nothing else."""
    return "".join(part for part in parts(content, only_text=True) if isinstance(part, str))


def _media(part: dict[str, Any]) -> Media:
    inner = part.get("image_url")
    url = inner.get("url") if isinstance(inner, dict) else inner
    found = _DATA_URL.match(url) if isinstance(url, str) else None
    if found is None or not isinstance(url, str):
        raise unsayable("messages", "pictures must be data: URLs in base64")
    return Media(found[1], url[found.end() :])


def tools(call: Call) -> list[Tool]:
    """The functions offered."""
    found = []
    for entry in member(call, "tools") or ():
        function = entry.get("function") if isinstance(entry, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise unsayable("tools", "this provider takes functions with a name only")
        schema = function.get("parameters") or {"type": "object", "properties": {}}
        is_strict = function.get("strict") is True
        found.append(Tool(function["name"], function.get("description"), schema, is_strict))
    return found


def tool_choice(call: Call) -> Choice | None:
    """What is asked of the model; None where nothing is."""
    asked = member(call, "tool_choice")
    if asked is None:
        return None
    if asked in ("auto", "none", "required"):
        return Choice(asked)
    function = asked.get("function") if isinstance(asked, dict) else None
    if isinstance(function, dict) and isinstance(function.get("name"), str):
        return Choice("required", function["name"])
    raise unsayable("tool_choice", "must be auto, none, required or one function")


def tool_calls(message: dict[str, Any]) -> list[ToolCall]:
    """The calls of an assistant's message."""
    found = []
    for entry in message.get("tool_calls") or ():
        function = entry.get("function") if isinstance(entry, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise unsayable("messages", "a tool call without a function's name")
        extra = entry.get("extra_content")
        google = extra.get("google") if isinstance(extra, dict) else None
        signature = google.get("thought_signature") if isinstance(google, dict) else None
        found.append(
            ToolCall(
                str(entry.get("id") or ""), function["name"],
                _arguments(function.get("arguments")),
                signature if isinstance(signature, str) else None,
            )
        )  # fmt: skip
    return found


def _arguments(given: Any) -> dict[str, Any]:
    if not given:
        return {}
    try:
        value = _decode(given) if isinstance(given, str) else None
    except UNREADABLE:
        value = None
    if not isinstance(value, dict):
        raise unsayable("messages", "a tool call's arguments must be a JSON object")
    return value


def stops(call: Call) -> list[str]:
    """Stop words."""
    given = member(call, "stop")
    words = [given] if isinstance(given, str) else given or []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise unsayable("stop", "must be a string or strings")
    return words


def schema(call: Call) -> tuple[bool, Any]:
    """Whether the answer must be JSON, and of which schema (None: any)."""
    wanted = member(call, "response_format")
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if wanted is None or kind == "text":
        return False, None
    if kind == "json_object":
        return True, None
    inner = wanted.get("json_schema") if kind == "json_schema" else None
    if isinstance(inner, dict) and isinstance(inner.get("schema"), dict):
        return True, inner["schema"]
    raise unsayable("response_format", "must be text, json_object or json_schema with a schema")
