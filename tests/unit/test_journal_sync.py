"""Durability: who waits for the disk, who shares the trip, and what a broken disk means."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path

from serving.journal import Disk, Journal, JournalFull
from serving.ledger.frames import Stop, frames
from serving.ledger.segments import segments
from serving.records import Charge, Usage
from serving.rows import AttemptBegin, AttemptEnd, Record

SEGMENT = 64 << 10
RESERVE = 16 << 10


def begin(n: int, pad: str = "") -> AttemptBegin:
    return AttemptBegin(
        f"r{n}", 1, 10, 5, "t", "p", "k", "chat", "m" + pad, "interactive", "local", False, "why",
        7, 8, "", 0, 0,
    )  # fmt: skip


def end(n: int) -> AttemptEnd:
    return AttemptEnd(f"r{n}", 1, 20, "ok", "", Usage(7, 3), Charge(), 4)


def read(folder: Path) -> list[Record]:
    """All records of a folder, in order; every segment must be clean."""
    records: list[Record] = []
    for segment in segments(folder):
        found = frames(segment.path.read_bytes())
        assert found.stop is Stop.END
        records += found.records
    return records


class Syncs:
    """An fdatasync that counts, and waits for leave."""

    def __init__(self) -> None:
        self.count = 0
        self.threads: set[str] = set()
        self.entered = threading.Event()
        self.leave = threading.Event()
        self.leave.set()
        self.fails = False

    def __call__(self, fd: int) -> None:
        self.count += 1
        self.threads.add(threading.current_thread().name)
        self.entered.set()
        assert self.leave.wait(10)
        if self.fails:
            raise OSError(errno.EIO, "broken disk")
        os.fdatasync(fd)


def test_callers_share_one_fdatasync(tmp_path: Path) -> None:
    syncs = Syncs()

    async def run() -> None:
        journal = Journal.open(tmp_path / "0", SEGMENT, RESERVE, Disk(fdatasync=syncs))
        await asyncio.gather(*(journal.durable(begin(n)) for n in range(100)))
        assert syncs.count == 1
        syncs.leave.clear()
        syncs.entered.clear()
        first = asyncio.create_task(journal.durable(begin(100)))
        assert await asyncio.to_thread(syncs.entered.wait, 10)
        rest = [asyncio.create_task(journal.durable(begin(101 + n))) for n in range(50)]
        await asyncio.sleep(0)
        assert not first.done()
        syncs.leave.set()
        await asyncio.gather(first, *rest)
        assert syncs.count == 3
        journal.close()

    asyncio.run(run())
    assert len(syncs.threads) == 1
    assert syncs.threads.pop().startswith("ballast-journal-sync")
    assert read(tmp_path / "0") == [begin(n) for n in range(151)]


def test_rotation_leaves_no_waiting_record_unsynced(tmp_path: Path) -> None:
    synced: set[str] = set()

    def fdatasync(fd: int) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{fd}"))

    async def run() -> None:
        journal = Journal.open(tmp_path / "0", 2_048, 1_024, Disk(fdatasync=fdatasync))
        await asyncio.gather(*(journal.durable(begin(n)) for n in range(100)))
        journal.close()

    asyncio.run(run())
    written = {str(s.path) for s in segments(tmp_path / "0")}
    assert len(written) >= 4
    assert synced == written


def test_a_disk_that_cannot_sync_makes_nothing_durable_and_is_left(tmp_path: Path) -> None:
    syncs = Syncs()

    async def run() -> None:
        journal = Journal.open(tmp_path / "0", SEGMENT, RESERVE, Disk(fdatasync=syncs))
        await journal.durable(begin(0))
        syncs.fails = True
        results = await asyncio.gather(
            *(journal.durable(begin(n)) for n in range(1, 4)), return_exceptions=True
        )
        assert all(isinstance(result, JournalFull) for result in results)
        assert isinstance(results[0].__cause__, OSError)
        assert not journal.can_begin
        journal.append_end(end(0))
        assert journal.tail.sequence == 2
        syncs.fails = False
        journal.probe()
        await journal.durable(begin(9))
        journal.close()

    asyncio.run(run())
    assert read(tmp_path / "0") == [*map(begin, range(4)), end(0), begin(9)]


def test_a_caller_that_leaves_does_not_hurt_the_others(tmp_path: Path) -> None:
    async def run() -> None:
        journal = Journal.open(tmp_path / "0", SEGMENT, RESERVE)
        tasks = [asyncio.create_task(journal.durable(begin(n))) for n in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(r) for r in results] == [type(None), asyncio.CancelledError, type(None)]
        journal.close()

    asyncio.run(run())
