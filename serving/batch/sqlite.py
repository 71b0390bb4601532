"""Files and batches in SQLite, for one machine: processes share the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from serving.batch import sql
from serving.batch.base import BatchesAway
from serving.batch.tables import Tables
from serving.batch.transactions import Database
from serving.sqlite_file import Layout, SqliteFile

_T = TypeVar("_T")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS batch_files (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, owner TEXT NOT NULL, end_user TEXT NOT NULL,
    purpose TEXT NOT NULL, created_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL,
    size INTEGER NOT NULL, is_whole INTEGER NOT NULL, facts BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS batch_files_of ON batch_files (tenant, id);
CREATE INDEX IF NOT EXISTS batch_files_until ON batch_files (expires_ms);
CREATE TABLE IF NOT EXISTS batch_pieces (
    file_id TEXT NOT NULL, number INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (file_id, number)
) STRICT;
CREATE TABLE IF NOT EXISTS batches (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, owner TEXT NOT NULL, end_user TEXT NOT NULL,
    created_ms INTEGER NOT NULL, is_open INTEGER NOT NULL, cancel_ms INTEGER NOT NULL DEFAULT 0,
    holder TEXT NOT NULL DEFAULT '', lease_ms INTEGER NOT NULL DEFAULT 0, facts BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS batches_of ON batches (tenant, id);
CREATE INDEX IF NOT EXISTS batches_open ON batches (created_ms) WHERE is_open = 1;
CREATE TABLE IF NOT EXISTS batch_lines (
    batch_id TEXT NOT NULL, number INTEGER NOT NULL, custom_id TEXT NOT NULL,
    state INTEGER NOT NULL, run INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (batch_id, number)
) STRICT;
CREATE INDEX IF NOT EXISTS batch_lines_state ON batch_lines (batch_id, state, number);
CREATE TABLE IF NOT EXISTS batch_home (
    batch_id TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (batch_id, number)
) STRICT;
"""
_PRAGMAS = ("secure_delete = ON", "synchronous = FULL", "journal_size_limit = 67108864")
"""What is deleted is overwritten; a line's answer is on the disk before its call is told of."""
_LAYOUT = Layout("the store of batches", BatchesAway, 1, _SCHEMA, 5.0, _PRAGMAS)


class SqliteBatches(Tables):
    """Implements `base.BatchStore`."""

    late = sql.late("json_extract(CAST(facts AS TEXT), '$.expires_ms')")

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    @classmethod
    def open(cls, path: Path) -> SqliteBatches:
        """Open or create the file, mode 0600. Raises BatchesAway."""
        return cls(SqliteFile.open(path, _LAYOUT))

    def _do(self, work: Callable[[Database], _T]) -> _T:
        with self._file.transaction() as db:
            return work(db)

    def _see(self, work: Callable[[Database], _T]) -> _T:
        with self._file.statement() as db:  # takes no lock that other processes wait for
            return work(db)

    def close(self) -> None:
        """See `base.BatchStore`."""
        self._file.close()
