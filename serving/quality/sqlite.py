"""Canaries' runs in SQLite, for one machine: processes share the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from serving.quality import sql
from serving.quality.base import RUNS_MAX, Found, QualityAway, decode_drifts, decode_run
from serving.quality.values import Run
from serving.sqlite_file import Layout, SqliteFile

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
_LAYOUT = Layout("the store of canaries", QualityAway, 1, _SCHEMA, 5.0)


class SqliteQuality:
    """Implements `base.QualityStore`."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    @classmethod
    def open(cls, path: Path) -> SqliteQuality:
        """Open or create the file, mode 0600. Raises QualityAway."""
        return cls(SqliteFile.open(path, _LAYOUT))

    def add(self, runs: Sequence[Run]) -> None:
        """See `base.QualityStore`."""
        with self._file.transaction() as db:
            db.executemany(sql.ADD, map(sql.added, runs))

    def runs(self, model: str, target: str) -> list[Run]:
        """See `base.QualityStore`."""
        with self._file.statement() as db:
            rows = db.execute(sql.RUNS, (model, target, RUNS_MAX)).fetchall()
        return [decode_run(facts) for (facts,) in rows]

    def conclude(self, found: Found) -> None:
        """See `base.QualityStore`."""
        with self._file.statement() as db:
            db.execute(sql.CONCLUDE, sql.concluded(found))

    def found(self) -> list[Found]:
        """See `base.QualityStore`."""
        with self._file.statement() as db:
            rows = db.execute(sql.FOUND).fetchall()
        return [Found(m, t, at_ms, decode_drifts(data)) for m, t, at_ms, data in rows]

    def rebase(self, model: str, target: str) -> int:
        """See `base.QualityStore`."""
        with self._file.transaction() as db:
            db.execute(sql.UNFOUND, (model, target))
            return db.execute(sql.FORGET, (model, target)).rowcount

    def trim(self, before_ms: int) -> None:
        """See `base.QualityStore`."""
        with self._file.statement() as db:
            db.execute(sql.TRIM, (before_ms,))

    def close(self) -> None:
        """See `base.QualityStore`."""
        self._file.close()
