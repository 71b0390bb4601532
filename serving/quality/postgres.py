"""Canaries' runs in PostgreSQL, in the ledger's database.

Tables are made by `ledger.migrate`, connections by `ledger.link`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg

from serving.ledger import migrate
from serving.ledger.address import Address
from serving.ledger.base import LedgerUnavailable
from serving.ledger.link import Limits, Link
from serving.quality import sql
from serving.quality.base import RUNS_MAX, Found, QualityAway, decode_drifts, decode_run
from serving.quality.values import Run
from serving.settings import Ledger

LIMITS = Limits(statement_s=5.0, lock_s=1.0, call_s=6.0)


class PostgresQuality:
    """Implements `base.QualityStore`. Nothing connects before the first call."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @classmethod
    def at(cls, address: Address, settings: Ledger) -> PostgresQuality:
        """The store at an address; its schema is brought up to date at the first call."""

        def prepare(connection: psycopg.Connection[Any]) -> None:
            migrate.migrate(connection, settings.lock_s)

        return cls(Link(address, LIMITS, prepare))

    def add(self, runs: Sequence[Run]) -> None:
        """See `base.QualityStore`."""
        rows = [sql.added(run) for run in runs]
        with _translated():
            self._link.run(lambda cursor: cursor.executemany(_pg(sql.ADD), rows))

    def runs(self, model: str, target: str) -> list[Run]:
        """See `base.QualityStore`."""
        values = model, target, RUNS_MAX
        with _translated():
            rows = self._link.run(lambda c: c.execute(_pg(sql.RUNS), values).fetchall())
        return [decode_run(facts) for (facts,) in rows]

    def conclude(self, found: Found) -> None:
        """See `base.QualityStore`."""
        with _translated():
            self._link.run(lambda c: c.execute(_pg(sql.CONCLUDE), sql.concluded(found)).rowcount)

    def found(self) -> list[Found]:
        """See `base.QualityStore`."""
        with _translated():
            rows = self._link.run(lambda c: c.execute(_pg(sql.FOUND)).fetchall())
        return [Found(m, t, at_ms, decode_drifts(data)) for m, t, at_ms, data in rows]

    def rebase(self, model: str, target: str) -> int:
        """See `base.QualityStore`."""

        def work(cursor: psycopg.Cursor[Any]) -> int:
            cursor.execute(_pg(sql.UNFOUND), (model, target))
            return cursor.execute(_pg(sql.FORGET), (model, target)).rowcount

        with _translated():
            return self._link.run(work)

    def trim(self, before_ms: int) -> None:
        """See `base.QualityStore`."""
        with _translated():
            self._link.run(lambda c: c.execute(_pg(sql.TRIM), (before_ms,)).rowcount)

    def close(self) -> None:
        """See `base.QualityStore`."""
        self._link.close()


def _pg(text: str) -> bytes:
    """The statement as psycopg takes it."""
    return text.replace("?", "%s").encode()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except LedgerUnavailable as error:
        raise QualityAway(f"the store of canaries is away: {error}") from error
