"""Where plan windows are kept: SQLite beside the ledger, or the ledger's PostgreSQL.

Blocking calls in a thread of its own; one transaction for all asks of one renewal. Rows of windows
that are over are deleted when they are met and, all of them, once an hour.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from serving.ledger.address import address
from serving.limits.base import Ask, Grant, LimitsAway
from serving.limits.plan_postgres import PostgresRows
from serving.limits.plan_sqlite import SqliteRows
from serving.limits.windows import Row, settle
from serving.settings import Settings

FILE = "plans.sqlite"
TIDY_MS = 3_600_000
_T = TypeVar("_T")
Decide = Callable[[dict[str, Row]], dict[str, Row | None]]
"""From the rows as they are to those that change; None deletes one."""


class Rows(Protocol):
    """A table of windows. Every method raises LimitsAway."""

    def read(self, now_ms: int) -> dict[str, Row]:
        """All windows that are not over."""
        ...

    def change(self, keys: Sequence[str], decide: Decide) -> None:
        """Read some rows and write them again, in one transaction that nobody else's crosses."""
        ...

    def tidy(self, now_ms: int) -> None:
        """Delete windows that are over."""
        ...

    def close(self) -> None:
        """Release it."""
        ...


class PlanStore:
    """Implements `base.CounterStore`."""

    def __init__(self, open_rows: Callable[[], Rows], utc_ms: Callable[[], int]) -> None:
        self._open_rows = open_rows
        self._rows: Rows | None = None
        self._utc_ms = utc_ms
        self._tidied_ms = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ballast-plans")

    async def settle(self, asks: Sequence[Ask]) -> list[Grant]:
        """See `base.CounterStore`."""
        return await self._run(lambda rows: self._settle(rows, asks))

    async def read(self) -> dict[str, Row]:
        """All windows that are not over, by counter. Raises LimitsAway."""
        return await self._run(lambda rows: rows.read(self._utc_ms()))

    async def close(self) -> None:
        """See `base.CounterStore`."""
        rows, self._rows = self._rows, None
        if rows is not None:
            with contextlib.suppress(LimitsAway):
                await asyncio.get_running_loop().run_in_executor(self._thread, rows.close)
        self._thread.shutdown()

    def _settle(self, rows: Rows, asks: Sequence[Ask]) -> list[Grant]:
        now_ms = self._utc_ms()
        grants: list[Grant] = []

        def decide(found: dict[str, Row]) -> dict[str, Row | None]:
            grants.clear()
            changed: dict[str, Row | None] = {}
            for ask in asks:
                row, grant = settle(found.get(ask.key), ask, now_ms)
                changed[ask.key] = row
                grants.append(grant)
            return changed

        rows.change([ask.key for ask in asks], decide)
        if now_ms - self._tidied_ms > TIDY_MS:
            rows.tidy(now_ms)
            self._tidied_ms = now_ms
        return grants

    async def _run(self, work: Callable[[Rows], _T]) -> _T:
        def run() -> _T:
            if self._rows is None:
                self._rows = self._open_rows()
            return work(self._rows)

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)


def opener(settings: Settings) -> Callable[[], Rows]:
    """Opens the table. Raises SettingsError at once, LimitsAway when opened or used."""
    if settings.ledger.url:
        found = address(settings.ledger)
        return lambda: PostgresRows.at(found, settings.ledger)
    path = settings.state_dir / FILE
    return lambda: SqliteRows.open(path)
