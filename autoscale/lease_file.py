"""The lease of one machine: a lock on a file, which the kernel lets go when its holder dies.

The lock alone keeps two controllers apart while the file stays where it is. Somebody may remove or
replace the file, though, and then both would hold a lock: each renewal checks that the path still
leads to the locked file and that the token in it is ours.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from autoscale.lease import Denied, Grant, Granted, next_token

BYTES_MAX = 4096


class Note(msgspec.Struct, frozen=True):
    """What stands in the file."""

    token: int
    pid: int
    since_ms: int


class FileLease:
    """Held from the first `ask` that finds it free until `release` or the end of the process."""

    def __init__(
        self, path: Path, seconds: float, clock: Callable[[], float], utc_ms: Callable[[], int]
    ) -> None:
        self._path = path
        self._seconds = seconds
        self._clock = clock
        self._utc_ms = utc_ms
        self._fd = -1
        self._token = 0

    async def ask(self) -> Grant:
        """See `Lease`."""
        at_s = self._clock()
        try:
            if self._fd < 0:
                refused = self._take()
                if refused is not None:
                    return refused
            elif lost := self._lost():
                self._let_go()
                return Denied(f"{self._path}: {lost}; another controller may hold it now")
        except OSError as error:
            self._let_go()
            return Denied(f"{self._path}: {error.strerror or error}")
        return Granted(self._token, at_s + self._seconds)

    async def release(self) -> None:
        """See `Lease`."""
        self._let_go()

    def _take(self) -> Denied | None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note = _read(fd)
            os.close(fd)
            who = f"process {note.pid} (token {note.token})" if note else "another process"
            return Denied(f"{who} holds {self._path}")
        except OSError:
            os.close(fd)
            raise
        self._fd = fd
        if lost := self._replaced():
            self._let_go()
            return Denied(f"{self._path}: {lost} while it was taken")
        before, now_ms = _read(fd), self._utc_ms()
        self._token = next_token(before.token if before else 0, now_ms)
        text = msgspec.json.encode(Note(self._token, os.getpid(), now_ms))
        os.pwrite(fd, text.ljust(BYTES_MAX // 16), 0)  # one block: no reader meets half of it
        os.fsync(fd)
        return None

    def _lost(self) -> str:
        """Why the lock is worth nothing any more; empty while it is."""
        if why := self._replaced():
            return why
        note = _read(self._fd)
        if note is None or note.token != self._token:
            return "somebody wrote another token into it"
        return ""

    def _replaced(self) -> str:
        try:
            now = os.stat(self._path)
        except FileNotFoundError:
            return "the file was removed"
        mine = os.fstat(self._fd)
        is_same = (now.st_dev, now.st_ino) == (mine.st_dev, mine.st_ino)
        return "" if is_same else "the file was replaced"

    def _let_go(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)  # lets go of the lock too
        self._fd, self._token = -1, 0


def _read(fd: int) -> Note | None:
    """The note, or None of an empty or unreadable file."""
    try:
        return msgspec.json.decode(os.pread(fd, BYTES_MAX, 0).strip(b" \0"), type=Note)
    except msgspec.MsgspecError:
        return None
