"""A ledger that is away at the start: opened later, recovered later, and nothing waits for it."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from contextlib import closing

import msgspec
import pytest

from serving.idempotency import Idempotency, Mismatch, Served
from serving.journal import Journal
from serving.ledger.base import LedgerUnavailable, Position
from serving.ledger.drain import Drainer
from serving.ledger.late import LateLedger
from serving.ledger.sqlite import SqliteLedger
from serving.logs import utc_ms
from serving.records import Charge, Usage
from serving.recovery import Recovery
from serving.rows import AttemptBegin, AttemptEnd, RequestEnd
from serving.settings import SettingsError

WAIT_S = 20.0


def begin(name):
    return AttemptBegin(
        name, 1, 10, 5, "acme", "p", "k", "chat", "m", "interactive", "api", False,
        "why", 7, 8, "USD", 1_000_000, 2_000_000,
    )  # fmt: skip


def served(name, idempotency, ended_ms):
    end = AttemptEnd(name, 1, 20, "ok", "", Usage(7, 3), Charge("USD", 13), 4)
    row = RequestEnd(
        name, 5, ended_ms, "acme", "p", "k", "chat", "m", "interactive", "ok", 200, "", "local",
        "api", 1, 0, 4, Usage(7, 3), idempotency,
    )  # fmt: skip
    return begin(name), end, row


class Book:
    """A journal whose earlier life died with open work, and the ledger's file."""

    def __init__(self, folder):
        self.path = folder / "ledger.db"
        dead = self.journal(folder)
        dead.append(begin("open"))
        for fd in (dead._fd, dead._reserve_fd, dead._lock_fd):
            os.close(fd)
        self.journal_now = self.journal(folder)
        self.ledger = LateLedger(lambda: SqliteLedger.open(self.path, busy_s=0.01))
        self.drainer = Drainer(self.journal_now, self.ledger, 0.01)
        self.store = Idempotency(600.0, 1 << 20)
        self.recovery = Recovery(self.drainer, self.ledger, (self.store, 1e10), 0.01)

    @staticmethod
    def journal(folder):
        return Journal.open(folder / "journal" / "0", 64 << 10, 16 << 10)

    async def close(self):
        await self.recovery.close()
        await self.drainer.close()
        self.journal_now.close()
        self.ledger.close()

    def rows(self):
        with closing(SqliteLedger.open(self.path)) as ledger:
            assert ledger.law() == []
        return self.outcomes()

    def outcomes(self):
        with closing(SqliteLedger.open(self.path)) as ledger:
            return {row.request_id: row.outcome for row in ledger.requests(9)}


async def until(is_so):
    async with asyncio.timeout(WAIT_S):
        while not is_so():
            await asyncio.sleep(0.01)


def _lock(path):
    SqliteLedger.open(path).close()
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN EXCLUSIVE")

    def free():
        db.execute("ROLLBACK")
        db.close()

    return free


def _damage(path):
    path.write_bytes(b"not a database, not at all" * 100)
    return path.unlink


@pytest.mark.parametrize("harm", [_lock, _damage], ids=["locked", "damaged"])
def test_a_ledger_away_at_the_start_is_caught_up_with(tmp_path, caplog, harm):
    async def run():
        book = Book(tmp_path)
        mend = harm(book.path)
        await book.recovery.start()
        book.drainer.start()
        book.journal_now.append(*served("new", "", 20))
        await until(lambda: book.drainer.last_error)
        mend()
        await until(lambda: not book.drainer.last_error)
        await until(lambda: "recovered" in messages())
        await book.close()
        assert book.rows() == {"new": "ok", "open": "gateway_lost"}

    def messages():
        return [r.message for r in caplog.records]

    caplog.set_level(logging.INFO)
    asyncio.run(run())
    assert messages().count("recovery_postponed") == 1
    assert messages().count("ledger_unavailable") == 1
    assert messages().count("ledger_available") == 1


