"""Tells the store what this process learnt of answer lengths, and hears what the others did: at the
start, once a minute, and at the end. A store that is away costs nothing but time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

from serving.budgets.base import BudgetStore
from serving.budgets.learnt import Lengths
from serving.budgets.remembered import TOLD_MAX
from serving.ledger.base import LedgerUnavailable

EVERY_S: Final = 60.0
OVERLAP_MS: Final = 300_000
"""Heard again: clocks of pods differ, and commits come after their time was taken."""
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Ask(Protocol):
    """Asks the store in its thread. Raises LedgerUnavailable."""

    def __call__(self, question: Callable[[BudgetStore], _T]) -> Awaitable[_T]: ...


class LengthMemory:
    """Owns when; `remembered` knows how."""

    def __init__(self, lengths: Lengths, ask: Ask, utc_ms: Callable[[], int]) -> None:
        self._lengths = lengths
        self._ask = ask
        self._utc_ms = utc_ms
        self._heard_ms = 0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.exchange()
            await asyncio.sleep(EVERY_S)

    async def exchange(self) -> None:
        """Tell and hear once."""
        now_ms = self._utc_ms()
        while new := self._lengths.take_new(TOLD_MAX):
            try:
                await self._ask(lambda store, new=new: store.tell_lengths(new, now_ms))  # type: ignore[misc]
            except LedgerUnavailable as error:
                self._lengths.give_back(new)
                _log.debug("answer_lengths_untold", extra={"reason": str(error)})
                return
        with contextlib.suppress(LedgerUnavailable):
            since_ms = max(0, self._heard_ms - OVERLAP_MS)
            self._lengths.heard(await self._ask(lambda store: store.lengths(since_ms)))
            self._heard_ms = now_ms
