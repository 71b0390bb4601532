"""The short way from the journal into the ledger: the same rows as through the file, always."""

from __future__ import annotations

import asyncio
import inspect
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from serving.journal import Journal
from serving.ledger import held, recover
from serving.ledger.base import Position
from serving.ledger.drain import Drainer
from serving.ledger.frames import FRAME_BYTES_MAX, frame, frames
from serving.ledger.held import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, BATCHES_MAX, Held
from serving.ledger.segments import Segment, segments
from serving.ledger.sqlite import SqliteLedger
from serving.records import Charge, LatencyClass, Outcome, Surface, Usage
from serving.rows import AttemptBegin, AttemptEnd, Record, RequestEnd

SEGMENT = 64 << 10
RESERVE = 16 << 10


def begin(request_id: str, attempt: int = 1) -> AttemptBegin:
    return AttemptBegin(
        request_id, attempt, 10, 5, "acme", "p", "k", Surface.CHAT, "m", LatencyClass.INTERACTIVE,
        "api", False, "why", 7, 8, "USD", 1_000_000, 2_000_000,
    )  # fmt: skip


def end(request_id: str, attempt: int = 1) -> AttemptEnd:
    return AttemptEnd(request_id, attempt, 20, Outcome.OK, "", Usage(7, 3), Charge("USD", 13), 4)


def request(request_id: str) -> RequestEnd:
    return RequestEnd(
        request_id, 5, 20, "acme", "p", "k", Surface.CHAT, "m", LatencyClass.INTERACTIVE,
        Outcome.OK, 200, "", "why", "api", 1, 1, 4, Usage(7, 3),
    )  # fmt: skip


def write(journal: Journal, count: int, prefix: str = "r") -> None:
    for n in range(count):
        journal.append(begin(f"{prefix}{n:05d}"))
        journal.append_end(end(f"{prefix}{n:05d}"), request(f"{prefix}{n:05d}"))


def journal_in(tmp_path: Path, segment_bytes: int = SEGMENT) -> Journal:
    return Journal.open(tmp_path / "journal" / "0", segment_bytes, RESERVE)


class Died(Exception):  # noqa: N818 - an event
    """The process ended here."""


class Watched:
    """A ledger that notes what it is given, and may end the process before or after a commit."""

    def __init__(self, inner: SqliteLedger, lives: int = 1 << 30, commits_last: bool = False):
        self.inner = inner
        self.lives = lives
        self.commits_last = commits_last
        self.records: list[Record] = []
        self.positions: list[Position] = []

    def apply(self, records: Sequence[Record], position: Position | None = None) -> None:
        assert position is not None
        self.lives -= 1
        if self.lives >= 0 or self.commits_last:
            self.inner.apply(records, position)
            self.records += records
            self.positions.append(position)
        if self.lives < 0:
            raise Died

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger.open(tmp_path / "ledger.db", busy_s=0.05)
    yield ledger
    ledger.close()


def dump(ledger: SqliteLedger) -> object:
    ids = [row.request_id for row in ledger.requests(99_999)]
    return ledger.requests(99_999), [ledger.attempts(i) for i in ids[:50]], ledger.totals()


def blind(journal: Journal) -> None:
    """Nothing can be read back: the files keep their sizes and lose their content."""
    for segment in segments(journal.folder):
        size = segment.path.stat().st_size
        os.truncate(segment.path, 0)
        os.truncate(segment.path, size)


def test_held_records_reach_the_ledger_without_a_look_at_the_file(
    tmp_path: Path, ledger: SqliteLedger
) -> None:
    async def run() -> None:
        journal = journal_in(tmp_path)
        journal.held.start()
        drainer = Drainer(journal, ledger, 60)
        write(journal, 1000)
        assert len(segments(journal.folder)) > 4
        blind(journal)
        await drainer.drain()
        assert (drainer.lag_bytes, drainer.corrupt_segments) == (0, 0)
        assert ledger.position(journal.life) == journal.tail
        assert [s.sequence for s in segments(journal.folder)] == [
            journal.tail.sequence, journal.tail.sequence + 1,
        ]  # fmt: skip
        await drainer.close()
        journal.close()

    asyncio.run(run())
    assert len(ledger.requests(9999)) == 1000
    assert ledger.law() == []


