"""The ledger's columns, the queries both stores run, and how rows become records again. Pure.

Queries are written once, in what SQLite and PostgreSQL have in common: parameters are `:name`, days
are whole numbers since 1970, booleans stand alone. Columns stand in the order of the rows' fields.
"""

from __future__ import annotations

import re
from typing import Any

from serving.ledger.base import Attempt, Total
from serving.ledger.costs import DAY_MS, to_day
from serving.records import Charge, Usage
from serving.rows import AttemptBegin, AttemptEnd, EgressIntent, RequestEnd

ROWS_MAX = 100_000
VIOLATIONS_MAX = 1_000
ABANDONED_MAX = 1_000

_USAGE = "prompt_tokens completion_tokens cached_tokens reasoning_tokens is_estimated"
KEY = ("request_id", "attempt")


def _columns(names: str) -> list[str]:
    return names.split()


BEGIN = _columns(
    "begun_ms received_ms tenant project key_id surface model latency_class target is_egress"
    " reason expected_prompt_tokens expected_completion_tokens price_currency"
    " input_micro_per_mtok output_micro_per_mtok feature end_user"
    " cached_micro_per_mtok price_source price_as_of paid_by batch route is_stream"
)
END = _columns(f"ended_ms outcome error {_USAGE} currency micro first_token_ms money_kind")
REQUEST = _columns(
    "received_ms ended_ms tenant project key_id surface model latency_class outcome status code"
    f" reason target attempts queue_ms first_token_ms {_USAGE} idempotency feature end_user batch"
    " saved_currency saved_micro name route part finish json_found is_stream"
)
INTENT = _columns("at_ms tenant sensitivity rule jurisdiction provider upstream_model")

_ATTEMPT_COLUMNS = ", ".join(f"a.{name}" for name in [*KEY, *BEGIN, *END])
_INTENT_COLUMNS = ", ".join(f"i.{name}" for name in INTENT)
GET_ATTEMPTS = (
    f"SELECT {_ATTEMPT_COLUMNS}, {_INTENT_COLUMNS} FROM attempts a"  # noqa: S608
    " LEFT JOIN intents i USING (request_id, attempt) WHERE {} ORDER BY a.request_id, a.attempt"
)
OF_REQUEST = "a.request_id = :request_id"
UNSETTLED = (
    "a.request_id IN (SELECT request_id FROM pending WHERE life = :life"
    " UNION SELECT request_id FROM attempts WHERE life = :life AND ended_ms IS NULL)"
)
ABANDONED = (
    "a.request_id IN (SELECT s.request_id FROM attempts s WHERE s.request_id IN"
    " (SELECT request_id FROM pending UNION SELECT request_id FROM attempts WHERE ended_ms IS NULL)"
    " GROUP BY s.request_id HAVING max(coalesce(s.begun_ms, s.ended_ms)) <= :before_ms"
    " LIMIT :limit)"
)
OPEN = "a.ended_ms IS NULL"
OPEN_OF_LIFE = f"{OPEN} AND a.life = :life"
GET_REQUESTS = (
    f"SELECT request_id, {', '.join(REQUEST)} FROM requests"  # noqa: S608
    " WHERE ended_ms >= :since_ms {} ORDER BY ended_ms DESC, request_id DESC LIMIT :limit"
)
LATEST = (
    "SELECT ended_ms + 1 FROM attempts WHERE ended_ms IS NOT NULL"
    " ORDER BY ended_ms DESC LIMIT 1 OFFSET :skip"
)
WITH_KEY = "AND idempotency <> ''"
GET_POSITION = "SELECT life, sequence, offset_bytes FROM positions WHERE life = :life"
FORGET = "DELETE FROM positions WHERE life = :life"
TOTALS = f"""
    SELECT ended_ms / {DAY_MS}, coalesce(tenant, ''), coalesce(target, ''), currency, count(*),
           count(*) FILTER (WHERE is_estimated), sum(prompt_tokens), sum(completion_tokens),
           sum(cached_tokens), sum(reasoning_tokens), sum(micro)
    FROM attempts WHERE ended_ms >= :since_ms AND ended_ms < :until_ms
    GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"""  # noqa: S608

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


_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")


def for_psycopg(query: str) -> bytes:
    """The query with psycopg's parameters, `%(name)s`."""
    return _PARAMETER.sub(r"%(\1)s", query.replace("%", "%%")).encode()


def to_total(row: tuple[Any, ...]) -> Total:
    """A row of TOTALS; PostgreSQL's sums are decimals."""
    return Total(to_day(row[0]), *row[1:4], *map(int, row[4:]))


def to_request(row: tuple[Any, ...]) -> RequestEnd:
    """A row of GET_REQUESTS."""
    saved, told = Charge(*row[26:28]), row[28:-1]
    return RequestEnd(*[*row[:17], _usage(row[17:22]), *row[22:26], saved, *told, bool(row[-1])])


def to_attempt(row: tuple[Any, ...]) -> Attempt:
    """A row of GET_ATTEMPTS."""
    at = len(KEY) + len(BEGIN)
    key, begin, end, intent = row[:2], row[2:at], row[at : at + len(END)], row[at + len(END) :]
    parts: list[Any] = [None, None, None]
    if begin[0] is not None:
        parts[0] = AttemptBegin(*[*key, *begin[:9], bool(begin[9]), *begin[10:-1], bool(begin[-1])])
    if end[0] is not None:
        parts[1] = AttemptEnd(*[*key, *end[:3], _usage(end[3:8]), Charge(*end[8:10]), *end[10:]])
    if intent[0] is not None:
        parts[2] = EgressIntent(*[*key, *intent])
    return Attempt(*[*key, *parts])


def _usage(row: tuple[Any, ...]) -> Usage:
    return Usage(*[*row[:4], bool(row[4])])
