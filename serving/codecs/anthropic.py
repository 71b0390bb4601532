"""Anthropic's Messages dialect: a chat into a body. Pure.

Instructions stand outside the messages there, roles alternate, results of tools are the user's, and
each answer must be bounded. Reasoning of earlier turns is left out: it belongs to whoever thought
it, and is only accepted back with its signature.
"""

from __future__ import annotations

from typing import Any

import msgspec

from models.provider import Provider
from serving.codecs import chat, coverage
from serving.records import Call, Offering

_encode = msgspec.json.Encoder().encode
Json = dict[str, Any]


def body(call: Call, offering: Offering, row: Provider, answer_max: int) -> bytes:
    """The body of `POST /messages`."""
    system, messages = _messages(call)
    most = offering.output_tokens_max or answer_max
    out: Json = {
        "model": offering.upstream_model,
        "max_tokens": min(call.max_tokens or answer_max or most, most),
        "messages": messages,
    }
    if system:
        out["system"] = system
    if words := chat.stops(call):
        out["stop_sequences"] = words
    for name in ("temperature", "top_p"):
        if name in offering.speaks and (value := chat.member(call, name)) is not None:
            out[name] = value
    _tools(call, out)
    if row.thinking is not None:
        out |= row.thinking.said(coverage.wish(call.fields))
    must_be_json, schema = chat.schema(call)
    if must_be_json:
        if schema is None:
            raise chat.unsayable("response_format", "this provider needs a schema")
        config = out.setdefault("output_config", {})
        config["format"] = {"type": "json_schema", "schema": schema}
    if call.stream:
        out["stream"] = True
    return _encode(out | row.set_fields)


def _tools(call: Call, out: Json) -> None:
    tools = chat.tools(call)
    if not tools:
        return
    out["tools"] = [_tool(tool) for tool in tools]
    choice = chat.tool_choice(call) or chat.Choice("auto")
    said: Json = {"type": {"auto": "auto", "none": "none", "required": "any"}[choice.mode]}
    if choice.name is not None:
        said = {"type": "tool", "name": choice.name}
    if chat.member(call, "parallel_tool_calls") is False and choice.mode != "none":
        said["disable_parallel_tool_use"] = True
    if len(said) > 1 or choice.mode != "auto":
        out["tool_choice"] = said


def _tool(tool: chat.Tool) -> Json:
    said: Json = {"name": tool.name, "input_schema": tool.schema}
    if tool.description:
        said["description"] = tool.description
    if tool.is_strict:
        said["strict"] = True
    return said


def _messages(call: Call) -> tuple[str, list[Json]]:
    """The instructions, and the messages with neighbours of one role made one."""
    system: list[str] = []
    out: list[Json] = []
    for message in chat.messages(call):
        role, content = message["role"], message.get("content")
        if role in ("system", "developer"):
            system.append(chat.text(content))
        elif role == "user":
            _say(out, "user", [_block(part) for part in chat.parts(content)])
        elif role == "assistant":
            _say(out, "assistant", _assistant(message))
        elif role == "tool":
            result: Json = {"type": "tool_result", "tool_use_id": message.get("tool_call_id")}
            if blocks := [_block(part) for part in chat.parts(content)]:
                result["content"] = blocks
            _say(out, "user", [result])
        else:
            raise chat.unsayable("messages", f"this provider knows no role {role[:40]!r}")
    if out and out[-1]["role"] == "assistant":
        raise chat.unsayable("messages", "this provider continues no answer that was begun")
    return "\n\n".join(filter(None, system)), out


def _say(out: list[Json], role: str, blocks: list[Json]) -> None:
    if not blocks:
        return
    if out and out[-1]["role"] == role:
        out[-1]["content"] += blocks
    else:
        out.append({"role": role, "content": blocks})


def _assistant(message: Json) -> list[Json]:
    blocks = [_block(part) for part in chat.parts(message.get("content"), only_text=True)]
    if not blocks and isinstance(message.get("refusal"), str):
        blocks = [_block(message["refusal"])]
    return blocks + [
        {"type": "tool_use", "id": made.id, "name": made.name, "input": made.arguments}
        for made in chat.tool_calls(message)
    ]


def _block(part: str | chat.Media) -> Json:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not part.mime.startswith("image/"):
        raise chat.unsayable("messages", f"this provider takes no {part.mime}")
    source = {"type": "base64", "media_type": part.mime, "data": part.base64}
    return {"type": "image", "source": source}
