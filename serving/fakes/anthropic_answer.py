"""The fake provider in Anthropic's Messages dialect: its answers and its events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from aiohttp import web

from serving.fakes.exchange import Exchange
from serving.fakes.provider_answer import REASONING_TOKENS, TOOL_ARGUMENTS, Answer, Json, Kind

_STOP = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}
SIGNATURE = "c2lnbmF0dXJl"


class AnthropicAnswer(Answer):
    """One request's right answer as messages, content blocks and their events."""

    def __init__(self, body: Mapping[str, Any], model: str, natural_tokens: int) -> None:
        super().__init__("chat", body, model, natural_tokens)
        self.kind: Kind = _kind(body)

    def counted(self) -> Json:
        """Usage: what was read from the cache is not part of `input_tokens`."""
        cached = self.prompt_tokens // 4
        thought = REASONING_TOKENS if self.kind == "reasoning" else 0
        return {
            "input_tokens": self.prompt_tokens - cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached,
            "output_tokens": self.tokens + thought,
            "output_tokens_details": {"thinking_tokens": thought},
        }

    def plain(self) -> Json:
        """The whole answer as one object."""
        return self._enveloped(self._blocks(), self._stop(), self.counted())

    def chunks(self) -> list[Json]:
        """The whole stream but its last event."""
        started = self.counted() | {"output_tokens": 1, "output_tokens_details": None}
        message = self._enveloped([], None, started)
        events: list[Json] = [{"type": "message_start", "message": message}]
        for index, block in enumerate(self._blocks()):
            empty, deltas = _opened(block, self)
            events.append({"type": "content_block_start", "index": index, "content_block": empty})
            events += [
                {"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas
            ]
            events.append({"type": "content_block_stop", "index": index})
        ended = {"stop_reason": self._stop(), "stop_sequence": None}
        used = {name: count for name, count in self.counted().items() if "creation" not in name}
        return [*events, {"type": "message_delta", "delta": ended, "usage": used}]

    def chunk(self, delta: Json, finish: str | None = None) -> Json:
        """One word, or the end."""
        if finish is not None:
            ended = {"stop_reason": _STOP.get(finish, "end_turn"), "stop_sequence": None}
            return {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 3}}
        said = {"type": "text_delta", "text": delta.get("content", "")}
        return {"type": "content_block_delta", "index": 0, "delta": said}

    def _stop(self) -> str:
        return "tool_use" if self.kind == "tools" else _STOP[self.finish]

    def _blocks(self) -> list[Json]:
        if self.kind == "tools":
            call = {"id": f"toolu_{self.seed:016x}", "name": "weather"}
            return [{"type": "tool_use", **call, "input": json.loads("".join(TOOL_ARGUMENTS))}]
        text = {"type": "text", "text": "".join(self.words)}
        if self.kind != "reasoning":
            return [text]
        thought = "".join(self.thoughts)
        return [{"type": "thinking", "thinking": thought, "signature": SIGNATURE}, text]

    def _enveloped(self, blocks: list[Json], stop: str | None, usage: Json) -> Json:
        return {
            "id": f"msg_{self.seed:016x}",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": blocks,
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": usage,
        }


def _opened(block: Json, answer: AnthropicAnswer) -> tuple[Json, Iterator[Json]]:
    """A block as it begins, and the deltas that fill it."""
    if block["type"] == "text":
        words = ({"type": "text_delta", "text": word} for word in answer.words)
        return {**block, "text": ""}, words
    if block["type"] == "tool_use":
        parts = ({"type": "input_json_delta", "partial_json": part} for part in TOOL_ARGUMENTS)
        return {**block, "input": {}}, parts
    return {**block, "thinking": "", "signature": ""}, _thought(answer)


def _thought(answer: AnthropicAnswer) -> Iterator[Json]:
    yield from ({"type": "thinking_delta", "thinking": word} for word in answer.thoughts)
    yield {"type": "signature_delta", "signature": SIGNATURE}


def _kind(body: Mapping[str, Any]) -> Kind:
    last = (body.get("messages") or [{}])[-1].get("content")
    blocks = last if isinstance(last, list) else []
    is_answered = any(block.get("type") == "tool_result" for block in blocks)
    choice = (body.get("tool_choice") or {}).get("type")
    if body.get("tools") and choice != "none" and not is_answered:
        return "tools"
    thinking = (body.get("thinking") or {}).get("type")
    has_effort = bool((body.get("output_config") or {}).get("effort"))
    return "reasoning" if thinking in ("enabled", "adaptive") or has_effort else "text"


class AnthropicExchange(Exchange):
    """Events are named there, pings come between them, and the end is an event."""

    async def event(self, payload: Json) -> None:
        """Send one event."""
        if "error" in payload and "type" not in payload:
            told = {"type": "api_error", "message": payload["error"]["message"]}
            payload = {"type": "error", "error": told}
        self.record.events += 1
        text = json.dumps(payload, ensure_ascii=False)
        await self.write(f"event: {payload['type']}\ndata: {text}\n\n".encode())
        if payload["type"] == "message_start":
            await self.write(b'event: ping\ndata: {"type": "ping"}\n\n')

    async def finish(self, *, usage: bool = True, done: bool = True) -> web.StreamResponse:  # noqa: ARG002
        """End a stream."""
        if done:
            await self.event({"type": "message_stop"})
        return self.response
