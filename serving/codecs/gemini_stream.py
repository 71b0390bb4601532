"""Google's answers as OpenAI's: whole ones, and streams event by event. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from serving.codecs import payloads
from serving.codecs.payloads import Payloads, count, listed, mapping
from serving.records import Call
from serving.wire.sse import DONE

BLOCKED = frozenset({
    "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "IMAGE_SAFETY",
})  # fmt: skip
CANDIDATES_MAX = 128
_encode = msgspec.json.Encoder().encode
Json = dict[str, Any]


class _Heard:
    """What one candidate said so far."""

    __slots__ = ("calls", "has_finished")

    def __init__(self) -> None:
        self.calls = 0
        self.has_finished = False


def plain(body: bytes) -> bytes:
    """A whole answer. Raises StreamFault for an error or a blocked prompt under a 200."""
    answer = payloads.read(body)
    if error := _error(answer):
        raise payloads.fault({"error": error})
    choices = []
    for position, candidate in enumerate(listed(answer.get("candidates"))[:CANDIDATES_MAX]):
        heard = _Heard()
        message: Json = {"role": "assistant", "content": None, **_said(candidate, heard)}
        for call in message.get("tool_calls", ()):
            del call["index"]
        finish = _finish(candidate, heard) or "stop"
        index = _index(candidate, position)
        choices.append(
            {"index": index, "message": message, "logprobs": None, "finish_reason": finish}
        )
    head = _head(answer, "chat.completion")
    return _encode({**head, "choices": choices, "usage": _usage(answer)})


def _error(answer: Json) -> Json | None:
    """An error, or a prompt that was blocked: that comes with status 200 and no candidate."""
    if isinstance(answer.get("error"), dict):
        return mapping(answer["error"])
    reason = mapping(answer.get("promptFeedback")).get("blockReason")
    if reason and not answer.get("candidates"):
        return {"code": "content_filter", "message": f"the prompt was blocked ({reason})"}
    return None


def _head(answer: Json, kind: str) -> Json:
    return {
        "id": str(answer.get("responseId", "")),
        "object": kind,
        "created": 0,
        "model": str(answer.get("modelVersion", "")),
    }


def _index(candidate: Json, position: int) -> int:
    index = candidate.get("index")
    return index if type(index) is int and 0 <= index < CANDIDATES_MAX else position


def _said(candidate: Json, heard: _Heard) -> Json:
    """Its parts as a message's or a delta's members."""
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[Json] = []
    for part in listed(mapping(candidate.get("content")).get("parts")):
        if isinstance(part.get("text"), str):
            (thoughts if part.get("thought") else texts).append(part["text"])
        elif isinstance(part.get("functionCall"), dict):
            calls.append(_call(part, heard.calls))
            heard.calls += 1
    said: Json = {}
    if texts:
        said["content"] = "".join(texts)
    if thoughts:
        said["reasoning_content"] = "".join(thoughts)
    if calls:
        said["tool_calls"] = calls
    return said


def _call(part: Json, number: int) -> Json:
    made = mapping(part["functionCall"])
    arguments = _encode(made.get("args") or {}).decode()
    call: Json = {
        "index": number,
        "id": str(made.get("id") or f"call_{number}"),
        "type": "function",
        "function": {"name": str(made.get("name", "")), "arguments": arguments},
    }
    if isinstance(part.get("thoughtSignature"), str):
        call["extra_content"] = {"google": {"thought_signature": part["thoughtSignature"]}}
    return call


def _finish(candidate: Json, heard: _Heard) -> str | None:
    reason = candidate.get("finishReason")
    if not reason:
        return None
    if reason == "MAX_TOKENS":
        return "length"
    if reason in BLOCKED:
        return "content_filter"
    return "tool_calls" if heard.calls else "stop"


def _usage(answer: Json) -> Json:
    """Thoughts are billed as output, and are not part of the candidates' count."""
    said = mapping(answer.get("usageMetadata"))
    thought = count(said.get("thoughtsTokenCount"))
    prompt = count(said.get("promptTokenCount")) + count(said.get("toolUsePromptTokenCount"))
    completion = count(said.get("candidatesTokenCount")) + thought
    return payloads.usage(prompt, completion, count(said.get("cachedContentTokenCount")), thought)


class Translator:
    """One stream. There is no end marker there: the end of the connection is the end."""

    def __init__(self, call: Call) -> None:
        self._payloads = Payloads()
        self._heard: dict[int, _Heard] = {}
        self._choices = call.n
        self._last: Json = {}

    def feed(self, data: bytes) -> bytes:
        """See `dialects.Translator`."""
        return b"".join(map(self._event, self._payloads.feed(data)))

    def end(self) -> bytes:
        """See `dialects.Translator`."""
        said = b"".join(map(self._event, self._payloads.end()))
        ended = sum(heard.has_finished for heard in self._heard.values())
        if ended < self._choices:
            return said
        head = _head(self._last, "chat.completion.chunk")
        return said + payloads.event({**head, "choices": [], "usage": _usage(self._last)}) + DONE

    def _event(self, event: Json) -> bytes:
        if error := _error(event):
            return payloads.event({"error": error})
        if "usageMetadata" in event:
            self._last = event
        choices = []
        for position, candidate in enumerate(listed(event.get("candidates"))[:CANDIDATES_MAX]):
            index = _index(candidate, position)
            is_new = index not in self._heard
            heard = self._heard.setdefault(index, _Heard())
            delta = _said(candidate, heard)
            if is_new:
                delta = {"role": "assistant", **delta}
            finish = _finish(candidate, heard)
            heard.has_finished = heard.has_finished or finish is not None
            choices.append(
                {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
            )
        if not choices:
            return b""
        return payloads.event({**_head(event, "chat.completion.chunk"), "choices": choices})
