"""Cases in SQLite, for one machine: processes share the file, each with its connection."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from serving.review import sql
from serving.review.base import Overtaken, ReviewsAway, Wanted
from serving.review.values import Case

SCHEMA_VERSION = 1
BUSY_S = 5.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS review_cases (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, at_ms INTEGER NOT NULL, tenant TEXT NOT NULL,
    owner TEXT NOT NULL, end_user TEXT NOT NULL, state TEXT NOT NULL, revision INTEGER NOT NULL,
    facts BLOB NOT NULL, sealed BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS review_cases_at ON review_cases (at_ms, id);
CREATE INDEX IF NOT EXISTS review_cases_user ON review_cases (tenant, end_user);
"""


class SqliteReviews:
    """Implements `base.ReviewStore`. What is deleted is overwritten (`secure_delete`)."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path) -> SqliteReviews:
        """Open or create the file, mode 0600. Raises ReviewsAway."""
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
            raise ReviewsAway(f"cannot open {path}: {error}") from error
        return cls(db)

    def add(self, case: Case, sealed: bytes) -> bool:
        """See `base.ReviewStore`."""
        with _translated(), self._lock:
            return self._db.execute(sql.ADD, sql.added(case, sealed)).rowcount > 0

    def find(self, case_id: str) -> tuple[Case, bytes] | None:
        """See `base.ReviewStore`."""
        with _translated(), self._lock:
            row = self._db.execute(sql.FIND, (case_id,)).fetchone()
        return None if row is None else (sql.case_of(row[0]), row[1])

    def listed(self, wanted: Wanted) -> list[Case]:
        """See `base.ReviewStore`."""
        with _translated(), self._lock:
            rows = self._db.execute(*sql.listing(wanted)).fetchall()
        return [sql.case_of(facts) for (facts,) in rows]

    def step(self, case: Case) -> None:
        """See `base.ReviewStore`."""
        with _translated(), self._lock:
            if not self._db.execute(sql.STEP, sql.stepped(case)).rowcount:
                raise Overtaken

    def trim(self, before_ms: int, cases_max: int) -> int:
        """See `base.ReviewStore`."""
        with _translated(), self._lock:
            gone = self._db.execute(sql.OLD, (before_ms,)).rowcount
            surplus = self._db.execute(sql.COUNT).fetchone()[0] - cases_max
            if surplus > 0:
                gone += self._db.execute(sql.SURPLUS, (surplus,)).rowcount
            return gone

    def erase(self, tenant: str, end_user: str) -> int:
        """See `base.ReviewStore`."""
        with _translated(), self._lock:
            return self._db.execute(sql.ERASE, (tenant, end_user)).rowcount

    def close(self) -> None:
        """See `base.ReviewStore`."""
        with _translated(), self._lock:
            self._db.close()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise ReviewsAway(f"the store of reviews is unavailable: {error}") from error


def _prepare(db: sqlite3.Connection) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise ReviewsAway(
            f"the reviews have schema version {version}, this Ballast knows {SCHEMA_VERSION}"
        )
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA secure_delete = ON")
    db.executescript(f"BEGIN;\n{_SCHEMA}\nPRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;")
