"""The ledger's interface: what a store of rows must do, whatever database is behind it.

Blocking by design: callers off the event loop's thread only (`drain.Drainer.ask`). Money is integer
micro-units with its currency; sums never mix currencies. Nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from serving.audit.values import Chained, Head
from serving.audit.values import Question as Asked
from serving.errors import OwnError
from serving.ledger.costs import Answer, Question
from serving.rows import AttemptBegin, AttemptEnd, EgressIntent, Record, RequestEnd

EVER_MS = (1 << 63) - 1
"""Later than any row."""
QUERY_S = 60.0
"""Longest question to a store: `law` and `costs` may look at everything."""


class LedgerUnavailable(OwnError):  # noqa: N818 - a state
    """The store cannot be read or written now; nothing of the failed call was stored."""

    def __init__(self, message: str) -> None:
        super().__init__("internal_error", message)


class LedgerNewer(LedgerUnavailable):
    """A newer Ballast wrote the store; waiting does not help."""


class Position(msgspec.Struct, frozen=True):
    """How far a journal has been read, or written: everything before it counts."""

    life: str
    """One opening of a journal by one process; unique for ever."""
    sequence: int
    """Segment of that life."""
    offset_bytes: int


class Attempt(msgspec.Struct, frozen=True):
    """One attempt row; a part is None until its record arrived."""

    request_id: str
    attempt: int
    begin: AttemptBegin | None
    end: AttemptEnd | None
    intent: EgressIntent | None


class Total(msgspec.Struct, frozen=True):
    """Sums over the ended attempts of one UTC day, tenant, target and currency."""

    day: str
    """ISO date, UTC, of the attempts' ends."""
    tenant: str
    target: str
    currency: str
    attempts: int
    estimated: int
    """Attempts among them whose usage is an estimate."""
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    micro: int


class Violation(msgspec.Struct, frozen=True):
    """One breach of the law (docs/ARCHITECTURE.md, section 3)."""

    rule: str
    """`attempts_differ`, `attempt_open`, `request_missing`, `begin_missing`, `intent_missing`,
    `tenant_differs` or `money_unowned`."""
    request_id: str
    attempt: int
    """0 where the request as a whole is at fault."""


class Ledger(Protocol):
    """Every method raises LedgerUnavailable when the store is away."""

    def apply(self, records: Sequence[Record], position: Position | None = None) -> None:
        """Store records and the journal's position in one transaction.

        Upserts by (request_id, attempt) and request_id: applying again, or in another order,
        leaves the same rows. A row told by the gateway itself beats a `gateway_lost` one.
        """
        ...

    def position(self, life: str) -> Position | None:
        """How far this life's journal has been applied; None before its first record."""
        ...

    def forget(self, life: str) -> None:
        """Drop a finished life's position."""
        ...

    def unsettled(self, life: str) -> list[Attempt]:
        """Every attempt of those of the life's requests that lack a request row or hold an open
        attempt, by request and in their order."""
        ...

    def abandoned(self, before_ms: int) -> list[Attempt]:
        """The same, whatever the life, of requests whose last attempt began by then; at most 1,000
        requests."""
        ...

    def requests(self, limit: int, since_ms: int = 0) -> list[RequestEnd]:
        """Request rows that ended at or after `since_ms`, newest first."""
        ...

    def request(self, request_id: str) -> RequestEnd | None:
        """One request's row; None before it ended, or when there is none."""
        ...

    def latest_since_ms(self, attempts: int) -> int:
        """From when on no more than so many attempts ended; 0 when there are no more at all."""
        ...

    def attempts(self, request_id: str) -> list[Attempt]:
        """A request's attempts, in their order."""
        ...

    def open_attempts(self, life: str | None = None) -> list[AttemptBegin]:
        """Attempts begun and not ended, of one life or of all; at most 100,000, oldest first."""
        ...

    def idempotency(self, since_ms: int) -> list[RequestEnd]:
        """Request rows that carry an idempotency key and ended at or after `since_ms`; newest
        first, at most 100,000."""
        ...

    def totals(self, since_ms: int = 0, until_ms: int = EVER_MS) -> list[Total]:
        """Sums by day, tenant, target and currency over attempts ended in [since, until)."""
        ...

    def costs(self, question: Question) -> Answer:
        """What was spent on what; see `costs`."""
        ...

    def heads(self) -> list[Head]:
        """The last entry of each journal's chain of egress intents."""
        ...

    def chained(self, writer: str, after: int, limit: int) -> list[Chained]:
        """A chain's entries above number `after`, in order."""
        ...

    def unchained(self) -> tuple[int, int]:
        """Intents that stand on no chain: how many, and the time of the latest."""
        ...

    def egress(self, question: Asked) -> list[EgressIntent]:
        """What left the premises, in order of time."""
        ...

    def keys_of(self, question: Asked) -> list[str]:
        """Ids of the API keys whose calls left so; at most `audit.values.PAGE_MAX`."""
        ...

    def law(self, settled_by_ms: int = EVER_MS) -> list[Violation]:
        """Breaches of the law, at most 1,000 per rule; empty is lawful.

        Attempts that began after `settled_by_ms` may still wait for their request row; by default
        all are expected to be settled. A request's money *is* the sum of its attempts' (it is
        stored nowhere else), so the rules check that each attempt's money has one owner.
        """
        ...

    def close(self) -> None:
        """Release the store; no call may follow."""
        ...
