"""Keeps learnt answer lengths in the ledger's store: adds what this process saw since the last time
to what all saw, and reads that back.

Blocking, in the budgets' own thread and a transaction of the store's. A store that is away delays
it; what was learnt waits. Where a server goes away in the middle of a commit it may count twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from serving.budgets.learnt import BUCKETS, FEATURES_MAX, Counts, Feature, added, faded

TOLD_MAX = 500
"""Features of one transaction: it holds the budgets' lock for as long, some 50 ms."""
FORGOTTEN_MS = 90 * 86_400_000
"""What nobody used for a quarter of a year."""
_KEY = "tenant = :tenant AND project = :project AND feature = :feature AND model = :model"
_GET = f"SELECT counts FROM answer_lengths WHERE {_KEY}"  # noqa: S608 - our own words
_PUT = (
    "INSERT INTO answer_lengths (tenant, project, feature, model, counts, at_ms)"
    " VALUES (:tenant, :project, :feature, :model, :counts, :at_ms)"
    " ON CONFLICT (tenant, project, feature, model)"
    " DO UPDATE SET counts = excluded.counts, at_ms = excluded.at_ms"
)
_ALL = (
    "SELECT tenant, project, feature, model, counts FROM answer_lengths"
    " WHERE at_ms >= :since_ms ORDER BY at_ms DESC LIMIT :limit"
)
_FORGET = (
    "DELETE FROM answer_lengths WHERE at_ms < :before_ms OR at_ms <"
    " (SELECT at_ms FROM answer_lengths ORDER BY at_ms DESC LIMIT 1 OFFSET :limit)"
)
_decode = msgspec.json.Decoder(list[int]).decode
Row = tuple[Feature, Counts]


class Cursor(Protocol):
    """One transaction of either database; see `sql.Cursor`."""

    def rows(self, query: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run a query that answers."""
        ...

    def put(self, query: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run a statement for each row."""
        ...


def told(cursor: Cursor, new: Mapping[Feature, Counts], now_ms: int) -> None:
    """Add to what all saw; drop what nobody uses, and the oldest beyond the bound. The caller keeps
    others out meanwhile."""
    rows = []
    for feature, counts in new.items():
        key = feature._asdict()
        found = cursor.rows(_GET, key)
        before = _counts(found[0][0]) if found else None
        text = msgspec.json.encode(faded(added(counts, before))).decode()
        rows.append(key | {"counts": text, "at_ms": now_ms})
    cursor.put(_PUT, rows)
    cursor.put(_FORGET, [{"before_ms": now_ms - FORGOTTEN_MS, "limit": FEATURES_MAX}])


def since(cursor: Cursor, since_ms: int) -> list[Row]:
    """What all saw of features that somebody used since then, the latest first."""
    rows = cursor.rows(_ALL, {"since_ms": since_ms, "limit": FEATURES_MAX})
    found = ((Feature(*row[:4]), _counts(row[4])) for row in rows)
    return [(feature, counts) for feature, counts in found if counts is not None]


def _counts(text: str) -> Counts | None:
    """None for those of other bounds, or of nobody's making: learnt anew."""
    try:
        counts = _decode(text)
    except msgspec.DecodeError:
        return None
    return counts if len(counts) == BUCKETS and min(counts) >= 0 else None