def test_work_of_a_machine_that_is_gone_is_settled(tmp_path):
    async def run():
        book = Book(tmp_path)
        old = msgspec.structs.replace(begin("gone"), at_ms=1)
        young = msgspec.structs.replace(begin("elsewhere"), at_ms=utc_ms())
        with closing(SqliteLedger.open(book.path)) as ledger:
            ledger.apply([old, young], Position("another life", 1, 1))
        await book.recovery.start()
        await until(lambda: book.ledger.abandoned(1) == [])
        assert [a.request_id for a in book.ledger.open_attempts()] == ["elsewhere"]
        await book.close()
        assert book.outcomes() == {"gone": "gateway_lost", "open": "gateway_lost"}

    asyncio.run(run())


def test_a_ledger_of_a_newer_version_is_not_waited_for(tmp_path):
    async def run():
        book = Book(tmp_path)
        with closing(sqlite3.connect(book.path)) as db:
            db.execute("PRAGMA user_version = 99")
        with pytest.raises(SettingsError, match="schema version 99"):
            await book.recovery.start()
        await book.close()

    asyncio.run(run())


def test_a_newer_ledger_met_while_serving_is_only_away(tmp_path):
    async def run():
        book = Book(tmp_path)
        mend = _damage(book.path)
        await book.recovery.start()
        mend()
        with closing(sqlite3.connect(book.path)) as db:
            db.execute("PRAGMA user_version = 99")
        book.drainer.start()
        await until(lambda: "schema version 99" in book.drainer.last_error)
        assert not book.recovery._task.done()
        await book.close()

    asyncio.run(run())


def test_nothing_is_opened_before_it_is_asked_and_only_once(tmp_path):
    opened = []

    def open_now():
        opened.append(1)
        if len(opened) == 1:
            raise LedgerUnavailable("away")
        return SqliteLedger.open(tmp_path / "l")

    LateLedger(open_now).close()
    ledger = LateLedger(open_now)
    assert opened == []
    with pytest.raises(LedgerUnavailable):
        ledger.position("a")
    ledger.apply(served("a", "key:hash", 20))
    assert [row.request_id for row in ledger.requests(9)] == ["a"]
    assert [row.request_id for row in ledger.idempotency(0)] == ["a"]
    assert len(ledger.attempts("a")) == len(ledger.totals()) == 1
    assert ledger.law() == ledger.unsettled("x") == ledger.open_attempts() == []
    ledger.forget("x")
    ledger.close()
    assert len(opened) == 2


def test_keys_answered_by_an_earlier_life_are_known_but_never_overwrite(tmp_path):
    async def run():
        book = Book(tmp_path)
        with closing(SqliteLedger.open(book.path)) as ledger:
            for name, ended_ms in (("older", 1), ("newer", 2)):
                ledger.apply(served(name, f"twice:{name}", ended_ms))
            ledger.apply(served("mine", "mine:theirs", 3))
        assert book.store.begin("mine", "ours", 0.0) is None
        await book.recovery.start()
        assert isinstance(book.store.begin("twice", "newer", 0.0), Served)
        assert isinstance(book.store.begin("twice", "older", 0.0), Mismatch)
        assert isinstance(book.store.begin("mine", "theirs", 0.0), Mismatch)
        await book.close()

    asyncio.run(run())


class Broken:
    """A ledger with a bug."""

    def __getattr__(self, name):
        raise RuntimeError("a bug")


def test_a_drain_that_dies_tells_its_owner_and_leaves_the_journal(tmp_path, caplog):
    async def run():
        book = Book(tmp_path)
        drainer, died = Drainer(book.journal_now, Broken(), 0.01), asyncio.Event()
        drainer.on_death = died.set
        book.journal_now.append(*served("new", "", 20))
        drainer.start()
        async with asyncio.timeout(WAIT_S):
            await died.wait()
        await drainer.close()
        assert [r.task for r in caplog.records if r.message == "task_died"] == ["journal-drain"]
        await book.drainer.drain()
        await book.close()
        assert book.rows() == {"new": "ok"}

    asyncio.run(run())


def test_segments_put_aside_by_recovery_are_counted(tmp_path):
    async def run():
        book = Book(tmp_path)
        torn = min(book.journal_now.folder.glob("*.log"))
        data = bytearray(torn.read_bytes())
        data[12] ^= 0xFF
        torn.write_bytes(data)
        await book.recovery.start()
        assert book.drainer.corrupt_segments == 1
        await book.close()

    asyncio.run(run())
