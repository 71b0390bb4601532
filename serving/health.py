"""What a try says about more than its target: a dead account is dead for all its models, and an
API that still answers but crawls is no place to send anybody. Pure but for its counters.

Breakers of single targets are admission's (`breaker.py`). An account that is down is probed by one
call, whatever model that is for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from serving.admission import Admission
from serving.breaker import PROBE_S
from serving.errors import Kind
from serving.records import FleetView, Offering, Ticket

ACCOUNT_WIDE = frozenset({Kind.ACCOUNT_DEAD, Kind.KEY_DEAD})
SLOW_S_MIN, SLOW_FACTOR = 5.0, 4.0
"""A first token later than both is slow: than five seconds, and than four times what is usual
there."""
READ_TOKENS_PER_S = 2000.0
"""What an API is given on top to read a prompt. ASSUMED to be generous: half of what
AIConfigurator's kernel tables estimate of Qwen3-32B in BF16 on one A100 (4,000)."""
OF_LAST, SLOW_MIN, REST_S = 10, 5, 30.0
WINDOW_S, OF_TENANT_MAX = 600.0, 2
"""Older answers say nothing; of one tenant's slow ones no more than two count beside others'."""


class Seen(NamedTuple):
    """One answer of an API."""

    tenant: str
    at_s: float
    is_late: bool


class Health:
    """Accounts that are down, and APIs in a brown-out."""

    def __init__(self, admission: Admission, view: Callable[[], FleetView]) -> None:
        self._admission = admission
        self._view = view
        self._down: dict[str, Ticket | None] = {}
        """By account: the one call that probes it now."""
        self._seen: dict[str, list[Seen]] = {}
        """By offering: the last answers, oldest first."""

    def sent(self, ticket: Ticket) -> None:
        """A try goes out; to an account that is down it is the probe, and others wait for it."""
        target = ticket.target
        if isinstance(target, Offering) and self._down.get(target.account_id, ticket) is None:
            self._down[target.account_id] = ticket
            self._shut(target, ticket.issued_s + PROBE_S)

    def opened(self, ticket: Ticket, now_s: float, *, tenant: str, is_stream: bool) -> None:
        """First content came; a forwarder's customers count as the forwarder."""
        target = ticket.target
        if not isinstance(target, Offering):
            return
        if self._down.get(target.account_id) is ticket:
            del self._down[target.account_id]
            self._shut(target, 0.0)
        if is_stream:
            usual_s = self._usual_s(target, ticket.prompt_tokens, now_s)
            allowed_s = max(SLOW_S_MIN, SLOW_FACTOR * usual_s)
            allowed_s += ticket.prompt_tokens / READ_TOKENS_PER_S
            owner, is_late = tenant.partition("/")[0], now_s - ticket.issued_s > allowed_s
            self._timed(target.id, Seen(owner, now_s, is_late))

    def failed(self, ticket: Ticket, kind: Kind, now_s: float) -> None:
        """The try failed; after its own breaker has heard of it."""
        target = ticket.target
        if not isinstance(target, Offering):
            return
        if kind in ACCOUNT_WIDE:
            self._down[target.account_id] = None
            self._shut(target, self._admission.know(target.id).open_until_s)
        else:
            self.undecided(ticket, now_s)

    def undecided(self, ticket: Ticket, now_s: float) -> None:
        """The try told nothing of the account; if it was the probe, the next call is."""
        target = ticket.target
        if isinstance(target, Offering) and self._down.get(target.account_id) is ticket:
            self._down[target.account_id] = None
            self._shut(target, now_s)

    def _usual_s(self, target: Offering, prompt_tokens: int, now_s: float) -> float:
        """Seconds to the first token as it has been there of late; before enough was seen, as its
        row says: else the first slow answers would make slow answers usual."""
        pace = self._admission.know(target.id).api
        usual_s = None if pace is None else pace.usual_first_s(prompt_tokens, now_s)
        return target.first_token_s if usual_s is None else usual_s

    def _timed(self, name: str, last: Seen) -> None:
        seen = [one for one in self._seen.get(name, ()) if one.at_s > last.at_s - WINDOW_S]
        seen.append(last)
        if len(seen) > OF_LAST:
            # The oldest of whoever has most: many answers of one tenant push no other's out.
            counts = Counter(one.tenant for one in seen)
            most = max(counts.values())
            seen.remove(next(one for one in seen if counts[one.tenant] == most))
        self._seen[name] = seen
        if last.is_late and _crawls(seen):
            self._admission.shut(name, last.at_s + REST_S)

    def _shut(self, target: Offering, until_s: float) -> None:
        """Keep calls from the account's other models until then; 0 lets them come."""
        for other in self._siblings(target):
            self._admission.shut(other, until_s)

    def _siblings(self, target: Offering) -> Iterator[str]:
        view = self._view()
        sold = view.theirs.get(target.owner, {}) if target.owner else view.offerings
        for rows in sold.values():
            for row in rows:
                if row.account_id == target.account_id and row.id != target.id:
                    yield row.id


def _crawls(seen: list[Seen]) -> bool:
    """Five of the last ten answers were slow, and not to one of several tenants alone: each of two
    has two of them, or three and more have five together, where two of each count."""
    slow = Counter(one.tenant for one in seen if one.is_late)
    if slow.total() < SLOW_MIN:
        return False
    needed = min(SLOW_MIN, OF_TENANT_MAX * len({one.tenant for one in seen}))
    return sum(min(OF_TENANT_MAX, count) for count in slow.values()) >= needed
