"""One transaction of either store, and who may write within it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from serving.batch import sql
from serving.batch.base import Lost

_T = TypeVar("_T")


class Rows(Protocol):
    """What a statement gave."""

    @property
    def rowcount(self) -> int:
        """Rows touched."""

    def fetchone(self) -> Any:
        """The next row."""

    def fetchall(self) -> list[Any]:
        """All that are left."""


class Database(Protocol):
    """One open transaction."""

    def execute(self, text: str, values: Sequence[Any], /) -> Rows:
        """Run one statement."""

    def executemany(self, text: str, values: Sequence[Sequence[Any]], /) -> object:
        """Run one statement often."""


class Transactions:
    """How work becomes a transaction: the only difference of the two stores."""

    late: str
    """The statement `sql.late` makes of the database's own words for a batch's end."""

    @abstractmethod
    def _do(self, work: Callable[[Database], _T]) -> _T:
        """Run work as one transaction; what it raises undoes it. Raises BatchesAway."""

    def _see(self, work: Callable[[Database], _T]) -> _T:
        """Run one question. Raises BatchesAway."""
        return self._do(work)

    def _one(self, text: str, values: Sequence[Any]) -> Any:
        return self._see(lambda db: db.execute(text, values).fetchone())

    def _own(self, owner: str, batch_id: str, work: Callable[[Database], _T]) -> _T:
        """Work on a batch that is the owner's. Raises Lost."""

        def held(db: Database) -> _T:
            if not db.execute(sql.HELD, (batch_id, owner)).rowcount:
                raise Lost
            return work(db)

        return self._do(held)
