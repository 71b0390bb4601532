"""The finance books' queries, in what SQLite and PostgreSQL have in common. Pure.

Parameters are `:name`, letters and `_` only; booleans stand alone; constants stand in no GROUP BY.
"""

from __future__ import annotations

from serving.ledger.costs import DAY_MS

PUT_ENTRY = (
    "INSERT INTO finance_entries (kind, id, month, data) VALUES (:kind, :id, :month, :data)"
    " ON CONFLICT (kind, id) DO UPDATE SET month = excluded.month, data = excluded.data"
)
GET_ENTRY = "SELECT data FROM finance_entries WHERE kind = :kind AND id = :id"
GET_ENTRIES = (
    "SELECT data FROM finance_entries WHERE kind = :kind AND month >= :since AND month <= :until"
    " ORDER BY month, id LIMIT :limit"
)
DROP_ENTRY = "DELETE FROM finance_entries WHERE kind = :kind AND id = :id"
DROP_INVOICE = (
    "DELETE FROM finance_entries WHERE kind = 'invoice' AND month = :month"
    " AND id >= :first AND id < :last"
)
CLOSED = "SELECT id FROM finance_entries WHERE kind = 'closing' ORDER BY id"

_BURNT = (
    "(SELECT coalesce(sum(b.micro), 0) FROM burns b"
    " WHERE b.request_id = a.request_id AND b.attempt = a.attempt)"
)
UNSETTLED = (
    "SELECT a.request_id, a.attempt, a.ended_ms, a.target, a.model, a.currency, a.micro,"  # noqa: S608
    " a.prompt_tokens + a.completion_tokens, a.money_kind FROM attempts a"
    " WHERE a.ended_ms >= :since_ms AND a.ended_ms < :until_ms AND a.currency <> ''"
    f" AND a.target IS NOT NULL AND a.micro <> {_BURNT}"
    " ORDER BY a.ended_ms, a.request_id, a.attempt LIMIT :limit"
)
BURNS_OF = (
    "SELECT grant_id, period, units, micro FROM burns"
    " WHERE request_id = :request_id AND attempt = :attempt"
)
DROP_BURNS_OF = "DELETE FROM burns WHERE request_id = :request_id AND attempt = :attempt"
BURNS_SINCE = (
    "SELECT grant_id, period, sum(units), sum(micro) FROM burns WHERE at_ms >= :since_ms"
    " AND grant_id <> '' GROUP BY grant_id, period"
)
DROP_BURNS_SINCE = "DELETE FROM burns WHERE at_ms >= :since_ms"
PUT_BURN = (
    "INSERT INTO burns (request_id, attempt, grant_id, kind, period, at_ms, currency, micro, units)"
    " VALUES (:request_id, :attempt, :grant_id, :kind, :period, :at_ms, :currency, :micro, :units)"
)
USED = "SELECT grant_id, period, units FROM grant_use"
USE = (
    "INSERT INTO grant_use (grant_id, period, units, micro)"
    " VALUES (:grant_id, :period, :units, :micro) ON CONFLICT (grant_id, period)"
    " DO UPDATE SET units = grant_use.units + excluded.units,"
    " micro = grant_use.micro + excluded.micro"
)
MARK = "SELECT at_ms FROM finance_marks WHERE name = :name"
PUT_MARK = (
    "INSERT INTO finance_marks (name, at_ms) VALUES (:name, :at_ms)"
    " ON CONFLICT (name) DO UPDATE SET at_ms = excluded.at_ms"
)

SUMS = """
    SELECT a.target, a.currency, sum(a.micro), sum(a.prompt_tokens + a.completion_tokens),
           count(*), coalesce(sum(a.micro) FILTER (WHERE a.is_estimated), 0),
           coalesce(sum((SELECT coalesce(sum(b.micro), 0) FROM burns b
               WHERE b.request_id = a.request_id AND b.attempt = a.attempt
               AND b.kind <> 'cash')), 0)
    FROM attempts a WHERE a.ended_ms >= :since_ms AND a.ended_ms < :until_ms AND a.currency <> ''
    AND a.money_kind <> 'tenant'
    GROUP BY a.target, a.currency ORDER BY a.target, a.currency"""
BUSY = """
    SELECT model, sum(CASE WHEN begun_ms >= before_ms THEN ended_ms - begun_ms
                           WHEN ended_ms > before_ms THEN ended_ms - before_ms ELSE 0 END)
    FROM (SELECT model, begun_ms, ended_ms, coalesce(max(ended_ms) OVER (
              PARTITION BY model, target ORDER BY begun_ms, ended_ms, request_id, attempt
              ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before_ms
          FROM attempts WHERE ended_ms >= :since_ms AND ended_ms < :until_ms
          AND begun_ms IS NOT NULL AND begun_ms <= ended_ms AND price_currency = '') AS spans
    GROUP BY model"""
"""Milliseconds in which a replica had at least one attempt, summed over each model's replicas."""

