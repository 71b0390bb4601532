"""The budget store in PostgreSQL: the ledger's database, a connection of its own.

A renewal holds one advisory lock while it sums up and writes, so grants of all pods stand in one
order. It takes about a millisecond, and a pod renews once a second at most.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import psycopg

from serving.budgets import remembered, sql
from serving.budgets.base import Alert, Expired, Row, Scope, Sum, Told, Want
from serving.budgets.learnt import Counts, Feature
from serving.ledger import migrate
from serving.ledger.address import Address
from serving.ledger.link import Limits, Link
from serving.ledger.sql import for_psycopg
from serving.settings import Ledger

LOCK = migrate.LOCK + 2
"""Names the budgets' advisory lock in the database."""
LENGTHS_LOCK = migrate.LOCK + 3
"""That of answer lengths: no renewal waits for it."""
LIMITS = Limits(statement_s=2.0, lock_s=1.0, call_s=2.5)
"""Short: a gateway at its exit waits for one."""
_compiled = functools.lru_cache(64)(for_psycopg)
_T = TypeVar("_T")


class _Cursor:
    """See `sql.Cursor`."""

    def __init__(self, cursor: psycopg.Cursor[Any]) -> None:
        self._cursor = cursor

    def rows(self, query: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return self._cursor.execute(_compiled(query), values).fetchall()

    def put(self, query: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self._cursor.executemany(_compiled(query), rows)


class PostgresBudgets:
    """Implements `base.BudgetStore`. Nothing connects before the first call."""

    def __init__(self, link: Link, patient: Link) -> None:
        self._link = link
        self._patient = patient
        """Adds up attempts, perhaps a month's; opened when a gateway has died."""

    @classmethod
    def at(cls, address: Address, settings: Ledger) -> PostgresBudgets:
        """The store at an address; its schema is brought up to date at the first call."""

        def prepare(connection: psycopg.Connection[Any]) -> None:
            migrate.migrate(connection, settings.lock_s)

        slow_s = settings.statement_s
        slow = Limits(slow_s, settings.lock_s, slow_s + settings.lock_s)
        return cls(Link(address, LIMITS, prepare), Link(address, slow, prepare))

    def renew(self, holder: str, wants: Sequence[Want], now_ms: int) -> list[Told]:
        """See `base.BudgetStore`."""

        def work(cursor: psycopg.Cursor[Any]) -> list[Told]:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
            return sql.renew(_Cursor(cursor), holder, wants, now_ms)

        return self._link.run(work)

    def expired(self, now_ms: int, abandoned_ms: int) -> list[Expired]:
        """See `base.BudgetStore`."""
        return self._run(lambda cursor: sql.expired(cursor, now_ms, abandoned_ms))

    def truth(self, lease: Expired, scope: Scope, since_ms: int) -> list[Sum]:
        """See `base.BudgetStore`."""
        return self._patient.run(
            lambda cursor: sql.truth(_Cursor(cursor), lease, scope, since_ms)
        )  # fmt: skip

    def settle(self, lease: Expired, spent_micro: int, now_ms: int) -> None:
        """See `base.BudgetStore`."""
        self._run(lambda cursor: sql.settle(cursor, lease, spent_micro, now_ms))

    def rows(self, since_ms: int, now_ms: int) -> list[Row]:
        """See `base.BudgetStore`."""
        return self._run(lambda cursor: sql.rows(cursor, since_ms, now_ms))

    def alerts(self, since_ms: int) -> list[Alert]:
        """See `base.BudgetStore`."""
        return self._run(lambda cursor: sql.alerts(cursor, since_ms))

    def forget(self, before_ms: int) -> None:
        """See `base.BudgetStore`."""
        self._run(lambda cursor: sql.forget(cursor, before_ms))

    def tell_lengths(self, new: Mapping[Feature, Counts], now_ms: int) -> None:
        """See `base.BudgetStore`."""

        def work(cursor: psycopg.Cursor[Any]) -> None:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LENGTHS_LOCK])
            remembered.told(_Cursor(cursor), new, now_ms)

        self._patient.run(work)

    def lengths(self, since_ms: int) -> list[tuple[Feature, Counts]]:
        """See `base.BudgetStore`."""
        return self._patient.run(lambda cursor: remembered.since(_Cursor(cursor), since_ms))

    def close(self) -> None:
        """See `base.BudgetStore`."""
        self._link.close()
        self._patient.close()

    def _run(self, work: Callable[[_Cursor], _T]) -> _T:
        return self._link.run(lambda cursor: work(_Cursor(cursor)))
