"""A backend without an engine: repeats the prompt's bytes. For tests of what stands around it."""

from __future__ import annotations

import asyncio

import msgspec

from serving.backends.base import BlockStream
from serving.errors import Kind, UpstreamError
from serving.records import Block, Call, Target, Ticket, Usage
from serving.wire import sse


class EchoBackend:
    """Answers each call with `words`, `gap_s` apart."""

    def __init__(self, words: tuple[str, ...] = ("one", " two", " three"), gap_s: float = 0.0):
        self._words = words
        self._gap_s = gap_s

    def stream(self, call: Call, target: Target, ticket: Ticket, deadline_s: float) -> BlockStream:  # noqa: ARG002
        """See `Backend.stream`."""
        return _EchoStream(call, self._words, self._gap_s, deadline_s)

    async def close(self) -> None:
        """See `Backend.close`."""


class _EchoStream:
    def __init__(self, call: Call, words: tuple[str, ...], gap_s: float, deadline_s: float):
        self._call = call
        self._words = words
        self._gap_s = gap_s
        self._deadline_s = deadline_s
        self._next = 0
        self._is_over = False

    def __aiter__(self) -> _EchoStream:
        return self

    async def __anext__(self) -> Block:
        if self._is_over:
            raise StopAsyncIteration
        loop = asyncio.get_running_loop()
        if loop.time() + self._gap_s > self._deadline_s:
            self._is_over = True
            raise UpstreamError(Kind.TIMEOUT, "the deadline passed")
        await asyncio.sleep(self._gap_s)
        usage = Usage(self._call.prompt_tokens, len(self._words))
        if not self._call.stream:
            self._is_over = True
            return Block(_answer("".join(self._words), usage), 1, usage, "stop", opens=True)
        return self._event(usage)

    def _event(self, usage: Usage) -> Block:
        at, self._next = self._next, self._next + 1
        if at < len(self._words):
            event = {"index": 0, "delta": {"content": self._words[at]}, "finish_reason": None}
            return Block(_line({"choices": [event]}), 1, opens=at == 0)
        self._is_over = True
        last = {"index": 0, "delta": {}, "finish_reason": "stop"}
        data = _line({"choices": [last]})
        if self._call.wants_usage:
            counts = {"prompt_tokens": usage.prompt_tokens,
                      "completion_tokens": usage.completion_tokens}  # fmt: skip
            data += _line({"choices": [], "usage": counts})
        return Block(data + sse.DONE, 2, usage, "stop", opens=not self._words, ends=True)

    def abort(self) -> None:
        """See `BlockStream.abort`."""
        self._is_over = True


def _answer(text: str, usage: Usage) -> bytes:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    counts = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
    return msgspec.json.encode({"choices": [choice], "usage": counts})


def _line(event: object) -> bytes:
    return b"data: " + msgspec.json.encode(event) + b"\n\n"
