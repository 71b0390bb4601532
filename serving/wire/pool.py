"""Kept-alive connections to replicas."""

from __future__ import annotations

import asyncio

from serving.wire.client import Exchange, WireError


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
        try:
            async with asyncio.timeout(self._connect_s):
                _, exchange = await loop.create_connection(lambda: Exchange(loop), *address)
        except TimeoutError:
            raise WireError("connecting took too long", sent=False, is_timeout=True) from None
        except OSError as error:
            raise WireError(f"cannot connect: {error.strerror or error}", sent=False) from error
        return exchange

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
