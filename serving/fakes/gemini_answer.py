"""The fake provider in Google's generateContent dialect: its answers and its events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from serving.fakes.exchange import Exchange
from serving.fakes.provider_answer import REASONING_TOKENS, TOOL_ARGUMENTS, Answer, Json, Kind

_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}
SIGNATURE = "dGhvdWdodA=="


class GeminiAnswer(Answer):
    """One request's right answer as candidates with parts."""

    def __init__(self, body: Mapping[str, Any], model: str, natural_tokens: int) -> None:
        config = body.get("generationConfig") or {}
        said: Json = {"messages": _messages(body)}
        if "maxOutputTokens" in config:
            said["max_tokens"] = config["maxOutputTokens"]
        super().__init__("chat", said, model, natural_tokens)
        self.kind: Kind = _kind(body, config)

    def counted(self) -> Json:
        """Usage: thoughts are not part of the candidates' tokens."""
        thought = REASONING_TOKENS if self.kind == "reasoning" else 0
        return {
            "promptTokenCount": self.prompt_tokens,
            "cachedContentTokenCount": self.prompt_tokens // 4,
            "candidatesTokenCount": self.tokens,
            "thoughtsTokenCount": thought,
            "totalTokenCount": self.prompt_tokens + self.tokens + thought,
        }

    def plain(self) -> Json:
        """The whole answer as one object."""
        text: Json = {"text": "".join(self.words)}
        parts = [self._call()] if self.kind == "tools" else [text]
        if self.kind == "reasoning":
            parts.insert(0, {"text": "".join(self.thoughts), "thought": True})
        return self._event(parts, _FINISH[self.finish])

    def chunks(self) -> list[Json]:
        """The whole stream."""
        words: list[Json] = [{"text": word} for word in self.words]
        parts = [self._call()] if self.kind == "tools" else words
        if self.kind == "reasoning":
            parts = [{"text": word, "thought": True} for word in self.thoughts] + parts
        events = [self._event([part], None) for part in parts]
        return [*events, self._event([{"text": ""}], _FINISH[self.finish])]

    def chunk(self, delta: Json, finish: str | None = None) -> Json:
        """One word, or the end."""
        parts = [{"text": delta.get("content", "")}]
        return self._event(parts, _FINISH.get(finish or "", "STOP") if finish else None)

    def _call(self) -> Json:
        made = {"name": "weather", "args": json.loads("".join(TOOL_ARGUMENTS))}
        return {"functionCall": made, "thoughtSignature": SIGNATURE}

    def _event(self, parts: list[Json], finish: str | None) -> Json:
        candidate: Json = {"content": {"parts": parts, "role": "model"}, "index": 0}
        if finish is not None:
            candidate["finishReason"] = finish
        return {
            "candidates": [candidate],
            "usageMetadata": self.counted(),
            "modelVersion": self.model,
            "responseId": f"fake{self.seed:016x}",
        }


def _messages(body: Mapping[str, Any]) -> list[Json]:
    """The turns as the parent counts them."""
    turns = [*([body["systemInstruction"]] if "systemInstruction" in body else []),
             *(body.get("contents") or [])]  # fmt: skip
    texts = [[str(p.get("text", "")) for p in turn.get("parts", ())] for turn in turns]
    return [{"role": "user", "content": "".join(text)} for text in texts]


def _kind(body: Mapping[str, Any], config: Mapping[str, Any]) -> Kind:
    last = (body.get("contents") or [{}])[-1].get("parts") or []
    is_answered = any("functionResponse" in part for part in last)
    calling = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    if body.get("tools") and calling.get("mode") != "NONE" and not is_answered:
        return "tools"
    return "reasoning" if (config.get("thinkingConfig") or {}).get("includeThoughts") else "text"


class GeminiExchange(Exchange):
    """Lines end in CRLF there, and a stream in the end of the connection."""

    async def event(self, payload: Json) -> None:
        """Send one event."""
        self.record.events += 1
        text = json.dumps(payload, ensure_ascii=False)
        await self.write(f"data: {text}\r\n\r\n".encode())

    async def finish(self, *, usage: bool = True, done: bool = True) -> web.StreamResponse:  # noqa: ARG002
        """End a stream."""
        return self.response

    @property
    def wants_stream(self) -> bool:
        """The path says it."""
        return ":stream" in self.request.path
