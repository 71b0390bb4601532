"""What both stores answer, by the same queries: only how a query is run differs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from serving.audit.values import Chained, Head, asked, keys_asked
from serving.audit.values import Question as Asked
from serving.directory.chain import Entry
from serving.ledger import chained, costs, kinds, sql
from serving.ledger.base import EVER_MS, Attempt, Position, Total, Violation
from serving.ledger.costs import Answer, Question
from serving.rows import AttemptBegin, EgressIntent, RequestEnd


class Reads:
    """The reading half of `base.Ledger`."""

    @abstractmethod
    def _rows(self, query: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """All rows of one query of `sql` or `costs`. Raises LedgerUnavailable."""

    def position(self, life: str) -> Position | None:
        """See `base.Ledger`."""
        rows = self._rows(sql.GET_POSITION, {"life": life})
        return Position(*rows[0]) if rows else None

    def unsettled(self, life: str) -> list[Attempt]:
        """See `base.Ledger`."""
        return self._attempts(sql.UNSETTLED, {"life": life})

    def abandoned(self, before_ms: int) -> list[Attempt]:
        """See `base.Ledger`."""
        return self._attempts(sql.ABANDONED, {"before_ms": before_ms, "limit": sql.ABANDONED_MAX})

    def requests(self, limit: int, since_ms: int = 0) -> list[RequestEnd]:
        """See `base.Ledger`."""
        rows = self._rows(sql.GET_REQUESTS.format(""), {"since_ms": since_ms, "limit": limit})
        return [sql.to_request(row) for row in rows]

    def request(self, request_id: str) -> RequestEnd | None:
        """See `base.Ledger`."""
        values = {"since_ms": 0, "limit": 1, "request_id": request_id}
        rows = self._rows(sql.GET_REQUESTS.format("AND request_id = :request_id"), values)
        return sql.to_request(rows[0]) if rows else None

    def latest_since_ms(self, attempts: int) -> int:
        """See `base.Ledger`."""
        rows = self._rows(sql.LATEST, {"skip": attempts})
        return int(rows[0][0]) if rows else 0

    def attempts(self, request_id: str) -> list[Attempt]:
        """See `base.Ledger`."""
        return self._attempts(sql.OF_REQUEST, {"request_id": request_id})

    def open_attempts(self, life: str | None = None) -> list[AttemptBegin]:
        """See `base.Ledger`."""
        where = sql.OPEN if life is None else sql.OPEN_OF_LIFE
        found = self._attempts(where, {"life": life or "", "limit": sql.ROWS_MAX}, " LIMIT :limit")
        return [attempt.begin for attempt in found if attempt.begin is not None]

    def idempotency(self, since_ms: int) -> list[RequestEnd]:
        """See `base.Ledger`."""
        values = {"since_ms": since_ms, "limit": sql.ROWS_MAX}
        rows = self._rows(sql.GET_REQUESTS.format(sql.WITH_KEY), values)
        return [sql.to_request(row) for row in rows]

    def totals(self, since_ms: int = 0, until_ms: int = EVER_MS) -> list[Total]:
        """See `base.Ledger`."""
        rows = self._rows(sql.TOTALS, {"since_ms": since_ms, "until_ms": until_ms})
        return [sql.to_total(row) for row in rows]

    def costs(self, question: Question) -> Answer:
        """See `base.Ledger`."""
        answer = costs.to_answer(question, self._rows(*costs.asked(question)))
        return kinds.moved(question, answer, self._rows(*kinds.asked(question)))

    def heads(self) -> list[Head]:
        """See `base.Ledger`."""
        rows = self._rows(chained.HEADS, {})
        return [Head(writer, number, bytes(mark)) for writer, number, mark in rows]

    def chained(self, writer: str, after: int, limit: int) -> list[Chained]:
        """See `base.Ledger`."""
        values = {"writer": writer, "after": after, "limit": limit}
        return [
            Chained(
                Entry(row[0], bytes(row[1]), bytes(row[2])),
                None if row[3] is None else EgressIntent(*row[3:]),
            )
            for row in self._rows(chained.ENTRIES, values)
        ]

    def unchained(self) -> tuple[int, int]:
        """See `base.Ledger`."""
        count, latest_ms = self._rows(chained.UNCHAINED, {})[0]
        return int(count), latest_ms or 0

    def egress(self, question: Asked) -> list[EgressIntent]:
        """See `base.Ledger`."""
        return [EgressIntent(*row) for row in self._rows(*asked(question))]

    def keys_of(self, question: Asked) -> list[str]:
        """See `base.Ledger`."""
        return [key_id for (key_id,) in self._rows(*keys_asked(question))]

    def law(self, settled_by_ms: int = EVER_MS) -> list[Violation]:
        """See `base.Ledger`."""
        bounds = {"settled_by_ms": settled_by_ms, "limit": sql.VIOLATIONS_MAX}
        return [
            Violation(rule, *row)
            for rule, query in sql.LAW.items()
            for row in self._rows(f"{query} LIMIT :limit", bounds)
        ]

    def _attempts(self, where: str, values: Mapping[str, Any], tail: str = "") -> list[Attempt]:
        query = sql.GET_ATTEMPTS.format(where) + tail
        return [sql.to_attempt(row) for row in self._rows(query, values)]
