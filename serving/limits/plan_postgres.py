"""Plan windows in the ledger's PostgreSQL, for gateways on many machines.

Tables are made by `ledger.migrate`, connections by `ledger.link`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg

from serving.ledger import migrate
from serving.ledger.address import Address
from serving.ledger.base import LedgerUnavailable
from serving.ledger.link import Limits, Link
from serving.limits.base import LimitsAway
from serving.limits.windows import Row
from serving.settings import Ledger

LIMITS = Limits(statement_s=2.0, lock_s=1.0, call_s=2.5)
_MAKE = (
    "INSERT INTO plan_windows SELECT counter, 0, 0, 0 FROM unnest(%s::text[]) AS counter"
    " ORDER BY counter ON CONFLICT DO NOTHING"
)
"""A row to lock, also for a counter that has none yet; its window is over."""
_LOCK = (
    "SELECT counter, began_ms, length_ms, used FROM plan_windows WHERE counter = ANY(%s)"
    " ORDER BY counter FOR UPDATE"
)
"""In one order, so that two gateways do not wait for each other."""
_PUT = (
    "INSERT INTO plan_windows VALUES (%s, %s, %s, %s) ON CONFLICT (counter) DO UPDATE SET"
    " began_ms = excluded.began_ms, length_ms = excluded.length_ms, used = excluded.used"
)
_READ = (
    "SELECT counter, began_ms, length_ms, used FROM plan_windows WHERE began_ms + length_ms > %s"
)
_TIDY = "DELETE FROM plan_windows WHERE began_ms + length_ms <= %s"


class PostgresRows:
    """Implements `plan_store.Rows`. Nothing connects before the first call."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @classmethod
    def at(cls, address: Address, settings: Ledger) -> PostgresRows:
        """The table at an address; its schema is brought up to date at the first call."""

        def prepare(connection: psycopg.Connection[Any]) -> None:
            migrate.migrate(connection, settings.lock_s)

        return cls(Link(address, LIMITS, prepare))

    def read(self, now_ms: int) -> dict[str, Row]:
        """See `plan_store.Rows`."""
        with _translated():
            rows = self._link.run(lambda cursor: cursor.execute(_READ, (now_ms,)).fetchall())
        return {row[0]: Row(*row[1:]) for row in rows}

    def change(
        self, keys: Sequence[str], decide: Callable[[dict[str, Row]], dict[str, Row | None]]
    ) -> None:
        """See `plan_store.Rows`."""

        def work(cursor: psycopg.Cursor[Any]) -> None:
            names = sorted(keys)
            cursor.execute(_MAKE, (names,))
            rows = cursor.execute(_LOCK, (names,)).fetchall()
            changed = decide({row[0]: Row(*row[1:]) for row in rows})
            put = [(key, *(row or Row(0, 0, 0.0))) for key, row in changed.items()]
            cursor.executemany(_PUT, put)

        with _translated():
            self._link.run(work)

    def tidy(self, now_ms: int) -> None:
        """See `plan_store.Rows`."""
        with _translated():
            self._link.run(lambda cursor: cursor.execute(_TIDY, (now_ms,)))

    def close(self) -> None:
        """See `plan_store.Rows`."""
        self._link.close()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except LedgerUnavailable as error:
        raise LimitsAway(f"the store of plans is away: {error}") from error
