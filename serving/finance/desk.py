"""The books as the admin API reads them: one question at a time, in a thread of its own.

A long question must stop neither the drainer nor the event loop, so it has its own connections. Who
comes while enough others wait is told to come again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from models.worded import Worded, of
from serving.errors import CallerError, OwnError
from serving.finance import asking
from serving.finance.base import Database
from serving.finance.store import open_to_read, opener
from serving.finance.values import HOUR_MS, FinanceError
from serving.ledger.base import Ledger, LedgerUnavailable
from serving.ledger.costs import Question
from serving.ledger.store import open_to_read as open_ledger
from serving.records import Price
from serving.scorecard import asking as scoring
from serving.scorecard.cards import Promise
from serving.settings import Settings, SettingsError

T = TypeVar("T")
WAITING_MAX = 4
CALL_S = 120.0
"""Two of the store's own longest questions."""


class FinanceDesk:
    """Owns the thread and both connections, opened at the first question."""

    def __init__(
        self,
        open_to_read: Callable[[], tuple[Ledger, Database]],
        first: dict[str, Price],
        promised: Mapping[str, Promise],
        offset_ms: int,
        open_to_write: Callable[[], Database],
    ) -> None:
        self._open, self._open_to_write = open_to_read, open_to_write
        self._writer: Database | None = None
        self._first, self._promised = first, promised
        self.offset_ms = offset_ms
        """Where the books' days and months begin: local time less UTC."""
        self._opened: tuple[Ledger, Database] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ballast-finance")
        self._waiting = 0

    @classmethod
    def of(cls, settings: Settings) -> FinanceDesk:
        """The desk of these settings. Raises SettingsError for a provider row that cannot be
        read."""
        try:
            first, promised = asking.first_prices(settings), scoring.promises(settings)
        except FinanceError as error:
            raise SettingsError(of(error)) from None
        offset_ms = settings.ledger.utc_offset_hours * HOUR_MS

        def connect() -> tuple[Ledger, Database]:
            return open_ledger(settings), open_to_read(settings)

        return cls(connect, first, promised, offset_ms, opener(settings))

    async def summary(self, question: Question, currency: str) -> dict[str, Any]:
        """The summary of a period. Raises CallerError for a currency without a rate; OwnError when
        the store is away or too many ask."""

        def work(ledger: Ledger, database: Database) -> dict[str, Any]:
            found = asking.asked((ledger.costs, database), question, self._first, currency)
            return asking.as_object(found)

        return await self.ask(work)

    async def scorecard(self, month: str, provider: str) -> dict[str, Any]:
        """A month's cards, of one provider or (empty) all. Raises CallerError where nothing of it
        is summed up; OwnError as `summary`."""

        def work(_: Ledger, database: Database) -> dict[str, Any]:
            found = scoring.asked(database, month, self.offset_ms, self._promised)
            return scoring.as_object(found, provider)

        return await self.ask(work)

    async def ask(self, work: Callable[[Ledger, Database], T]) -> T:
        """One question in the thread. Raises CallerError for a FinanceError, and OwnError as
        `summary`."""
        return await self._run(lambda: work(*self._connected()))

    async def change(self, work: Callable[[Database], T]) -> T:
        """One change in the thread, on a connection that may write. Raises as `ask`."""

        def changed() -> T:
            if self._writer is None:
                self._writer = self._open_to_write()
            return work(self._writer)

        return await self._run(changed)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= WAITING_MAX:
            template = "{count} questions wait already: ask again later"
            raise OwnError("ledger_away", Worded("finance.busy", template, count=WAITING_MAX))
        self._waiting += 1
        try:
            asked = asyncio.get_running_loop().run_in_executor(self._thread, work)
            async with asyncio.timeout(CALL_S):
                return await asked
        except LedgerUnavailable as error:
            raise OwnError("ledger_away", error.message) from error
        except TimeoutError:
            raise OwnError(
                "ledger_away",
                Worded("finance.late", "no answer within {call_s} s", call_s=f"{CALL_S:.0f}"),
            ) from None
        except FinanceError as error:
            raise CallerError("invalid_value", of(error)) from None
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """Let go of the store."""
        await asyncio.to_thread(self._thread.shutdown)
        for one in (*(self._opened or ()), *((self._writer,) if self._writer else ())):
            one.close()

    def _connected(self) -> tuple[Ledger, Database]:
        if self._opened is None:
            self._opened = self._open()
        return self._opened
