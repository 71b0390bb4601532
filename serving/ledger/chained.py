"""Egress intents on a hash chain: in the transaction that stores them, each gets its number and the
hash that binds it to all before it.

One chain for each life of a journal, whose records come in order and from one process. What is
stored again (a crash between commit and position, a recovery) is on the chain already and stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from serving.directory.chain import GENESIS, Entry, link
from serving.rows import EgressIntent

_LAST = "SELECT number, hash FROM audit_chain WHERE writer = {} ORDER BY number DESC LIMIT 1"
_IS_THERE = "SELECT 1 FROM audit_chain WHERE request_id = ? AND attempt = ?"
_INSERT = "INSERT INTO audit_chain (writer, number, request_id, attempt, data, hash) "
_ARE_THERE = (
    "SELECT c.request_id, c.attempt FROM audit_chain c JOIN unnest(%s::text[], %s::bigint[])"
    " AS k (request_id, attempt) ON c.request_id = k.request_id AND c.attempt = k.attempt"
)
_PUT_ALL = (
    f"{_INSERT}SELECT %s, * FROM"  # noqa: S608 - our own words
    " unnest(%s::bigint[], %s::text[], %s::bigint[], %s::bytea[], %s::bytea[])"
)
HEADS = (
    "SELECT c.writer, c.number, c.hash FROM audit_chain c JOIN"
    " (SELECT writer, max(number) AS number FROM audit_chain GROUP BY writer) AS last"
    " ON last.writer = c.writer AND last.number = c.number ORDER BY c.writer"
)
_ROW = ", ".join(f"i.{name}" for name in EgressIntent.__struct_fields__)
ENTRIES = (
    f"SELECT c.number, c.data, c.hash, {_ROW} FROM audit_chain c"  # noqa: S608 - our own words
    " LEFT JOIN intents i ON i.request_id = c.request_id AND i.attempt = c.attempt"
    " WHERE c.writer = :writer AND c.number > :after ORDER BY c.number LIMIT :limit"
)
"""With what the table that is listed from says of the same attempt."""
UNCHAINED = (
    "SELECT count(*), max(at_ms) FROM intents i WHERE NOT EXISTS (SELECT 1 FROM audit_chain c"
    " WHERE c.request_id = i.request_id AND c.attempt = i.attempt)"
)
encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(EgressIntent).decode


Key = tuple[str, int]
"""Request and attempt."""


class Row(NamedTuple):
    """One entry and the attempt it is about."""

    entry: Entry
    key: Key


class Table(Protocol):
    """The chains' table, in the transaction that stores a slice."""

    def last(self, writer: str) -> tuple[int, bytes] | None:
        """Number and hash of a writer's last entry."""
        ...

    def there(self, keys: Sequence[Key]) -> set[Key]:
        """Those that stand on a chain already, whoever's."""
        ...

    def put(self, writer: str, rows: Sequence[Row]) -> None:
        """Add entries."""
        ...


class SqliteTable:
    """Implements `Table` by a statement each: no server has to be asked."""

    def __init__(self, db: Any) -> None:
        self._db = db

    def last(self, writer: str) -> tuple[int, bytes] | None:
        """See `Table`."""
        found: tuple[int, bytes] | None = self._db.execute(_LAST.format("?"), (writer,)).fetchone()
        return found

    def there(self, keys: Sequence[Key]) -> set[Key]:
        """See `Table`."""
        return {key for key in keys if self._db.execute(_IS_THERE, key).fetchone()}

    def put(self, writer: str, rows: Sequence[Row]) -> None:
        """See `Table`."""
        values = ((writer, e.number, *key, e.data, e.hash) for e, key in rows)
        self._db.executemany(f"{_INSERT}VALUES (?, ?, ?, ?, ?, ?)", values)


class PostgresTable:
    """Implements `Table` by one statement for all rows: each is a way to the server and back."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def last(self, writer: str) -> tuple[int, bytes] | None:
        """See `Table`."""
        row = self._cursor.execute(_LAST.format("%s"), (writer,)).fetchone()
        return None if row is None else (int(row[0]), bytes(row[1]))

    def there(self, keys: Sequence[Key]) -> set[Key]:
        """See `Table`."""
        columns = [list(column) for column in zip(*keys, strict=True)]
        return set(self._cursor.execute(_ARE_THERE, columns).fetchall())

    def put(self, writer: str, rows: Sequence[Row]) -> None:
        """See `Table`."""
        told = [(e.number, *key, e.data, e.hash) for e, key in rows]
        columns = [list(column) for column in zip(*told, strict=True)]
        self._cursor.execute(_PUT_ALL, (writer, *columns))


def append(table: Table, writer: str, intents: Sequence[EgressIntent]) -> None:
    """Put intents on a writer's chain, each once."""
    if not intents:
        return
    seen = table.there([(intent.request_id, intent.attempt) for intent in intents])
    number, before = table.last(writer) or (0, GENESIS)
    rows: list[Row] = []
    for intent in intents:
        key = (intent.request_id, intent.attempt)
        if key in seen:
            continue
        seen.add(key)
        entry = next_entry(number, before, intent)
        number, before = entry.number, entry.hash
        rows.append(Row(entry, key))
    if rows:
        table.put(writer, rows)


def next_entry(number: int, before: bytes, intent: EgressIntent) -> Entry:
    """The entry after one with that number and hash. Pure."""
    data = encode(intent)
    return Entry(number + 1, data, link(before, number + 1, data))


def intent_of(data: bytes) -> EgressIntent:
    """An entry's intent. Raises msgspec.DecodeError."""
    return _decode(data)
