"""The budget store in SQLite: the ledger's file, a connection of its own, for any thread."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from serving.budgets import remembered, sql
from serving.budgets.base import Alert, Expired, Row, Scope, Sum, Told, Want
from serving.budgets.learnt import Counts, Feature
from serving.ledger.base import LedgerUnavailable
from serving.ledger.sqlite import BUSY_S, SqliteLedger


class _Cursor:
    """See `sql.Cursor`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def rows(self, query: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return self._db.execute(query, values).fetchall()

    def put(self, query: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self._db.executemany(query, rows)


class SqliteBudgets:
    """Implements `base.BudgetStore`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, busy_s: float = BUSY_S) -> SqliteBudgets:
        """Open the ledger's file, made or brought up to date first. Raises LedgerUnavailable."""
        SqliteLedger.open(path, busy_s).close()
        with _translated(), contextlib.ExitStack() as opened:
            db = sqlite3.connect(
                path, timeout=busy_s, isolation_level=None, check_same_thread=False
            )
            opened.callback(db.close)
            db.execute("PRAGMA synchronous = FULL")
            opened.pop_all()
        return cls(db)

    def renew(self, holder: str, wants: Sequence[Want], now_ms: int) -> list[Told]:
        """See `base.BudgetStore`."""
        with self._transaction() as cursor:
            return sql.renew(cursor, holder, wants, now_ms)

    def expired(self, now_ms: int, abandoned_ms: int) -> list[Expired]:
        """See `base.BudgetStore`."""
        with self._transaction("DEFERRED") as cursor:
            return sql.expired(cursor, now_ms, abandoned_ms)

    def truth(self, lease: Expired, scope: Scope, since_ms: int) -> list[Sum]:
        """See `base.BudgetStore`."""
        with self._transaction("DEFERRED") as cursor:
            return sql.truth(cursor, lease, scope, since_ms)

    def settle(self, lease: Expired, spent_micro: int, now_ms: int) -> None:
        """See `base.BudgetStore`."""
        with self._transaction() as cursor:
            sql.settle(cursor, lease, spent_micro, now_ms)

    def rows(self, since_ms: int, now_ms: int) -> list[Row]:
        """See `base.BudgetStore`."""
        with self._transaction("DEFERRED") as cursor:
            return sql.rows(cursor, since_ms, now_ms)

    def alerts(self, since_ms: int) -> list[Alert]:
        """See `base.BudgetStore`."""
        with self._transaction("DEFERRED") as cursor:
            return sql.alerts(cursor, since_ms)

    def forget(self, before_ms: int) -> None:
        """See `base.BudgetStore`."""
        with self._transaction() as cursor:
            sql.forget(cursor, before_ms)

    def tell_lengths(self, new: Mapping[Feature, Counts], now_ms: int) -> None:
        """See `base.BudgetStore`."""
        with self._transaction() as cursor:
            remembered.told(cursor, new, now_ms)

    def lengths(self, since_ms: int) -> list[tuple[Feature, Counts]]:
        """See `base.BudgetStore`."""
        with self._transaction("DEFERRED") as cursor:
            return remembered.since(cursor, since_ms)

    def close(self) -> None:
        """See `base.BudgetStore`."""
        with _translated(), self._lock:
            self._db.close()

    @contextlib.contextmanager
    def _transaction(self, mode: str = "IMMEDIATE") -> Iterator[_Cursor]:
        """Its write lock keeps other holders out."""
        with _translated(), self._lock:
            self._db.execute(f"BEGIN {mode}")
            try:
                yield _Cursor(self._db)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise LedgerUnavailable(f"the budgets' store is unavailable: {error}") from error
