"""Plan windows in SQLite, for one machine: processes share the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from serving.limits.base import LimitsAway
from serving.limits.windows import Row
from serving.sqlite_file import Layout, SqliteFile

_SCHEMA = """
CREATE TABLE IF NOT EXISTS windows (
    counter TEXT PRIMARY KEY, began_ms INTEGER NOT NULL, length_ms INTEGER NOT NULL,
    used REAL NOT NULL
) STRICT, WITHOUT ROWID;
"""
_LAYOUT = Layout("the store of plans", LimitsAway, 1, _SCHEMA, 2.0, ("synchronous = NORMAL",))
"""Synced to the disk twice a second it would cost more than the last half second is worth."""
_GET = "SELECT began_ms, length_ms, used FROM windows WHERE counter = ?"


class SqliteRows:
    """Implements `plan_store.Rows`; for one thread."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    @classmethod
    def open(cls, path: Path) -> SqliteRows:
        """Open or create the file, mode 0600."""
        return cls(SqliteFile.open(path, _LAYOUT))

    def read(self, now_ms: int) -> dict[str, Row]:
        """See `plan_store.Rows`."""
        query = "SELECT * FROM windows WHERE began_ms + length_ms > ?"
        with self._file.statement() as db:
            return {row[0]: Row(*row[1:]) for row in db.execute(query, (now_ms,))}

    def change(
        self, keys: Sequence[str], decide: Callable[[dict[str, Row]], dict[str, Row | None]]
    ) -> None:
        """See `plan_store.Rows`."""
        with self._file.transaction() as db:
            found = {key: db.execute(_GET, (key,)).fetchone() for key in keys}
            changed = decide({key: Row(*row) for key, row in found.items() if row is not None})
            for key, row in changed.items():
                if row is None:
                    db.execute("DELETE FROM windows WHERE counter = ?", (key,))
                else:
                    db.execute("INSERT OR REPLACE INTO windows VALUES (?, ?, ?, ?)",
                                     (key, *row))  # fmt: skip

    def tidy(self, now_ms: int) -> None:
        """See `plan_store.Rows`."""
        with self._file.statement() as db:
            db.execute("DELETE FROM windows WHERE began_ms + length_ms <= ?", (now_ms,))

    def close(self) -> None:
        """See `plan_store.Rows`."""
        self._file.close()