def test_memory_and_file_give_the_same_rows(tmp_path: Path, ledger: SqliteLedger) -> None:
    other = SqliteLedger.open(tmp_path / "other.db")

    async def run() -> None:
        journal = journal_in(tmp_path, 1 << 20)
        journal.held.start()
        write(journal, 50)
        await Drainer(journal, ledger, 60).drain()
        await Drainer(journal, other, 60).drain()  # nothing is held any more
        journal.close()

    asyncio.run(run())
    assert dump(other) == dump(ledger)
    other.close()


def test_what_is_held_is_bounded_by_count_and_by_bytes() -> None:
    for record, batch_bytes in ((begin("r"), 1), (begin("r"), BATCH_BYTES_MAX)):
        holding, at = Held(), 0
        holding.start()
        for _ in range(2 * BATCHES_MAX * BATCH_RECORDS_MAX):
            holding.add(1, at, at + batch_bytes, (record,))
            at += batch_bytes
        batches = holding.take()
        assert len(batches) == BATCHES_MAX
        assert all(len(b.records) <= BATCH_RECORDS_MAX for b in batches)
        assert all(b.end_bytes - b.begin_bytes <= 2 * BATCH_BYTES_MAX for b in batches)
        assert batches[-1].end_bytes < at
        assert holding.take() == []


def test_nothing_is_held_before_somebody_drains_and_after(
    tmp_path: Path, ledger: SqliteLedger
) -> None:
    async def run() -> None:
        journal = journal_in(tmp_path)
        write(journal, 5, "early")
        assert journal.held.take() == []
        drainer = Drainer(journal, ledger, 60)
        drainer.start()
        write(journal, 5, "late")
        await drainer.close()
        write(journal, 5, "after")
        assert journal.held.take() == []
        journal.close()

    asyncio.run(run())
    assert len(ledger.requests(99)) == 10


