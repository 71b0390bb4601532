"""Takes over from earlier lives: settles what they left open, remembers which keys they answered.

Before serving if the ledger can; else in a task of its own, until it can. Never a reason to stop.
After that the task settles, once an hour, what was left open by gateways that are gone for good: a
journal may go with its pod or machine, and its rows in a shared ledger would stay open for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from models.worded import of
from serving.idempotency import Idempotency
from serving.ledger.base import Ledger, LedgerNewer, LedgerUnavailable
from serving.ledger.drain import Drainer
from serving.ledger.recover import sweep
from serving.logs import utc_ms
from serving.settings import SettingsError
from serving.watched import watch

RETRY_S = 5.0
"""Between two tries: each may hold the ledger's thread for as long as a lock is waited for."""
SWEEP_S = 3_600.0
ABANDONED_S = 90_000.0
"""The longest deadline a class has by default, a day, and an hour: nobody works on it any more."""
_log = logging.getLogger(__name__)


class Recovery:
    """Owns the task that tries again."""

    def __init__(
        self, drainer: Drainer, ledger: Ledger, keys: tuple[Idempotency, float],
        retry_s: float = RETRY_S,
    ) -> None:  # fmt: skip
        self._drainer = drainer
        self._ledger = ledger
        self._store, self._ttl_s = keys
        self._retry_s = retry_s
        self._task: asyncio.Task[None] | None = None
        self.on_death: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Recover now, or begin to try again and again.

        Raises SettingsError when a newer Ballast wrote the ledger: waiting would not help, and
        rolling back without the ledger is for a person to decide.
        """
        is_done = False
        try:
            await self._recover()
            is_done = True
        except LedgerNewer as error:
            raise SettingsError(of(error)) from error
        except (LedgerUnavailable, OSError) as error:
            _log.warning("recovery_postponed", extra={"reason": str(error)})
        self._task = asyncio.create_task(self._run(is_done), name="recovery")
        watch(self._task, lambda: self.on_death())

    async def close(self) -> None:
        """Stop trying; the next life will."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, is_done: bool) -> None:
        while not is_done:
            await asyncio.sleep(self._retry_s)
            try:
                await self._recover()
                is_done = True
            except (LedgerUnavailable, OSError) as error:
                _log.debug("recovery_postponed", extra={"reason": str(error)})
        while True:
            try:
                await self._sweep()
            except LedgerUnavailable as error:
                _log.debug("sweep_postponed", extra={"reason": str(error)})
            await asyncio.sleep(SWEEP_S)

    async def _sweep(self) -> None:
        now_ms = utc_ms()
        before_ms = now_ms - int(ABANDONED_S * 1e3)
        settled = await self._drainer.ask(lambda: sweep(self._ledger, before_ms, now_ms))
        if settled:
            _log.warning("abandoned_settled", extra={"requests": settled})

    async def _recover(self) -> None:
        recovered = await self._drainer.recover(utc_ms())
        since_ms = utc_ms() - int(self._ttl_s * 1e3)
        rows = await self._drainer.ask(lambda: self._ledger.idempotency(since_ms))
        now_s = asyncio.get_running_loop().time()
        for row in rows:
            key, _, body_hash = row.idempotency.partition(":")
            self._store.remember(key, body_hash, row.usage, now_s)
        _log.info("recovered", extra=msgspec.to_builtins(recovered))
