"""The ledger in SQLite: WAL, strict tables, one connection that writes and one that reads.

Any thread may call it, off the event loop. A commit is on the disk (`synchronous=FULL`) before
`apply` returns, because the drainer deletes the journal's segment after it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from serving.ledger import sql, writes
from serving.ledger.base import (
    EVER_MS,
    Attempt,
    LedgerNewer,
    LedgerUnavailable,
    Position,
    Total,
    Violation,
)
from serving.ledger.segments import lock_all
from serving.rows import AttemptBegin, Record, RequestEnd

BUSY_S = 2.0
"""How long one call waits for another process's write."""
ROWS_MAX = 100_000
VIOLATIONS_MAX = 1_000
WAL_BYTES_MAX = 64 << 20


class SqliteLedger:
    """Implements `base.Ledger`."""

    def __init__(self, writer: sqlite3.Connection, reader: sqlite3.Connection) -> None:
        self._writer = writer
        self._reader = reader
        self._writing = threading.Lock()
        self._reading = threading.Lock()

    @classmethod
    def open(cls, path: Path, busy_s: float = BUSY_S) -> SqliteLedger:
        """Open or create the database file, mode 0600; a call waits `busy_s` for other writers.

        Raises LedgerUnavailable; LedgerNewer, which is one, when a newer Ballast wrote it.
        """
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            with _translated(), lock_all(path.parent), contextlib.ExitStack() as opened:
                writer = opened.enter_context(contextlib.closing(_connect(path, busy_s)))
                _prepare(writer)
                reader = opened.enter_context(contextlib.closing(_connect(path, busy_s)))
                reader.execute("PRAGMA query_only = 1")
                opened.pop_all()
        except OSError as error:
            raise LedgerUnavailable(f"cannot open {path}: {error}") from error
        return cls(writer, reader)

    @classmethod
    def open_to_read(cls, path: Path, busy_s: float = BUSY_S) -> SqliteLedger:
        """Open an existing file to read, beside the gateway that writes it; creates nothing.

        Raises LedgerUnavailable; LedgerNewer as `open` does.
        """
        where = f"{path.absolute().as_uri()}?mode=ro"
        with _translated(), contextlib.ExitStack() as opened:
            reader = opened.enter_context(contextlib.closing(_connect(where, busy_s)))
            _check_version(reader)
            opened.pop_all()
        return cls(reader, reader)

    def apply(self, records: Sequence[Record], position: Position | None = None) -> None:
        """See `base.Ledger`."""
        life = position.life if position else ""
        statements = list(writes.statements(records, life))
        with self._transaction() as db:
            for statement, rows in statements:
                db.executemany(statement, rows)
            if position is not None:
                where = (life, position.sequence, position.offset_bytes)
                db.execute(writes.PUT_POSITION, where)

    def position(self, life: str) -> Position | None:
        """See `base.Ledger`."""
        rows = self._query(
            "SELECT life, sequence, offset_bytes FROM positions WHERE life = ?", life
        )
        return Position(*rows[0]) if rows else None

    def forget(self, life: str) -> None:
        """See `base.Ledger`."""
        with self._transaction() as db:
            db.execute("DELETE FROM positions WHERE life = ?", (life,))

    def unsettled(self, life: str) -> list[Attempt]:
        """See `base.Ledger`."""
        return self._attempts(sql.UNSETTLED, life)

    def requests(self, limit: int, since_ms: int = 0) -> list[RequestEnd]:
        """See `base.Ledger`."""
        rows = self._query(sql.GET_REQUESTS.format(""), since_ms, limit)
        return [sql.to_request(row) for row in rows]

    def request(self, request_id: str) -> RequestEnd | None:
        """One request's row; None before it ended, or when there is none."""
        query = sql.GET_REQUESTS.format("AND request_id = ?")
        rows = self._query(query, 0, request_id, 1)
        return sql.to_request(rows[0]) if rows else None

    def latest_since_ms(self, attempts: int) -> int:
        """From when on no more than so many attempts ended; 0 when there are no more at all."""
        query = "SELECT ended_ms + 1 FROM attempts ORDER BY ended_ms DESC LIMIT 1 OFFSET ?"
        rows = self._query(query, attempts)
        return (rows[0][0] or 0) if rows else 0

    def attempts(self, request_id: str) -> list[Attempt]:
        """See `base.Ledger`."""
        return self._attempts("a.request_id = ?", request_id)

    def open_attempts(self, life: str | None = None) -> list[AttemptBegin]:
        """See `base.Ledger`."""
        where = "a.ended_ms IS NULL" + (" AND a.life = ?" if life is not None else "")
        values = [life] if life is not None else []
        query = sql.GET_ATTEMPTS.format(where) + f" LIMIT {ROWS_MAX}"
        found = [sql.to_attempt(row) for row in self._query(query, *values)]
        return [attempt.begin for attempt in found if attempt.begin is not None]

    def idempotency(self, since_ms: int) -> list[RequestEnd]:
        """See `base.Ledger`."""
        query = sql.GET_REQUESTS.format("AND idempotency <> ''")
        return [sql.to_request(row) for row in self._query(query, since_ms, ROWS_MAX)]

    def totals(self, since_ms: int = 0, until_ms: int = EVER_MS) -> list[Total]:
        """See `base.Ledger`."""
        return [Total(*row) for row in self._query(sql.TOTALS, since_ms, until_ms)]

    def law(self, settled_by_ms: int = EVER_MS) -> list[Violation]:
        """See `base.Ledger`."""
        found: list[Violation] = []
        for rule, query in sql.LAW.items():
            with _translated(), self._reading:
                bounds = {"settled_by_ms": settled_by_ms, "limit": VIOLATIONS_MAX}
                rows = self._reader.execute(f"{query} LIMIT :limit", bounds).fetchall()
            found += [Violation(rule, *row) for row in rows]
        return found

    def close(self) -> None:
        """See `base.Ledger`."""
        with _translated(), self._writing, self._reading:
            self._reader.close()
            self._writer.close()

    def _attempts(self, where: str, *values: str) -> list[Attempt]:
        query = sql.GET_ATTEMPTS.format(where)
        return [sql.to_attempt(row) for row in self._query(query, *values)]

    def _query(self, query: str, *values: Any) -> list[Any]:
        with _translated(), self._reading:
            return self._reader.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with _translated(), self._writing:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """sqlite3's errors as ours, cause chained."""
    try:
        yield
    except sqlite3.Error as error:
        raise LedgerUnavailable(f"the ledger is unavailable: {error}") from error


def _connect(path: Path | str, busy_s: float) -> sqlite3.Connection:
    return sqlite3.connect(
        path,
        timeout=busy_s,
        isolation_level=None,
        check_same_thread=False,
        uri=isinstance(path, str),
    )


def _check_version(db: sqlite3.Connection) -> int:
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > sql.VERSION:
        raise LedgerNewer(
            f"the ledger has schema version {version}, this Ballast knows {sql.VERSION}: "
            "start the newer one again"
        )
    return version


def _prepare(db: sqlite3.Connection) -> None:
    version = _check_version(db)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}")
    if version < sql.VERSION:
        schema = resources.files("serving.ledger").joinpath("schema.sql").read_text("utf-8")
        db.executescript(f"BEGIN;\n{schema}\nPRAGMA user_version = {sql.VERSION};\nCOMMIT;")
