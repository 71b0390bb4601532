"""The connections to engines, by host, and which of them a host that has gone takes with it.

A host that stands still (frozen, cut off) closes nothing: the kernel takes requests for it, and
what waits for an answer's head would wait for the caller's whole deadline. The fleet's polls tell
it from an engine that is only busy, which answers some of them or sends something.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary, WeakSet

from serving.wire.client import Exchange

HOSTS_MAX = 4096
"""Beyond it, hosts without a connection are forgotten."""
Host = tuple[str, int]


class Lines:
    """Knows every connection for as long as it lives."""

    def __init__(self) -> None:
        self._of: dict[Host, WeakSet[Exchange]] = {}
        self._noted: WeakKeyDictionary[Exchange, int] = WeakKeyDictionary()
        """What had arrived on each when its host became quiet."""
        self._broken: WeakSet[Exchange] = WeakSet()

    @property
    def hosts(self) -> frozenset[Host]:
        """Those it knows of."""
        return frozenset(self._of)

    def add(self, host: Host, exchange: Exchange) -> None:
        """A new connection."""
        if len(self._of) > HOSTS_MAX:
            self._of = {host: known for host, known in self._of.items() if known}
        self._of.setdefault(host, WeakSet()).add(exchange)

    def quiet(self, host: Host) -> None:
        """Its polls go unanswered: from now on it is seen who still hears from it."""
        for exchange in self._of.get(host, ()):
            self._noted[exchange] = exchange.arrivals

    def lost(self, host: Host) -> None:
        """It is given up: break off who waits and has heard nothing since `quiet`. What was sent to
        it later has heard nothing at all."""
        for exchange in list(self._of.get(host, ())):
            if exchange.waiter is not None and exchange.arrivals == self._noted.get(exchange, 0):
                self._broken.add(exchange)
                exchange.fail("its host answers nobody any more")

    def broke(self, exchange: Exchange) -> bool:
        """Whether it was broken off here: another connection would fare no better."""
        return exchange in self._broken
