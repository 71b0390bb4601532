"""A client that costs little: one kept-alive connection, one request at a time, no HTTP library.

Understands answers with a content length and chunked ones, strictly: bad framing is an error, not
a guess. Knows nothing of what the bytes mean.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import NamedTuple, cast
from urllib.parse import urlsplit

_HEAD_END = b"\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
_STATUS_AT = len(b"HTTP/1.1 ")
PATH = "/v1/chat/completions"
PROMPT = " ".join(["hello"] * 12)


class Broken(Exception):  # noqa: N818 - a state of the connection
    """The connection ended, or what came is not HTTP, before the answer was whole."""


class Target(NamedTuple):
    """Where requests go. `url` is the base, without a path."""

    url: str
    key: str
    model: str

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port


class Answer(NamedTuple):
    """One answer. Times in seconds since the request was written."""

    status: int
    body: bytes
    """Without HTTP framing."""
    head_s: float
    """To the end of the head."""
    first_s: float
    """To the first byte of the body."""
    whole_s: float
    gap_s: float
    """The longest silence after that first byte."""


def request(target: Target, *, is_stream: bool, prompt: str = PROMPT) -> bytes:
    """A chat request, ready to be written; its prompt is sent as UTF-8."""
    fields: dict[str, object] = {
        "model": target.model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": 64,
    }
    if is_stream:
        fields["stream"] = True
    body = json.dumps(fields, ensure_ascii=False).encode()
    host, port = target.address
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: {host}:{port}\r\nauthorization: Bearer {target.key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def unchunked(data: bytes) -> bytes | None:
    """The body of a chunked answer; None while it is not whole. Raises ValueError for no chunks."""
    parts: list[bytes] = []
    at = 0
    while True:
        line = data.find(b"\r\n", at)
        if line < 0:
            return None
        size = int(data[at:line], 16)
        start = line + 2
        if len(data) < start + size + 2:
            return None
        if data[start + size : start + size + 2] != b"\r\n":
            raise ValueError("a chunk does not end where it says")
        if size == 0:
            if len(data) > start + 2:
                raise ValueError("bytes after the last chunk")
            return b"".join(parts)
        parts.append(data[start : start + size])
        at = start + size + 2


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport = None  # type: ignore[assignment]
        self._waiter: asyncio.Future[Answer] | None = None
        self._reset()

    def _reset(self) -> None:
        self._buffer = bytearray()
        self._body_at = 0
        self._length = -1
        self._sent_s = time.perf_counter()
        self._head_s = self._first_s = self._last_s = self._gap_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    async def ask(self, data: bytes) -> Answer:
        """Send a request and wait for the whole answer. Raises Broken."""
        self._reset()
        self._waiter = self._loop.create_future()
        self._transport.write(data)
        return await self._waiter

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            body = self._take()
        except (ValueError, IndexError) as error:
            self._fail(f"not HTTP: {error}: {bytes(self._buffer[:60])!r}")
            return
        if body is not None and self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            if not waiter.done():
                waiter.set_result(self._answer(body))

    def _answer(self, body: bytes) -> Answer:
        status = int(self._buffer[_STATUS_AT : _STATUS_AT + 3])
        whole_s = time.perf_counter() - self._sent_s
        return Answer(status, body, self._head_s, self._first_s, whole_s, self._gap_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection closed: {exc or 'end of file'}")

    def _take(self) -> bytes | None:
        """The body once it is whole."""
        buffer = self._buffer
        if not self._body_at:
            end = buffer.find(_HEAD_END)
            if end < 0:
                return None
            self._body_at = end + len(_HEAD_END)
            self._head_s = time.perf_counter() - self._sent_s
            head = bytes(buffer[:end]).lower()
            if b"transfer-encoding: chunked" not in head:
                self._length = int(head.split(b"content-length:")[1].split(b"\r\n", 1)[0])
        if len(buffer) == self._body_at and self._length:
            return None
        self._mark()
        if self._length >= 0:
            stop = self._body_at + self._length
            return bytes(buffer[self._body_at :]) if len(buffer) >= stop else None
        if not buffer.endswith(_LAST_CHUNK):
            return None
        return unchunked(bytes(buffer[self._body_at :]))

    def _mark(self) -> None:
        """Part of the body came."""
        now_s = time.perf_counter() - self._sent_s
        if not self._first_s:
            self._first_s = self._last_s = now_s
        self._gap_s = max(self._gap_s, now_s - self._last_s)
        self._last_s = now_s

    def _fail(self, reason: str) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(Broken(reason))


async def connect(target: Target) -> Client:
    """A new connection. Raises OSError."""
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(lambda: Client(loop), *target.address)
    return client
