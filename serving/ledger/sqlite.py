"""The ledger in SQLite: WAL, strict tables, one connection that writes and one that reads.

Any thread may call it, off the event loop. A commit is on the disk (`synchronous=FULL`) before
`apply` returns, because the drainer deletes the journal's segment after it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from serving.ledger import chained, sql, writes
from serving.ledger.base import QUERY_S, LedgerNewer, LedgerUnavailable, Position
from serving.ledger.reads import Reads
from serving.ledger.segments import lock_all
from serving.ledger.sorting import intents_of
from serving.rows import Record

BUSY_S = 2.0
"""How long one call waits for another process's write."""
VERSION = 8
"""`PRAGMA user_version` after all of schema_N.sql."""
STEPS_BETWEEN_LOOKS = 100_000
"""Of SQLite's own machine, a few milliseconds."""
WAL_BYTES_MAX = 64 << 20


class SqliteLedger(Reads):
    """Implements `base.Ledger`."""

    query_s = QUERY_S
    """Longest question; it ends as LedgerUnavailable, `interrupted`."""

    def __init__(self, writer: sqlite3.Connection, reader: sqlite3.Connection) -> None:
        self._writer = writer
        self._reader = reader
        self._until_s = 0.0
        reader.set_progress_handler(lambda: time.monotonic() > self._until_s, STEPS_BETWEEN_LOOKS)
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
        """Open an existing file that cannot be written through this. Raises LedgerUnavailable."""
        with _translated(), contextlib.ExitStack() as opened:
            uri = f"{path.absolute().as_uri()}?mode=ro"
            reader = opened.enter_context(contextlib.closing(_connect(uri, busy_s)))
            version = _version(reader)
            if version < VERSION:
                raise LedgerUnavailable(
                    f"{path} has schema version {version}, this Ballast reads {VERSION}: "
                    "its gateway brings it up to date when it starts"
                )
            opened.pop_all()
        return cls(reader, reader)

    def apply(self, records: Sequence[Record], position: Position | None = None) -> None:
        """See `base.Ledger`."""
        life = position.life if position else ""
        statements = list(writes.statements(records, life))
        with self._transaction() as db:
            for statement, rows in statements:
                db.executemany(statement, rows)
            chained.append(chained.SqliteTable(db), life, intents_of(records))
            if position is not None:
                where = (life, position.sequence, position.offset_bytes)
                db.execute(writes.PUT_POSITION, where)

    def forget(self, life: str) -> None:
        """See `base.Ledger`."""
        with self._transaction() as db:
            db.execute(sql.FORGET, {"life": life})

    def close(self) -> None:
        """See `base.Ledger`."""
        with _translated(), self._writing, self._reading:
            self._reader.close()
            self._writer.close()

    def _rows(self, query: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        with _translated(), self._reading:
            self._until_s = time.monotonic() + self.query_s
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
        path, timeout=busy_s, isolation_level=None, check_same_thread=False,
        uri=isinstance(path, str),
    )  # fmt: skip


def _version(db: sqlite3.Connection) -> int:
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > VERSION:
        raise LedgerNewer(
            f"the ledger has schema version {version}, this Ballast knows {VERSION}: "
            "start the newer one again"
        )
    return version


def _prepare(db: sqlite3.Connection) -> None:
    version = _version(db)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}")
    for number in range(version + 1, VERSION + 1):
        file = resources.files("serving.ledger").joinpath(f"schema_{number}.sql")
        schema = file.read_text("utf-8")
        db.executescript(f"BEGIN;\n{schema}\nPRAGMA user_version = {number};\nCOMMIT;")
