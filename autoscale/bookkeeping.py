"""The controller's work on the finance books: rentals, settlement, sums, alerts, retention.

All of it may be done twice and waits for nobody: a ledger that is away is tried again a minute
later. It runs in a thread of its own, so the control loop never waits for a database.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from autoscale.records import Samples
from autoscale.rentals import followed
from serving.finance import entries, rolling
from serving.finance.base import Database
from serving.finance.grants import lapsing
from serving.finance.listing import listed
from serving.finance.settling import LATE_MS, settle, used
from serving.finance.values import DAY_MS, HOUR_MS, FinanceError, Grant, Rental
from serving.ledger.base import LedgerUnavailable
from serving.settings import Settings

EACH_MS = 60_000
ENDED_MAX = 1_000
"""Rentals that wait for a ledger that is away; then the oldest are lost."""
BACK_MS = 10 * 60_000
"""Rows arrive a second late; a pod that was away brings older ones, looked for once a day."""
LAPSES_MAX = 200
"""Shown to a scrape, the soonest first."""
_log = logging.getLogger(__name__)


class Bookkeeper:
    """Owns the thread, the connection and the rentals of now."""

    def __init__(self, settings: Settings, open_books: Callable[[], Database]) -> None:
        self._settings = settings
        self._offset_ms = settings.ledger.utc_offset_hours * HOUR_MS
        self._open = open_books
        self._books: Database | None = None
        self.lapses: Mapping[str, float] = {}
        """Days until a grant lapses with something left, as of this day's look."""
        self._held: Mapping[str, Rental] = {}
        self._ended: list[Rental] = []
        self._sent: list[Rental] = []
        """Over: not booked yet, and told to the work that ran last."""
        self._done_ms = 0
        self._day = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ballast-bookkeeping")
        self._task: asyncio.Future[bool] | None = None

    def seen(self, samples: Samples) -> None:
        """Take note of a tick; once a minute write and settle, unless that still runs."""
        rented = self._settings.controller.rented
        before = self._held
        self._held = followed(before, samples.supply, rented, samples.at_ms)
        ended = [one for model, one in before.items() if _is_over(one, self._held.get(model))]
        is_due = samples.at_ms - self._done_ms >= EACH_MS or bool(ended)
        self._ended += ended
        if is_due and (self._task is None or self._task.done()):
            self._done_ms = samples.at_ms
            failed = [] if self._task is None or self._task.result() else self._sent
            self._sent, self._ended = [*failed, *self._ended][-ENDED_MAX:], []
            rentals = [*self._sent, *self._held.values()]
            work = asyncio.get_running_loop().run_in_executor
            self._task = work(self._thread, lambda: self._work(rentals, samples.at_ms))

    async def settled(self) -> None:
        """Wait for the minute's work that runs now."""
        if self._task is not None:
            await self._task

    async def close(self) -> None:
        """Finish what runs and let go of the books."""
        await asyncio.to_thread(self._thread.shutdown)
        if self._books is not None:
            self._books.close()

    def _work(self, rentals: list[Rental], now_ms: int) -> bool:
        """Whether it is done."""
        try:
            self._book(rentals, now_ms)
            return True
        except (LedgerUnavailable, FinanceError) as error:
            _log.warning("bookkeeping_failed", extra={"error": str(error)})
            return False

    def _book(self, rentals: list[Rental], now_ms: int) -> None:
        if self._books is None:
            self._books = self._open()
        books, is_new_day = self._books, now_ms // DAY_MS > self._day
        for rental in rentals:
            self._book_rental(books, rental)
        settle(books, now_ms, self._offset_ms, LATE_MS if is_new_day else BACK_MS)
        rolled_ms = rolling.rolled_ms(books) or now_ms - LATE_MS
        since_ms = rolled_ms - (LATE_MS if is_new_day else BACK_MS)
        rolling.roll(books, max(since_ms, rolling.trimmed_ms(books)), now_ms, self._offset_ms)
        if is_new_day:
            self._daily(books, now_ms)
            self._day = now_ms // DAY_MS

    def _book_rental(self, books: Database, rental: Rental) -> None:
        """One of a month that was closed meanwhile must not stop the others."""
        try:
            if rental.end_ms > rental.begin_ms:
                entries.write(books, rental, self._offset_ms)
        except FinanceError as error:
            _log.warning("rental_not_booked", extra={"error": str(error)})

    def _daily(self, books: Database, now_ms: int) -> None:
        lapses = lapsing(listed(books, Grant), used(books), now_ms, self._offset_ms)
        self.lapses = {lapse.grant.id: float(lapse.days) for lapse in lapses[:LAPSES_MAX]}
        for lapse in lapses:
            _log.warning(
                "grant_lapses",
                extra={"grant": lapse.grant.id, "days": lapse.days, "left": lapse.left,
                       "unit": lapse.grant.currency or lapse.grant.unit, "alert": lapse.threshold},
            )  # fmt: skip
        ledger = self._settings.ledger
        if not ledger.url:  # in PostgreSQL rows are deleted by their owner: `ballast ledger trim`
            kept = rolling.Kept(ledger.row_days, ledger.rollup_months)
            gone = rolling.trim(books, now_ms, self._offset_ms, kept)
            _log.info("ledger_trimmed", extra=gone._asdict())


def _is_over(one: Rental, now: Rental | None) -> bool:
    return now is None or now.id != one.id
