"""OpenAI's Responses, spoken to us without memory: a request becomes a chat. Pure.

What would need a conversation kept here is refused with the remedy: send the items again. A member
that would change the answer and has no meaning here is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serving.codecs.asked import encode, members, objects, refuse_others, text_of, wrong

PATH = b"/v1/responses"
_SAME = ("model", "temperature", "top_p", "stream", "parallel_tool_calls", "user", "metadata",
         "prompt_cache_key", "safety_identifier", "service_tier")  # fmt: skip
_KNOWN = (*_SAME, "input", "instructions", "max_output_tokens", "text", "reasoning", "tools",
          "tool_choice", "store", "truncation", "include", "stream_options",
          "prompt_cache_retention")  # fmt: skip
_KEPT = ("previous_response_id", "conversation", "prompt", "background")
"""Members that need something kept at the server."""
_ROLES = ("assistant", "developer", "system", "user")
_TEXTS = ("input_text", "output_text", "text")
"""Tuples: what a client sends in their place need not have a hash."""


def to_chat(data: bytes) -> bytes:
    """The chat that a request asks for. Raises CallerError naming the member at fault."""
    given = members(data)
    for name in _KEPT:
        if given.get(name):
            raise wrong(name, "needs memory, which this gateway has none of: send all items again")
    if given.get("store") is True:
        raise wrong("store", "must be false: nothing is kept here")
    refuse_others(given, (*_KNOWN, *_KEPT))
    chat: dict[str, Any] = {k: given[k] for k in _SAME if given.get(k) is not None}
    chat["messages"] = [*_instructions(given), *_items(given.get("input"))]
    if given.get("max_output_tokens") is not None:
        chat["max_completion_tokens"] = given["max_output_tokens"]
    if given.get("truncation") not in (None, "disabled"):
        raise wrong("truncation", "must be disabled: nothing is left out silently")
    if given.get("text"):
        chat |= _format(given["text"])
    if given.get("reasoning"):
        chat |= _reasoning(given["reasoning"])
    if given.get("tools"):
        chat["tools"] = [_tool(tool) for tool in objects(given["tools"], "tools")]
        chat |= _choice(given.get("tool_choice"))
    if given.get("stream"):
        chat["stream_options"] = {"include_usage": True}
    return encode(chat)


def _instructions(given: dict[str, Any]) -> list[dict[str, Any]]:
    value = given.get("instructions")
    return [{"role": "system", "content": text_of(value, "instructions")}] if value else []


def _items(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, str):
        yield {"role": "user", "content": value}
        return
    calls: list[dict[str, Any]] = []
    for index, item in enumerate(objects(value, "input")):
        kind = item.get("type", "message")
        if kind == "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments") or "{}"}
            calls.append({"id": item.get("call_id"), "type": "function", "function": function})
            continue
        if calls:
            yield {"role": "assistant", "content": "", "tool_calls": calls}
            calls = []
        if kind == "message":
            yield _message(item, f"input.{index}")
        elif kind == "function_call_output":
            output = item.get("output")
            content = output if isinstance(output, str) else _joined(output, f"input.{index}")
            yield {"role": "tool", "tool_call_id": item.get("call_id"), "content": content}
        elif kind != "reasoning":
            raise wrong(f"input.{index}", f"of type {str(kind)[:40]!r} is not supported")
    if calls:
        yield {"role": "assistant", "content": "", "tool_calls": calls}


def _message(item: dict[str, Any], where: str) -> dict[str, Any]:
    role, content = item.get("role"), item.get("content")
    if role not in _ROLES:
        raise wrong(f"{where}.role", f"must be one of {', '.join(_ROLES)}")
    role = "system" if role == "developer" else role
    if isinstance(content, str):
        return {"role": role, "content": content}
    parts = [_part(part, where) for part in objects(content, f"{where}.content")]
    if all(part["type"] == "text" for part in parts):
        return {"role": role, "content": "\n".join(part["text"] for part in parts)}
    return {"role": role, "content": parts}


def _part(part: dict[str, Any], where: str) -> dict[str, Any]:
    kind = part.get("type")
    if kind in _TEXTS:
        return {"type": "text", "text": text_of(part.get("text"), f"{where}.text")}
    if kind == "refusal":
        return {"type": "text", "text": text_of(part.get("refusal"), f"{where}.refusal")}
    if kind == "input_image" and isinstance(part.get("image_url"), str):
        picture: dict[str, Any] = {"url": part["image_url"]}
        if part.get("detail"):
            picture["detail"] = part["detail"]
        return {"type": "image_url", "image_url": picture}
    raise wrong(f"{where}.content", f"parts of type {str(kind)[:40]!r} are not supported")


def _joined(value: Any, where: str) -> str:
    parts = [_part(part, where) for part in objects(value, f"{where}.output")]
    return "\n".join(str(part.get("text", "")) for part in parts)


def _format(value: Any) -> dict[str, Any]:
    form = value.get("format") if isinstance(value, dict) else None
    kind = form.get("type") if isinstance(form, dict) else "text"
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"response_format": {"type": kind}}
    if kind == "json_schema" and isinstance(form, dict):
        names = ("name", "schema", "strict", "description")
        schema = {name: form[name] for name in names if form.get(name) is not None}
        return {"response_format": {"type": kind, kind: schema}}
    raise wrong("text.format", "must be text, json_object or json_schema")


def _reasoning(value: Any) -> dict[str, Any]:
    effort = value.get("effort") if isinstance(value, dict) else None
    return {"reasoning_effort": effort} if effort else {}


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise wrong("tools", f"of type {str(tool.get('type'))[:40]!r} run at OpenAI only")
    names = ("name", "description", "parameters", "strict")
    function = {name: tool[name] for name in names if tool.get(name) is not None}
    return {"type": "function", "function": function}


def _choice(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, dict) and value.get("type") == "function":
        return {"tool_choice": {"type": "function", "function": {"name": value.get("name")}}}
    if value not in ("auto", "none", "required"):
        raise wrong("tool_choice", "must be auto, none, required or a function")
    return {"tool_choice": value}
