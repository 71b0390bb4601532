"""Tells a gateway which offerings drift: they are asked last. A soft signal, never a refusal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from serving.quality.base import Found, QualityAway, QualityStore
from serving.watched import watch

READ_S = 30.0
VALID_MS = 86_400_000
"""What was found longer ago says nothing: perhaps nobody asks any more."""
_log = logging.getLogger(__name__)


def drifting(found: list[Found], now_ms: int) -> frozenset[str]:
    """Targets with a drift that is not too old. Pure."""
    return frozenset(one.target for one in found if one.drifts and now_ms - one.at_ms <= VALID_MS)


class Watch:
    """Owns the reading task."""

    def __init__(
        self,
        open_store: Callable[[], QualityStore],
        tell: Callable[[frozenset[str]], None],
        utc_ms: Callable[[], int],
    ) -> None:
        self._open_store = open_store
        self._tell = tell
        self._utc_ms = utc_ms
        self._store: QualityStore | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, on_death: Callable[[], None]) -> None:
        """Read from now on."""
        self._task = asyncio.create_task(self._run(), name="quality")
        watch(self._task, on_death)

    async def close(self) -> None:
        """Stop, and release the store."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._store is not None:
            with contextlib.suppress(QualityAway):
                await asyncio.to_thread(self._store.close)

    async def _run(self) -> None:
        is_away = False
        while True:
            try:
                found = await asyncio.to_thread(self._read)
                self._tell(drifting(found, self._utc_ms()))
                is_away = False
            except QualityAway as error:
                if not is_away:
                    _log.warning("quality_away", extra={"reason": str(error)})
                is_away = True
            await asyncio.sleep(READ_S)

    def _read(self) -> list[Found]:
        if self._store is None:
            self._store = self._open_store()
        return self._store.found()
