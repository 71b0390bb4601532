"""What a try says about more than its target: a dead account is dead for all its models, and an
API that still answers but crawls is no place to send anybody. Pure but for its counters.

Breakers of single targets are admission's (`breaker.py`). An account that is down is probed by one
call, whatever model that is for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from serving.admission import Admission
from serving.breaker import PROBE_S
from serving.errors import Kind
from serving.records import FleetView, Offering, Ticket

ACCOUNT_WIDE = frozenset({Kind.ACCOUNT_DEAD, Kind.KEY_DEAD})
SLOW_S_MIN, SLOW_FACTOR = 5.0, 4.0
"""A first token later than both is slow: than five seconds, and than four times what the row
says."""
OF_LAST, SLOW_MIN, REST_S = 10, 5, 30.0


class Health:
    """Accounts that are down, and APIs in a brown-out."""

    def __init__(self, admission: Admission, view: Callable[[], FleetView]) -> None:
        self._admission = admission
        self._view = view
        self._down: dict[str, Ticket | None] = {}
        """By provider: the one call that probes it now."""
        self._late: dict[str, deque[bool]] = {}

    def sent(self, ticket: Ticket) -> None:
        """A try goes out; to an account that is down it is the probe, and others wait for it."""
        target = ticket.target
        if isinstance(target, Offering) and self._down.get(target.provider, ticket) is None:
            self._down[target.provider] = ticket
            self._shut(target, ticket.issued_s + PROBE_S)

    def opened(self, ticket: Ticket, now_s: float, *, is_stream: bool) -> None:
        """First content came."""
        target = ticket.target
        if not isinstance(target, Offering):
            return
        if self._down.get(target.provider) is ticket:
            del self._down[target.provider]
            self._shut(target, 0.0)
        if is_stream:
            self._timed(target, now_s - ticket.issued_s, now_s)

    def failed(self, ticket: Ticket, kind: Kind, now_s: float) -> None:
        """The try failed; after its own breaker has heard of it."""
        target = ticket.target
        if not isinstance(target, Offering):
            return
        if kind in ACCOUNT_WIDE:
            self._down[target.provider] = None
            self._shut(target, self._admission.know(target.id).open_until_s)
        else:
            self.undecided(ticket, now_s)

    def undecided(self, ticket: Ticket, now_s: float) -> None:
        """The try told nothing of the account; if it was the probe, the next call is."""
        target = ticket.target
        if isinstance(target, Offering) and self._down.get(target.provider) is ticket:
            self._down[target.provider] = None
            self._shut(target, now_s)

    def _timed(self, target: Offering, first_s: float, now_s: float) -> None:
        late = first_s > max(SLOW_S_MIN, SLOW_FACTOR * target.first_token_s)
        seen = self._late.get(target.id)
        if seen is None:
            if not late:
                return
            seen = self._late[target.id] = deque(maxlen=OF_LAST)
        seen.append(late)
        if late and sum(seen) >= SLOW_MIN:
            self._admission.shut(target.id, now_s + REST_S)
        elif not any(seen):
            del self._late[target.id]

    def _shut(self, target: Offering, until_s: float) -> None:
        """Keep calls from the account's other models until then; 0 lets them come."""
        for other in self._siblings(target):
            self._admission.shut(other, until_s)

    def _siblings(self, target: Offering) -> Iterator[str]:
        for rows in self._view().offerings.values():
            for row in rows:
                if row.provider == target.provider and row.id != target.id:
                    yield row.id
