"""Plan windows in SQLite, for one machine: processes share the file."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from serving.limits.base import LimitsAway
from serving.limits.windows import Row

BUSY_S = 2.0
SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS windows (
    counter TEXT PRIMARY KEY, began_ms INTEGER NOT NULL, length_ms INTEGER NOT NULL,
    used REAL NOT NULL
) STRICT, WITHOUT ROWID;
"""
_GET = "SELECT began_ms, length_ms, used FROM windows WHERE counter = ?"


class SqliteRows:
    """Implements `plan_store.Rows`; for one thread."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    @classmethod
    def open(cls, path: Path) -> SqliteRows:
        """Open or create the file, mode 0600."""
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
            raise LimitsAway(f"cannot open {path}: {error}") from error
        return cls(db)

    def read(self, now_ms: int) -> dict[str, Row]:
        """See `plan_store.Rows`."""
        query = "SELECT * FROM windows WHERE began_ms + length_ms > ?"
        with _translated():
            return {row[0]: Row(*row[1:]) for row in self._db.execute(query, (now_ms,))}

    def change(
        self, keys: Sequence[str], decide: Callable[[dict[str, Row]], dict[str, Row | None]]
    ) -> None:
        """See `plan_store.Rows`."""
        with self._transaction():
            found = {key: self._db.execute(_GET, (key,)).fetchone() for key in keys}
            changed = decide({key: Row(*row) for key, row in found.items() if row is not None})
            for key, row in changed.items():
                if row is None:
                    self._db.execute("DELETE FROM windows WHERE counter = ?", (key,))
                else:
                    self._db.execute("INSERT OR REPLACE INTO windows VALUES (?, ?, ?, ?)",
                                     (key, *row))  # fmt: skip

    def tidy(self, now_ms: int) -> None:
        """See `plan_store.Rows`."""
        with _translated():
            self._db.execute("DELETE FROM windows WHERE began_ms + length_ms <= ?", (now_ms,))

    def close(self) -> None:
        """See `plan_store.Rows`."""
        with _translated():
            self._db.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with _translated():
            self._db.execute("BEGIN IMMEDIATE")
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
        raise LimitsAway(f"the store of plans is unavailable: {error}") from error


def _prepare(db: sqlite3.Connection) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise LimitsAway(
            f"the plans have schema version {version}, this Ballast knows {SCHEMA_VERSION}"
        )
    db.execute("PRAGMA journal_mode = WAL")
    # Synced to the disk twice a second it would cost more than the last half second is worth.
    db.execute("PRAGMA synchronous = NORMAL")
    db.executescript(f"BEGIN;\n{_SCHEMA}\nPRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;")
