"""What the polls of one engine said: whether it is ready, and what was logged when it was not."""

from __future__ import annotations

import logging

from serving.discovery import Address

MISSES_MAX = 3
SLOW_POLLS_MAX = 30
"""Polls in a row that time out before an engine is lost; until then our own sends alone count."""
_log = logging.getLogger(__name__)


class Seen:
    """One listed engine: whether it answers, and what was logged about it when it did not."""

    __slots__ = ("adapters", "address", "in_a_row", "is_draining", "limit", "misses", "ready",
                 "reason", "silent", "told")  # fmt: skip

    def __init__(self, address: Address) -> None:
        self.address = address
        self.ready = False
        self.is_draining = False
        self.limit = address.limit
        self.adapters: frozenset[str] = frozenset()
        self.misses = 0
        self.silent = 0
        """Polls in a row that it said nothing to, not even that it refuses them."""
        self.reason = self.told = ""
        self.in_a_row = 0
        """Misses with this reason."""

    def answered(self) -> None:
        """It told its load."""
        self.misses, self.silent, self.reason = 0, 0, ""
        if self.told:
            _log.info("replica_reachable", extra={"target": self.address.id})
            self.told = ""

    def missed(self, reason: str, *, is_slow: bool = False, is_away: bool = False) -> None:
        """It did not. Logged once it is certain, and again only when the reason has changed.
        `is_slow`: in time; `is_away`: nothing leads to its host."""
        self.misses += 1
        self.silent = self.silent + 1 if is_slow or is_away else 0
        self.in_a_row = self.in_a_row + 1 if reason == self.reason else 1
        self.reason = reason
        is_news = reason != self.told and (not self.told or self.in_a_row >= MISSES_MAX)
        if self.misses >= MISSES_MAX and is_news and not self.is_draining:
            lost = "replica_slow" if is_slow else "replica_lost"
            event = lost if self.ready else "replica_unreachable"
            _log.warning(event, extra={"target": self.address.id, "reason": reason})
            self.told = reason
        # Slow is not gone: a busy engine may leave polls unanswered and still serve.
        most = SLOW_POLLS_MAX if is_slow else MISSES_MAX
        self.ready = self.ready and self.misses < most
