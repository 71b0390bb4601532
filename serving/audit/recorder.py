"""Puts the policy that stands in settings and files into the history, at the start and when a file
that is read anew changes it.

Recorded where its digest differs from the last one recorded, by whom else ever: of pods that start
together one records it. A history that is away delays the record, never the start; it is tried
again until it stands.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec

from serving.audit.standing import ACTION, SUBJECT, Standing, details, digest, policy
from serving.directory.base import DirectoryAway, DirectoryStore, Head, VersionConflict
from serving.directory.base import decode_event as decode
from serving.directory.chain import GENESIS, Entry
from serving.directory.changes import By, Change, event
from serving.watched import watch

LOOK_S: Final = 2.0
"""Between two looks at what was read anew, and two tries at a history that is away."""
FIRST_S_MAX: Final = 5.0
"""The start waits so long for the record."""
TRIES: Final = 20
"""Against others' changes, before it waits again."""
PAGE: Final = 1000
_NEEDLE = ACTION.encode()
_log = logging.getLogger(__name__)


class Recorder:
    """Owns a task, its thread and a connection of its own."""

    def __init__(
        self, open_store: Callable[[], DirectoryStore], actor: str, look: Callable[[], Standing],
        utc_ms: Callable[[], int],
    ) -> None:  # fmt: skip
        self._open_store = open_store
        self._actor = actor
        self._look = look
        self._utc_ms = utc_ms
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ballast-policy-record")
        self._task: asyncio.Task[None] | None = None
        self._recorded: Standing | None = None
        self._last_seen = ""
        self._head = Head(0, GENESIS)
        self._last: dict[str, Any] | None = None
        """Of the last record on the chain: the details."""
        self._is_away = False
        self.on_death: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Record now, within `FIRST_S_MAX`, and go on looking."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_S_MAX):
                await self.look()
        self._task = asyncio.create_task(self._run(), name="policy-record")
        watch(self._task, lambda: self.on_death())

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.to_thread(self._thread.shutdown)

    async def look(self) -> None:
        """Record what stands, if it is another than before. A store that is away is said once."""
        standing = self._look()
        if standing == self._recorded:
            return
        try:
            await asyncio.get_running_loop().run_in_executor(
                self._thread, lambda: self._take(standing)
            )
        except (DirectoryAway, OSError) as error:
            if not self._is_away:
                _log.warning("policy_not_recorded", extra={"reason": str(error)[:300]})
            self._is_away = True
        else:
            self._recorded, self._is_away = standing, False

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

    def _take(self, standing: Standing) -> None:
        folder = standing.settings.guard.terms_dir
        told = policy(standing, {name: _digest(folder, name) for name, _, _ in standing.lists})
        mark = digest(told)
        if mark == self._last_seen:
            return  # a file was touched; or another pod has another policy, which it recorded
        with contextlib.closing(self._open_store()) as store:
            self._record(store, told, mark)
        self._last_seen = mark

    def _record(self, store: DirectoryStore, told: dict[str, Any], mark: str) -> None:
        for _ in range(TRIES):
            self._read(store)
            if self._last is not None and self._last.get("digest") == mark:
                return
            before = None if self._last is None else self._last.get("policy")
            by = By(self._actor, self._utc_ms())
            change = Change([], event(SUBJECT, ACTION, by, details(told, before)))
            try:
                head = store.commit(self._head, change)
            except VersionConflict:
                continue
            _log.info("policy_recorded", extra={"number": head.number, "digest": mark})
            return
        raise DirectoryAway(f"others wrote the history {TRIES} times first")

    def _read(self, store: DirectoryStore) -> None:
        """Read on to the end of the history; another history than the one known, from its start."""
        found = store.head()
        if found.number < self._head.number:
            self._head, self._last = Head(0, GENESIS), None
        while page := store.history(self._head.number, PAGE):
            for entry in page:
                self._last = details_of(entry) or self._last
            self._head = Head(page[-1].number, page[-1].hash)


def details_of(entry: Entry) -> dict[str, Any] | None:
    """A record's details; None of any other entry, and of one that cannot be read."""
    if _NEEDLE not in entry.data:
        return None
    try:
        found = decode(entry.data)
    except msgspec.DecodeError:
        return None
    return found.details if found.action == ACTION else None


def _digest(folder: Path | None, name: str) -> str:
    """SHA-256 of a term list; of one that went meanwhile, nothing."""
    assert folder is not None
    try:
        with (folder / name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