DIMENSIONS = ("tenant", "project", "feature", "model", "target", "tier", "currency", "money_kind")
_COUNTS = (
    "attempts", "estimated", "prompt_tokens", "completion_tokens", "cached_tokens",
    "reasoning_tokens", "requests", "delivered_prompt_tokens", "delivered_completion_tokens",
    "micro",
)  # fmt: skip
_INTO = f"INSERT INTO rollups (span, begin_ms, {', '.join((*DIMENSIONS, *_COUNTS))})"
_KEYS = (
    "coalesce(a.tenant, ''), coalesce(a.project, ''), a.feature, coalesce(a.model, ''),"
    " coalesce(a.target, ''), CASE WHEN a.price_currency = '' THEN 'own' ELSE 'api' END,"
    " coalesce(a.currency, '')"
)
_GROUP = ", ".join(str(place) for place in range(3, 11))
DROP_ROLLUPS = (
    "DELETE FROM rollups WHERE span = :span AND begin_ms >= :since_ms AND begin_ms < :until_ms"
)
ROLL_HOUR = f"""
    {_INTO} SELECT 'hour', a.ended_ms / 3600000 * 3600000, {_KEYS}, a.money_kind, count(*),
           count(*) FILTER (WHERE a.is_estimated), coalesce(sum(a.prompt_tokens), 0),
           coalesce(sum(a.completion_tokens), 0), coalesce(sum(a.cached_tokens), 0),
           coalesce(sum(a.reasoning_tokens), 0), count(r.request_id),
           coalesce(sum(r.prompt_tokens), 0), coalesce(sum(r.completion_tokens), 0),
           coalesce(sum(a.micro), 0)
    FROM attempts a LEFT JOIN requests r
        ON r.request_id = a.request_id AND r.attempts = a.attempt
    WHERE a.ended_ms >= :since_ms AND a.ended_ms < :until_ms GROUP BY 2, {_GROUP}"""  # noqa: S608
_MOVED = f"""
    {_INTO} SELECT 'hour', a.ended_ms / 3600000 * 3600000, {_KEYS}, {{}}, 0, 0, 0, 0, 0, 0, 0, 0, 0,
           {{}}
    FROM burns b JOIN attempts a ON a.request_id = b.request_id AND a.attempt = b.attempt
    WHERE a.ended_ms >= :since_ms AND a.ended_ms < :until_ms AND b.kind <> a.money_kind
    GROUP BY 2, {_GROUP} ON CONFLICT (span, begin_ms, {", ".join(DIMENSIONS)})
    DO UPDATE SET micro = rollups.micro + excluded.micro"""  # noqa: S608
ROLL_BURNT = (
    _MOVED.format("b.kind", "sum(b.micro)"),
    _MOVED.format("a.money_kind", "-sum(b.micro)"),
)
"""What grants paid is taken out of cash, here as in `ledger.kinds`."""
ROLL_UP = f"""
    {_INTO} SELECT :span, :begin_ms, {", ".join(DIMENSIONS)},
           {", ".join(f"sum({name})" for name in _COUNTS)}
    FROM rollups WHERE span = :parts AND begin_ms >= :begin_ms AND begin_ms < :end_ms
    GROUP BY {", ".join(DIMENSIONS)}"""  # noqa: S608
BY_ROLLUP = {"day": f"(a.begin_ms + :offset_ms) / {DAY_MS}"} | {
    name: f"a.{name}" for name in DIMENSIONS[:6]
}
"""`ledger.costs.DIMENSIONS`, of rollups."""
_OWN = "FILTER (WHERE a.tier = 'own')"
ROLLUP_SUMS = (
    *(f"sum(a.{name})" for name in _COUNTS[:6]),
    f"coalesce(sum(a.prompt_tokens) {_OWN}, 0)", f"coalesce(sum(a.completion_tokens) {_OWN}, 0)",
    "sum(a.requests)", f"coalesce(sum(a.requests) {_OWN}, 0)",
    "sum(a.delivered_prompt_tokens)", "sum(a.delivered_completion_tokens)",
)  # fmt: skip
"""In the order of `ledger.costs.Cost`."""

_OLD = (
    "SELECT request_id FROM requests WHERE ended_ms < :before_ms"
    " ORDER BY ended_ms, request_id LIMIT :limit"
)
TRIM_RAW = (
    f"DELETE FROM attempts WHERE ended_ms IS NOT NULL AND request_id IN ({_OLD})",  # noqa: S608
    f"DELETE FROM requests WHERE request_id IN ({_OLD})",  # noqa: S608
)
TRIM_ROLLUPS = "DELETE FROM rollups WHERE span = :span AND begin_ms < :before_ms"
TRIM_BURNS = "DELETE FROM burns WHERE at_ms < :before_ms"
ERASE = tuple(
    f"UPDATE {table} SET end_user = '' WHERE end_user = :person AND tenant = :tenant"  # noqa: S608
    for table in ("attempts", "requests")
)
