"""The rim of budgets: asks the store in a thread of its own, in the background, before a slice runs
dry; closes the leases of the dead; tells of thresholds. Nobody waits for the store to be paid: a
call that finds a slice dry waits a moment for the renewal under way, else is placed without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from serving.budgets.base import BudgetStore, Told, Want
from serving.budgets.funds import Funds
from serving.budgets.memory import LengthMemory
from serving.budgets.purse import Purse
from serving.budgets.settle import settle_dead
from serving.budgets.values import Budget
from serving.ledger.base import LedgerUnavailable
from serving.watched import watch

TICK_S = 1.0
SPACE_S = 0.02
"""Between two questions, whatever the hurry."""
SETTLE_S = 30.0
"""Between two looks for leases of the dead."""
ABANDONED_MS = 90_000_000
"""As `recovery.ABANDONED_S`: after 25 hours nobody brings a dead gateway's rows any more."""
KEPT_MS = 400 * 86_400_000
"""Periods kept in the store: a year and a month."""
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Terms(NamedTuple):
    """What the keeper works with; built by the composition root."""

    funds: Funds
    open_store: Callable[[], BudgetStore]
    holder: str
    """The journal's life: the store finds a dead holder's attempts by it."""
    utc_ms: Callable[[], int]


class Keeper:
    """Owns the task that renews, and its thread."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self.utc_ms = terms.utc_ms
        self.funds = terms.funds
        self._memory = LengthMemory(terms.funds.lengths, self.ask, terms.utc_ms)
        self._store: BudgetStore | None = None
        self._opening = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ballast-budgets")
        self._patient = ThreadPoolExecutor(1, thread_name_prefix="ballast-budgets-settle")
        """Adds up what the dead spent: nobody's renewal waits for that."""
        self._tasks: list[asyncio.Task[None]] = []
        self._low = asyncio.Event()
        self._renewed: asyncio.Future[None] | None = None
        self._retry_s = float("-inf")
        self._is_told = False
        """Which budgets there are: until then any lease looks like one of a removed budget."""
        self.last_error = ""
        """Why the store could not be asked; empty when it could."""
        self.alerts: dict[int, int] = {}
        """Told of by this process, by threshold in per cent."""
        self.on_death: Callable[[], None] = lambda: None
        self.funds.on_low = self._low.set

    def obey(self, budgets: Mapping[str, Budget]) -> None:
        """These are in force from now on."""
        self.funds.take(budgets)
        self._is_told = True
        self._low.set()

    def start(self) -> None:
        """Begin to renew."""
        self._tasks = [
            asyncio.create_task(self._run(), name="budgets"),
            asyncio.create_task(self._run_settling(), name="budgets-settling"),
            asyncio.create_task(self._memory.run(), name="answer-lengths"),
        ]
        for task in self._tasks:
            watch(task, lambda: self.on_death())

    async def close(self) -> None:
        """Stop, report the last spendings and give back what is left."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.funds.take({})
        await self.renew()
        await self._memory.exchange()
        with contextlib.suppress(LedgerUnavailable):
            await self.ask(lambda store: store.close())
        self._thread.shutdown()
        self._patient.shutdown()

    async def ask(self, question: Callable[[BudgetStore], _T]) -> _T:
        """Ask the store, in its thread. Raises LedgerUnavailable."""
        return await self._ask(self._thread, question)

    async def _ask(self, thread: ThreadPoolExecutor, question: Callable[[BudgetStore], _T]) -> _T:
        def work() -> _T:
            with self._opening:
                if self._store is None:
                    self._store = self._terms.open_store()
                store = self._store
            return question(store)

        return await asyncio.get_running_loop().run_in_executor(thread, work)

    def now_s(self) -> float:
        """On the loop's clock."""
        return asyncio.get_running_loop().time()

    async def wait(self, limit_s: float) -> None:
        """For the renewal that is due, at most so long."""
        self._low.set()
        loop = asyncio.get_running_loop()
        if self._renewed is None:
            self._renewed = loop.create_future()
        await asyncio.wait((self._renewed,), timeout=limit_s)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            # Not `wait_for`: in Python 3.11 it loses a cancellation that comes with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._low.wait()
            # Cleared first: who runs low from here on is asked about in the next round.
            self._low.clear()
            if self.last_error and loop.time() < self._retry_s:
                await asyncio.sleep(self._retry_s - loop.time())
            self.funds.prefetch()
            await self.renew()
            await asyncio.sleep(SPACE_S)

    async def _run_settling(self) -> None:
        while True:
            if self._is_told:
                await self._settle()
            await asyncio.sleep(SETTLE_S if self._is_told else TICK_S)

    async def renew(self) -> None:
        """One report and question, for all purses that are due."""
        # Who waits from here on is served by the next round: this one asks for others.
        waiting, self._renewed = self._renewed, None
        now_ms = self.utc_ms()
        due = self._due(now_ms)
        wants = [purse.want(now_ms) for purse in due]
        if wants:
            holder = self._terms.holder
            try:
                told = await self.ask(lambda store: store.renew(holder, wants, now_ms))
            except LedgerUnavailable as error:
                self._away(str(error), due)
            else:
                self._told(told)
                self._closed(wants, now_ms)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _closed(self, wants: list[Want], now_ms: int) -> None:
        """What was reported for the last time. Kept until its period is over: a budget may be made
        again, and then goes on where it was."""
        for want in wants:
            purse = self.funds.purses[want.budget, want.start_ms]
            if want.is_last and purse.is_closing:
                purse.is_closed = True
                if now_ms >= want.end_ms:
                    del self.funds.purses[want.budget, want.start_ms]

    def _due(self, now_ms: int) -> list[Purse]:
        """Purses to ask about. One of no budget in force is closed once no call holds of it."""
        found = []
        for purse in self.funds.purses.values():
            is_over = now_ms >= purse.span.end_ms or not self.funds.is_wanted(purse)
            purse.is_closing = is_over
            is_last = is_over and purse.reserved == 0
            is_gone = purse.is_closed and now_ms < purse.span.end_ms
            if not is_gone and (is_last or purse.is_due(now_ms)):
                found.append(purse)
        return found

    def _told(self, answers: list[Told]) -> None:
        if self.last_error:
            _log.info("budget_store_available")
            self.last_error = ""
        for told in answers:
            purse = self.funds.purses.get((told.budget, told.start_ms))
            if purse is None:
                continue
            purse.told(told)
            for threshold in told.passed:
                self.alerts[threshold] = self.alerts.get(threshold, 0) + 1
                _log.warning(
                    "budget_threshold",
                    extra={"budget": told.budget, "threshold_percent": threshold,
                           "spent_micro": told.others_spent_micro + purse.spent,
                           "limit_micro": purse.limit, "currency": purse.budget.currency},
                )  # fmt: skip

    def _away(self, why: str, due: list[Purse]) -> None:
        if not self.last_error:
            _log.warning("budget_store_away", extra={"reason": why})
        self.last_error = why
        self._retry_s = asyncio.get_running_loop().time() + TICK_S
        for purse in due:
            purse.unheard()

    async def _settle(self) -> None:
        now_ms = self.utc_ms()
        funds = self.funds

        def work(store: BudgetStore) -> int:
            store.forget(now_ms - KEPT_MS)
            return settle_dead(store, funds, (now_ms, now_ms - ABANDONED_MS))

        try:
            settled = await self._ask(self._patient, work)
        except LedgerUnavailable as error:
            _log.debug("budget_settling_postponed", extra={"reason": str(error)})
        else:
            if settled:
                _log.info("budget_leases_settled", extra={"leases": settled})
