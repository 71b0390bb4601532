"""The store of cases: facts to list, sealed texts beside them.

Blocking by design: callers off the event loop's thread only.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import msgspec

from serving.errors import OwnError
from serving.review.values import Case, Kind, State

PAGE_MAX = 1000
encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Case).decode


class ReviewsAway(OwnError):  # noqa: N818 - a state
    """The store cannot be read or written now."""

    def __init__(self, message: str) -> None:
        super().__init__("reviews_away", message)


class Overtaken(Exception):  # noqa: N818 - a state
    """Somebody else moved the case meanwhile: read it again and decide again."""


class Wanted(NamedTuple):
    """Which cases to list, newest first."""

    kind: Kind | None = None
    state: State | None = None
    tenants: frozenset[str] | None = None
    """With their customers; None is all."""
    before: tuple[int, str] = (1 << 62, "")
    """Time and id of the last one seen."""
    limit: int = 100


class ReviewStore(Protocol):
    """Every method raises ReviewsAway when the store is away."""

    def add(self, case: Case, sealed: bytes) -> bool:
        """Store a new case; False when one of that id is there already, and stays."""
        ...

    def find(self, case_id: str) -> tuple[Case, bytes] | None:
        """One case, with its sealed text."""
        ...

    def listed(self, wanted: Wanted) -> list[Case]:
        """Cases, newest first."""
        ...

    def step(self, case: Case) -> None:
        """Store a case that took one step from revision `case.revision - 1`. Raises Overtaken."""
        ...

    def trim(self, before_ms: int, cases_max: int) -> int:
        """Remove what is older, but for complaints and appeals that wait, and the oldest samples
        beyond so many cases. How many went."""
        ...

    def erase(self, tenant: str, end_user: str) -> int:
        """Remove all cases of one person. How many went."""
        ...

    def close(self) -> None:
        """Release the store; no call may follow."""
        ...
