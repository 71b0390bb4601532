"""One client connection of the hot wire: HTTP/1.1 in, one request at a time.

Refuses, before any work: oversized heads and bodies, ambiguous framing, duplicate framing or
credential headers, slow senders. Pipelined requests are never processed: the first is answered and
the connection closed. Decides nothing about inference.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, cast

import httptools

from serving import errors
from serving.errors import BallastError
from serving.wire.lines import JSON, SSE, STATUS
from serving.wire.request import Request, Sink

if TYPE_CHECKING:
    from serving.wire.server import Server

_UPGRADE = frozenset({b"upgrade", b"connection", b"http2-settings"})
_SINGLE = frozenset({b"host", b"content-length", b"transfer-encoding", b"authorization"})
_VERSIONS = frozenset({"1.0", "1.1"})
_LINGER_S = 2.0
_NEVER_S = float("inf")
_log = logging.getLogger(__name__)
_FREE_BYTES = 32 << 10
"""A body beyond this is read only for a known caller, and only while there is room for it."""


_NOTHING = Request(b"", b"", {}, b"")
"""Before a head has come; a whole request has one of its own."""
App = Callable[[Request, "Connection"], None]


class Connection(asyncio.Protocol):
    """One client connection and the answer under way on it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._limits = server.limits
        self._loop = server.loop
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport = None  # type: ignore[assignment]
        self._task: asyncio.Task[object] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._is_paused = False
        self._is_lingering = False
        self._is_feeding = False
        self._is_answered = False
        self._stream_head = b""
        self._free_bytes = min(_FREE_BYTES, self._limits.body_bytes_max)
        self._room_bytes = self._free_bytes
        self._owner = ""
        self._fresh()
        self.is_busy = False
        self.is_closed = False
        self.deadline_s = self._loop.time() + self._limits.idle_s

    def _fresh(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []
        self._size = 0
        self._head_bytes = 0
        self._barren_bytes = 0
        self._fault = ""
        self._reason = ""
        if self._room_bytes != self._free_bytes:
            self._give_room()
        self._request = _NOTHING
        self._sink: Sink | None = None
        self._has_head = False
        self._is_head_method = False
        self._keep_alive = True
        self._is_chunked = False
        self._began = False

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._server.connections) >= self._limits.connections_max:
            self._server.on_refused("too_many_connections")
        elif not self._server.is_draining:
            self._server.connections.add(self)
            return
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - protocol
        self.is_closed = True
        self._give_room()
        if self._sink is not None:
            self._sink.end(is_whole=False)
        self._server.gone(self)
        self._resume()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._is_paused = True
        self.deadline_s = self._loop.time() + self._limits.write_stall_s

    def resume_writing(self) -> None:
        if not self._is_lingering and not self._transport.is_closing():
            idle_s = self._loop.time() + self._limits.idle_s
            self.deadline_s = _NEVER_S if self.is_busy else idle_s
        self._resume()

    def _resume(self) -> None:
        self._is_paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self.is_busy:
            # A second request before the first answer: never parsed, so it cannot be smuggled.
            self._keep_alive = False
            return
        if not self._has_head:
            if not self._head_bytes:
                self.deadline_s = self._loop.time() + self._limits.header_wait_s
            self._head_bytes += len(data)
        size = self._size
        self._is_feeding = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline_upgrade(data[offer.args[0] :])
        except httptools.HttpParserError as error:
            if not self.is_busy:
                self._refuse(self._fault or "invalid_request", self._reason or f"not HTTP: {error}")
        else:
            if not self.is_busy:
                self._check_framing(len(data) if size == self._size else 0)
        self._is_feeding = False
        if self._is_answered:
            self._next()

    def _check_framing(self, barren_bytes: int) -> None:
        """Bound what is neither body nor a finished head: endless heads, chunk frills, trailers."""
        self._barren_bytes = self._barren_bytes + barren_bytes if self._has_head else 0
        in_head = 0 if self._has_head else self._head_bytes
        if max(in_head, self._barren_bytes) > self._limits.header_bytes_max:
            self._refuse("headers_too_large", "the request's headers exceed the limit")

    def _decline_upgrade(self, rest: bytes) -> None:
        """`Upgrade: h2c` is an offer we need not take: read the request again without it."""
        if self.is_busy:
            return
        method, headers = self._parser.get_method(), self._headers
        if method == b"CONNECT" or b"upgrade" not in headers:
            self._refuse("invalid_request", "this is no proxy")
            return
        kept = (f for f in headers.items() if f[0] not in _UPGRADE)
        lines = b"".join(b"%b: %b\r\n" % field for field in kept)
        self._parser = httptools.HttpRequestParser(self)
        head = b"%b %b HTTP/1.1\r\n%b\r\n" % (method, self._url, lines)
        self._fresh()
        self.data_received(head + rest)

    # -- httptools callbacks

    def on_message_begin(self) -> None:
        if self._began:
            self._keep_alive = False
        self._began = True

    def on_url(self, url: bytes) -> None:
        if not self.is_busy:
            self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._has_head or self.is_busy:
            return  # a trailer is not a header
        name = name.lower()
        headers = self._headers
        value = value.strip()
        if name in headers:
            if name in _SINGLE:
                self._fault = "invalid_request"
            value = headers[name] + b", " + value
        headers[name] = value
        self._size += 1
        if self._size > self._limits.header_count_max:
            self._fault = "headers_too_large"

    def on_headers_complete(self) -> None:
        if self.is_busy:
            return
        self._has_head = True
        headers, parser = self._headers, self._parser
        self._size = 0
        version = parser.get_http_version()
        if version not in _VERSIONS or (b"host" not in headers and version == "1.1"):
            self._fault = "invalid_request"
        self._keep_alive = self._keep_alive and parser.should_keep_alive() and version == "1.1"
        self._is_chunked = version == "1.1"
        if self._head_bytes > self._limits.header_bytes_max:
            size = len(self._url) + sum(len(k) + len(v) + 4 for k, v in headers.items())
            if size > self._limits.header_bytes_max:
                self._fault = "headers_too_large"
        is_offer = parser.should_upgrade()  # then this head is read again, see `_decline_upgrade`
        if not self._fault and not is_offer:
            self._open_sink()
        length = headers.get(b"content-length")
        if length is not None:
            if b"transfer-encoding" in headers:
                self._fault = "invalid_request"
            elif not is_offer and (len(length) > 15 or int(length) > self._free_bytes):
                self._vet(int(length[:16]))
        if self._fault:
            raise ValueError(self._fault)
        sink, wait_s = self._sink, self._limits.body_wait_s
        self.deadline_s = self._loop.time() + (wait_s if sink is None else sink.wait_s)
        if headers.get(b"expect", b"").lower() == b"100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        if self.is_busy:
            return
        self._size += len(data)
        if self._sink is not None:
            if self._size > self._sink.bytes_max:
                self._vet(self._size)
                raise ValueError(self._fault)
            self._sink.feed(data)
            return
        if self._size > self._room_bytes:
            # Room is taken as bytes come, by doubling: an announcement alone takes none.
            self._make_room()
            if self._fault:
                raise ValueError(self._fault)
        self._parts.append(data)

    def _open_sink(self) -> None:
        """Some bodies go where they are to stay as they come."""
        self._request = Request(self._parser.get_method(), self._url, self._headers, b"")
        try:
            self._sink = self._server.sink(self._request, self._transport)
        except BallastError as error:
            self._reject(error.code, error.message)

    def _vet(self, size: int) -> None:
        """Say at once why a large body would be refused anyway."""
        sink = self._sink
        most = self._limits.body_bytes_max if sink is None else sink.bytes_max
        if size > most:
            self._reject("body_too_large", f"the body exceeds {most} bytes")
        elif sink is None and (error := self._server.vet(self._headers)) is not None:
            self._reject(error.code, error.message)

    def _make_room(self) -> None:
        """Take room for the body that came and as much again, or say why there is none."""
        size = min(self._size * 2, self._limits.body_bytes_max)
        is_first = self._room_bytes == self._free_bytes
        if self._size > size or is_first:
            self._vet(self._size)
        if is_first and not self._fault:
            self._owner = self._server.owner(self._headers)
        if self._fault:
            return
        if code := self._server.room.take(size - self._room_bytes, self._owner):
            self._reject(code, "too many large requests at once; send it again")
        else:
            self._room_bytes = size

    def _give_room(self) -> None:
        self._server.room.take(self._free_bytes - self._room_bytes, self._owner)
        self._room_bytes = self._free_bytes

    def _reject(self, code: str, reason: str) -> None:
        self._fault, self._reason = code, reason

    def on_message_complete(self) -> None:
        if self.is_busy:
            self._keep_alive = False
            return
        if self._parser.should_upgrade():
            return  # read again without the offer, see `_decline_upgrade`
        parts, request = self._parts, self._request
        request.body = parts[0] if len(parts) == 1 else b"".join(parts)
        self.is_busy = True
        self.deadline_s = _NEVER_S
        self._is_head_method = request.method == b"HEAD"
        if self._sink is not None:
            request.sink = self._sink
            self._sink.end(is_whole=True)
        self._server.app(request, self)

    # -- answering

    def run(self, work: Coroutine[Any, Any, object]) -> None:
        """Own `work` until it ends; a client that hangs up cancels it."""
        self._task = self._loop.create_task(work)
        self._task.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[object]) -> None:
        """Work that died without an answer must not leave its client waiting."""
        if task is self._task and not self.is_closed:
            error = None if task.cancelled() else task.exception()
            _log.error("answer_lost", exc_info=error)
            self.abort()

    def answer(self, status: int, body: bytes, head: bytes = b"") -> None:
        """Send a whole answer. `head` is extra header lines, each ended by CRLF."""
        if self.is_closed:
            return
        close = b"" if self._may_keep() else b"connection: close\r\n"
        length = b"content-length: %d\r\n\r\n" % len(body)
        if self._is_head_method:
            body = b""
        line = STATUS.get(status) or b"HTTP/1.1 %d Error\r\n" % status
        self._transport.write(b"".join((line, JSON, head, close, length, body)))
        self._finish()

    def start(self, head: bytes, kind: bytes = SSE) -> None:
        """Begin a stream, of events unless `kind` is another's header lines; its head leaves with
        the first bytes. No status can change now."""
        tail = b"\r\n" if self._may_keep() else b"connection: close\r\n\r\n"
        framing = b"transfer-encoding: chunked\r\n" if self._is_chunked else b""
        self._stream_head = b"".join((STATUS[200], kind, head, framing, tail))

    def write(self, data: bytes) -> None:
        """Send part of a stream."""
        if data:
            self._transport.write(self._framed(data))

    def _framed(self, data: bytes) -> bytes:
        head, self._stream_head = self._stream_head, b""
        if self._is_chunked and data:
            return b"%b%x\r\n%b\r\n" % (head, len(data), data)
        return head + data

    async def writable(self) -> None:
        """Wait until the client has read enough; returns at once when it keeps up."""
        if self._is_paused and not self.is_closed:
            self._drained = self._loop.create_future()
            await self._drained

    @property
    def is_paused(self) -> bool:
        """Whether the client reads slower than we write."""
        return self._is_paused

    def end(self, data: bytes = b"") -> None:
        """End a stream with its last bytes, in one write."""
        if self.is_closed:
            return
        framed = self._framed(data)
        if self._is_chunked:
            framed += b"0\r\n\r\n"
        else:
            self._keep_alive = False
        self._transport.write(framed)
        self._finish()

    def close(self) -> None:
        """Close once what was written has been sent."""
        self._transport.close()

    def cancel(self) -> None:
        """End the running answer early; whoever runs it says so to the client."""
        if self._task is None:
            self._transport.close()
        else:
            self._task.cancel()

    def abort(self) -> None:
        """Cut the connection now: the one honest end left when an answer cannot be finished."""
        self._transport.abort()

    def overstay(self) -> None:
        """Called by the sweep after `deadline_s`."""
        if self.is_busy or not self._head_bytes:
            self._transport.abort()
        else:
            self._refuse("request_timeout", "the request was not received in time")

    def _may_keep(self) -> bool:
        return self._keep_alive and not self._server.is_draining

    def _finish(self) -> None:
        self._task = None
        self._is_answered = True
        if not self._is_feeding:
            self._next()

    def _next(self) -> None:
        """Be ready for the next request, or close."""
        self._is_answered = False
        if not self.is_busy:
            self._linger()
        elif self._may_keep():
            self._fresh()
            self.is_busy = False
            if not self._is_paused:
                self.deadline_s = self._loop.time() + self._limits.idle_s
        elif not self._is_lingering:
            # A client that never reads the end of its answer must not keep the connection.
            self.deadline_s = self._loop.time() + self._limits.write_stall_s
            self._transport.close()

    def _refuse(self, code: str, message: str) -> None:
        """Answer a request that was never whole, and let the client read it before the close."""
        self._keep_alive = False
        if self._sink is not None:
            self._sink.end(is_whole=False)
        self._server.on_refused(code)
        status = errors.TABLE[code].status
        head = b"retry-after: 1\r\n" if status in (429, 503) else b""
        self.answer(status, errors.body(code, message), head)

    def _linger(self) -> None:
        # Closing with unread input would reset the connection and lose the answer.
        self._is_lingering = self.is_busy = True
        self.deadline_s = self._loop.time() + _LINGER_S
        if self._transport.can_write_eof():
            self._transport.write_eof()
