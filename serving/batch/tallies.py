"""How far open batches are, for those who list them: to count is to read all lines of each."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from serving.batch.desk import Desk
from serving.batch.values import Counts

KEPT_S = 5.0
ENTRIES_MAX = 10_000


class Tallies:
    """Counts that are at most `KEPT_S` old."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._known: dict[str, tuple[float, Counts]] = {}

    async def of(self, tenant: str, batch_ids: Collection[str]) -> dict[str, Counts]:
        """Of a tenant's open batches."""
        now_s = asyncio.get_running_loop().time()
        if len(self._known) > ENTRIES_MAX:
            self._known.clear()
        fresh = {i: c for i in batch_ids for at_s, c in (self._get(i),) if now_s - at_s < KEPT_S}
        wanted = [batch_id for batch_id in batch_ids if batch_id not in fresh]
        if wanted:
            found = await self._desk.ask(lambda store: store.counts_of(wanted), tenant)
            for batch_id in wanted:
                fresh[batch_id] = found.get(batch_id, Counts())
                self._known[batch_id] = now_s, fresh[batch_id]
        return fresh

    def _get(self, batch_id: str) -> tuple[float, Counts]:
        return self._known.get(batch_id, (float("-inf"), Counts()))
