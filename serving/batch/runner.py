"""Holds batches for this process and works on them; others take over what it drops.

A lease that cannot be renewed ends before anybody else may take it: its lines are cut, so no line
runs at two places at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable

import msgspec

from serving.batch import planning
from serving.batch.base import TRIMMED_MAX, BatchesAway, BatchStore, Left, Lost
from serving.batch.means import Means
from serving.batch.planning import Held
from serving.batch.values import Fault, Standing, Status
from serving.batch.work import Work
from serving.watched import watch

TRIM_S = 3600.0
STOP_S = 5.0
"""For lines under way when the gateway ends; beside its drain, which they share."""
DAY_MS = 86_400_000
REST_MS = 300_000
"""For a batch that made way because nothing of it could run: others are tried meanwhile."""
LATE_MAX = 2
"""Batches beside those that have a place: ones that only have to be ended."""
_log = logging.getLogger(__name__)


class Runner:
    """Owns the task that claims, and one task a batch."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._works: dict[str, tuple[Work, asyncio.Task[None]]] = {}
        self._late: set[str] = set()
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
                async with asyncio.timeout(self._means.settings.claim_s):
                    await self._news.wait()

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
        if not means.is_stopping():
            await self._claim(now_ms, until_ms)
        if since_s >= self._trim_at_s:
            before_ms = now_ms - given.keep_days * DAY_MS
            gone = await desk.ask(lambda store: store.trim(now_ms, before_ms))
            # One helping a round: the next one renews leases first.
            self._trim_at_s = since_s if gone >= TRIMMED_MAX else since_s + TRIM_S

    async def _claim(self, now_ms: int, until_ms: int) -> None:
        """Take what may be worked on; with every place taken, see who is to make way."""
        desk, holder = self._means.desk, self._means.holder
        free = LATE_MAX - len(self._late)
        if free > 0:
            for standing in await desk.ask(lambda s: s.claim_late(holder, now_ms, until_ms, free)):
                self._late.add(standing.batch.id)
                self._begin(standing)
        room = self._means.settings.batches_at_once_max - len(self._works) + len(self._late)
        if room > 0:
            found = await desk.ask(lambda s: s.claim(holder, now_ms, until_ms, room))
            for standing in found:
                self._begin(standing)
            room -= len(found)
        if room <= 0:
            self._make_way(await desk.ask(lambda store: store.waiting(now_ms)))

    def _make_way(self, waiting: dict[str, int]) -> None:
        now_s = asyncio.get_running_loop().time()
        placed = [work for name, (work, _) in self._works.items() if name not in self._late]
        held = [
            Held(
                work.batch.id, work.batch.tenant, work.batch.expires_ms,
                0.0 if work.idle_since_s is None else now_s - work.idle_since_s,
            )
            for work in placed if work.rest_ms is None
        ]  # fmt: skip
        freed = len(placed) - len(held)
        found = planning.leaving(held, waiting, freed, self._means.settings.idle_s)
        for batch_id, is_idle in found.items():
            work, _ = self._works[batch_id]
            work.rest_ms = REST_MS if is_idle else 0
            work.news.set()
            _log.info("batch_makes_way", extra={"batch": batch_id, "is_idle": is_idle})

    def _begin(self, standing: Standing) -> None:
        if standing.batch.id in self._works:  # its last work is ending yet
            return
        work = Work(standing, self._means)
        task = asyncio.create_task(work.run(), name="batch")
        batch_id = standing.batch.id
        self._works[batch_id] = work, task
        _log.info("batch_begun", extra={"batch": batch_id, "status": standing.batch.status})

        def ended(task: asyncio.Task[None]) -> None:
            del self._works[batch_id]
            self._late.discard(batch_id)
            self._share()
            self._news.set()
            if not task.cancelled() and (error := task.exception()) is not None:
                self._died(work, error)

        task.add_done_callback(ended)
        self._share()

    def _share(self) -> None:
        """Every tenant may have its part of the lines of this process, and every batch its part of
        that."""
        has = Counter(work.batch.tenant for work, _ in self._works.values())
        for work, _ in self._works.values():
            part = self._means.settings.at_once_max // (len(has) * has[work.batch.tenant])
            work.at_once_max = max(1, part)

    def _died(self, work: Work, error: BaseException) -> None:
        """A batch that was lost is another's; one that this process cannot work on must end, or
        it would kill whoever takes it."""
        batch, holder = work.batch, self._means.holder
        if isinstance(error, Lost):
            _log.warning("batch_lost", extra={"batch": batch.id})
            return
        if isinstance(error, Left):
            until_ms = self._means.utc_ms() + (work.rest_ms or 0)
            self._tell(lambda store: store.give_up(holder, batch.id, until_ms))
            return
        _log.error("batch_died", extra={"batch": work.batch.id}, exc_info=error)
        fault = Fault("internal_error", "the gateway failed on this batch; this has been logged")
        failed = msgspec.structs.replace(batch, status=Status.FAILED, errors=(fault,))

        def end(store: BatchStore) -> None:
            counts = store.counts(batch.id)
            store.finish(holder, msgspec.structs.replace(failed, counts=counts))

        self._tell(end)

    def _tell(self, order: Callable[[BatchStore], None]) -> None:
        """Ask the store, and do not wait: where it is away the lease ends by itself."""
        telling = asyncio.ensure_future(self._means.desk.ask(order))
        telling.add_done_callback(lambda done: done.cancelled() or done.exception())
