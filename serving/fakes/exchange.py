"""One request at the fake provider: what scenarios may do with the connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from aiohttp import web

from serving.fakes.provider_answer import Answer, Json
from serving.fakes.refusals import Refusal
from serving.fakes.server import reset

_FLUSH_S = 0.02
"""Time for the last bytes to leave before a reset, which discards what is unsent."""


@dataclass(slots=True)
class Timing:
    """How fast the provider answers."""

    ttft_ms: float = 0.0
    itl_ms: float = 0.0


@dataclass(slots=True)
class Record:
    """One request as a test sees it afterwards."""

    method: str
    path: str
    headers: dict[str, str]
    authorization: str
    """right, wrong or absent; the key itself is not kept."""
    body: Any
    scenario: str = ""
    outcome: str = "open"
    """open, done, reset (by us) or disconnected (by the client)."""
    events: int = 0
    """Events or bodies sent."""


@dataclass(slots=True)
class Exchange:
    """A request with the right answer to it, and the ways to send, spoil or withhold that."""

    request: web.Request
    body: Json
    answer: Answer
    record: Record
    timing: Timing
    argument: int | None = None
    """The number after the scenario's name, as in `unavailable_then_ok:3`."""
    visits: int = 0
    """Earlier requests that met this scenario."""
    refusals: tuple[Refusal, ...] = ()
    """Of the row that is played."""
    always_usage: bool = False
    """Its streams tell usage unasked."""
    response: web.StreamResponse = field(default_factory=web.StreamResponse)
    """The answer sent in pieces; `json` makes another."""

    @property
    def wants_stream(self) -> bool:
        """Whether the client asked for SSE."""
        return bool(self.body.get("stream"))

    @property
    def wants_usage(self) -> bool:
        """Whether the stream is to tell usage."""
        options = self.body.get("stream_options")
        is_asked = isinstance(options, dict) and bool(options.get("include_usage"))
        return is_asked or self.always_usage

    def json(self, status: int, payload: Json, **headers: str) -> web.Response:
        """A whole JSON answer."""
        self.record.events += 1
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        text = json.dumps(payload, ensure_ascii=False)
        return web.json_response(text=text, status=status, headers=named)

    async def plain(self) -> web.Response:
        """The right answer, not streamed."""
        await self.first_token()
        return self.json(200, self.answer.plain())

    async def first_token(self) -> None:
        """Wait as long as this provider takes for its first token."""
        await asyncio.sleep(self.timing.ttft_ms / 1e3)

    async def open(self, content_type: str = "text/event-stream", **headers: str) -> None:
        """Send status 200 and the head of a chunked answer."""
        for name, value in headers.items():
            self.response.headers[name.replace("_", "-")] = value
        self.response.content_type = content_type
        self.response.enable_chunked_encoding()
        await self.response.prepare(self.request)

    async def write(self, data: bytes) -> None:
        """Send bytes as one HTTP chunk."""
        await self.response.write(data)

    async def event(self, payload: Json) -> None:
        """Send one SSE event."""
        self.record.events += 1
        await self.write(encode_event(payload))

    async def events(self, payloads: Iterable[Json]) -> None:
        """Send events at the provider's pace."""
        await self.first_token()
        for number, payload in enumerate(payloads):
            if number and self.timing.itl_ms:
                await asyncio.sleep(self.timing.itl_ms / 1e3)
            await self.event(payload)

    async def finish(self, *, usage: bool = True, done: bool = True) -> web.StreamResponse:
        """End a stream: usage if it was asked for, the end mark, the end of the body."""
        if usage and self.wants_usage:
            await self.event(self.answer.usage_chunk())
        if done:
            await self.write(b"data: [DONE]\n\n")
        return self.response

    async def half_a_body(self) -> None:
        """For a request that is not streamed: promise a body and send half of it."""
        text = json.dumps(self.answer.plain()).encode()
        self.response.content_type = "application/json"
        self.response.content_length = len(text)
        await self.response.prepare(self.request)
        await self.response.write(text[: len(text) // 2])

    async def reset(self) -> NoReturn:
        """Cut the connection by a TCP reset after what was written so far has left."""
        self.record.outcome = "reset"
        await asyncio.sleep(_FLUSH_S)
        self._transport(reset)
        await self.stall()

    async def hang_up(self) -> NoReturn:
        """Close the connection in the middle of a body."""
        self.record.outcome = "reset"
        self._transport(lambda transport: transport.close())
        await self.stall()

    async def stall(self) -> NoReturn:
        """Send nothing more until the client goes away or the provider is closed."""
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nobody sets this future")

    def write_raw(self, data: bytes) -> None:
        """Send bytes past the HTTP framing."""
        self._transport(lambda transport: transport.write(data))

    def _transport(self, act: Callable[[asyncio.Transport], None]) -> None:
        if self.request.transport is not None:
            act(self.request.transport)


def encode_event(payload: Json) -> bytes:
    """One SSE event."""
    return b"data: " + json.dumps(payload, ensure_ascii=False).encode() + b"\n\n"
