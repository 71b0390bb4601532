"""The per-process journal: every row is here, in the kernel's hands, before the client's last byte.

A segment is a run of frames (`ledger.frames`), each written by one `os.write`: it survives kill -9
of the process; what must survive the machine awaits `synced`. The journal interprets no record.

**The reserve is the next segment**, its first `reserve_bytes` preallocated. When a write fails, the
torn frame is cut off, writing moves into those blocks and the journal is *full*: `append` (new
work) raises, `append_end` (open work) goes on. `probe`, called at each drain, ends that state once
a new reserve could be allocated. So `can_begin` means: all that is open can still be ended.
On a copy-on-write file system (btrfs, ZFS) preallocation is a promise the kernel may break.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from serving.errors import OwnError
from serving.ledger.base import Position
from serving.ledger.disk_sync import DiskSync
from serving.ledger.frames import frame
from serving.ledger.held import Held
from serving.ledger.segments import segments, take
from serving.rows import Record


class JournalFull(OwnError):  # noqa: N818 - the state's name
    """No space (or a broken disk): the records were not accepted."""

    def __init__(self) -> None:
        super().__init__("journal_full", "the journal is out of space", retry_after_s=5.0)


class Disk(NamedTuple):
    """The system calls that fail for want of space; tests pass their own."""

    write: Callable[[int, bytes], int] = os.write
    fdatasync: Callable[[int], None] = os.fdatasync
    allocate: Callable[[int, int, int], None] = os.posix_fallocate


class Journal:
    """One process's journal. Not thread-safe: the event loop's thread owns it.

    Python ignores SIGXFSZ, so a file size limit shows as EFBIG and is handled like a full disk.
    """

    def __init__(self, folder: Path, lock_fd: int, sizes: tuple[int, int], disk: Disk) -> None:
        self.folder = folder
        self.life = os.urandom(6).hex()
        """Names this opening of the folder; part of its segments' names."""
        self.held = Held()
        """The newest records, for the drainer."""
        self._lock_fd = lock_fd
        self._limit_bytes = max(sizes)
        self._reserve_bytes = sizes[1]
        self._disk = disk
        self._sync = DiskSync(self, disk.fdatasync)
        self._sequence = max((s.sequence for s in segments(folder)), default=0) + 1
        self._fd = -1
        self._at = 0
        self._reserve_fd = -1
        self._retired: list[int] = []
        self._is_full = True
        self._is_folder_dirty = True

    @classmethod
    def open(
        cls, folder: Path, segment_bytes: int, reserve_bytes: int, disk: Disk | None = None
    ) -> Journal:
        """Take the folder (made if missing) and start a segment behind those of earlier lives.

        Starts full when the reserve cannot be allocated. Raises JournalLocked, or OSError when not
        even an empty file can be made.
        """
        lock_fd = take(folder)
        try:
            journal = cls(folder, lock_fd, (segment_bytes, reserve_bytes), disk or Disk())
            journal._fd = journal._create(journal._sequence, 0)
        except OSError:
            os.close(lock_fd)
            raise
        journal.probe()
        return journal

    @property
    def can_begin(self) -> bool:
        """Whether new work may start; False is `journal_full`."""
        return not self._is_full

    @property
    def tail(self) -> Position:
        """Where the next frame goes; all before it is whole and may be read."""
        return Position(self.life, self._sequence, self._at)

    def append(self, *records: Record) -> None:
        """Write records of new work as one frame. Raises JournalFull: then nothing was kept."""
        data = frame(records)
        if self._at + len(data) > self._limit_bytes:
            self.rotate()
        if self._is_full:
            raise JournalFull
        self._write(data, records)

    def append_end(self, *records: Record) -> None:
        """Write records that end accepted work as one frame, from the reserve if need be.

        Not for refusals: a flood of them would eat the reserve. Raises JournalFull only when that
        is used up too.
        """
        data = frame(records)
        if self._at + len(data) > self._limit_bytes:
            self.rotate()
        try:
            return self._write(data, records)
        except JournalFull:
            with contextlib.suppress(JournalFull):
                return self._write(data, records)  # the reserve
        return self._write(data, records)  # a new file: helps where the limit is on file size

    async def durable(self, *records: Record) -> None:
        """`append`, then return once it is on the disk. Raises JournalFull: act as if not kept."""
        self.append(*records)
        await self.synced()

    async def synced(self) -> None:
        """Return once all that was appended before is on the disk; callers share one fdatasync.

        Raises JournalFull when the disk refuses; the journal has then left the segment.
        """
        try:
            await self._sync.wait()
        except OSError as error:
            raise JournalFull from error

    def probe(self) -> None:
        """If full, try to allocate a new reserve; with it new work may begin again."""
        if not self._is_full:
            return
        if self._reserve_fd < 0:
            try:
                self._reserve_fd = self._create(self._sequence + 1, self._reserve_bytes)
            except OSError:
                return
        self._is_full = False

    def rotate(self) -> None:
        """Go on in the next segment and allocate the one after it, or become full."""
        self._advance()
        self._is_full = True
        self.probe()

    def close(self) -> None:
        """Give back what was preallocated and free the folder. The written records stay.

        Nobody may be waiting in `synced`.
        """
        self._sync.close()
        os.ftruncate(self._fd, self._at)
        if self._reserve_fd >= 0:
            self._path(self._sequence + 1).unlink()
        for fd in (*self._retired, self._fd, self._reserve_fd, self._lock_fd):
            if fd >= 0:
                os.close(fd)

    def take_unsynced(self) -> tuple[list[int], list[int]]:
        """For `DiskSync`: copies of the descriptors to sync, files and folders."""
        files, self._retired = [*self._retired, os.dup(self._fd)], []
        folders = [os.dup(self._lock_fd)] if self._is_folder_dirty else []
        self._is_folder_dirty = False
        return files, folders

    def sync_failed(self) -> None:
        """For `DiskSync`: leave the segment, as after a failed write."""
        self._is_folder_dirty = True
        self._fail()

    def _write(self, data: bytes, records: tuple[Record, ...]) -> None:
        try:
            written = self._disk.write(self._fd, data)
            while written < len(data):  # the next call tells why it was short
                more = self._disk.write(self._fd, data[written:])
                if more == 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                written += more
        except OSError as error:
            self._fail()
            raise JournalFull from error
        begin, self._at = self._at, self._at + written
        self.held.add(self._sequence, begin, self._at, records)

    def _fail(self) -> None:
        """Become full: cut off the torn frame and move into the reserve."""
        self._is_full = True
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, self._at)
        os.lseek(self._fd, self._at, os.SEEK_SET)
        if self._at > 0 or self._reserve_fd >= 0:  # never a row of empty files
            self._advance()

    def _advance(self) -> None:
        """Retire this segment for the next one; stay when there is none and no making one."""
        fd = self._reserve_fd
        if fd < 0:
            try:
                fd = self._create(self._sequence + 1, 0)
            except OSError:
                return
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, self._at)
        if self._sync.is_wanted:
            self._retired.append(self._fd)
        else:
            os.close(self._fd)
        self._fd, self._reserve_fd = fd, -1
        self._sequence += 1
        self._at = 0

    def _create(self, sequence: int, allocate_bytes: int) -> int:
        path = self._path(sequence)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            if allocate_bytes:
                self._disk.allocate(fd, 0, allocate_bytes)
        except OSError:
            os.close(fd)
            path.unlink()
            raise
        self._is_folder_dirty = True
        return fd

    def _path(self, sequence: int) -> Path:
        return self.folder / f"{sequence:010d}-{self.life}.log"
