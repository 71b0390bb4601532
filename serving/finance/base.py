"""The database behind the finance books: the ledger's own, so that both are asked together.

Blocking by design: callers off the event loop's thread only. Each piece of work is one transaction,
and no two write at the same time, whatever process they are in: two settlements at once would burn
a grant twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
Values = Mapping[str, Any]
Rows = list[tuple[Any, ...]]


class Work(Protocol):
    """What a transaction can do. Queries stand in `statements`, parameters are `:name`."""

    def rows(self, query: str, values: Values = ...) -> Rows:
        """All rows of a question."""
        ...

    def run(self, query: str, values: Values = ...) -> int:
        """Rows changed."""
        ...

    def run_many(self, query: str, values: Sequence[Values]) -> None:
        """The same statement for each."""
        ...


class Database(Protocol):
    """Every method raises LedgerUnavailable when the store is away; nothing was stored then, or it
    is unknown, and doing it again is safe."""

    def write(self, work: Callable[[Work], T]) -> T:
        """The work's result, in one transaction that nobody else's overlaps."""
        ...

    def rows(self, query: str, values: Values = ...) -> Rows:
        """All rows of one question."""
        ...

    def close(self) -> None:
        """Release it; no call may follow."""
        ...