@pytest.mark.parametrize("seed", range(8))
def test_each_frame_is_applied_once_and_in_order_wherever_memory_has_gaps(
    tmp_path: Path, ledger: SqliteLedger, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overflow, segments in between, drains at any time, taken batches lost."""
    monkeypatch.setattr(held, "BATCH_RECORDS_MAX", 7)
    monkeypatch.setattr(held, "BATCHES_MAX", 3)
    dice = random.Random(seed)
    watched = Watched(ledger)
    written: list[Record] = []

    async def run() -> None:
        journal = journal_in(tmp_path, 4_096)
        drainer = Drainer(journal, watched, 60)
        for n in range(600):
            records = (begin(f"r{n}"), end(f"r{n}"), request(f"r{n}"))[: dice.randint(1, 3)]
            journal.append_end(*records)
            written.extend(records)
            action = dice.choice(["", "", "", "", "", "", "drain", "start", "stop", "take"])
            if action == "drain":
                await drainer.drain()
                assert drainer.lag_bytes == 0
                assert watched.positions[-1] == journal.tail
            elif action:
                getattr(journal.held, action)()
        await drainer.close()
        journal.close()

    asyncio.run(run())
    assert watched.records == written
    order = [(p.sequence, p.offset_bytes) for p in watched.positions]
    assert order == sorted(set(order))


def test_a_tick_the_ledger_refused_is_read_back(tmp_path: Path, ledger: SqliteLedger) -> None:
    async def run() -> None:
        journal = journal_in(tmp_path, 1 << 20)
        journal.held.start()
        watched = Watched(ledger, lives=0)
        drainer = Drainer(journal, watched, 60)
        write(journal, 10, "a")
        with pytest.raises(Died):
            await drainer.drain()
        watched.lives = 99
        write(journal, 10, "b")
        await drainer.drain()
        assert drainer.lag_bytes == 0
        assert len(watched.records) == 60
        await drainer.close()
        journal.close()

    asyncio.run(run())
    assert len(ledger.requests(99)) == 20


def test_damage_before_what_is_held_is_put_aside_not_taken_for_empty_space(
    tmp_path: Path, ledger: SqliteLedger
) -> None:
    async def run() -> None:
        journal = journal_in(tmp_path)
        write(journal, 10, "gap")
        at = journal.tail.offset_bytes
        journal.held.start()
        write(journal, 10, "held")
        with segments(journal.folder)[0].path.open("r+b") as file:
            file.write(bytes(at))
        journal.rotate()
        drainer = Drainer(journal, ledger, 60)
        await drainer.drain()
        assert drainer.corrupt_segments == 1
        assert len(list(journal.folder.glob("*.corrupt"))) == 1
        await drainer.close()
        journal.close()

    asyncio.run(run())


@pytest.mark.parametrize("commits_last", [False, True], ids=["before-commit", "before-delete"])
@pytest.mark.parametrize("commits", range(6))
def test_a_death_around_any_commit_loses_nothing_and_counts_nothing_twice(
    tmp_path: Path, ledger: SqliteLedger, commits: int, commits_last: bool
) -> None:
    async def run() -> None:
        journal = journal_in(tmp_path, 16 << 10)
        journal.held.start()
        drainer = Drainer(journal, Watched(ledger, commits, commits_last), 60)
        write(journal, 300)
        journal.append(begin("open"))
        with pytest.raises(Died):
            await drainer.drain()
        os.close(journal._lock_fd)

    asyncio.run(run())
    journal = journal_in(tmp_path)
    assert recover.recover(journal, ledger, 1_000).lost == 1
    assert len(ledger.requests(999)) == 301
    lost = ledger.attempts("open")[0].end
    assert lost is not None
    told = [(total.attempts, total.micro) for total in ledger.totals()]
    assert sum(n for n, _ in told) == 301
    assert sum(micro for _, micro in told) == 300 * 13 + lost.charge.micro
    assert ledger.law() == []
    assert {s.life for s in segments(journal.folder)} == {journal.life}
    journal.close()


def test_kill_9_while_draining_from_memory_keeps_every_accepted_record(
    tmp_path: Path, ledger: SqliteLedger
) -> None:
    builders = (begin, end, request, journal_in)
    code = f"""
from __future__ import annotations
import asyncio, os
from pathlib import Path
from serving.journal import *
from serving.ledger.drain import Drainer
from serving.ledger.sqlite import SqliteLedger
from serving.records import *
from serving.rows import *
SEGMENT, RESERVE = {SEGMENT}, {RESERVE}
{"".join(inspect.getsource(function) for function in builders)}
async def run():
    folder = Path({str(tmp_path)!r})
    journal, ledger = journal_in(folder), SqliteLedger.open(folder / "ledger.db")
    Drainer(journal, ledger, 0.001).start()
    n = 0
    while True:
        journal.append(begin(f"x{{n:06d}}"))
        journal.append_end(end(f"x{{n:06d}}"), request(f"x{{n:06d}}"))
        os.write(1, b"%d\\n" % n)
        n += 1
        if n % 20 == 0:
            await asyncio.sleep(0)
asyncio.run(run())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        ended = 0
        for line in process.stdout:
            ended = int(line) + 1
            if ended >= 3_000 and ended % 500 == 0 and ledger.requests(1):
                process.send_signal(signal.SIGKILL)
    assert ledger.requests(1), "it drained while it wrote"
    journal = journal_in(tmp_path)
    recover.recover(journal, ledger, 1_000)
    rows = [row for row in ledger.requests(99_999) if row.outcome == "ok"]
    assert len(rows) in (ended, ended + 1)
    assert ledger.law() == []
    journal.close()


@pytest.mark.parametrize("seed", range(20))
def test_reading_by_pieces_finds_what_reading_at_once_finds(tmp_path: Path, seed: int) -> None:
    """Frames of all sizes, then whole, torn, overwritten or followed by preallocated zeros."""
    dice = random.Random(seed)
    sizes = [dice.choice([10, 1_000, 65_300, 65_536, 200_000]) for _ in range(12)]
    data = b"".join(frame((begin("x" * size),)) for size in sizes)
    at = dice.randrange(len(data))
    data = dice.choice([
        data, data[:at], data[:at] + b"\xff\xff" + data[at + 2 :], data + bytes(at),
        data[:at] + bytes(len(data) - at), frame((begin("x" * (FRAME_BYTES_MAX - 200)),)) + data,
    ])  # fmt: skip
    path = tmp_path / "segment"
    path.write_bytes(data)
    offset = 0
    while True:
        expected = frames(data[offset : offset + recover.SLICE_BYTES])
        found = recover.read(Segment(1, "life", path), offset, len(data))
        assert found == expected
        if not expected.good_bytes:
            break
        offset += expected.good_bytes
