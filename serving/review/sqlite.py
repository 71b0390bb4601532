"""Cases in SQLite, for one machine: processes share the file, each with its connection."""

from __future__ import annotations

from pathlib import Path

from serving.review import sql
from serving.review.base import Overtaken, ReviewsAway, Wanted
from serving.review.values import Case
from serving.sqlite_file import Layout, SqliteFile

_SCHEMA = """
CREATE TABLE IF NOT EXISTS review_cases (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, at_ms INTEGER NOT NULL, tenant TEXT NOT NULL,
    owner TEXT NOT NULL, end_user TEXT NOT NULL, state TEXT NOT NULL, revision INTEGER NOT NULL,
    facts BLOB NOT NULL, sealed BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS review_cases_at ON review_cases (at_ms, id);
CREATE INDEX IF NOT EXISTS review_cases_user ON review_cases (tenant, end_user);
"""
_LAYOUT = Layout("the store of reviews", ReviewsAway, 1, _SCHEMA, 5.0, ("secure_delete = ON",))


class SqliteReviews:
    """Implements `base.ReviewStore`. What is deleted is overwritten (`secure_delete`)."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    @classmethod
    def open(cls, path: Path) -> SqliteReviews:
        """Open or create the file, mode 0600. Raises ReviewsAway."""
        return cls(SqliteFile.open(path, _LAYOUT))

    def add(self, case: Case, sealed: bytes) -> bool:
        """See `base.ReviewStore`."""
        with self._file.statement() as db:
            return db.execute(sql.ADD, sql.added(case, sealed)).rowcount > 0

    def find(self, case_id: str) -> tuple[Case, bytes] | None:
        """See `base.ReviewStore`."""
        with self._file.statement() as db:
            row = db.execute(sql.FIND, (case_id,)).fetchone()
        return None if row is None else (sql.case_of(row[0]), row[1])

    def listed(self, wanted: Wanted) -> list[Case]:
        """See `base.ReviewStore`."""
        with self._file.statement() as db:
            rows = db.execute(*sql.listing(wanted)).fetchall()
        return [sql.case_of(facts) for (facts,) in rows]

    def step(self, case: Case) -> None:
        """See `base.ReviewStore`."""
        with self._file.statement() as db:
            if not db.execute(sql.STEP, sql.stepped(case)).rowcount:
                raise Overtaken

    def trim(self, before_ms: int, cases_max: int) -> int:
        """See `base.ReviewStore`."""
        with self._file.transaction() as db:
            gone = db.execute(sql.OLD, (before_ms,)).rowcount
            surplus = db.execute(sql.COUNT).fetchone()[0] - cases_max
            if surplus > 0:
                gone += db.execute(sql.SURPLUS, (surplus,)).rowcount
            return gone

    def erase(self, tenant: str, end_user: str) -> int:
        """See `base.ReviewStore`."""
        with self._file.statement() as db:
            return db.execute(sql.ERASE, (tenant, end_user)).rowcount

    def close(self) -> None:
        """See `base.ReviewStore`."""
        self._file.close()
