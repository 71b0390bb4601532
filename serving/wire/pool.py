"""Kept-alive connections to replicas."""

from __future__ import annotations

import asyncio

from serving.wire.client import Exchange, WireError

LATE_TURNS = 8
"""Of the loop, after the time to connect is over: a loop that was late itself (a starved machine)
runs its timers before it looks at its sockets, and would call a good connection a slow one."""


class Pool:
    """Kept-alive connections by address, newest used first."""

    def __init__(self, connect_s: float, per_address_max: int) -> None:
        self._connect_s = connect_s
        self._per_address_max = per_address_max
        self._idle: dict[tuple[str, int], list[Exchange]] = {}

    def take(self, address: tuple[str, int]) -> Exchange | None:
        """A kept-alive connection, or None."""
        idle = self._idle.get(address)
        while idle:
            exchange = idle.pop()
            if not exchange.is_closed:
                return exchange
        return None

    async def connect(self, address: tuple[str, int]) -> Exchange:
        """A new connection. Raises WireError(sent=False)."""
        loop = asyncio.get_running_loop()
        opening = loop.create_task(loop.create_connection(lambda: Exchange(loop), *address))
        try:
            await asyncio.wait((opening,), timeout=self._connect_s)
            for _ in range(LATE_TURNS):
                if opening.done():
                    break
                await asyncio.sleep(0)
            if not opening.done():
                raise WireError("connecting took too long", sent=False, is_timeout=True)
            return opening.result()[1]
        except OSError as error:
            raise WireError(f"cannot connect: {error.strerror or error}", sent=False) from error
        except asyncio.CancelledError:  # in the very turn in which it stands, nobody would close it
            opening.add_done_callback(_closed)
            raise
        finally:
            opening.cancel()

    def give(self, address: tuple[str, int], exchange: Exchange) -> None:
        """Take a connection back after its answer; closes it unless it can be used again."""
        idle = self._idle.setdefault(address, [])
        if exchange.settle() and len(idle) < self._per_address_max:
            idle.append(exchange)
        else:
            exchange.abort()

    def forget(self, keep: set[tuple[str, int]]) -> None:
        """Close idle connections to addresses that left the fleet."""
        for address in [a for a in self._idle if a not in keep]:
            for exchange in self._idle.pop(address):
                exchange.abort()

    def close(self) -> None:
        """Close every idle connection."""
        self.forget(set())


def _closed(opening: asyncio.Task[tuple[asyncio.Transport, Exchange]]) -> None:
    """Close a connection that came when nobody waits for it any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[1].abort()
