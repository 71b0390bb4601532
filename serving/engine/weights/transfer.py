"""Brings one file over: resumes what is there, checks every byte, publishes by renaming.

A file grows as `NAME.partial`, beside `NAME.etag`, which says of which version it is. Whoever is
killed leaves both behind, and the next process goes on from there.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import BinaryIO, NamedTuple

import aiohttp

from serving.engine.weights.errors import DiskFullError, TransferError, WrongBytesError
from serving.engine.weights.remote import Remote, RemoteFile
from serving.engine.weights.requester import Ask, Requester, StatusError

CHUNK_BYTES = 1 << 20
BACKOFF_S = 1.0
BACKOFF_S_MAX = 30.0
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
Sleep = Callable[[float], Awaitable[None]]
OnBytes = Callable[[int], None]


class Means(NamedTuple):
    """What transfers share."""

    requester: Requester
    threads: Executor
    """Disk and hashing: neither may stop the loop."""
    sleep: Sleep
    attempts_max: int
    on_bytes: OnBytes = lambda _: None
    """Told of every byte that is there, also when one turned out to be in vain (negative)."""


class Done(NamedTuple):
    """A file that is there and checked."""

    size: int
    sha256: str


class Transfer:
    """One file's way into a folder."""

    def __init__(self, remote: Remote, revision: str, file: RemoteFile, target: Path) -> None:
        self._remote = remote
        self._revision = revision
        self._file = file
        self._target = target
        self._partial = target.with_name(target.name + ".partial")
        self._etag_file = target.with_name(target.name + ".etag")

    async def run(self, means: Means) -> Done:
        """Fetch the file. Raises WeightsError; what came so far stays for the next try."""
        tries, restarts, had = 0, 0, self._size()
        means.on_bytes(had)
        while True:
            try:
                return await self._try(means)
            except WrongBytesError:
                # Bytes of an interrupted try may be of another version: once, all from the start.
                means.on_bytes(-self._size())
                self._drop()
                had, restarts = 0, restarts + 1
                if restarts > 1:
                    raise
            except TransferError as error:
                now = self._size()
                tries = 1 if now > had else tries + 1
                had = now
                if tries >= means.attempts_max:
                    raise TransferError(f"{error} (tried {tries} times without a new byte)") from (
                        error
                    )
                await means.sleep(_pause_s(tries, error))

    async def _try(self, means: Means) -> Done:
        """One GET, from where the partial file ends."""
        offset, etag = self._size(), self._etag()
        if offset and not etag and not self._is_known():
            # Nothing says that what is there belongs to what would come.
            means.on_bytes(-offset)
            self._drop()
            offset = 0
        if self._file.size is not None and offset == self._file.size:
            return await self._finish(means)
        async with means.requester.get(self._ask(offset, etag)) as response:
            offset = self._accepted(response, offset, etag, means)
            await self._receive(response, offset, means)
        return await self._finish(means)

    def _ask(self, offset: int, etag: str) -> Ask:
        ask = self._remote.ask(self._file.path, self._revision)
        if not offset:
            return ask
        headers = {"range": f"bytes={offset}-"} | ({"if-range": etag} if etag else {})
        return ask._replace(headers={**ask.headers, **headers})

    def _accepted(
        self, response: aiohttp.ClientResponse, offset: int, etag: str, means: Means
    ) -> int:
        """Where the body starts in the file. Raises WrongBytesError when it cannot fit."""
        found = _strong(response.headers.get("etag", ""))
        if response.headers.get("content-encoding", "identity") != "identity":
            raise WrongBytesError(f"{self._label}: it is sent packed, though that was declined")
        if response.status == 416:
            raise WrongBytesError(f"{self._label}: nothing from byte {offset} on")
        if response.status == 206:
            span = _RANGE.fullmatch(response.headers.get("content-range", ""))
            if span is None or int(span[1]) != offset:
                raise WrongBytesError(f"{self._label}: another range than was asked for")
            if etag and found and etag != found:
                raise WrongBytesError(f"{self._label}: it has changed since the last try")
            self._check_total(None if span[2] == "*" else int(span[2]))
        else:
            # The whole file, because it was asked for, has changed, or ranges are not spoken.
            if offset:
                means.on_bytes(-offset)
                self._drop()
            offset = 0
            self._check_total(response.content_length)
        if found and found != etag:
            self._partial.parent.mkdir(parents=True, exist_ok=True)
            self._etag_file.write_text(found, encoding="latin-1")
        return offset

    def _check_total(self, total: int | None) -> None:
        if None not in (total, self._file.size) and total != self._file.size:
            raise WrongBytesError(
                f"{self._label}: {total} bytes, but {self._file.size} are on record"
            )

    async def _receive(self, response: aiohttp.ClientResponse, offset: int, means: Means) -> None:
        loop = asyncio.get_running_loop()
        self._partial.parent.mkdir(parents=True, exist_ok=True)
        limit = self._file.size
        with self._partial.open("ab" if offset else "wb", buffering=0) as out:
            pending = bytearray()
            try:
                async for chunk in response.content.iter_any():
                    pending += chunk
                    self._check_length(offset + len(pending), limit)
                    if len(pending) >= CHUNK_BYTES:
                        data = bytes(pending)
                        pending.clear()
                        offset += len(data)
                        await loop.run_in_executor(means.threads, self._write, out, data)
                        means.on_bytes(len(data))
            finally:
                # However the stream ended, what came is kept.
                self._write(out, pending)
                means.on_bytes(len(pending))
        size = self._size()
        if limit is not None and size < limit:
            raise TransferError(f"{self._label}: cut short at {size} of {limit} bytes")

    def _check_length(self, size: int, limit: int | None) -> None:
        if limit is not None and size > limit:
            raise WrongBytesError(f"{self._label}: more than the {limit} bytes on record")

    def _write(self, out: BinaryIO, data: bytes | bytearray) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[out.write(view) :]
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise DiskFullError(
                    f"{self._label}: no room on the disk of {self._partial.parent}; free some or "
                    "name another cache_dir, then start again: it goes on where it stopped"
                ) from error
            raise

    async def _finish(self, means: Means) -> Done:
        """Check all bytes and publish the file under its name."""
        loop = asyncio.get_running_loop()
        done = await loop.run_in_executor(means.threads, self._checked)
        self._partial.rename(self._target)
        self._etag_file.unlink(missing_ok=True)
        return done

    def _checked(self) -> Done:
        size = self._partial.stat().st_size
        sha256, git_oid = hashlib.sha256(), hashlib.sha1(usedforsecurity=False)
        git_oid.update(b"blob %d\0" % size)
        with self._partial.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                sha256.update(chunk)
                if self._file.git_oid:
                    git_oid.update(chunk)
            os.fsync(file.fileno())
        wanted, found = self._file.sha256, sha256.hexdigest()
        if not wanted and self._file.git_oid:
            wanted, found = self._file.git_oid, git_oid.hexdigest()
        if wanted and wanted != found:
            raise WrongBytesError(
                f"{self._label}: hash {found} of {size} bytes, but {wanted} is on record"
            )
        return Done(size, sha256.hexdigest())

    def _is_known(self) -> bool:
        return bool(self._file.sha256 or self._file.git_oid)

    def _size(self) -> int:
        try:
            return self._partial.stat().st_size
        except FileNotFoundError:
            return 0

    def _etag(self) -> str:
        try:
            return self._etag_file.read_text(encoding="latin-1")
        except FileNotFoundError:
            return ""

    def _drop(self) -> None:
        self._partial.unlink(missing_ok=True)
        self._etag_file.unlink(missing_ok=True)

    @property
    def _label(self) -> str:
        return f"{self._remote.name}: {self._file.path}"


def _strong(etag: str) -> str:
    """An entity tag that vouches for every byte; "" for a weak one."""
    return etag if etag.startswith('"') and etag.endswith('"') and len(etag) > 2 else ""


def _pause_s(tries: int, error: TransferError) -> float:
    told = error.retry_after_s if isinstance(error, StatusError) else None
    return max(told or 0.0, min(BACKOFF_S_MAX, BACKOFF_S * 2.0 ** (tries - 1)))
