"""Cases in PostgreSQL, in the ledger's database: one store for gateways on many machines.

Tables are made by `ledger.migrate`, connections by `ledger.link`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg

from serving.ledger import migrate
from serving.ledger.address import Address
from serving.ledger.base import LedgerUnavailable
from serving.ledger.link import Limits, Link
from serving.review import sql
from serving.review.base import Overtaken, ReviewsAway, Wanted
from serving.review.values import Case
from serving.settings import Ledger

LIMITS = Limits(statement_s=5.0, lock_s=1.0, call_s=6.0)


class PostgresReviews:
    """Implements `base.ReviewStore`. Nothing connects before the first call."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @classmethod
    def at(cls, address: Address, settings: Ledger) -> PostgresReviews:
        """The store at an address; its schema is brought up to date at the first call."""

        def prepare(connection: psycopg.Connection[Any]) -> None:
            migrate.migrate(connection, settings.lock_s)

        return cls(Link(address, LIMITS, prepare))

    def add(self, case: Case, sealed: bytes) -> bool:
        """See `base.ReviewStore`."""
        return self._count(sql.ADD, sql.added(case, sealed)) > 0

    def find(self, case_id: str) -> tuple[Case, bytes] | None:
        """See `base.ReviewStore`."""
        with _translated():
            row = self._link.run(lambda c: c.execute(_pg(sql.FIND), (case_id,)).fetchone())
        return None if row is None else (sql.case_of(row[0]), row[1])

    def listed(self, wanted: Wanted) -> list[Case]:
        """See `base.ReviewStore`."""
        text, values = sql.listing(wanted)
        with _translated():
            rows = self._link.run(lambda c: c.execute(_pg(text), values).fetchall())
        return [sql.case_of(facts) for (facts,) in rows]

    def step(self, case: Case) -> None:
        """See `base.ReviewStore`. When the server went away and did not say whether it committed,
        the second try finds its own step there."""
        values = sql.stepped(case)

        def work(cursor: psycopg.Cursor[Any]) -> bool:
            if cursor.execute(_pg(sql.STEP), values).rowcount:
                return True
            row = cursor.execute(_pg(sql.FIND), (case.id,)).fetchone()
            return row is not None and sql.case_of(row[0]) == case

        with _translated():
            if not self._link.run(work):
                raise Overtaken

    def trim(self, before_ms: int, cases_max: int) -> int:
        """See `base.ReviewStore`."""

        def work(cursor: psycopg.Cursor[Any]) -> int:
            gone = cursor.execute(_pg(sql.OLD), (before_ms,)).rowcount
            row = cursor.execute(_pg(sql.COUNT)).fetchone()
            surplus = (row[0] if row else 0) - cases_max
            if surplus > 0:
                gone += cursor.execute(_pg(sql.SURPLUS), (surplus,)).rowcount
            return gone

        with _translated():
            return self._link.run(work)

    def erase(self, tenant: str, end_user: str) -> int:
        """See `base.ReviewStore`."""
        return self._count(sql.ERASE, (tenant, end_user))

    def close(self) -> None:
        """See `base.ReviewStore`."""
        self._link.close()

    def _count(self, text: str, values: tuple[Any, ...]) -> int:
        with _translated():
            return self._link.run(lambda c: c.execute(_pg(text), values).rowcount)


def _pg(text: str) -> bytes:
    """The statement as psycopg takes it; bytes, for it is no literal of ours any more."""
    return text.replace("?", "%s").encode()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except LedgerUnavailable as error:
        raise ReviewsAway(f"the store of reviews is away: {error}") from error
