"""Anthropic's Messages, spoken to us: a request becomes a chat. Pure.

A member that would change the answer and has no meaning here is refused by name. Earlier thoughts
are dropped, as the models' own templates do; cache marks mean nothing, our engines cache by
themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serving.codecs.asked import encode, members, objects, refuse_others, text_of, wrong

PATH = b"/v1/messages"
_SAME = ("model", "max_tokens", "temperature", "top_p", "top_k", "stream")
_KNOWN = (*_SAME, "messages", "system", "stop_sequences", "tools", "tool_choice", "thinking",
          "metadata", "service_tier", "cache_control", "context_management")  # fmt: skip
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def to_chat(data: bytes) -> bytes:
    """The chat that a request asks for. Raises CallerError naming the member at fault."""
    given = members(data)
    refuse_others(given, _KNOWN)
    if given.get("max_tokens") is None:
        raise wrong("max_tokens", "is required")
    chat: dict[str, Any] = {k: given[k] for k in _SAME if given.get(k) is not None}
    chat["messages"] = [*_system(given.get("system")), *_messages(given.get("messages"))]
    if given.get("stop_sequences"):
        chat["stop"] = given["stop_sequences"]
    if given.get("tools"):
        chat["tools"] = [_tool(tool) for tool in objects(given["tools"], "tools")]
        chat |= _choice(given.get("tool_choice"))
    if given.get("thinking") is not None:
        chat["chat_template_kwargs"] = {"enable_thinking": _thinks(given["thinking"])}
    if given.get("stream"):
        chat["stream_options"] = {"include_usage": True}
    return encode(chat)


def _system(value: Any) -> list[dict[str, Any]]:
    if not value:
        return []
    if isinstance(value, str):
        return [{"role": "system", "content": value}]
    texts = [text_of(block.get("text"), "system") for block in objects(value, "system")]
    return [{"role": "system", "content": "\n".join(texts)}]


def _messages(value: Any) -> Iterator[dict[str, Any]]:
    for index, message in enumerate(objects(value, "messages")):
        where = f"messages.{index}"
        role, content = message.get("role"), message.get("content")
        if role not in ("user", "assistant"):
            raise wrong(f"{where}.role", "must be user or assistant")
        if isinstance(content, str):
            yield {"role": role, "content": content}
        else:
            blocks = objects(content, f"{where}.content")
            yield from (_user if role == "user" else _assistant)(blocks, where)


def _user(blocks: list[dict[str, Any]], where: str) -> Iterator[dict[str, Any]]:
    """Results of tools first: they answer the calls of the message before."""
    parts = []
    for block in blocks:
        kind = block.get("type")
        if kind == "tool_result":
            result = _result(block.get("content"), where)
            if block.get("is_error"):
                result = f"Error: {result}"
            yield {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": result}
        else:
            parts.append(_part(block, where))
    if parts:
        plain = all(part["type"] == "text" for part in parts)
        content = "\n".join(part["text"] for part in parts) if plain else parts
        yield {"role": "user", "content": content}


def _assistant(blocks: list[dict[str, Any]], where: str) -> Iterator[dict[str, Any]]:
    texts, calls = [], []
    for block in blocks:
        kind = block.get("type")
        if kind == "text":
            texts.append(text_of(block.get("text"), f"{where}.text"))
        elif kind == "tool_use":
            function = {
                "name": block.get("name"),
                "arguments": encode(block.get("input") or {}).decode(),
            }
            calls.append({"id": block.get("id"), "type": "function", "function": function})
        elif kind not in ("thinking", "redacted_thinking"):
            raise wrong(f"{where}.content", f"blocks of type {str(kind)[:40]!r} are not supported")
    message: dict[str, Any] = {"role": "assistant", "content": "\n".join(texts)}
    yield message | ({"tool_calls": calls} if calls else {})


def _part(block: dict[str, Any], where: str) -> dict[str, Any]:
    kind = block.get("type")
    if kind == "text":
        return {"type": "text", "text": text_of(block.get("text"), f"{where}.text")}
    source = block.get("source")
    if kind == "image" and isinstance(source, dict):
        if source.get("type") == "base64":
            url = f"data:{source.get('media_type')};base64,{source.get('data')}"
        else:  # refused further on: nothing is fetched for a caller
            url = str(source.get("url"))
        return {"type": "image_url", "image_url": {"url": url}}
    raise wrong(f"{where}.content", f"blocks of type {str(kind)[:40]!r} are not supported")


def _result(content: Any, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    blocks = objects(content, f"{where}.content")
    return "\n".join(text_of(b.get("text"), f"{where}.tool_result") for b in blocks)


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    if tool.get("type") not in (None, "custom"):
        raise wrong("tools", f"of type {str(tool['type'])[:40]!r} run at Anthropic only")
    function = {
        "name": tool.get("name"),
        "description": tool.get("description") or "",
        "parameters": tool.get("input_schema") or {"type": "object"},
    }
    return {"type": "function", "function": function}


def _choice(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "tool":
        chosen: Any = {"type": "function", "function": {"name": value.get("name")}}
    elif isinstance(kind, str) and kind in _CHOICES:
        chosen = _CHOICES[kind]
    else:
        raise wrong("tool_choice", "must be auto, any, tool or none")
    alone = {"parallel_tool_calls": False} if value.get("disable_parallel_tool_use") else {}
    return {"tool_choice": chosen} | alone


def _thinks(value: Any) -> bool:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind not in ("enabled", "disabled", "adaptive"):
        raise wrong("thinking", "must be enabled, adaptive or disabled")
    return bool(kind != "disabled")
