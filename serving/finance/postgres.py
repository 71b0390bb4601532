"""The finance books in the ledger's PostgreSQL database.

Tables are made by `ledger.migrate`, connections by `ledger.link`, which does work again whose
connection died: all of it may run twice.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from serving.finance.base import Rows, T, Values
from serving.ledger import migrate
from serving.ledger.address import Address
from serving.ledger.base import QUERY_S
from serving.ledger.link import Limits, Link
from serving.ledger.sql import for_psycopg
from serving.settings import Ledger

LOCK = 0x62616C6C66696E
"""Names the writers' lock in the database; any constant that nobody else uses."""
LIMITS = Limits(statement_s=QUERY_S, lock_s=10.0, call_s=QUERY_S + 10.0)
_compiled = functools.lru_cache(256)(for_psycopg)


class PostgresDatabase:
    """Implements `base.Database`. Nothing connects before the first call."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @classmethod
    def at(cls, address: Address, settings: Ledger) -> PostgresDatabase:
        """The books at an address; the schema is brought up to date at the first call."""

        def prepare(connection: psycopg.Connection[Any]) -> None:
            migrate.migrate(connection, settings.lock_s)

        return cls(Link(address, LIMITS, prepare))

    @classmethod
    def to_read(cls, address: Address) -> PostgresDatabase:
        """The same for questions only."""

        def prepare(connection: psycopg.Connection[Any]) -> None:
            migrate.ready(connection)

        return cls(Link(address, LIMITS, prepare, is_read_only=True))

    def write(self, work: Callable[[_Work], T]) -> T:
        """See `base.Database`."""

        def alone(cursor: psycopg.Cursor[Any]) -> T:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
            return work(_Work(cursor))

        return self._link.run(alone)

    def rows(self, query: str, values: Values | None = None) -> Rows:
        """See `base.Database`."""
        return self._link.run(lambda c: c.execute(_compiled(query), values or {}).fetchall())

    def close(self) -> None:
        """See `base.Database`."""
        self._link.close()


class _Work:
    def __init__(self, cursor: psycopg.Cursor[Any]) -> None:
        self._cursor = cursor

    def rows(self, query: str, values: Values | None = None) -> Rows:
        return self._cursor.execute(_compiled(query), values or {}).fetchall()

    def run(self, query: str, values: Values | None = None) -> int:
        return self._cursor.execute(_compiled(query), values or {}).rowcount

    def run_many(self, query: str, values: Sequence[Values]) -> None:
        if values:
            self._cursor.executemany(_compiled(query), values)
