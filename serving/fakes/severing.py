"""A TCP proxy before an engine that severs its streams: at the k-th event, or within it.

What an engine's sudden death looks like from outside, without killing one.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

EVENT = b"data: {"
_READ_BYTES = 64 << 10


@dataclass(slots=True)
class Orders:
    """What to do to the streams that begin from now on."""

    after_events: int | None = None
    """Severed once so many events have passed, role and finish events included; None severs
    nothing."""
    more_bytes: int = 0
    """So many bytes of the next event pass as well."""
    is_silent: bool = False
    """Not severed: nothing more passes, and the connection stays open."""
    times: int = 1
    """How many streams are hit."""


class Severing:
    """Listens on loopback and passes everything on to an engine."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self.orders = Orders()
        self.severed = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Listen; returns the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """Drop every connection and listen no more."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # what was closed is gone with the next turn of the loop

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        back: asyncio.Task[None] | None = None
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                up_reader, up_writer = await asyncio.open_connection(*self._upstream)
                answer = _Answer(self.orders)
                back = asyncio.create_task(self._answers(up_reader, (writer, up_writer), answer))
                self._tasks.add(back)
                back.add_done_callback(self._tasks.discard)
                while data := await reader.read(_READ_BYTES):
                    if data.startswith(b"POST "):
                        answer.begin(self.orders)
                    up_writer.write(data)
        finally:
            writer.close()
            if back is not None:
                up_writer.close()
                back.cancel()
            self._tasks.discard(task)

    async def _answers(
        self,
        reader: asyncio.StreamReader,
        writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
        answer: _Answer,
    ) -> None:
        """Pass answers on until it is time to sever."""
        writer, up_writer = writers
        with contextlib.suppress(OSError):
            while data := await reader.read(_READ_BYTES):
                passes = answer.passing(data)
                writer.write(data[:passes])
                if passes == len(data):
                    continue
                self.severed += 1
                if answer.orders.is_silent:
                    await asyncio.Event().wait()
                await writer.drain()
                writer.close()
                up_writer.transport.abort()
                return
        writer.close()


class _Answer:
    """The answer under way on one connection."""

    def __init__(self, orders: Orders) -> None:
        self.begin(orders)

    def begin(self, orders: Orders) -> None:
        self.orders = orders
        self._seen, self._tail = 0, b""

    def passing(self, data: bytes) -> int:
        """How many of these bytes may pass."""
        orders, joined = self.orders, self._tail + data
        found, limit = joined.count(EVENT), orders.after_events
        if limit is None or orders.times <= 0 or self._seen + found <= limit:
            self._seen += found
            self._tail = joined[-len(EVENT) + 1 :]
            return len(data)
        orders.times -= 1
        return min(len(data) - 1, _at(data, limit - self._seen, orders.more_bytes))


def _at(data: bytes, events: int, more_bytes: int) -> int:
    """Where the event after `events` more begins, and so many bytes beyond."""
    at = -1
    for _ in range(events + 1):
        at = data.find(EVENT, at + 1)
    return max(0, at) + more_bytes
