"""The listening side of the hot wire: owns the connections, ends those that overstay, drains."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from serving.errors import BallastError
from serving.room import Room
from serving.settings import Limits
from serving.wire.connection import App, Connection
from serving.wire.request import Request, Sink

__all__ = ["App", "Connection", "Request", "Server", "Sink"]

_CANCEL_S = 2.0
"""For the error that ends an answer which outlived the drain."""


class Server:
    """Owns the listening socket's connections and ends those that overstay."""

    def __init__(self, app: App, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self.app = app
        self.limits = limits
        self.loop = loop
        self.connections: set[Connection] = set()
        self.is_draining = False
        self.on_refused: Callable[[str], None] = lambda _: None
        """Told the code of each request or connection that the wire itself refused."""
        self.vet: Callable[[Mapping[bytes, bytes]], BallastError | None] = lambda _: None
        """Asked, by its headers, before a large body is read: why it would be refused anyway."""
        self.owner: Callable[[Mapping[bytes, bytes]], str] = lambda _: ""
        """Whose large body it is, by its headers; asked after `vet`."""
        self.sink: Callable[[Request, asyncio.Transport], Sink | None] = lambda *_: None
        """Asked, by its head, where a body goes that is not to be kept in memory. Raises
        BallastError for one that is refused."""
        self.room = Room(limits.bodies_bytes_max, limits.bodies_bytes_of_key_max)
        """For large bodies, of all connections together."""
        self._emptied: asyncio.Future[None] | None = None
        self._sweep = loop.call_later(1.0, self._sweep_connections)

    def __call__(self) -> Connection:
        return Connection(self)

    def _sweep_connections(self) -> None:
        now_s = self.loop.time()
        for connection in [c for c in self.connections if c.deadline_s < now_s]:
            connection.overstay()
        self._sweep = self.loop.call_later(1.0, self._sweep_connections)

    async def _wait_for_none(self, wait_s: float) -> None:
        if self.connections:
            self._emptied = self.loop.create_future()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._emptied

    def gone(self, connection: Connection) -> None:
        """A connection ended."""
        self.connections.discard(connection)
        if self._emptied is not None and not self.connections and not self._emptied.done():
            self._emptied.set_result(None)

    async def drain(self, wait_s: float) -> None:
        """End idle connections, wait for running requests, then cut what is left."""
        self.is_draining = True
        for connection in [c for c in self.connections if not c.is_busy]:
            connection.close()
        await self._wait_for_none(wait_s)
        for connection in list(self.connections):
            connection.cancel()
        await self._wait_for_none(_CANCEL_S)
        for connection in list(self.connections):
            connection.abort()
        self._sweep.cancel()
