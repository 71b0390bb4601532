"""The directory in SQLite, for one machine: processes share the file, each with its connection."""

from __future__ import annotations

import sqlite3
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
from serving.sqlite_file import Layout, SqliteFile

_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    kind TEXT NOT NULL, id TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS history (
    number INTEGER PRIMARY KEY, data BLOB NOT NULL, hash BLOB NOT NULL
) STRICT;
"""
_LAYOUT = Layout("the directory", DirectoryAway, 1, _SCHEMA, 2.0, ("synchronous = FULL",))


class SqliteDirectory:
    """Implements `base.DirectoryStore`. The version is the number of the last history entry."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    @classmethod
    def open(cls, path: Path) -> SqliteDirectory:
        """Open or create the file, mode 0600. Raises DirectoryAway."""
        return cls(SqliteFile.open(path, _LAYOUT))

    def head(self) -> Head:
        """See `base.DirectoryStore`."""
        with self._file.statement() as db:
            return _head(db)

    def read(self) -> tuple[Head, list[Document]]:
        """See `base.DirectoryStore`."""
        with self._file.transaction("DEFERRED") as db:
            rows = db.execute("SELECT kind, id, data FROM documents").fetchall()
            return _head(db), [Document(*row) for row in rows]

    def commit(self, expected: Head, change: Change) -> Head:
        """See `base.DirectoryStore`."""
        with self._file.transaction() as db:
            if _head(db) != expected:
                raise VersionConflict
            entry = next_entry(expected, change.event)
            db.execute("INSERT INTO history VALUES (?, ?, ?)", entry)
            for document in change.documents:
                key = (document.kind, document.id)
                if document.data:
                    db.execute(
                        "INSERT INTO documents VALUES (?, ?, ?) ON CONFLICT (kind, id)"
                        " DO UPDATE SET data = excluded.data",
                        (*key, document.data),
                    )
                else:
                    db.execute("DELETE FROM documents WHERE kind = ? AND id = ?", key)
            return Head(entry.number, entry.hash)

    def history(self, after: int = 0, limit: int = ENTRIES_MAX) -> list[Entry]:
        """See `base.DirectoryStore`."""
        query = "SELECT number, data, hash FROM history WHERE number > ? ORDER BY number LIMIT ?"
        with self._file.statement() as db:
            rows = db.execute(query, (after, min(limit, ENTRIES_MAX))).fetchall()
        return [Entry(*row) for row in rows]

    def close(self) -> None:
        """See `base.DirectoryStore`."""
        self._file.close()


def _head(db: sqlite3.Connection) -> Head:
    query = "SELECT number, hash FROM history ORDER BY number DESC LIMIT 1"
    row = db.execute(query).fetchone()
    return Head(*row) if row else EMPTY
