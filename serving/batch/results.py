"""Lines that ended, into the store: those that end together in one write (a write is a sync of the
disk). Whoever waits here has its line on the disk, or has lost its batch."""

from __future__ import annotations

import asyncio
import logging

from serving.batch.base import BatchesAway, Lost
from serving.batch.desk import Desk
from serving.batch.values import Ended

AWAY_S = 1.0
LINES_MAX = 256
_log = logging.getLogger(__name__)


class Results:
    """Of one batch; owns the writing task."""

    def __init__(self, desk: Desk, owner: str, batch_id: str) -> None:
        self._desk = desk
        self._owner, self._batch_id = owner, batch_id
        self._waiting: list[tuple[Ended, asyncio.Future[bool]]] = []
        self._task: asyncio.Task[None] | None = None

    async def put(self, ended: Ended) -> bool:
        """Store one; False when the batch is another's by now, who runs the line again."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((ended, done))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write(), name="batch-results")
        return await asyncio.shield(done)

    async def close(self) -> None:
        """Give up on what the store does not take."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._waiting:
            _log.error("batch_answers_dropped", extra={"count": len(self._waiting)})
            self._tell(self._waiting, is_kept=False)

    async def _write(self) -> None:
        while self._waiting:
            some = self._waiting[:LINES_MAX]
            rows = [ended for ended, _ in some]
            try:
                await self._desk.ask(
                    lambda store, rows=rows: store.end_lines(self._owner, self._batch_id, rows)  # type: ignore[misc]
                )
                is_kept = True
            except Lost:
                is_kept = False
            except BatchesAway:
                await asyncio.sleep(AWAY_S)
                continue
            del self._waiting[: len(some)]
            self._tell(some, is_kept=is_kept)

    def _tell(self, some: list[tuple[Ended, asyncio.Future[bool]]], *, is_kept: bool) -> None:
        for _, done in some:
            if not done.done():
                done.set_result(is_kept)
