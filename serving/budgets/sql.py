"""The queries of the budget store, written once for SQLite and PostgreSQL, and the work they do
within one transaction. Parameters are `:name`, as in `ledger.sql`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from serving.budgets.base import (
    LEASE_MS,
    Alert,
    Expired,
    Row,
    Scope,
    Sum,
    Told,
    Want,
    grant,
    passed,
)

ROWS_MAX, EXPIRED_MAX = 10_000, 1_000
# A life without a position has been recovered whole, or never was: hence each holder gets one.
_MARK = (
    "INSERT INTO positions (life, sequence, offset_bytes) VALUES (:life, 0, 0)"
    " ON CONFLICT (life) DO NOTHING"
)
_OTHERS = (
    "SELECT budget, start_ms, sum(granted_micro), sum(spent_micro) FROM budget_leases"
    " WHERE end_ms >= :end_ms AND holder <> :holder GROUP BY budget, start_ms"
)
_PUT = (
    "INSERT INTO budget_leases (budget, start_ms, holder, end_ms, granted_micro, spent_micro,"
    " expires_ms, is_closed) VALUES (:budget, :start_ms, :holder, :end_ms, :granted_micro,"
    " :spent_micro, :expires_ms, :is_closed) ON CONFLICT (budget, start_ms, holder) DO UPDATE SET"
    " granted_micro = excluded.granted_micro, spent_micro = excluded.spent_micro,"
    " expires_ms = excluded.expires_ms, is_closed = excluded.is_closed"
)
_ALERT = (
    "INSERT INTO budget_alerts (budget, start_ms, threshold, at_ms, spent_micro, limit_micro)"
    " VALUES (:budget, :start_ms, :threshold, :at_ms, :spent_micro, :limit_micro)"
    " ON CONFLICT (budget, start_ms, threshold) DO NOTHING RETURNING threshold"
)
_EXPIRED = (
    "SELECT budget, start_ms, end_ms, holder, spent_micro FROM budget_leases l"
    " WHERE is_closed = 0 AND expires_ms < :now_ms AND (expires_ms < :abandoned_ms OR"
    " NOT EXISTS (SELECT 1 FROM positions p WHERE p.life = l.holder)"
    " AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.life = l.holder AND a.ended_ms IS NULL))"
    " ORDER BY expires_ms LIMIT :limit"
)
_TRUTH = (
    "SELECT currency, sum(micro), sum(prompt_tokens), sum(completion_tokens) FROM attempts"
    " WHERE life = :holder AND begun_ms >= :since_ms AND begun_ms < :end_ms"
    " AND ended_ms >= :since_ms"
    " AND (:tenant = '' OR tenant = :tenant"
    " OR substr(tenant, 1, length(:tenant) + 1) = :tenant || '/')"
    " AND (:project = '' OR project = :project) AND (:model = '' OR model = :model)"
    " AND (:tenant <> '' OR money_kind <> 'tenant')"
    " AND (:provider = '' OR substr(target, 1, length(:provider) + 1) = :provider || '/')"
    " GROUP BY currency"
)
_SETTLE = (
    "UPDATE budget_leases SET granted_micro = :micro, spent_micro = :micro, is_closed = 1"
    " WHERE budget = :budget AND start_ms = :start_ms AND holder = :holder"
    " AND is_closed = 0 AND expires_ms < :now_ms"
)
_ROWS = (
    "SELECT budget, start_ms, end_ms, sum(spent_micro), sum(granted_micro),"
    " sum(CASE WHEN is_closed = 0 AND expires_ms < :now_ms"
    " THEN granted_micro - spent_micro ELSE 0 END), count(*) FROM budget_leases"
    " WHERE end_ms > :since_ms GROUP BY budget, start_ms, end_ms"
    " ORDER BY start_ms DESC, budget LIMIT :limit"
)
_ALERTS = (
    "SELECT budget, start_ms, threshold, at_ms, spent_micro, limit_micro FROM budget_alerts"
    " WHERE start_ms >= :since_ms ORDER BY at_ms DESC, threshold DESC LIMIT :limit"
)
_FORGET = (
    "DELETE FROM budget_leases WHERE end_ms < :before_ms",
    "DELETE FROM budget_alerts WHERE start_ms < :before_ms",
)


class Cursor(Protocol):
    """One transaction of either database."""

    def rows(self, query: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run a query that answers."""
        ...

    def put(self, query: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run a statement for each row."""
        ...


def renew(cursor: Cursor, holder: str, wants: Sequence[Want], now_ms: int) -> list[Told]:
    """See `base.BudgetStore`. The caller holds whatever keeps other holders out."""
    if not wants:
        return []
    cursor.put(_MARK, [{"life": holder}])
    end_ms = min(want.end_ms for want in wants)
    found = cursor.rows(_OTHERS, {"holder": holder, "end_ms": end_ms})
    others = {(str(b), int(s)): (int(granted), int(spent)) for b, s, granted, spent in found}
    told: list[Told] = []
    rows: list[dict[str, Any]] = []
    for want in wants:
        granted, spent = others.get((want.budget, want.start_ms), (0, 0))
        mine = grant(want, granted)
        rows.append(_row(want, holder, mine, now_ms))
        left = max(0, want.limit_micro - granted - mine)
        new = _alerts(cursor, want, spent + want.spent_micro, now_ms)
        told.append(Told(want.budget, want.start_ms, mine, spent, left, new))
    cursor.put(_PUT, rows)
    return told


def _row(want: Want, holder: str, granted: int, now_ms: int) -> dict[str, Any]:
    return {
        "budget": want.budget, "start_ms": want.start_ms, "end_ms": want.end_ms, "holder": holder,
        "granted_micro": granted, "spent_micro": want.spent_micro,
        "expires_ms": now_ms + LEASE_MS, "is_closed": int(want.is_last),
    }  # fmt: skip


def _alerts(cursor: Cursor, want: Want, spent_micro: int, now_ms: int) -> tuple[int, ...]:
    """Thresholds that nobody told of before."""
    new = []
    for threshold in passed(spent_micro, want.limit_micro):
        row = {
            "budget": want.budget, "start_ms": want.start_ms, "threshold": threshold,
            "at_ms": now_ms, "spent_micro": spent_micro, "limit_micro": want.limit_micro,
        }  # fmt: skip
        if cursor.rows(_ALERT, row):
            new.append(threshold)
    return tuple(new)


def expired(cursor: Cursor, now_ms: int, abandoned_ms: int) -> list[Expired]:
    """See `base.BudgetStore`."""
    values = {"now_ms": now_ms, "abandoned_ms": abandoned_ms, "limit": EXPIRED_MAX}
    return [Expired(*row) for row in cursor.rows(_EXPIRED, values)]


def truth(cursor: Cursor, lease: Expired, scope: Scope, since_ms: int) -> list[Sum]:
    """See `base.BudgetStore`; PostgreSQL's sums are decimals."""
    values = scope._asdict() | {
        "holder": lease.holder, "since_ms": max(since_ms, lease.start_ms), "end_ms": lease.end_ms
    }  # fmt: skip
    return [Sum(row[0], *map(int, row[1:])) for row in cursor.rows(_TRUTH, values)]


def settle(cursor: Cursor, lease: Expired, spent_micro: int, now_ms: int) -> None:
    """See `base.BudgetStore`."""
    row = {
        "budget": lease.budget, "start_ms": lease.start_ms, "holder": lease.holder,
        "micro": spent_micro, "now_ms": now_ms,
    }  # fmt: skip
    cursor.put(_SETTLE, [row])


def rows(cursor: Cursor, since_ms: int, now_ms: int) -> list[Row]:
    """See `base.BudgetStore`."""
    found = cursor.rows(_ROWS, {"since_ms": since_ms, "now_ms": now_ms, "limit": ROWS_MAX})
    return [Row(row[0], *map(int, row[1:])) for row in found]


def alerts(cursor: Cursor, since_ms: int) -> list[Alert]:
    """See `base.BudgetStore`."""
    return [Alert(*row) for row in cursor.rows(_ALERTS, {"since_ms": since_ms, "limit": ROWS_MAX})]


def forget(cursor: Cursor, before_ms: int) -> None:
    """See `base.BudgetStore`."""
    for statement in _FORGET:
        cursor.put(statement, [{"before_ms": before_ms}])
