"""The directory in SQLite, for one machine: processes share the file, each with its connection."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from serving.directory.base import (
    EMPTY,
    ENTRIES_MAX,
    DirectoryAway,
    Head,
    VersionConflict,
    next_entry,
)
from serving.directory.chain import Entry
from serving.directory.changes import Change
from serving.directory.values import Document

SCHEMA_VERSION = 1
BUSY_S = 2.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    kind TEXT NOT NULL, id TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS history (
    number INTEGER PRIMARY KEY, data BLOB NOT NULL, hash BLOB NOT NULL
) STRICT;
"""


class SqliteDirectory:
    """Implements `base.DirectoryStore`. The version is the number of the last history entry."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path) -> SqliteDirectory:
        """Open or create the file, mode 0600. Raises DirectoryAway."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            with _translated(), contextlib.ExitStack() as opened:
                db = sqlite3.connect(
                    path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
                )
                opened.callback(db.close)
                _prepare(db)
                opened.pop_all()
        except OSError as error:
            raise DirectoryAway(f"cannot open {path}: {error}") from error
        return cls(db)

    def head(self) -> Head:
        """See `base.DirectoryStore`."""
        with _translated(), self._lock:
            return self._head()

    def read(self) -> tuple[Head, list[Document]]:
        """See `base.DirectoryStore`."""
        with self._transaction("DEFERRED"):
            rows = self._db.execute("SELECT kind, id, data FROM documents").fetchall()
            return self._head(), [Document(*row) for row in rows]

    def commit(self, expected: Head, change: Change) -> Head:
        """See `base.DirectoryStore`."""
        with self._transaction("IMMEDIATE"):
            if self._head() != expected:
                raise VersionConflict
            entry = next_entry(expected, change.event)
            self._db.execute("INSERT INTO history VALUES (?, ?, ?)", entry)
            for document in change.documents:
                key = (document.kind, document.id)
                if document.data:
                    self._db.execute(
                        "INSERT INTO documents VALUES (?, ?, ?) ON CONFLICT (kind, id)"
                        " DO UPDATE SET data = excluded.data",
                        (*key, document.data),
                    )
                else:
                    self._db.execute("DELETE FROM documents WHERE kind = ? AND id = ?", key)
            return Head(entry.number, entry.hash)

    def history(self, after: int = 0, limit: int = ENTRIES_MAX) -> list[Entry]:
        """See `base.DirectoryStore`."""
        query = "SELECT number, data, hash FROM history WHERE number > ? ORDER BY number LIMIT ?"
        with _translated(), self._lock:
            rows = self._db.execute(query, (after, min(limit, ENTRIES_MAX))).fetchall()
        return [Entry(*row) for row in rows]

    def close(self) -> None:
        """See `base.DirectoryStore`."""
        with _translated(), self._lock:
            self._db.close()

    def _head(self) -> Head:
        query = "SELECT number, hash FROM history ORDER BY number DESC LIMIT 1"
        row = self._db.execute(query).fetchone()
        return Head(*row) if row else EMPTY

    @contextlib.contextmanager
    def _transaction(self, mode: str) -> Iterator[None]:
        with _translated(), self._lock:
            self._db.execute(f"BEGIN {mode}")
            try:
                yield
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
        raise DirectoryAway(f"the directory is unavailable: {error}") from error


def _prepare(db: sqlite3.Connection) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise DirectoryAway(
            f"the directory has schema version {version}, this Ballast knows {SCHEMA_VERSION}"
        )
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.executescript(f"BEGIN;\n{_SCHEMA}\nPRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;")
