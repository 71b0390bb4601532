"""Google's generateContent dialect: a chat into a body. Pure.

Turns are `user` and `model`, instructions stand apart, a tool's result names its function instead
of its call, and the signature of a thought returns beside the call it led to (`extra_content`, as
Google's own compatible endpoint has it).
"""

from __future__ import annotations

from typing import Any

import msgspec

from models.provider import Provider
from serving.codecs import chat, coverage
from serving.records import Call, Offering
from serving.unreadable import UNREADABLE

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
Json = dict[str, Any]
_CONFIG = {
    "temperature": "temperature", "top_p": "topP", "n": "candidateCount", "seed": "seed",
    "presence_penalty": "presencePenalty", "frequency_penalty": "frequencyPenalty",
}  # fmt: skip


def path(call: Call) -> str:
    """Below the account's address."""
    if call.stream:
        return "/models/{model}:streamGenerateContent?alt=sse"
    return "/models/{model}:generateContent"


def body(call: Call, offering: Offering, row: Provider, answer_max: int) -> bytes:
    """The body of `generateContent`; the model stands in the path."""
    system, contents = _contents(call)
    out: Json = {"contents": contents}
    if system:
        out["systemInstruction"] = {"parts": [{"text": system}]}
    config: Json = {}
    for name, theirs in _CONFIG.items():
        if name in offering.speaks and (value := chat.member(call, name)) is not None:
            config[theirs] = value
    if limit := call.max_tokens or answer_max:
        config["maxOutputTokens"] = limit
    if words := chat.stops(call):
        config["stopSequences"] = words
    must_be_json, schema = chat.schema(call)
    if must_be_json:
        config["responseMimeType"] = "application/json"
    if schema is not None:
        config["responseJsonSchema"] = schema
    wish = coverage.wish(call.fields)
    if row.thinking is not None and wish.needs:
        config |= row.thinking.said(wish)
        config.setdefault("thinkingConfig", {})["includeThoughts"] = True
    if config:
        out["generationConfig"] = config
    _tools(call, out)
    return _encode(out | row.set_fields)


def _tools(call: Call, out: Json) -> None:
    tools = chat.tools(call)
    if not tools:
        return
    out["tools"] = [{"functionDeclarations": [_tool(tool) for tool in tools]}]
    choice = chat.tool_choice(call)
    if choice is not None and choice.mode != "auto":
        said: Json = {"mode": "NONE" if choice.mode == "none" else "ANY"}
        if choice.name is not None:
            said["allowedFunctionNames"] = [choice.name]
        out["toolConfig"] = {"functionCallingConfig": said}


def _tool(tool: chat.Tool) -> Json:
    said: Json = {"name": tool.name, "parametersJsonSchema": tool.schema}
    if tool.description:
        said["description"] = tool.description
    return said


def _contents(call: Call) -> tuple[str, list[Json]]:
    """The instructions, and the turns with neighbours of one role made one."""
    system: list[str] = []
    out: list[Json] = []
    names: dict[str, str] = {}
    for message in chat.messages(call):
        role, content = message["role"], message.get("content")
        if role in ("system", "developer"):
            system.append(chat.text(content))
        elif role == "user":
            _say(out, "user", [_part(part) for part in chat.parts(content)])
        elif role == "assistant":
            calls = chat.tool_calls(message)
            names |= {made.id: made.name for made in calls}
            texts = [_part(part) for part in chat.parts(content, only_text=True)]
            _say(out, "model", texts + [_call(made) for made in calls])
        elif role == "tool":
            _say(out, "user", [_result(message, names)])
        else:
            raise chat.unsayable("messages", f"this provider knows no role {role[:40]!r}")
    return "\n\n".join(filter(None, system)), out


def _say(out: list[Json], role: str, parts: list[Json]) -> None:
    if not parts:
        return
    if out and out[-1]["role"] == role:
        out[-1]["parts"] += parts
    else:
        out.append({"role": role, "parts": parts})


def _part(part: str | chat.Media) -> Json:
    if isinstance(part, str):
        return {"text": part}
    return {"inlineData": {"mimeType": part.mime, "data": part.base64}}


def _call(made: chat.ToolCall) -> Json:
    said: Json = {"functionCall": {"name": made.name, "args": made.arguments}}
    if made.signature is not None:
        said["thoughtSignature"] = made.signature
    return said


def _result(message: Json, names: dict[str, str]) -> Json:
    name = names.get(str(message.get("tool_call_id")))
    if name is None:
        raise chat.unsayable("messages", "a tool's result must follow the call it answers")
    text = chat.text(message.get("content"))
    try:
        value = _decode(text)
    except UNREADABLE:
        value = None
    # The response must be an object there.
    response = value if isinstance(value, dict) else {"result": text}
    return {"functionResponse": {"name": name, "response": response}}
