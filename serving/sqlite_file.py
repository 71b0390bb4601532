"""A SQLite file of ours, for one machine: private, of a known schema, its faults its owner's.

Processes share the file, each with its own connection; threads of one process share that in turn.
The ledger's file, and the books within it, have rules of their own (`serving/ledger/sqlite.py`).
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple


class Layout(NamedTuple):
    """What a file holds, and what to say when it cannot be used."""

    name: str
    """In messages, as in `the directory`."""
    away: Callable[[str], Exception]
    """The owner's exception; every fault of the file is raised as one."""
    version: int
    schema: str
    """Statements that may be run again."""
    busy_s: float
    """Longest wait for another process's transaction."""
    pragmas: tuple[str, ...] = ()
    """As `synchronous = FULL`, beside WAL."""


class SqliteFile:
    """One connection. Every method raises the layout's exception."""

    def __init__(self, db: sqlite3.Connection, layout: Layout) -> None:
        self._db = db
        self._layout = layout
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, layout: Layout) -> SqliteFile:
        """Open or create the file, mode 0600, and its tables."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            with _translated(layout), contextlib.ExitStack() as opened:
                db = sqlite3.connect(
                    path, timeout=layout.busy_s, isolation_level=None, check_same_thread=False
                )
                opened.callback(db.close)
                _prepare(db, layout)
                opened.pop_all()
        except OSError as error:
            raise layout.away(f"cannot open {path}: {error}") from error
        return cls(db, layout)

    @contextlib.contextmanager
    def statement(self) -> Iterator[sqlite3.Connection]:
        """For one statement, which is a transaction of its own."""
        with _translated(self._layout), self._lock:
            yield self._db

    @contextlib.contextmanager
    def transaction(
        self, mode: Literal["DEFERRED", "IMMEDIATE"] = "IMMEDIATE"
    ) -> Iterator[sqlite3.Connection]:
        """For several that stand or fall together; whatever is raised undoes them."""
        with self.statement() as db:
            db.execute(f"BEGIN {mode}")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Release the file; no call may follow."""
        with self.statement() as db:
            db.close()


@contextlib.contextmanager
def _translated(layout: Layout) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise layout.away(f"{layout.name} cannot be used now: {error}") from error


def _prepare(db: sqlite3.Connection, layout: Layout) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > layout.version:
        raise layout.away(
            f"{layout.name} is of schema version {version}, this Ballast knows {layout.version}"
        )
    _to_wal(db, layout.busy_s)
    for pragma in layout.pragmas:
        db.execute(f"PRAGMA {pragma}")
    # Immediate: one that begins by reading is refused at once when another wrote meanwhile.
    begin, version = "BEGIN IMMEDIATE;", f"PRAGMA user_version = {layout.version};"
    db.executescript(f"{begin}\n{layout.schema}\n{version}\nCOMMIT;")


def _to_wal(db: sqlite3.Connection, wait_s: float) -> None:
    """Of two that open a new file at once SQLite refuses one without waiting."""
    until_s = time.monotonic() + wait_s
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until_s:
                raise
            time.sleep(0.01)
