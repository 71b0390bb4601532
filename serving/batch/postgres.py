"""Files and batches in PostgreSQL, in the ledger's database: one store for many machines.

Tables are made by `ledger.migrate`, connections by `ledger.link`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg

from serving.batch import sql
from serving.batch.base import BatchesAway
from serving.batch.tables import Tables
from serving.batch.transactions import Database, Rows
from serving.ledger import migrate
from serving.ledger.address import Address
from serving.ledger.base import LedgerUnavailable
from serving.ledger.link import Limits, Link
from serving.settings import Ledger

LIMITS = Limits(statement_s=10.0, lock_s=2.0, call_s=15.0)
_T = TypeVar("_T")


class PostgresBatches(Tables):
    """Implements `base.BatchStore`. Nothing connects before the first call."""

    late = sql.late("(convert_from(facts, 'UTF8')::json ->> 'expires_ms')::bigint")

    def __init__(self, link: Link) -> None:
        self._link = link

    @classmethod
    def at(cls, address: Address, settings: Ledger) -> PostgresBatches:
        """The store at an address; its schema is brought up to date at the first call."""

        def prepare(connection: psycopg.Connection[Any]) -> None:
            migrate.migrate(connection, settings.lock_s)

        return cls(Link(address, LIMITS, prepare))

    def _do(self, work: Callable[[Database], _T]) -> _T:
        try:
            return self._link.run(lambda cursor: work(_Transaction(cursor)))
        except LedgerUnavailable as error:
            raise BatchesAway(f"the store of batches is away: {error}") from error

    def close(self) -> None:
        """See `base.BatchStore`."""
        self._link.close()


class _Transaction:
    """Takes statements with `?`."""

    def __init__(self, cursor: psycopg.Cursor[Any]) -> None:
        self._cursor = cursor

    def execute(self, text: str, values: Sequence[Any], /) -> Rows:
        """See `tables.Database`."""
        return self._cursor.execute(text.replace("?", "%s").encode(), values)

    def executemany(self, text: str, values: Sequence[Sequence[Any]], /) -> object:
        """See `tables.Database`."""
        if values:
            self._cursor.executemany(text.replace("?", "%s").encode(), values)
        return None
