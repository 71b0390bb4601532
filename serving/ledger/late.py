"""A ledger that is opened when it is first asked, and asked again until it can be.

So that a database which is locked, damaged or away at the start stops no gateway: every call raises
LedgerUnavailable meanwhile, and the journal keeps what is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from serving.audit.values import Chained, Head
from serving.audit.values import Question as Asked
from serving.ledger.base import EVER_MS, Attempt, Ledger, Position, Total, Violation
from serving.ledger.costs import Answer, Question
from serving.rows import AttemptBegin, EgressIntent, Record, RequestEnd


class LateLedger:
    """Implements `base.Ledger` over one that `open_now` opens or raises LedgerUnavailable for.

    For one thread at a time, as `drain.Drainer.ask` calls it.
    """

    def __init__(self, open_now: Callable[[], Ledger]) -> None:
        self._open_now = open_now
        self._opened: Ledger | None = None

    @property
    def _ledger(self) -> Ledger:
        if self._opened is None:
            self._opened = self._open_now()
        return self._opened

    def apply(self, records: Sequence[Record], position: Position | None = None) -> None:
        """See `base.Ledger`."""
        self._ledger.apply(records, position)

    def position(self, life: str) -> Position | None:
        """See `base.Ledger`."""
        return self._ledger.position(life)

    def forget(self, life: str) -> None:
        """See `base.Ledger`."""
        self._ledger.forget(life)

    def unsettled(self, life: str) -> list[Attempt]:
        """See `base.Ledger`."""
        return self._ledger.unsettled(life)

    def abandoned(self, before_ms: int) -> list[Attempt]:
        """See `base.Ledger`."""
        return self._ledger.abandoned(before_ms)

    def requests(self, limit: int, since_ms: int = 0) -> list[RequestEnd]:
        """See `base.Ledger`."""
        return self._ledger.requests(limit, since_ms)

    def request(self, request_id: str) -> RequestEnd | None:
        """See `base.Ledger`."""
        return self._ledger.request(request_id)

    def latest_since_ms(self, attempts: int) -> int:
        """See `base.Ledger`."""
        return self._ledger.latest_since_ms(attempts)

    def attempts(self, request_id: str) -> list[Attempt]:
        """See `base.Ledger`."""
        return self._ledger.attempts(request_id)

    def open_attempts(self, life: str | None = None) -> list[AttemptBegin]:
        """See `base.Ledger`."""
        return self._ledger.open_attempts(life)

    def idempotency(self, since_ms: int) -> list[RequestEnd]:
        """See `base.Ledger`."""
        return self._ledger.idempotency(since_ms)

    def totals(self, since_ms: int = 0, until_ms: int = EVER_MS) -> list[Total]:
        """See `base.Ledger`."""
        return self._ledger.totals(since_ms, until_ms)

    def costs(self, question: Question) -> Answer:
        """See `base.Ledger`."""
        return self._ledger.costs(question)

    def heads(self) -> list[Head]:
        """See `base.Ledger`."""
        return self._ledger.heads()

    def chained(self, writer: str, after: int, limit: int) -> list[Chained]:
        """See `base.Ledger`."""
        return self._ledger.chained(writer, after, limit)

    def unchained(self) -> tuple[int, int]:
        """See `base.Ledger`."""
        return self._ledger.unchained()

    def egress(self, question: Asked) -> list[EgressIntent]:
        """See `base.Ledger`."""
        return self._ledger.egress(question)

    def keys_of(self, question: Asked) -> list[str]:
        """See `base.Ledger`."""
        return self._ledger.keys_of(question)

    def law(self, settled_by_ms: int = EVER_MS) -> list[Violation]:
        """See `base.Ledger`."""
        return self._ledger.law(settled_by_ms)

    def close(self) -> None:
        """See `base.Ledger`; one that was never opened has nothing to release."""
        if self._opened is not None:
            self._opened.close()
