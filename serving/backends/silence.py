"""An engine that says nothing for too long."""

from __future__ import annotations

import asyncio

from serving.wire.client import Exchange

LOOK_S = 0.5


class Silence:
    """Breaks off an exchange that has said nothing for too long while somebody listens.

    Looks twice a second instead of at each token: the same future seen again, and nothing arrived
    since, is a silence; one that nobody waits on (a slow client) is none.
    """

    __slots__ = ("_exchange", "_limit_s", "_loop", "_seen", "_since_s", "_timer")

    def __init__(self, exchange: Exchange, limit_s: float, loop: asyncio.AbstractEventLoop) -> None:
        self._exchange, self._limit_s, self._loop = exchange, limit_s, loop
        self._seen: tuple[asyncio.Future[None] | None, int] = (None, 0)
        self._since_s = 0.0
        self._timer = loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        now_s, found = self._loop.time(), (self._exchange.waiter, self._exchange.arrivals)
        if found[0] is None or found != self._seen:
            self._seen, self._since_s = found, now_s
        elif now_s - self._since_s >= self._limit_s:
            self._exchange.fail(f"the replica was silent for {self._limit_s:.1f} s")
            return
        self._timer = self._loop.call_later(LOOK_S, self._look)

    def end(self) -> None:
        """Look no more."""
        self._timer.cancel()
