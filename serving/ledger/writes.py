"""How records become SQLite's rows: statements of many rows and their parameters. Pure.

The price of a row is mostly the price of running a statement, so rows go in by the `ROWS`.
Parameters are made while the statements run: SQLite works without the interpreter's lock, and the
event loop waits for one statement's parameters at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from serving.ledger.sorting import LOST, clamped, sort, storable
from serving.ledger.sql import BEGIN, END, INTENT, KEY, REQUEST
from serving.rows import AttemptBegin, AttemptEnd, EgressIntent, Record, RequestEnd

ROWS = 20
"""Rows in one statement: 10 cost a tenth more, 40 nothing less."""

_T = TypeVar("_T")
Statement = tuple[str, Iterable[list[Any]]]
"""For `executemany`."""


class Put(NamedTuple):
    """One write, for a single row and for `ROWS`. Where a row has a life, `?1` is all rows'."""

    one: str
    many: str


def _put(head: str, row: str, tail: str) -> Put:
    return Put(f"{head} {row} {tail}", f"{head} {', '.join([row] * ROWS)} {tail}")


def _upsert(table: str, keys: Sequence[str], columns: Sequence[str], condition: str = "") -> Put:
    names = sorted((*keys, *columns), key=lambda name: name != "life")
    marks = ", ".join("?1" if name == "life" else "?" for name in names)
    sets = ", ".join(f"{name} = excluded.{name}" for name in columns)
    return _put(
        f"INSERT INTO {table} ({', '.join(names)}) VALUES",
        f"({marks})",
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {sets} {condition}",
    )


def _unless_lost(table: str) -> str:
    """What the gateway told itself beats what recovery supposed, whichever comes first."""
    return f"WHERE excluded.outcome <> '{LOST}' OR {table}.outcome IS NULL"


PUT_ATTEMPT = _upsert("attempts", KEY, ["life", *BEGIN, *END])
PUT_BEGIN = _upsert("attempts", KEY, ["life", *BEGIN])
PUT_END = _upsert("attempts", KEY, END, _unless_lost("attempts"))
PUT_REQUEST = _upsert("requests", KEY[:1], REQUEST, _unless_lost("requests"))
PUT_INTENT = _upsert("intents", KEY, INTENT)
PUT_POSITION = _upsert("positions", ["life"], ["sequence", "offset_bytes"]).one
PUT_PENDING = _put(
    "INSERT INTO pending (life, request_id) SELECT ?1, column1 FROM (VALUES",
    "(?)",
    ") WHERE NOT EXISTS (SELECT 1 FROM requests WHERE request_id = column1)"
    " ON CONFLICT (request_id) DO UPDATE SET life = excluded.life",
)
_DROP = "DELETE FROM pending WHERE request_id"
DROP_PENDING = Put(f"{_DROP} = ?", f"{_DROP} IN ({', '.join('?' * ROWS)})")


def statements(records: Sequence[Record], life: str) -> Iterator[Statement]:
    """What stores the records: statements in order, with the parameters of each run."""
    found = sort(records)
    yield from _runs(PUT_INTENT, found.intents, _intents)
    yield from _runs(PUT_ATTEMPT, found.whole, lambda rows: _attempts(rows, life))
    yield from _runs(PUT_BEGIN, found.begins, lambda rows: _begins(rows, life))
    yield from _runs(PUT_PENDING, found.started, lambda ids: [life, *ids])
    yield from _runs(PUT_END, found.ends, _ends)
    yield from _runs(PUT_REQUEST, found.requests, _requests)
    settled = [request.request_id for request in found.requests]
    yield from _runs(DROP_PENDING, settled, list)


def _runs(
    put: Put, rows: Sequence[_T], values: Callable[[Sequence[_T]], list[Any]]
) -> Iterator[Statement]:
    """Full statements first, the rest row by row; parameters are made as they are asked for."""
    full = len(rows) - len(rows) % ROWS
    if full:
        yield put.many, (values(rows[at : at + ROWS]) for at in range(0, full, ROWS))
    if full < len(rows):
        yield put.one, (values(rows[at : at + 1]) for at in range(full, len(rows)))


# Exact `str` and `int` only: sqlite3 takes seven times as long over an enumeration's member or a
# bool, hence `str(...)` and `+...`. Attributes in a tuple are the fastest way to read a struct.


def _intents(rows: Sequence[EgressIntent]) -> list[Any]:
    values: list[Any] = []
    for row in rows:
        values += (
            row.request_id, row.attempt, row.at_ms, row.tenant, +row.sensitivity, row.rule,
            str(row.jurisdiction), row.provider, row.upstream_model,
        )  # fmt: skip
    return values


def _attempts(rows: Sequence[tuple[AttemptBegin, AttemptEnd]], life: str) -> list[Any]:
    values: list[Any] = [life]
    for begin, end in rows:
        values += _begin(begin)
        values += _end(end)
    return values


def _begins(rows: Sequence[AttemptBegin], life: str) -> list[Any]:
    return [life, *chain.from_iterable(map(_begin, rows))]


def _ends(rows: Sequence[AttemptEnd]) -> list[Any]:
    values: list[Any] = []
    for row in rows:
        values += (row.request_id, row.attempt)
        values += _end(row)
    return values


def _begin(row: AttemptBegin) -> tuple[Any, ...]:
    return (
        row.request_id, row.attempt, row.at_ms, row.received_ms, row.tenant, row.project,
        row.key_id, str(row.surface), row.model, str(row.latency_class), row.target,
        +row.is_egress, row.reason, row.prompt_tokens, row.completion_tokens, row.currency,
        row.input_micro_per_mtok, row.output_micro_per_mtok, row.feature, row.user,
        row.cached_micro_per_mtok, row.price_source, row.price_as_of, row.paid_by, row.batch,
        row.route, +row.is_stream,
    )  # fmt: skip


def _end(row: AttemptEnd) -> tuple[Any, ...]:
    """What follows the key."""
    usage, charge = storable(row.usage), row.charge
    return (
        row.ended_ms, str(row.outcome), row.error, usage.prompt_tokens, usage.completion_tokens,
        usage.cached_tokens, usage.reasoning_tokens, +usage.is_estimated,
        charge.currency, clamped(charge.micro), row.first_token_ms, row.money_kind,
    )  # fmt: skip


def _requests(rows: Sequence[RequestEnd]) -> list[Any]:
    values: list[Any] = []
    for row in rows:
        usage = storable(row.usage)
        values += (
            row.request_id, row.received_ms, row.ended_ms, row.tenant, row.project, row.key_id,
            str(row.surface), row.model, str(row.latency_class), str(row.outcome), row.status,
            row.code, row.reason, row.target, row.attempts, row.queue_ms, row.first_token_ms,
            usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens,
            usage.reasoning_tokens, +usage.is_estimated, row.idempotency, row.feature, row.user,
            row.batch, row.saved.currency, row.saved.micro, row.name, row.route, row.part,
            row.finish, row.json, +row.is_stream,
        )  # fmt: skip
    return values
