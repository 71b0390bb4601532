"""Blocking calls of a library that may hang, exit or raise anything, beside an event loop.

Each runs in a thread of its own that the process does not wait for when it ends. Not a pool's:
those are joined at the end, and one call without an answer would keep the controller from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


class Blocking:
    """At most `calls_max` at a time."""

    def __init__(self, name: str, calls_max: int) -> None:
        self._name = name
        self._free = threading.BoundedSemaphore(calls_max)

    async def settled(self, work: Callable[[], T], limit_s: float) -> Future[T] | None:
        """What came of the call, read by `outcome`. None: no answer in time; it is left to end by
        itself, unread. Raises BlockingIOError when too many have not ended."""
        if not self._free.acquire(blocking=False):
            raise BlockingIOError(f"{self._name}: earlier calls wait for answers")
        call: Future[T] = Future()

        def run() -> None:
            try:
                outcome(work, call)
            finally:
                self._free.release()

        threading.Thread(target=run, name=self._name, daemon=True).start()
        waiting = asyncio.wrap_future(call)
        waiting.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait({waiting}, timeout=limit_s)
        return call if call.done() else None


def outcome(work: Callable[[], T], call: Future[T]) -> Future[T]:
    """Run it here and keep what it gave or raised, an exit too: nothing passes."""
    try:
        call.set_result(work())
    except BaseException as error:  # noqa: BLE001 - kept for whoever awaits it
        call.set_exception(error)
    return call
