"""From the journal into the ledger: each record once, whatever dies in between."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from serving.journal import Journal
from serving.ledger.base import Attempt, LedgerUnavailable, Position
from serving.ledger.drain import Drainer
from serving.ledger.recover import recover, settle
from serving.ledger.segments import segments
from serving.ledger.sqlite import SqliteLedger
from serving.records import Charge, Usage
from serving.rows import AttemptBegin, AttemptEnd, Record, RequestEnd

SEGMENT = 64 << 10
RESERVE = 16 << 10


def begin(request_id: str, attempt: int = 1) -> AttemptBegin:
    return AttemptBegin(
        request_id, attempt, 10, 5, "acme", "p", "k", "chat", "m", "interactive", "api", False,
        "why", 7, 8, "USD", 1_000_000, 2_000_000,
    )  # fmt: skip


def end(request_id: str, attempt: int = 1) -> AttemptEnd:
    return AttemptEnd(request_id, attempt, 20, "ok", "", Usage(7, 3), Charge("USD", 13), 4)


def request(request_id: str, attempts: int = 1) -> RequestEnd:
    return RequestEnd(
        request_id, 5, 20, "acme", "p", "k", "chat", "m", "interactive", "ok", 200, "", "why",
        "api", attempts, 1, 4, Usage(7, 3),
    )  # fmt: skip


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger.open(tmp_path / "ledger.db", busy_s=0.05)
    yield ledger
    ledger.close()


def journal_in(tmp_path: Path, index: int = 0, segment_bytes: int = SEGMENT) -> Journal:
    return Journal.open(tmp_path / "journal" / str(index), segment_bytes, RESERVE)


def write(journal: Journal, count: int, prefix: str = "r") -> None:
    for n in range(count):
        journal.append(begin(f"{prefix}{n:05d}"))
        journal.append_end(end(f"{prefix}{n:05d}"), request(f"{prefix}{n:05d}"))


def dump(ledger: SqliteLedger) -> object:
    return ledger.requests(99_999), ledger.totals(), ledger.open_attempts(), ledger.law()


def test_drains_everything_deletes_closed_segments_and_shows_no_lag(
    tmp_path: Path, ledger: SqliteLedger
) -> None:
    async def run() -> None:
        journal = journal_in(tmp_path)
        drainer = Drainer(journal, ledger, 60)
        write(journal, 1000)
        assert len(segments(journal.folder)) > 4
        await drainer.drain()
        assert drainer.lag_bytes == 0
        assert drainer.last_error == ""
        assert [s.sequence for s in segments(journal.folder)] == [
            journal.tail.sequence, journal.tail.sequence + 1,
        ]  # fmt: skip
        await drainer.close()
        journal.close()

    asyncio.run(run())
    assert len(ledger.requests(9999)) == 1000
    assert ledger.law() == []


def test_draining_twice_or_from_the_start_gives_the_same_rows(
    tmp_path: Path, ledger: SqliteLedger
) -> None:
    async def run() -> None:
        journal = journal_in(tmp_path)
        write(journal, 50)
        first = Drainer(journal, ledger, 60)
        await first.drain()
        once = dump(ledger)
        await first.drain()
        assert dump(ledger) == once
        ledger.forget(journal.life)
        second = Drainer(journal, ledger, 60)
        await second.drain()
        assert dump(ledger) == once
        await first.close()
        await second.close()
        journal.close()

    asyncio.run(run())


def test_reads_large_journals_in_slices(tmp_path: Path, ledger: SqliteLedger) -> None:
    sizes: list[int] = []

    class Counting(Passing):
        def apply(self, records: Sequence[Record], position: Position | None = None) -> None:
            sizes.append(len(records))
            self.inner.apply(records, position)

    async def run() -> None:
        journal = journal_in(tmp_path, segment_bytes=64 << 20)
        drainer = Drainer(journal, Counting(ledger), 60)
        write(journal, 8000)
        assert journal.tail.offset_bytes > 2 << 20
        await drainer.drain()
        assert drainer.lag_bytes == 0
        await drainer.close()
        journal.close()

    asyncio.run(run())
    assert len(sizes) >= 3
    assert sum(sizes) == 24_000


class Passing:
    """A ledger that hands everything on."""

    def __init__(self, inner: SqliteLedger) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Dying(Passing):
    """A ledger whose process dies at the n-th write."""

    def __init__(self, inner: SqliteLedger, writes: int) -> None:
        super().__init__(inner)
        self.writes = writes

    def _count(self) -> None:
        if self.writes == 0:
            raise KeyboardInterrupt
        self.writes -= 1

    def apply(self, records: Sequence[Record], position: Position | None = None) -> None:
        self._count()
        self.inner.apply(records, position)

    def forget(self, life: str) -> None:
        self._count()
        self.inner.forget(life)


def test_a_locked_ledger_stops_nothing_and_is_caught_up_with(
    tmp_path: Path, ledger: SqliteLedger
) -> None:
    async def run() -> None:
        journal = journal_in(tmp_path)
        drainer = Drainer(journal, ledger, 60)
        other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        write(journal, 10)
        await drainer.drain()
        assert "locked" in drainer.last_error
        assert drainer.lag_bytes == journal.tail.offset_bytes > 0
        assert journal.can_begin
        other.execute("ROLLBACK")
        other.close()
        await drainer.drain()
        assert (drainer.last_error, drainer.lag_bytes) == ("", 0)
        await drainer.close()
        journal.close()

    asyncio.run(run())
    assert len(ledger.requests(99)) == 10


class Returning:
    """A ledger that refuses the first calls of `apply`."""

    def __init__(self, inner: SqliteLedger, refusals: int) -> None:
        self.inner, self.refusals = inner, refusals

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def apply(self, records: Sequence[Record], position: Position | None = None) -> None:
        if self.refusals:
            self.refusals -= 1
            raise LedgerUnavailable("away")
        self.inner.apply(records, position)


@pytest.mark.parametrize(("exit_wait_s", "rows"), [(0.0, 0), (60.0, 10)])
def test_the_exit_waits_for_a_ledger_that_is_away_as_long_as_it_was_told(
    tmp_path: Path, ledger: SqliteLedger, exit_wait_s: float, rows: int
) -> None:
    async def run() -> None:
        journal = journal_in(tmp_path)
        away: Any = Returning(ledger, 2)
        drainer = Drainer(journal, away, 60, exit_wait_s)
        write(journal, 10)
        await drainer.close()
        journal.close()

    asyncio.run(run())
    assert len(ledger.requests(99)) == rows


def test_the_task_drains_each_period_and_close_flushes(
    tmp_path: Path, ledger: SqliteLedger
) -> None:
    async def run() -> None:
        journal = journal_in(tmp_path)
        drainer = Drainer(journal, ledger, 0.001)
        write(journal, 1, "a")
        drainer.start()
        async with asyncio.timeout(10):
            while not await drainer.ask(lambda: ledger.requests(9)):
                pass
        write(journal, 1, "b")
        await drainer.close()
        journal.close()

    asyncio.run(run())
    assert [r.request_id for r in ledger.requests(9)] == ["b00000", "a00000"]


def test_a_damaged_segment_is_put_aside_and_the_rest_goes_on(
    tmp_path: Path, ledger: SqliteLedger
) -> None:
    async def run() -> None:
        journal = journal_in(tmp_path)
        drainer = Drainer(journal, ledger, 60)
        write(journal, 10, "a")
        damage = journal.tail.offset_bytes + 20
        write(journal, 10, "b")
        path = segments(journal.folder)[0].path
        with path.open("r+b") as file:
            file.seek(damage)
            file.write(b"\xff\xff")
        await drainer.drain()
        write(journal, 10, "c")
        await drainer.drain()
        assert drainer.corrupt_segments == 1
        await drainer.drain()
        assert drainer.lag_bytes == 0
        await drainer.close()
        journal.close()
        assert [p.suffix for p in sorted(journal.folder.iterdir())] == [".corrupt", ".log"]

    asyncio.run(run())
    assert {r.request_id[0] for r in ledger.requests(99)} == {"a", "c"}


def crash(tmp_path: Path, index: int = 0) -> Journal:
    """A journal whose process died: nothing closed in order, its lock gone."""
    journal = journal_in(tmp_path, index)
    write(journal, 600, f"done{index}-")
    journal.append(begin(f"open{index}"))
    journal.append(begin(f"again{index}"))
    journal.append_end(end(f"again{index}"))
    journal.append(begin(f"again{index}", 2))
    journal.append(begin(f"between{index}"))
    journal.append_end(end(f"between{index}"))
    os.close(journal._lock_fd)
    return journal


def lost_ids(ledger: SqliteLedger) -> list[str]:
    return sorted(r.request_id for r in ledger.requests(9999) if r.outcome == "gateway_lost")


def test_open_work_of_a_dead_process_is_settled_as_lost_once(
    tmp_path: Path, ledger: SqliteLedger
) -> None:
    crash(tmp_path)
    journal = journal_in(tmp_path)
    found = recover(journal, ledger, 1_000)
    assert (found.lives, found.records, found.lost, found.corrupt) == (1, 1806, 3, 0)
    assert lost_ids(ledger) == ["again0", "between0", "open0"]
    assert ledger.law() == []
    lost = ledger.attempts("open0")[0].end
    assert lost == AttemptEnd(
        "open0", 1, 1_000, "gateway_lost", "gateway_lost", Usage(5, 8, is_estimated=True),
        Charge("USD", 21), -1,
    )  # fmt: skip
    rows = {r.request_id: r for r in ledger.requests(9999)}
    assert rows["again0"].attempts == 2
    assert rows["between0"].usage == Usage(7, 3)
    once = dump(ledger)
    assert recover(journal, ledger, 2_000).lives == 0
    assert dump(ledger) == once
    assert {s.life for s in segments(journal.folder)} == {journal.life}
    assert ledger.position(journal.life) is None
    journal.close()


@pytest.mark.parametrize("writes", range(8))
def test_recovery_that_dies_half_way_is_finished_by_the_next(
    tmp_path: Path, ledger: SqliteLedger, writes: int
) -> None:
    crash(tmp_path)
    journal = journal_in(tmp_path)
    try:
        recover(journal, Dying(ledger, writes), 1_000)
    except KeyboardInterrupt:
        recover(journal, ledger, 1_000)
    assert len(ledger.requests(9999)) == 603
    assert lost_ids(ledger) == ["again0", "between0", "open0"]
    assert ledger.law() == []
    assert {s.life for s in segments(journal.folder)} == {journal.life}
    journal.close()


def test_what_was_drained_before_the_crash_is_settled_too(
    tmp_path: Path, ledger: SqliteLedger
) -> None:
    async def run() -> None:
        journal = journal_in(tmp_path)
        drainer = Drainer(journal, ledger, 60)
        journal.append(begin("open"))
        await drainer.drain()
        write(journal, 500)
        await drainer.close()
        os.close(journal._lock_fd)

    asyncio.run(run())
    assert ledger.open_attempts() == [begin("open")]
    journal = journal_in(tmp_path)
    assert recover(journal, ledger, 1_000).lost == 1
    assert lost_ids(ledger) == ["open"]
    assert ledger.law() == []
    journal.close()


def test_orphaned_folders_are_recovered_and_living_ones_left_alone(
    tmp_path: Path, ledger: SqliteLedger
) -> None:
    crash(tmp_path, 1)
    living = journal_in(tmp_path, 2)
    living.append(begin("alive"))
    journal = journal_in(tmp_path, 0)
    journal.append(begin("mine"))

    async def run() -> None:
        drainer = Drainer(journal, ledger, 60)
        await drainer.drain()
        assert (await drainer.recover(1_000)).lost == 3
        await drainer.close()

    asyncio.run(run())
    assert lost_ids(ledger) == ["again1", "between1", "open1"]
    assert ledger.open_attempts() == [begin("mine")]
    assert segments(tmp_path / "journal" / "1") == []
    assert segments(living.folder) != []
    living.close()
    journal.close()


def test_a_torn_tail_is_dropped_and_a_damaged_middle_kept_for_inspection(
    tmp_path: Path, ledger: SqliteLedger
) -> None:
    torn, broken = crash(tmp_path, 1), crash(tmp_path, 2)
    last = next(s for s in segments(torn.folder) if s.sequence == torn.tail.sequence)
    os.truncate(last.path, torn.tail.offset_bytes - 5)
    with segments(broken.folder)[1].path.open("r+b") as file:
        file.seek(5_000)
        file.write(b"\xff\xff\xff\xff")
    journal = journal_in(tmp_path, 0)
    found = recover(journal, ledger, 1_000)
    assert (found.lives, found.corrupt) == (2, 1)
    assert [p.suffix for p in torn.folder.iterdir()] == []
    assert [p.suffix for p in broken.folder.iterdir()] == [".corrupt"]
    assert "between1" in lost_ids(ledger)
    assert [v for v in ledger.law() if v.request_id.endswith("1")] == []
    journal.close()


def test_a_ledger_that_is_away_leaves_all_for_later(tmp_path: Path, ledger: SqliteLedger) -> None:
    crash(tmp_path)
    journal = journal_in(tmp_path)
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    before = segments(journal.folder)
    with pytest.raises(LedgerUnavailable):
        recover(journal, ledger, 1_000)
    assert segments(journal.folder) == before
    other.execute("ROLLBACK")
    other.close()
    assert recover(journal, ledger, 1_000).lost == 3
    journal.close()


def test_settling_needs_the_begin(tmp_path: Path) -> None:
    assert settle([Attempt("r", 1, None, end("r"), None)], 1_000) == []


def test_kill_9_between_begin_and_end_leaves_one_gateway_lost_row(
    tmp_path: Path, ledger: SqliteLedger
) -> None:
    builders = (begin, end, request, write, journal_in)
    code = f"""
from __future__ import annotations
import os
from pathlib import Path
from serving.journal import *
from serving.records import *
from serving.rows import *
SEGMENT, RESERVE = {SEGMENT}, {RESERVE}
{"".join(inspect.getsource(function) for function in builders)}
journal = journal_in(Path({str(tmp_path)!r}))
write(journal, 5)
n = 0
while True:
    journal.append(begin(f"x{{n:06d}}"))
    os.write(1, b"%d\\n" % n)
    journal.append_end(end(f"x{{n:06d}}"), request(f"x{{n:06d}}"))
    n += 1
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        began = 0
        for line in process.stdout:
            began = int(line) + 1
            if began == 500:
                process.send_signal(signal.SIGKILL)
    journal = journal_in(tmp_path)
    found = recover(journal, ledger, 1_000)
    assert found.lost <= 1
    assert len(ledger.requests(99_999)) in (5 + began, 6 + began)
    assert ledger.law() == []
    assert ledger.open_attempts() == []
    journal.close()
