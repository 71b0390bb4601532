"""What administrators decided, as this process knows it: read every half second, obeyed at once.

Reads the directory in a thread of its own, tells keys and fleet of each change, and of the time of
the last good reading: routing stops egress, and later all but the premises, when that is long ago.
Decides nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from models.worded import Worded
from serving.auth import KeyConflict
from serving.directory.base import EMPTY, DirectoryAway, DirectoryStore, Head, VersionConflict
from serving.directory.chain import Entry, Examination
from serving.directory.changes import Change
from serving.directory.values import Directory, DirectoryFault, Switch, build
from serving.errors import OwnError
from serving.records import Stops
from serving.watched import watch

POLL_S = 0.5
"""A kill switch holds everywhere within this and one reading."""
FIRST_S_MAX = 5.0
"""The start waits so long for the first reading; then it goes on without, and nothing leaves."""
PAGE = 1000
"""Entries of the history examined at a time."""
TRIES_MAX = 20
"""Of one change, against those of other processes; those of this one wait in line."""
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Policies:
    """Owns the reading task, its thread, and the latest `directory`."""

    def __init__(self, open_store: Callable[[], DirectoryStore]) -> None:
        self._open_store = open_store
        self._store: DirectoryStore | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ballast-directory")
        self._task: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self._head = EMPTY
        self._conflict = ""
        self.directory = Directory()
        self.read_s = float("-inf")
        """When it was last known to be current, on the loop's clock."""
        self.last_error = ""
        self.on_change: Callable[[Directory], None] = lambda _: None
        """Told of a new state; may raise KeyConflict, and is told again until it does not."""
        self.on_read: Callable[[], None] = lambda: None
        """Told after every reading, good or bad."""
        self.on_death: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Read once, within `FIRST_S_MAX`, and go on reading."""
        # Not `wait_for`: in Python 3.11 it loses a cancellation that comes as the reading ends.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_S_MAX):
                await self.refresh()
        self._task = asyncio.create_task(self._run(), name="policies")
        watch(self._task, lambda: self.on_death())

    async def close(self) -> None:
        """Stop reading and release the store."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(DirectoryAway):
            await self._ask(self._close_store)
        self._thread.shutdown()

    async def refresh(self) -> None:
        """One reading."""
        started_s = asyncio.get_running_loop().time()
        try:
            found = await self._ask(lambda: self._newer(self._head))
            if found is not None:
                self._head, self.directory = found
                _log.info("directory_changed", extra={"version": self.directory.version})
                if self.directory.confined:
                    facts = {"tenants": sorted(self.directory.confined)[:20]}
                    _log.warning("directory_newer", extra=facts)
            if found is not None or self._conflict:
                self._conflict = self._told()
            error = self._conflict
        except (DirectoryAway, DirectoryFault) as fault:
            error = str(fault)
        if error and error != self.last_error:
            _log.error("directory_unreadable", extra={"reason": error})
        self.last_error = error
        if not error:
            self.read_s = started_s
        self.on_read()

    def _told(self) -> str:
        """Why what is stored cannot be obeyed beside the settings; empty when it is."""
        try:
            self.on_change(self.directory)
        except KeyConflict as error:
            return str(error)
        return ""

    async def change(self, decide: Callable[[Directory], Change]) -> Directory:
        """Decide on the current state and store it; decided anew when another change came first.

        Raises what `decide` raises, DirectoryAway, or OwnError when others are always faster.
        """
        async with self._changing:
            for _ in range(TRIES_MAX):
                await self.refresh()
                # What contradicts the settings can still be mended here, and a switch be thrown.
                if self.last_error and not self._conflict:
                    raise DirectoryAway(self.last_error)
                head, change = self._head, decide(self.directory)
                try:
                    await self._ask(lambda h=head, c=change: self._opened().commit(h, c))  # type: ignore[misc]
                except VersionConflict:
                    continue
                await self.refresh()
                return self.directory
        raise OwnError(
            "directory_away", Worded("directory.busy", "the directory changes too often; try again")
        )

    async def history(self, after: int, limit: int) -> list[Entry]:
        """The directory's history. Raises DirectoryAway."""
        return await self._ask(lambda: self._opened().history(after, limit))

    async def examine(self, kept: tuple[int, bytes] | None) -> Examination:
        """Check the whole history, off the event loop. Raises DirectoryAway."""
        examination = Examination(kept)

        def take() -> bool:
            page = self._opened().history(examination.number, PAGE)
            examination.take(page)
            return bool(page)

        while await self._ask(take):  # readings of what is in force come between
            pass
        return examination

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            await self.refresh()

    async def _ask(self, question: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, question)

    def _newer(self, known: Head) -> tuple[Head, Directory] | None:
        store = self._opened()
        if store.head() == known:
            return None
        head, rows = store.read()
        return head, build(head.number, rows)

    def _opened(self) -> DirectoryStore:
        if self._store is None:
            self._store = self._open_store()
        return self._store

    def _close_store(self) -> None:
        if self._store is not None:
            self._store.close()


def stops(directory: Directory) -> Stops | None:
    """The thrown switches as routing reads them; None when there are none."""
    switches = list(directory.switches.values())
    if not switches:
        return None
    return Stops(
        any(s.scope == "all" for s in switches),
        _values(switches, "model"), _values(switches, "tenant"), _values(switches, "provider"),
        _values(switches, "jurisdiction"),
    )  # fmt: skip


def _values(switches: list[Switch], scope: str) -> frozenset[str]:
    return frozenset(s.value for s in switches if s.scope == scope)
