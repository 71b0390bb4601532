"""The cache of fetched weights: one folder per source, whole or not there at all.

NAME/             published by one rename, after every file was checked
NAME.pin.json     hashes of the first fetch; outlives the folder
NAME.seen.json    how the files lay on this disk when they were last hashed
.NAME.staging/    what is under way, also of a process that was killed
.NAME.lock        held by the one process that fetches or checks
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from serving.engine.weights import pins, verify
from serving.engine.weights.completeness import check_shards, check_whole
from serving.engine.weights.errors import (
    DiskFullError,
    OfflineError,
    TransferError,
    WeightsError,
    WrongBytesError,
)
from serving.engine.weights.lock import locked
from serving.engine.weights.pins import Found, Pin, Pinned, read_found, read_pin
from serving.engine.weights.remote import Listing, Remote, RemoteFile
from serving.engine.weights.settings import WeightsSettings
from serving.engine.weights.sources import SUMS, Kind, check_listing, is_wanted
from serving.engine.weights.transfer import BACKOFF_S_MAX, Means, Transfer

T = TypeVar("T")


class Wanted(NamedTuple):
    """What is to be in the cache."""

    source: str
    """Canonical."""
    revision: str
    kind: Kind
    with_code: bool = False
    sums: Mapping[str, str] = {}
    """Hashes that are known beforehand, from a manifest."""


class Cached(NamedTuple):
    """A folder that holds what was wanted."""

    folder: Path
    is_cold: bool
    """Something had to be fetched."""
    bytes_fetched: int


class Store:
    """One source's place in the cache."""

    def __init__(self, cache: Path, name: str, settings: WeightsSettings, means: Means) -> None:
        self._cache, self._name, self._settings, self._means = cache, name, settings, means
        self.folder = cache / name
        self.pin_file = cache / f"{name}.pin.json"
        self._seen_file = cache / f"{name}.seen.json"
        self._staging = cache / f".{name}.staging"
        self._done_file = self._staging / ".done.json"
        self._done: dict[str, Found] = {}

    async def ensure(self, remote: Remote, wanted: Wanted) -> Cached:
        """The folder, fetched if need be. Raises WeightsError."""
        settings = self._settings
        patience_s = settings.deadline_s + settings.wait_s
        async with locked(self._cache / f".{self._name}.lock", patience_s, self._means.sleep):
            pin = read_pin(self.pin_file)
            if pin is not None and self.folder.is_dir() and await self._is_good(pin, wanted):
                return Cached(self.folder, False, 0)
            if settings.is_offline:
                raise OfflineError(
                    f"{wanted.source} is not whole in {self._cache}, and offline mode forbids "
                    "fetching it: bring the folder there, or switch offline mode off"
                )
            try:
                async with asyncio.timeout(settings.deadline_s):
                    size = await self._fetch(remote, wanted, pin)
            except TimeoutError:
                raise TransferError(
                    f"{remote.name}: not within {settings.deadline_s:.0f} s; what came is kept, "
                    "the next start goes on from there"
                ) from None
            return Cached(self.folder, True, size)

    async def _is_good(self, pin: Pin, wanted: Wanted) -> bool:
        """Whether the published folder holds the pinned bytes; what does not is taken out."""
        differs = [p for p, h in wanted.sums.items() if p in pin.files and pin.files[p].sha256 != h]
        if differs:
            raise WrongBytesError(
                f"{differs[0]} of {wanted.source}: the manifest and the first fetch differ; "
                f"remove {self.pin_file} to fetch what the manifest says"
            )
        before = read_found(self._seen_file)
        seen = await verify.hashes(
            self.folder, pin.files, before, self._settings.verify, self._means.threads
        )
        bad = [p for p, f in pin.files.items() if not _is_same(f, seen.files.get(p))]
        if not bad:
            if seen.files != before:
                pins.write(self._seen_file, seen.files)
            return True
        if self._settings.is_offline:
            raise WrongBytesError(f"{self.folder / bad[0]}: not the bytes on record, and offline")
        # Mapped files live on under the new name; only the bad ones are fetched again.
        shutil.rmtree(self._staging, ignore_errors=True)
        self.folder.rename(self._staging)
        for path in bad:
            (self._staging / path).unlink(missing_ok=True)
        pins.write(self._done_file, {p: f for p, f in seen.files.items() if p not in bad})
        return False

    async def _fetch(self, remote: Remote, wanted: Wanted, pin: Pin | None) -> int:
        revision = wanted.revision or (pin.revision if pin else "")
        listing = await self._patiently(lambda: remote.list(self._means.requester, revision))
        every = {f.path for f in listing.files}
        check_listing(every, wanted.kind, remote.name)
        sums = dict(wanted.sums)
        self._done = {
            p: f for p, f in read_found(self._done_file).items()
            if f.look == pins.look_at(self._staging / p)
        }  # fmt: skip
        if SUMS in every:
            sums = await self._told_sums(remote, listing) | sums
        files = pins.expected(
            (
                f for f in listing.files
                if is_wanted(f.path, wanted.kind, with_code=wanted.with_code)
            ),
            pin, sums, remote.name,
        )  # fmt: skip
        todo = [f for f in files if not self._has(f)]
        self._check_room(todo)
        small = [f for f in todo if not f.path.endswith(".safetensors")]
        await self._bring(remote, listing.revision, small)
        check_shards(self._staging, every)
        await self._bring(remote, listing.revision, [f for f in todo if f not in small])
        check_whole(self._staging, (f.path for f in files), wanted.kind)
        self._publish(files, pin, Pin(wanted.source, listing.revision, _now_ms(), {}))
        return sum(self._pinned(f.path).size for f in todo)

    async def _told_sums(self, remote: Remote, listing: Listing) -> dict[str, str]:
        """The hashes that lie beside the files."""
        ask = remote.ask(SUMS, listing.revision)
        body, _ = await self._patiently(lambda: self._means.requester.read(ask))
        return pins.parse_sums(body.decode("utf-8", errors="replace"), f"{remote.name}: {SUMS}")

    def _has(self, file: RemoteFile) -> bool:
        """Whether an earlier process left the whole file."""
        found = self._done.get(file.path)
        if found is None or (file.sha256 and file.sha256 != found.sha256):
            return False
        return file.size in (None, found.look.size)

    def _check_room(self, todo: Sequence[RemoteFile]) -> None:
        needed = sum(f.size or 0 for f in todo)
        there = sum(
            look.size
            for f in todo
            if (look := pins.look_at(self._staging / f"{f.path}.partial")) is not None
        )
        reserve = self._settings.disk_reserve_mib << 20
        free = shutil.disk_usage(self._cache).free
        if needed - there + reserve > free:
            raise DiskFullError(
                f"{self._cache}: {_gib(needed - there)} are still to come and {_gib(reserve)} stay "
                f"free, but the disk has {_gib(free)}: free some, or name another cache_dir"
            )

    async def _bring(self, remote: Remote, revision: str, files: Sequence[RemoteFile]) -> None:
        """Fetch `files`, some at once. The first failure stops the others; all that came stays."""
        gate = asyncio.Semaphore(self._settings.parallel)

        async def one(file: RemoteFile) -> None:
            async with gate:
                target = self._staging / file.path
                done = await Transfer(remote, revision, file, target).run(self._means)
                look = pins.look_at(target)
                assert look is not None, "it was renamed a moment ago"
                self._done[file.path] = Found(done.sha256, look)
                pins.write(self._done_file, self._done)

        tasks = [asyncio.create_task(one(file)) for file in files]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _publish(self, files: Sequence[RemoteFile], pin: Pin | None, fresh: Pin) -> None:
        if pin is None:
            content = {f.path: self._pinned(f.path) for f in files}
            pins.write(self.pin_file, Pin(fresh.source, fresh.revision, fresh.pinned_ms, content))
        pins.write(self._seen_file, {f.path: self._done[f.path] for f in files})
        self._done_file.unlink(missing_ok=True)
        self._staging.chmod(0o755)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._staging.rename(self.folder)

    def _pinned(self, path: str) -> Pinned:
        found = self._done[path]
        return Pinned(found.look.size, found.sha256)

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Try again what may pass."""
        for tries in range(1, self._settings.attempts_max + 1):
            try:
                return await ask()
            except TransferError:
                if tries == self._settings.attempts_max:
                    raise
                await self._means.sleep(min(BACKOFF_S_MAX, 2.0 ** (tries - 1)))
        raise WeightsError("attempts_max is at least 1")


def _is_same(file: Pinned, found: Found | None) -> bool:
    return found is not None and (found.sha256, found.look.size) == (file.sha256, file.size)


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
