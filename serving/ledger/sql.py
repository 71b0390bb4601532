"""The SQLite ledger's statements and how records become parameters and come back. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.structs import astuple

from serving.ledger.base import Attempt
from serving.records import Charge, Outcome, Usage
from serving.rows import AttemptBegin, AttemptEnd, EgressIntent, Record, RequestEnd

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


PUT_ATTEMPT = _upsert("attempts", _KEY, ["life", *_BEGIN, *_END])
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

LAW: dict[str, str] = {
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


def statements(records: Sequence[Record], life: str) -> list[tuple[str, list[tuple[Any, ...]]]]:
    """What stores the records: statements in order, with the parameters of each row.

    An attempt that began and ended within the slice is one write, and such a request was never
    pending: most of the traffic, at half the price.
    """
    begins: dict[tuple[str, int], AttemptBegin] = {}
    whole, ends, requests, intents = [], [], [], []
    settled = set()
    for record in records:
        if isinstance(record, AttemptBegin):
            begins[record.request_id, record.attempt] = record
        elif isinstance(record, RequestEnd):
            settled.add(record.request_id)
            requests.append(request_values(record))
        elif isinstance(record, EgressIntent):
            intents.append(astuple(record))
    started = {request_id for request_id, _ in begins} - settled
    for record in records:
        if not isinstance(record, AttemptEnd):
            continue
        begin = None
        if record.outcome != Outcome.GATEWAY_LOST:
            begin = begins.pop((record.request_id, record.attempt), None)
        if begin is None:
            ends.append(end_values(record))
        else:
            whole.append(begin_values(begin, life) + end_values(record)[2:])
    return [
        (PUT_INTENT, intents),
        (PUT_ATTEMPT, whole),
        (PUT_BEGIN, [begin_values(begin, life) for begin in begins.values()]),
        (PUT_PENDING, [(request_id, life) for request_id in sorted(started)]),
        (PUT_END, ends),
        (PUT_REQUEST, requests),
        (DROP_PENDING, [(request_id,) for request_id in settled]),
    ]


def begin_values(row: AttemptBegin, life: str) -> tuple[Any, ...]:
    """Parameters of PUT_BEGIN; with `end_values(...)[2:]`, of PUT_ATTEMPT."""
    request_id, attempt, *rest = astuple(row)
    return (request_id, attempt, life, *rest)


def end_values(row: AttemptEnd) -> tuple[Any, ...]:
    """Parameters of PUT_END."""
    *head, usage, charge, first_token_ms = astuple(row)
    return (
        *head, *_counts(usage), charge.currency, min(charge.micro, _INT_MAX), first_token_ms,
    )  # fmt: skip


def request_values(row: RequestEnd) -> tuple[Any, ...]:
    """Parameters of PUT_REQUEST."""
    *head, usage, idempotency = astuple(row)
    return (*head, *_counts(usage), idempotency)


def _counts(usage: Usage) -> tuple[Any, ...]:
    """A target may report any number of tokens; a row that SQLite refuses would block all."""
    counts = astuple(usage)
    return counts if max(counts) <= _INT_MAX else tuple(min(n, _INT_MAX) for n in counts)


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
