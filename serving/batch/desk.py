"""The one way to the store of batches: a thread, and the store opened when it is first asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from serving.batch.base import BatchesAway, BatchStore

_T = TypeVar("_T")
OF_TENANT_MAX = 2
"""Questions that stand in the thread's line at once: who asks more waits for its own answers."""


class Desk:
    """Owns the thread and the store."""

    def __init__(self, open_store: Callable[[], BatchStore]) -> None:
        self._open_store = open_store
        self._store: BatchStore | None = None
        self._asking: Counter[str] = Counter()
        self._gates: dict[str, asyncio.Semaphore] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ballast-batches")

    async def ask(self, question: Callable[[BatchStore], _T], tenant: str = "") -> _T:
        """Run a call on the store in its thread. A `tenant` that asks much stands in its own way
        only. Raises BatchesAway, and what the call raises."""
        if not tenant:
            return await self._run(question)
        gate = self._gates.setdefault(tenant, asyncio.Semaphore(OF_TENANT_MAX))
        self._asking[tenant] += 1
        try:
            async with gate:
                return await self._run(question)
        finally:
            self._asking[tenant] -= 1
            if not self._asking[tenant]:
                del self._asking[tenant], self._gates[tenant]

    async def _run(self, question: Callable[[BatchStore], _T]) -> _T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: question(self._opened()))

    async def close(self) -> None:
        """Release the store, after all that was asked."""
        if self._store is not None:
            with contextlib.suppress(BatchesAway):
                await self.ask(lambda store: store.close())
        self._thread.shutdown()

    def _opened(self) -> BatchStore:
        if self._store is None:
            self._store = self._open_store()
        return self._store
