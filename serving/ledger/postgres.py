"""The ledger in PostgreSQL: the production store, shared by gateways on many machines.

Any thread may call it, off the event loop. Nothing connects before the first call. A server that is
away makes calls raise, most of them at once; the journal keeps what they would have stored.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import psycopg
from psycopg.errors import UntranslatableCharacter
from psycopg.types.json import Jsonb

from serving.ledger import chained, migrate, sql, upserts
from serving.ledger.address import Address
from serving.ledger.base import QUERY_S, LedgerUnavailable, Position
from serving.ledger.link import Limits, Link
from serving.ledger.reads import Reads
from serving.ledger.sorting import intents_of
from serving.rows import EgressIntent, Record
from serving.settings import Ledger

_encode = msgspec.json.Encoder().encode
_compiled = functools.lru_cache(256)(sql.for_psycopg)
_FORGET = sql.for_psycopg(sql.FORGET)


class PostgresLedger(Reads):
    """Implements `base.Ledger`. One connection writes and one reads, each once it is needed."""

    def __init__(self, writer: Link, reader: Link) -> None:
        self._writer = writer
        self._reader = reader

    @classmethod
    def at(cls, address: Address, settings: Ledger) -> PostgresLedger:
        """The database at an address; its schema is brought up to date at the first call."""

        def prepare(connection: psycopg.Connection[Any]) -> None:
            migrate.migrate(connection, settings.lock_s)

        return cls(
            Link(address, _limits(settings, settings.statement_s), prepare),
            Link(address, _limits(settings, QUERY_S), prepare),
        )

    @classmethod
    def to_read(cls, address: Address, settings: Ledger) -> PostgresLedger:
        """The same for questions only: whatever the role may do, nothing is written."""

        def prepare(connection: psycopg.Connection[Any]) -> None:
            migrate.ready(connection)

        link = Link(address, _limits(settings, QUERY_S), prepare, is_read_only=True)
        return cls(link, link)

    def apply(self, records: Sequence[Record], position: Position | None = None) -> None:
        """See `base.Ledger`."""
        found = list(upserts.statements(records)), intents_of(records)
        try:
            self._put(found, position, _encode)
        except LedgerUnavailable as error:
            if not isinstance(error.__cause__, UntranslatableCharacter):
                raise
            self._put(found, position, _without_nul)

    def forget(self, life: str) -> None:
        """See `base.Ledger`."""
        self._writer.run(lambda cursor: cursor.execute(_FORGET, {"life": life}))

    def close(self) -> None:
        """See `base.Ledger`."""
        self._writer.close()
        self._reader.close()

    def _put(
        self,
        found: tuple[Sequence[upserts.Statement], Sequence[EgressIntent]],
        position: Position | None,
        encode: Callable[[Any], bytes],
    ) -> None:
        life = position.life if position else ""
        statements, intents = found

        def work(cursor: psycopg.Cursor[Any]) -> None:
            chained.append(chained.PostgresTable(cursor), life, intents)
            for query, rows in statements:
                cursor.execute(query, {"life": life, "rows": Jsonb(rows, dumps=encode)})
            if position is not None:
                cursor.execute(upserts.PUT_POSITION, msgspec.structs.asdict(position))

        self._writer.run(work)

    def _rows(self, query: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return self._reader.run(lambda cursor: cursor.execute(_compiled(query), values).fetchall())


def _limits(settings: Ledger, statement_s: float) -> Limits:
    return Limits(statement_s, settings.lock_s, statement_s + settings.lock_s)


def _without_nul(value: Any) -> bytes:
    """PostgreSQL's text holds no NUL, and a name that a caller made up may: written as U+FFFD."""
    return _encode(value).replace(b"\\u0000", b"\\ufffd")
