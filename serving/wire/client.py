"""The replica side of the hot wire: HTTP/1.1 out over kept-alive connections.

One request at a time per connection, read with back-pressure. Never follows redirects, never
retries by itself except once when a kept-alive connection turns out to be dead before it answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

_BUFFER_BYTES_MAX = 256 << 10
_READ_BYTES = 64 << 10
_HEAD_COUNT_MAX = 100
_HEAD_BYTES_MAX = 64 << 10


class WireError(Exception):
    """The connection failed. `sent`: the request may have reached the peer."""

    def __init__(self, message: str, *, sent: bool, is_timeout: bool = False) -> None:
        super().__init__(message)
        self.sent = sent
        self.is_timeout = is_timeout


class Exchange(asyncio.Protocol):
    """One connection to a replica and the answer under way on it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport = None  # type: ignore[assignment]
        self._parts: list[bytes] = []
        # llhttp calls `on_body` for each chunk; appending without a Python frame is the hot path.
        self.on_body = self._parts.append
        self.waiter: asyncio.Future[None] | None = None
        self.direct: Callable[[bytes], bool] | None = None
        """Has what arrives while somebody waits for it, without waking him; False wakes him."""
        self.arrivals = 0
        """Grows with all that arrives."""
        self._timer: asyncio.TimerHandle | None = None
        self._deadline_s = self._fires_s = 0.0
        self._is_reading_paused = False
        self._is_active = False
        self.is_closed = False
        self._parser = httptools.HttpResponseParser(self)
        self._reset()

    def _reset(self) -> None:
        self._parts.clear()
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self._has_head = self._is_done = self._has_excess = self._keep_alive = False
        self._is_called = False
        self._head_bytes = 0
        self._error: WireError | None = None

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self._is_active:
            # Bytes that answer no request would be taken for the answer to the next one.
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._has_excess = True
            if self._is_done:
                self._wake()  # the answer itself is whole; the connection is not used again
                return
            self.fail(f"the replica's answer is not HTTP: {error}")
            return
        if not self._has_head:
            self._head_bytes += len(data)
            if self._head_bytes > _HEAD_BYTES_MAX:
                self.fail("the head of the replica's answer exceeds 64 KiB")
                return
        if len(data) > _READ_BYTES or len(self._parts) > 16:
            self._check_buffer()
        self.arrivals += 1
        if self._has_head and (self.direct is None or not self._has_passed(self.direct)):
            self._wake()

    def _has_passed(self, direct: Callable[[bytes], bool]) -> bool:
        """Whether all that came went past the reader, who may wait on."""
        waiter, parts = self.waiter, self._parts
        if waiter is None or waiter.done() or not parts or self._is_reading_paused:
            return False
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._is_called = not direct(data)
        return not (self._is_called or self._is_done)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        if not self._is_done:
            self.fail(f"the replica closed the connection: {exc or 'end of file'}")

    def _check_buffer(self) -> None:
        """Stop reading while more than `_BUFFER_BYTES_MAX` waits to be relayed."""
        is_much = sum(map(len, self._parts)) > _BUFFER_BYTES_MAX
        if is_much and not self._is_reading_paused and not self._is_done:
            self._is_reading_paused = True
            self._transport.pause_reading()

    def _wake(self) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def fail(self, message: str, *, is_timeout: bool = False) -> None:
        """Break off: whoever reads is told why."""
        if self._error is None:
            self._error = WireError(message, sent=True, is_timeout=is_timeout)
        self.abort()
        self._wake()

    # -- httptools callbacks

    def on_message_begin(self) -> None:
        self._has_excess = self._is_done

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head and len(self.headers) < _HEAD_COUNT_MAX:
            self.headers[name.lower()] = value.strip()

    def on_headers_complete(self) -> None:
        if self._has_excess:
            raise ValueError("bytes after the answer")
        self.status = self._parser.get_status_code()
        self._has_head = self.status >= 200
        self._keep_alive = self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        if not self._has_head:
            self.headers.clear()
            return
        self._is_done = True

    # -- for the backend

    async def send(self, data: bytes, deadline_s: float) -> None:
        """Send a request and wait for the answer's head. Raises WireError."""
        self._reset()
        self._is_active = True
        self._deadline_s = deadline_s
        if self._timer is None or deadline_s < self._fires_s:
            self._watch()
        self._transport.write(data)
        while not self._has_head and self._error is None:
            await self._wait()
        if not self._has_head:
            assert self._error is not None
            raise self._error

    async def read(self) -> bytes:
        """What arrived since the last call, b"" at the end or where `direct` said False. Raises
        WireError on a cut."""
        while True:
            if self._is_called:
                self._is_called = False
                return b""
            parts = self._parts
            if parts:
                data = parts[0] if len(parts) == 1 else b"".join(parts)
                parts.clear()
                if self._is_reading_paused:
                    self._is_reading_paused = False
                    self._transport.resume_reading()
                return data
            if self._is_done:
                return b""
            if self._error is not None:
                raise self._error
            await self._wait()

    @property
    def has_ended(self) -> bool:
        """Everything was read."""
        return self._is_done and not self._parts

    async def _wait(self) -> None:
        self.waiter = self._loop.create_future()
        await self.waiter

    def _watch(self) -> None:
        """Look at the deadline then. One timer for all requests costs less than one each."""
        if self._timer is not None:
            self._timer.cancel()
        self._fires_s = self._deadline_s
        self._timer = self._loop.call_at(self._fires_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._is_active and self._fires_s < self._deadline_s:
            self._watch()  # it was set for an earlier request
        elif self._is_active:
            self.fail("the replica did not answer in time", is_timeout=True)

    def settle(self) -> bool:
        """The answer is over; whether the connection can serve another request."""
        self._is_active = False
        self.direct = None
        return (
            self._is_done
            and self._keep_alive
            and not self.is_closed
            and not self._has_excess
            and self._error is None
        )

    def abort(self) -> None:
        """Close now, so that the replica stops working for us."""
        self.is_closed = True
        self._transport.abort()
