"""How records become PostgreSQL's rows: one statement a kind, one JSON parameter each. Pure.

The records are encoded as they are and taken apart by the server. That costs the gateway a third of
what COPY does, and needs no temporary table (0107). Where a value stands in the JSON follows from
the rows' definitions; a field that has no column fails at import.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from serving.ledger import sql
from serving.ledger.sorting import LOST, clamped, sort, storable
from serving.records import Charge, Usage
from serving.rows import AttemptBegin, AttemptEnd, EgressIntent, Record, RequestEnd

_CASTS = {int: "::bigint", int | None: "::bigint", bool: "::boolean", str: ""}
_Ended = TypeVar("_Ended", AttemptEnd, RequestEnd)


class Statement(NamedTuple):
    """One write of many rows."""

    query: bytes
    rows: Sequence[Any]
    """For the parameter `rows`, as JSON."""


def _places(kind: type[msgspec.Struct], columns: Sequence[str], row: str) -> dict[str, str]:
    """Column -> the expression that finds its value in an encoded record: a list of the tag, then
    the fields; what is not `array_like` is an object."""
    found: list[str] = []
    for place, field in enumerate(msgspec.structs.fields(kind), 1):
        if field.type in (Usage, Charge):
            inner = msgspec.structs.fields(field.type)
            found += [f"({row}->{place}->>'{f.name}'){_CASTS[f.type]}" for f in inner]
        else:
            found.append(f"({row}->>{place}){_CASTS[field.type]}")
    return dict(zip(columns, found, strict=True))


def _upsert(table: str, keys: Sequence[str], values: dict[str, str], condition: str = "") -> bytes:
    sets = ", ".join(f"{name} = excluded.{name}" for name in values if name not in keys)
    query = (
        f"INSERT INTO {table} ({', '.join(values)}) SELECT {', '.join(values.values())}"  # noqa: S608
        f" FROM jsonb_array_elements(:rows) AS r"
        f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {sets} {condition}"
    )
    return sql.for_psycopg(query)


def _unless_lost(table: str) -> str:
    """What the gateway told itself beats what recovery supposed, whichever comes first."""
    return f"WHERE excluded.outcome <> '{LOST}' OR {table}.outcome IS NULL"


_LIFE = {"life": ":life"}
_BEGIN, _END = [*sql.KEY, *sql.BEGIN], [*sql.KEY, *sql.END]
_REQUEST, _INTENT = [sql.KEY[0], *sql.REQUEST], [*sql.KEY, *sql.INTENT]

PUT_INTENT = _upsert("intents", sql.KEY, _places(EgressIntent, _INTENT, "r"))
PUT_ATTEMPT = _upsert(
    "attempts",
    sql.KEY,
    _places(AttemptEnd, _END, "r->1") | _places(AttemptBegin, _BEGIN, "r->0") | _LIFE,
)
PUT_BEGIN = _upsert("attempts", sql.KEY, _places(AttemptBegin, _BEGIN, "r") | _LIFE)
PUT_END = _upsert(
    "attempts", sql.KEY, _places(AttemptEnd, _END, "r"), _unless_lost("attempts")
)  # fmt: skip
PUT_REQUEST = _upsert(
    "requests", sql.KEY[:1], _places(RequestEnd, _REQUEST, "r"), _unless_lost("requests")
)
PUT_PENDING = sql.for_psycopg(
    "INSERT INTO pending (life, request_id) SELECT :life, r"
    " FROM jsonb_array_elements_text(:rows) AS r"
    " WHERE NOT EXISTS (SELECT 1 FROM requests WHERE request_id = r)"
    " ON CONFLICT (request_id) DO UPDATE SET life = excluded.life"
)
DROP_PENDING = sql.for_psycopg(
    "DELETE FROM pending WHERE request_id IN (SELECT jsonb_array_elements_text(:rows))"
)
PUT_POSITION = sql.for_psycopg(
    "INSERT INTO positions (life, sequence, offset_bytes) VALUES (:life, :sequence, :offset_bytes)"
    " ON CONFLICT (life) DO UPDATE"
    " SET sequence = excluded.sequence, offset_bytes = excluded.offset_bytes"
)


def statements(records: Sequence[Record]) -> Iterator[Statement]:
    """What stores the records, in order; nothing for a kind that has none.

    PostgreSQL refuses to touch a row twice in one statement, so of several records with the same
    key only the one is kept that would win.
    """
    found = sort(records)
    intents = {(row.request_id, row.attempt): row for row in found.intents}
    requests = _winners(found.requests)
    settled = [row.request_id for row in requests]
    for query, rows in (
        (PUT_INTENT, list(intents.values())),
        (PUT_ATTEMPT, [(begin, _storable(end)) for begin, end in found.whole]),
        (PUT_BEGIN, found.begins),
        (PUT_PENDING, found.started),
        (PUT_END, list(map(_storable, _winners(found.ends)))),
        (PUT_REQUEST, list(map(_storable, requests))),
        (DROP_PENDING, settled),
    ):
        if rows:
            yield Statement(query, rows)


def _winners(rows: Iterable[_Ended]) -> list[_Ended]:
    """One row a key: the last, but any beats `gateway_lost`."""
    found: dict[tuple[str, int], _Ended] = {}
    for row in rows:
        key = (row.request_id, row.attempt if isinstance(row, AttemptEnd) else 0)
        if key not in found or row.outcome != LOST:
            found[key] = row
    return list(found.values())


def _storable(row: _Ended) -> _Ended:
    """A target may report any number of tokens; a row that the store refuses would block all."""
    usage = storable(row.usage)
    if usage is not row.usage:
        row = msgspec.structs.replace(row, usage=usage)
    if isinstance(row, AttemptEnd) and row.charge.micro != clamped(row.charge.micro):
        charge = Charge(row.charge.currency, clamped(row.charge.micro))
        row = msgspec.structs.replace(row, charge=charge)
    return row
