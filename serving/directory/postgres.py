"""The directory in PostgreSQL: one for gateways on many machines, in the ledger's database.

A commit holds one advisory lock while it looks at the head and writes, so changes of all pods stand
in one order. Tables are made by `ledger.migrate`, connections by `ledger.link`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg

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
from serving.ledger import migrate
from serving.ledger.address import Address
from serving.ledger.base import LedgerUnavailable
from serving.ledger.link import Limits, Link
from serving.settings import Ledger

LOCK = migrate.LOCK + 1
"""Names the directory's advisory lock in the database."""
LIMITS = Limits(statement_s=2.0, lock_s=1.0, call_s=2.5)
"""Short beside the ledger's: while one call hangs, no switch can be heard of."""
_HEAD = "SELECT number, hash FROM directory_history ORDER BY number DESC LIMIT 1"
_READ = f"""
    SELECT head.number, head.hash, row.kind, row.id, row.data
    FROM (SELECT) AS one
    LEFT JOIN ({_HEAD}) AS head ON true
    LEFT JOIN directory_documents AS row ON true"""  # noqa: S608
"""One statement, hence one snapshot: rows and head belong together."""
_PUT = (
    "INSERT INTO directory_documents VALUES (%s, %s, %s)"
    " ON CONFLICT (kind, id) DO UPDATE SET data = excluded.data"
)
_REMOVE = "DELETE FROM directory_documents WHERE kind = %s AND id = %s"
_GET = "SELECT data FROM directory_documents WHERE kind = %s AND id = %s"
_HISTORY = (
    "SELECT number, data, hash FROM directory_history WHERE number > %s ORDER BY number LIMIT %s"
)


class PostgresDirectory:
    """Implements `base.DirectoryStore`. Nothing connects before the first call."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @classmethod
    def at(cls, address: Address, settings: Ledger) -> PostgresDirectory:
        """The directory at an address; its schema is brought up to date at the first call."""

        def prepare(connection: psycopg.Connection[Any]) -> None:
            migrate.migrate(connection, settings.lock_s)

        return cls(Link(address, LIMITS, prepare))

    def head(self) -> Head:
        """See `base.DirectoryStore`."""
        with _translated():
            return self._link.run(_head)

    def read(self) -> tuple[Head, list[Document]]:
        """See `base.DirectoryStore`."""
        with _translated():
            rows = self._link.run(lambda cursor: cursor.execute(_READ).fetchall())
        number, mark = rows[0][:2]
        head = EMPTY if number is None else Head(number, mark)
        return head, [Document(*row[2:]) for row in rows if row[2] is not None]

    def commit(self, expected: Head, change: Change) -> Head:
        """See `base.DirectoryStore`."""
        entry = next_entry(expected, change.event)
        new = Head(entry.number, entry.hash)
        is_again = False

        def work(cursor: psycopg.Cursor[Any]) -> None:
            nonlocal is_again
            was_tried, is_again = is_again, True
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
            head = _head(cursor)
            # The link runs it again when the server went away and did not say whether it committed.
            if was_tried and head == new and _stands(cursor, change):
                return
            if head != expected:
                raise VersionConflict
            cursor.execute("INSERT INTO directory_history VALUES (%s, %s, %s)", entry)
            for kind, id_, data in _rows(change):
                if data:
                    cursor.execute(_PUT, (kind, id_, data))
                else:
                    cursor.execute(_REMOVE, (kind, id_))

        with _translated():
            self._link.run(work)
        return new

    def history(self, after: int = 0, limit: int = ENTRIES_MAX) -> list[Entry]:
        """See `base.DirectoryStore`."""
        values = after, min(limit, ENTRIES_MAX)
        with _translated():
            rows = self._link.run(lambda cursor: cursor.execute(_HISTORY, values).fetchall())
        return [Entry(*row) for row in rows]

    def close(self) -> None:
        """See `base.DirectoryStore`."""
        self._link.close()


def _head(cursor: psycopg.Cursor[Any]) -> Head:
    row = cursor.execute(_HEAD).fetchone()
    return Head(*row) if row else EMPTY


def _rows(change: Change) -> list[tuple[str, str, bytes]]:
    return [(document.kind, document.id, document.data) for document in change.documents]


def _stands(cursor: psycopg.Cursor[Any], change: Change) -> bool:
    """Whether the change's rows are there: an equal entry alone could be another's."""
    for kind, id_, data in _rows(change):
        row = cursor.execute(_GET, (kind, id_)).fetchone()
        if (row[0] if row else b"") != data:
            return False
    return True


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except LedgerUnavailable as error:
        raise DirectoryAway(f"the directory is away: {error}") from error
