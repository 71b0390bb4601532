"""Grouped fdatasync: many callers, one trip to the disk."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol


class Dirty(Protocol):
    """What is synced."""

    def take_unsynced(self) -> tuple[list[int], list[int]]:
        """Descriptors of files and of folders to sync; the caller closes them."""
        ...

    def sync_failed(self) -> None:
        """The kernel may have dropped pages and will not say so twice: leave those files."""
        ...


class DiskSync:
    """Owned by the event loop's thread; the calls that block run in one thread of its own."""

    def __init__(self, dirty: Dirty, fdatasync: Callable[[int], None]) -> None:
        self._dirty = dirty
        self._fdatasync = fdatasync
        self._waiting: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ballast-journal-sync")

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for a sync that has not begun."""
        return bool(self._waiting)

    async def wait(self) -> None:
        """Return once all that was written before is on the disk. Raises OSError.

        Grouping needs no timer: callers of one turn of the loop, and all who come while a sync
        runs, share the next one.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="journal-sync")
        await done

    def close(self) -> None:
        """Stop the thread; no call may be waiting."""
        self._thread.shutdown()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                files, folders = self._dirty.take_unsynced()
                failure: OSError | None = None
                try:
                    await loop.run_in_executor(self._thread, self._sync, files, folders)
                except OSError as error:
                    failure = error
                    # Who came meanwhile wrote to the same files.
                    batch, self._waiting = batch + self._waiting, []
                    self._dirty.sync_failed()
                _settle(batch, failure)
        finally:
            self._task = None

    def _sync(self, files: list[int], folders: list[int]) -> None:
        try:
            for fd in files:
                self._fdatasync(fd)
            for fd in folders:
                os.fsync(fd)
        finally:
            for fd in (*files, *folders):
                os.close(fd)


def _settle(batch: list[asyncio.Future[None]], failure: OSError | None) -> None:
    for done in batch:
        if done.done():  # its caller was cancelled
            continue
        if failure is None:
            done.set_result(None)
        else:
            done.set_exception(failure)
