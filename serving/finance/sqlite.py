"""The finance books in the ledger's SQLite file, on a connection of their own."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from serving.finance.base import Rows, T, Values
from serving.ledger.base import LedgerUnavailable
from serving.ledger.sqlite import SqliteLedger

BUSY_S = 10.0
"""The drainer writes each second; a settlement waits for it."""


class SqliteDatabase:
    """Implements `base.Database`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path) -> SqliteDatabase:
        """Open the ledger's file, made or brought up to date where needed. Raises
        LedgerUnavailable."""
        SqliteLedger.open(path).close()
        with _translated():
            db = sqlite3.connect(
                path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            db.execute("PRAGMA synchronous = FULL")
        return cls(db)

    @classmethod
    def open_to_read(cls, path: Path) -> SqliteDatabase:
        """An existing file, for questions only. Raises LedgerUnavailable."""
        SqliteLedger.open_to_read(path).close()
        with _translated():
            uri = f"{path.absolute().as_uri()}?mode=ro"
            return cls(sqlite3.connect(uri, timeout=BUSY_S, uri=True, check_same_thread=False))

    def write(self, work: Callable[[_Work], T]) -> T:
        """See `base.Database`."""
        with _translated(), self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                done = work(_Work(self._db))
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            return done

    def rows(self, query: str, values: Values | None = None) -> Rows:
        """See `base.Database`."""
        with _translated(), self._lock:
            return self._db.execute(query, values or {}).fetchall()

    def close(self) -> None:
        """See `base.Database`."""
        with _translated(), self._lock:
            self._db.close()


class _Work:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def rows(self, query: str, values: Values | None = None) -> Rows:
        return self._db.execute(query, values or {}).fetchall()

    def run(self, query: str, values: Values | None = None) -> int:
        return self._db.execute(query, values or {}).rowcount

    def run_many(self, query: str, values: Sequence[Values]) -> None:
        self._db.executemany(query, values)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise LedgerUnavailable(f"the finance books are unavailable: {error}") from error
