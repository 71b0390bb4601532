"""One process at a time, also across containers that share a disk."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TextIO

from serving.engine.weights.errors import LateError

LOCK_POLL_S = 0.2


@asynccontextmanager
async def locked(
    path: Path, limit_s: float, sleep: Callable[[float], Awaitable[None]]
) -> AsyncIterator[None]:
    """Hold the file's lock, which ends with the process. Raises LateError after `limit_s`."""
    with await asyncio.to_thread(_opened, path) as file:
        for _ in range(max(1, int(limit_s / LOCK_POLL_S))):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await sleep(LOCK_POLL_S)
        else:
            raise LateError(f"{path} was held by another process for {limit_s:.0f} s")
        yield


def _opened(path: Path) -> TextIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a+", encoding="utf-8")
