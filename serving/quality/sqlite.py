"""Canaries' runs in SQLite, for one machine: processes share the file."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from serving.quality import sql
from serving.quality.base import RUNS_MAX, Found, QualityAway, decode_drifts, decode_run
from serving.quality.values import Run

SCHEMA_VERSION = 1
BUSY_S = 5.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS quality_runs (
    model TEXT NOT NULL, target TEXT NOT NULL, prompt TEXT NOT NULL, at_ms INTEGER NOT NULL,
    is_baseline INTEGER NOT NULL, facts BLOB NOT NULL, PRIMARY KEY (model, target, prompt, at_ms)
) STRICT;
CREATE TABLE IF NOT EXISTS quality_found (
    model TEXT NOT NULL, target TEXT NOT NULL, at_ms INTEGER NOT NULL, drifts BLOB NOT NULL,
    PRIMARY KEY (model, target)
) STRICT;
"""


class SqliteQuality:
    """Implements `base.QualityStore`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path) -> SqliteQuality:
        """Open or create the file, mode 0600. Raises QualityAway."""
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
            raise QualityAway(f"cannot open {path}: {error}") from error
        return cls(db)

    def add(self, runs: Sequence[Run]) -> None:
        """See `base.QualityStore`."""
        with _translated(), self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany(sql.ADD, map(sql.added, runs))
            finally:
                self._db.execute("COMMIT")

    def runs(self, model: str, target: str) -> list[Run]:
        """See `base.QualityStore`."""
        with _translated(), self._lock:
            rows = self._db.execute(sql.RUNS, (model, target, RUNS_MAX)).fetchall()
        return [decode_run(facts) for (facts,) in rows]

    def conclude(self, found: Found) -> None:
        """See `base.QualityStore`."""
        with _translated(), self._lock:
            self._db.execute(sql.CONCLUDE, sql.concluded(found))

    def found(self) -> list[Found]:
        """See `base.QualityStore`."""
        with _translated(), self._lock:
            rows = self._db.execute(sql.FOUND).fetchall()
        return [Found(m, t, at_ms, decode_drifts(data)) for m, t, at_ms, data in rows]

    def rebase(self, model: str, target: str) -> int:
        """See `base.QualityStore`."""
        with _translated(), self._lock:
            self._db.execute(sql.UNFOUND, (model, target))
            return self._db.execute(sql.FORGET, (model, target)).rowcount

    def trim(self, before_ms: int) -> None:
        """See `base.QualityStore`."""
        with _translated(), self._lock:
            self._db.execute(sql.TRIM, (before_ms,))

    def close(self) -> None:
        """See `base.QualityStore`."""
        with _translated(), self._lock:
            self._db.close()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise QualityAway(f"the store of canaries is unavailable: {error}") from error


def _prepare(db: sqlite3.Connection) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise QualityAway(
            f"the canaries have schema version {version}, this Ballast knows {SCHEMA_VERSION}"
        )
    db.execute("PRAGMA journal_mode = WAL")
    db.executescript(f"BEGIN;\n{_SCHEMA}\nPRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;")
