"""Holds batches for this process and works on them; others take over what it drops.

A lease that cannot be renewed ends before anybody else may take it: its lines are cut, so no line
runs at two places at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

import msgspec

from serving.batch.base import BatchesAway, Lost
from serving.batch.means import Means
from serving.batch.values import Fault, Standing, Status
from serving.batch.work import Work
from serving.watched import watch

TRIM_S = 3600.0
STOP_S = 5.0
"""For lines under way when the gateway ends; beside its drain, which they share."""
DAY_MS = 86_400_000
_log = logging.getLogger(__name__)


class Runner:
    """Owns the task that claims, and one task a batch."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._works: dict[str, tuple[Work, asyncio.Task[None]]] = {}
        self._news = asyncio.Event()
        self._held_until_s = 0.0
        self._trim_at_s = 0.0
        self._is_first = True
        self._task: asyncio.Task[None] | None = None

    def start(self, on_death: Callable[[], None]) -> None:
        """Work from now on."""
        if self._means.settings.at_once_max:
            self._task = asyncio.create_task(self._run(), name="batches")
            watch(self._task, on_death)

    def poke(self) -> None:
        """A batch was made, or is to end."""
        self._news.set()

    @property
    def running(self) -> int:
        """Lines under way."""
        return sum(work.running for work, _ in self._works.values())

    async def close(self) -> None:
        """Let lines under way end, for a while, and hold nothing any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                for work, _ in list(self._works.values()):
                    await work.drained()
        await self._cut()
        if self._task is not None:
            with contextlib.suppress(BatchesAway):
                holder = self._means.holder
                await self._means.desk.ask(lambda store: store.release(holder))

    async def _cut(self) -> None:
        tasks = [task for _, task in self._works.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        is_away = False
        loop = asyncio.get_running_loop()
        while True:
            self._news.clear()
            try:
                await self._round()
                is_away = False
            except BatchesAway as error:
                if not is_away:
                    _log.warning("batches_away", extra={"reason": str(error)})
                is_away = True
            left_s = self._held_until_s - loop.time()
            if self._works and left_s < self._means.settings.lease_s / 4:
                _log.error("batch_leases_lost", extra={"batches": len(self._works)})
                await self._cut()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), self._means.settings.claim_s)

    async def _round(self) -> None:
        """Renew, claim, and now and then forget what is old. Raises BatchesAway."""
        means, loop = self._means, asyncio.get_running_loop()
        given, holder, desk = means.settings, means.holder, means.desk
        if self._is_first:  # what it held before it died is its own again at once
            await desk.ask(lambda store: store.release(holder))
            self._is_first = False
        now_ms, since_s = means.utc_ms(), loop.time()
        until_ms = now_ms + round(given.lease_s * 1e3)
        # Only what is worked on: what was dropped goes to whoever comes first, perhaps us again.
        mine = list(self._works)
        held = await desk.ask(lambda store: store.renew(holder, mine, until_ms))
        self._held_until_s = since_s + given.lease_s
        for batch_id in set(mine) & self._works.keys():
            work, task = self._works[batch_id]
            if batch_id not in held:
                task.cancel()
            elif held[batch_id] and not work.cancel_ms:
                work.cancel_ms = held[batch_id]
                work.news.set()
        room = given.batches_at_once_max - len(self._works)
        if room > 0 and not means.is_stopping():
            for standing in await desk.ask(lambda s: s.claim(holder, now_ms, until_ms, room)):
                if standing.batch.id not in self._works:  # else its last work is ending yet
                    self._begin(standing)
        if since_s >= self._trim_at_s:
            before_ms = now_ms - given.keep_days * DAY_MS
            await desk.ask(lambda store: store.trim(now_ms, before_ms))
            self._trim_at_s = since_s + TRIM_S

    def _begin(self, standing: Standing) -> None:
        work = Work(standing, self._means)
        task = asyncio.create_task(work.run(), name="batch")
        batch_id = standing.batch.id
        self._works[batch_id] = work, task
        _log.info("batch_begun", extra={"batch": batch_id, "status": standing.batch.status})

        def ended(task: asyncio.Task[None]) -> None:
            del self._works[batch_id]
            self._share()
            self._news.set()
            if not task.cancelled() and (error := task.exception()) is not None:
                self._died(work, error)

        task.add_done_callback(ended)
        self._share()

    def _share(self) -> None:
        """Every batch may have its part of the lines of this process."""
        part = self._means.settings.at_once_max // max(1, len(self._works))
        for work, _ in self._works.values():
            work.at_once_max = max(1, part)

    def _died(self, work: Work, error: BaseException) -> None:
        """A batch that was lost is another's; one that this process cannot work on must end, or
        it would kill whoever takes it."""
        if isinstance(error, Lost):
            _log.warning("batch_lost", extra={"batch": work.batch.id})
            return
        _log.error("batch_died", extra={"batch": work.batch.id}, exc_info=error)
        fault = Fault("internal_error", "the gateway failed on this batch; this has been logged")
        failed = msgspec.structs.replace(work.batch, status=Status.FAILED, errors=(fault,))
        holder = self._means.holder
        saving = asyncio.ensure_future(
            self._means.desk.ask(lambda store: store.save(holder, failed))
        )
        saving.add_done_callback(lambda done: done.cancelled() or done.exception())
