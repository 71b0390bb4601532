"""Anthropic's answers as OpenAI's: whole ones, and streams event by event. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from serving.codecs import payloads
from serving.codecs.payloads import Payloads, count, listed, mapping
from serving.records import Call
from serving.wire.sse import DONE

FINISH = {
    "end_turn": "stop", "stop_sequence": "stop", "pause_turn": "stop", "max_tokens": "length",
    "model_context_window_exceeded": "length", "tool_use": "tool_calls",
    "refusal": "content_filter",
}  # fmt: skip
_encode = msgspec.json.Encoder().encode
Json = dict[str, Any]


def plain(body: bytes) -> bytes:
    """A whole answer. Raises StreamFault for an error under a 200."""
    answer = payloads.read(body)
    if answer.get("type") == "error" or "error" in answer:
        raise payloads.fault(answer)
    message: Json = {"role": "assistant", "content": None}
    texts, thoughts, calls = [], [], []
    for block in listed(answer.get("content")):
        kind = block.get("type")
        if kind == "text":
            texts.append(str(block.get("text", "")))
        elif kind == "thinking":
            thoughts.append(str(block.get("thinking", "")))
        elif kind == "tool_use":
            arguments = _encode(block.get("input") or {}).decode()
            calls.append(_call(block, arguments))
    if texts:
        message["content"] = "".join(texts)
    if any(thoughts):
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    finish = FINISH.get(str(answer.get("stop_reason")), "stop")
    return _encode(
        {
            "id": str(answer.get("id", "")),
            "object": "chat.completion",
            "created": 0,
            "model": str(answer.get("model", "")),
            "choices": [
                {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
            ],
            "usage": _usage(mapping(answer.get("usage"))),
        }
    )


def _call(block: Json, arguments: str) -> Json:
    function = {"name": str(block.get("name", "")), "arguments": arguments}
    return {"id": str(block.get("id", "")), "type": "function", "function": function}


def _usage(said: Json) -> Json:
    """`input_tokens` leaves out what was read from a cache or written to one."""
    cached = count(said.get("cache_read_input_tokens"))
    written = count(said.get("cache_creation_input_tokens"))
    thought = count(mapping(said.get("output_tokens_details")).get("thinking_tokens"))
    prompt = count(said.get("input_tokens")) + cached + written
    return payloads.usage(prompt, count(said.get("output_tokens")), cached, thought)


class Translator:
    """One stream."""

    def __init__(self, _call: Call) -> None:
        self._payloads = Payloads()
        self._head: Json = {"id": "", "object": "chat.completion.chunk", "created": 0, "model": ""}
        self._used: Json = {}
        self._calls: dict[int, int] = {}
        """Number of the tool call by the index of its block."""
        self._with_input: set[int] = set()
        """Blocks whose arguments came."""
        self._is_over = False

    def feed(self, data: bytes) -> bytes:
        """See `dialects.Translator`."""
        return b"".join(map(self._said, self._payloads.feed(data)))

    def end(self) -> bytes:
        """See `dialects.Translator`."""
        return b"".join(map(self._said, self._payloads.end()))

    def _said(self, event: Json) -> bytes:
        kind = event.get("type")
        if self._is_over:
            return b""
        if kind == "error" or "error" in event:
            return payloads.event(event)  # the cutter makes a fault of it, after what was good
        if kind == "content_block_delta":
            return self._delta(event.get("index"), mapping(event.get("delta")))
        if kind == "content_block_start":
            return self._begun(event.get("index"), mapping(event.get("content_block")))
        if kind == "content_block_stop":
            return self._closed(event.get("index"))
        if kind == "message_start":
            message = mapping(event.get("message"))
            self._used = dict(mapping(message.get("usage")))
            self._head["id"] = str(message.get("id", ""))
            self._head["model"] = str(message.get("model", ""))
            return self._chunk({"role": "assistant", "content": ""})
        if kind == "message_delta":
            # Its counts are of the whole answer so far; a null says nothing new.
            news = mapping(event.get("usage")).items()
            self._used |= {name: value for name, value in news if value is not None}
            reason = mapping(event.get("delta")).get("stop_reason")
            return self._chunk({}, FINISH.get(str(reason), "stop")) if reason else b""
        if kind == "message_stop":
            self._is_over = True
            usage = {**self._head, "choices": [], "usage": _usage(self._used)}
            return payloads.event(usage) + DONE
        return b""

    def _begun(self, index: Any, block: Json) -> bytes:
        kind = block.get("type")
        if kind == "text" and block.get("text"):
            return self._chunk({"content": str(block["text"])})
        if kind == "thinking" and block.get("thinking"):
            return self._chunk({"reasoning_content": str(block["thinking"])})
        if kind != "tool_use" or not isinstance(index, int):
            return b""
        number = self._calls[index] = len(self._calls)
        arguments = ""
        if block.get("input"):
            arguments = _encode(block["input"]).decode()
            self._with_input.add(index)
        return self._chunk({"tool_calls": [{"index": number, **_call(block, arguments)}]})

    def _delta(self, index: Any, delta: Json) -> bytes:
        kind = delta.get("type")
        if kind == "text_delta":
            return self._chunk({"content": str(delta.get("text", ""))})
        if kind == "thinking_delta":
            return self._chunk({"reasoning_content": str(delta.get("thinking", ""))})
        if kind == "input_json_delta" and index in self._calls and delta.get("partial_json"):
            self._with_input.add(index)
            return self._arguments(index, str(delta["partial_json"]))
        return b""

    def _closed(self, index: Any) -> bytes:
        """A call without arguments has an empty object of them, as a plain answer has."""
        if index in self._calls and index not in self._with_input:
            self._with_input.add(index)
            return self._arguments(index, "{}")
        return b""

    def _arguments(self, index: int, text: str) -> bytes:
        call = {"index": self._calls[index], "function": {"arguments": text}}
        return self._chunk({"tool_calls": [call]})

    def _chunk(self, delta: Json, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return payloads.event({**self._head, "choices": [choice]})
