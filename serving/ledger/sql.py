"""The SQLite ledger's statements and how records become parameters and come back. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from serving.ledger.base import Attempt
from serving.records import Charge, Outcome, Usage
from serving.rows import AttemptBegin, AttemptEnd, EgressIntent, RequestEnd

VERSION = 1
"""`PRAGMA user_version` of schema.sql."""

_INT_MAX = (1 << 63) - 1
_USAGE = "prompt_tokens completion_tokens cached_tokens reasoning_tokens is_estimated"
_KEY = ("request_id", "attempt")


def _columns(names: str) -> list[str]:
    return names.split()


_BEGIN = _columns(
    "begun_ms received_ms tenant project key_id surface model latency_class target is_egress"
    " reason expected_prompt_tokens expected_completion_tokens price_currency"
    " input_micro_per_mtok output_micro_per_mtok"
)
_END = _columns(f"ended_ms outcome error {_USAGE} currency micro first_token_ms")
_REQUEST = _columns(
    "received_ms ended_ms tenant project key_id surface model latency_class outcome status code"
    f" reason target attempts queue_ms first_token_ms {_USAGE} idempotency"
)
_INTENT = _columns("at_ms tenant sensitivity rule jurisdiction provider upstream_model")


def _upsert(table: str, keys: Iterable[str], columns: Iterable[str], condition: str = "") -> str:
    keys, columns = list(keys), list(columns)
    names = ", ".join(keys + columns)
    marks = ", ".join("?" * len(keys + columns))
    sets = ", ".join(f"{name} = excluded.{name}" for name in columns)
    return (
        f"INSERT INTO {table} ({names}) VALUES ({marks})"  # noqa: S608 - our own names only
        f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {sets} {condition}"
    )


def _unless_lost(table: str) -> str:
    """What the gateway told itself beats what recovery supposed, whichever comes first."""
    return f"WHERE excluded.outcome <> '{Outcome.GATEWAY_LOST}' OR {table}.outcome IS NULL"


PUT_BEGIN = _upsert("attempts", _KEY, ["life", *_BEGIN])
PUT_END = _upsert("attempts", _KEY, _END, _unless_lost("attempts"))
PUT_REQUEST = _upsert("requests", _KEY[:1], _REQUEST, _unless_lost("requests"))
PUT_INTENT = _upsert("intents", _KEY, _INTENT)
PUT_POSITION = _upsert("positions", ["life"], ["sequence", "offset_bytes"])
PUT_PENDING = (
    "INSERT INTO pending (request_id, life) SELECT ?1, ?2"
    " WHERE NOT EXISTS (SELECT 1 FROM requests WHERE request_id = ?1)"
    " ON CONFLICT (request_id) DO UPDATE SET life = excluded.life"
)
DROP_PENDING = "DELETE FROM pending WHERE request_id = ?"

_ATTEMPT_COLUMNS = ", ".join(f"a.{name}" for name in [*_KEY, *_BEGIN, *_END])
_INTENT_COLUMNS = ", ".join(f"i.{name}" for name in _INTENT)
GET_ATTEMPTS = (
    f"SELECT {_ATTEMPT_COLUMNS}, {_INTENT_COLUMNS} FROM attempts a"  # noqa: S608
    " LEFT JOIN intents i USING (request_id, attempt) WHERE {} ORDER BY a.request_id, a.attempt"
)
UNSETTLED = (
    "a.request_id IN (SELECT request_id FROM pending WHERE life = ?1"
    " UNION SELECT request_id FROM attempts WHERE life = ?1 AND ended_ms IS NULL)"
)
GET_REQUESTS = (
    f"SELECT request_id, {', '.join(_REQUEST)} FROM requests"  # noqa: S608
    " WHERE ended_ms >= ? {} ORDER BY ended_ms DESC, request_id DESC LIMIT ?"
)
TOTALS = """
    SELECT date(ended_ms / 1000, 'unixepoch'), coalesce(tenant, ''), coalesce(target, ''),
           currency, count(*), sum(is_estimated), sum(prompt_tokens), sum(completion_tokens),
           sum(cached_tokens), sum(reasoning_tokens), sum(micro)
    FROM attempts WHERE ended_ms >= ? AND ended_ms < ? GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"""

LAW = {
    "attempts_differ": "SELECT request_id, 0 FROM requests r WHERE attempts <>"
    " (SELECT count(*) FROM attempts a WHERE a.request_id = r.request_id)",
    "attempt_open": "SELECT a.request_id, attempt FROM attempts a JOIN requests USING (request_id)"
    " WHERE a.ended_ms IS NULL",
    "request_missing": "SELECT request_id, attempt FROM attempts a"
    " WHERE coalesce(begun_ms, ended_ms) <= :settled_by_ms AND NOT EXISTS"
    " (SELECT 1 FROM requests r WHERE r.request_id = a.request_id)",
    "begin_missing": "SELECT request_id, attempt FROM attempts WHERE begun_ms IS NULL",
    "intent_missing": "SELECT request_id, attempt FROM attempts a WHERE is_egress AND NOT EXISTS"
    " (SELECT 1 FROM intents i WHERE i.request_id = a.request_id AND i.attempt = a.attempt)",
    "tenant_differs": "SELECT a.request_id, attempt FROM attempts a"
    " JOIN requests r USING (request_id) WHERE a.tenant <> r.tenant",
    "money_unowned": "SELECT request_id, attempt FROM attempts"
    " WHERE micro < 0 OR (micro <> 0 AND currency = '')",
}
"""Rule -> the rows that break it. A request's money is the sum of its attempts' by construction."""


def begin_values(row: AttemptBegin, life: str) -> list[Any]:
    """Parameters of PUT_BEGIN."""
    values = msgspec.structs.astuple(row)
    return _bounded([*values[:2], life, *values[2:]])


def end_values(row: AttemptEnd) -> list[Any]:
    """Parameters of PUT_END."""
    *values, usage, charge, first_token_ms = msgspec.structs.astuple(row)
    flat = (*msgspec.structs.astuple(usage), *msgspec.structs.astuple(charge), first_token_ms)
    return _bounded([*values, *flat])


def request_values(row: RequestEnd) -> list[Any]:
    """Parameters of PUT_REQUEST."""
    *values, usage, idempotency = msgspec.structs.astuple(row)
    return _bounded([*values, *msgspec.structs.astuple(usage), idempotency])


def intent_values(row: EgressIntent) -> list[Any]:
    """Parameters of PUT_INTENT."""
    return _bounded(list(msgspec.structs.astuple(row)))


def _bounded(values: list[Any]) -> list[Any]:
    """A target may report any number of tokens; a row that SQLite refuses would block all."""
    return [min(v, _INT_MAX) if isinstance(v, int) else v for v in values]


def to_request(row: tuple[Any, ...]) -> RequestEnd:
    """A row of GET_REQUESTS."""
    return RequestEnd(*[*row[:17], _usage(row[17:22]), row[22]])


def to_attempt(row: tuple[Any, ...]) -> Attempt:
    """A row of GET_ATTEMPTS."""
    key, begin, end, intent = row[:2], row[2:18], row[18:29], row[29:]
    parts: list[Any] = [None, None, None]
    if begin[0] is not None:
        parts[0] = AttemptBegin(*[*key, *begin[:9], bool(begin[9]), *begin[10:]])
    if end[0] is not None:
        parts[1] = AttemptEnd(*[*key, *end[:3], _usage(end[3:8]), Charge(*end[8:10]), end[10]])
    if intent[0] is not None:
        parts[2] = EgressIntent(*[*key, *intent])
    return Attempt(*[*key, *parts])


def _usage(row: tuple[Any, ...]) -> Usage:
    return Usage(*[*row[:4], bool(row[4])])
