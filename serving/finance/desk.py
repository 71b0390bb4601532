"""The books as the admin API reads them: one question at a time, in a thread of its own.

A long question must stop neither the drainer nor the event loop, so it has its own connections. Who
comes while enough others wait is told to come again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from serving.errors import CallerError, OwnError
from serving.finance import asking
from serving.finance.base import Database
from serving.finance.store import open_to_read
from serving.finance.values import FinanceError
from serving.ledger.base import Ledger, LedgerUnavailable
from serving.ledger.costs import Question
from serving.ledger.store import open_to_read as open_ledger
from serving.records import Price
from serving.settings import Settings, SettingsError

WAITING_MAX = 4
CALL_S = 120.0
"""Two of the store's own longest questions."""


class FinanceDesk:
    """Owns the thread and both connections, opened at the first question."""

    def __init__(
        self, open_to_read: Callable[[], tuple[Ledger, Database]], first: dict[str, Price]
    ) -> None:
        self._open = open_to_read
        self._first = first
        self._opened: tuple[Ledger, Database] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ballast-finance")
        self._waiting = 0

    @classmethod
    def of(cls, settings: Settings) -> FinanceDesk:
        """The desk of these settings. Raises SettingsError for a provider row that cannot be
        read."""
        try:
            first = asking.first_prices(settings)
        except FinanceError as error:
            raise SettingsError(str(error)) from None
        return cls(lambda: (open_ledger(settings), open_to_read(settings)), first)

    async def summary(self, question: Question, currency: str) -> dict[str, Any]:
        """The summary of a period. Raises CallerError for a currency without a rate; OwnError when
        the store is away or too many ask."""
        if self._waiting >= WAITING_MAX:
            raise OwnError("ledger_away", f"{WAITING_MAX} questions wait already: ask again later")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            work = loop.run_in_executor(self._thread, lambda: self._ask(question, currency))
            return await asyncio.wait_for(work, CALL_S)
        except LedgerUnavailable as error:
            raise OwnError("ledger_away", error.message) from error
        except TimeoutError:
            raise OwnError("ledger_away", f"no answer within {CALL_S:.0f} s") from None
        except FinanceError as error:
            raise CallerError("invalid_value", str(error)) from None
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """Let go of the store."""
        await asyncio.to_thread(self._thread.shutdown)
        for one in self._opened or ():
            one.close()

    def _ask(self, question: Question, currency: str) -> dict[str, Any]:
        if self._opened is None:
            self._opened = self._open()
        ledger, database = self._opened
        found = asking.asked((ledger.costs, database), question, self._first, currency)
        return asking.as_object(found)
