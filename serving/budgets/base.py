"""The store of leases and spent money: what it must do, whatever database is behind it.

One row a budget, period and holder (a gateway's journal life): what the holder was granted in all,
and what it says it spent of that. What is granted to all together never exceeds the limit; a holder
that died keeps its grant until its attempt rows tell what it really spent.

Blocking: off the event loop's thread only. Every method raises LedgerUnavailable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from serving.budgets.learnt import Counts, Feature

LEASE_MS = 60_000
"""A lease that was not renewed for so long is a dead holder's, as far as the clocks agree."""
THRESHOLDS = (50, 80, 100)
"""Per cent of the limit at which somebody is told, once a period."""


class Want(msgspec.Struct, frozen=True):
    """What one holder reports and asks of one budget. Amounts are totals of the period."""

    budget: str
    start_ms: int
    end_ms: int
    limit_micro: int
    is_hard: bool
    spent_micro: int
    reserved_micro: int
    """Of calls under way."""
    had_micro: int
    """Granted before, as far as it was not given back."""
    wish_micro: int
    """To have free."""
    need_micro: int
    """Of one call that did not fit; 0 is none."""
    is_last: bool = False
    """The holder is done with this period."""


class Told(msgspec.Struct, frozen=True):
    """The store's answer."""

    budget: str
    start_ms: int
    granted_micro: int
    others_spent_micro: int
    left_micro: int
    """Of the limit, granted to nobody."""
    passed: tuple[int, ...] = ()
    """Thresholds that were passed with this report, and are told of by this holder alone."""


class Expired(NamedTuple):
    """A lease whose holder is gone, and all of whose attempts have ended."""

    budget: str
    start_ms: int
    end_ms: int
    holder: str
    spent_micro: int
    """By its last report."""


class Scope(NamedTuple):
    """Which attempts count; empty is any. See `values.Budget`."""

    tenant: str
    project: str
    model: str
    provider: str


class Sum(NamedTuple):
    """Money and tokens of attempts in one currency; empty is an owned engine's."""

    currency: str
    micro: int
    prompt_tokens: int
    completion_tokens: int


class Row(NamedTuple):
    """One budget's period as the store knows it."""

    budget: str
    start_ms: int
    end_ms: int
    spent_micro: int
    granted_micro: int
    presumed_micro: int
    """Of that, granted to holders that are gone and counted as spent until their rows tell."""
    holders: int


class Alert(NamedTuple):
    """A threshold that was passed."""

    budget: str
    start_ms: int
    threshold: int
    """Per cent."""
    at_ms: int
    spent_micro: int
    limit_micro: int


def grant(want: Want, others_micro: int) -> int:
    """What a holder is granted in all, when others hold so much. Never takes back what it may be
    spending at this moment, unless the limit was lowered. Pure.

    A quarter of what is left at most, so that slices shrink towards the end and no holder sits on
    what another needs; but the whole of it for a call that needs it.
    """
    kept = want.spent_micro + want.reserved_micro
    if not want.is_hard or want.is_last:
        return kept
    room = max(0, want.limit_micro - others_micro)
    held = max(kept, min(want.had_micro, room))
    left, free = max(0, room - held), held - kept
    short = want.need_micro - free
    more = min(want.wish_micro - free, left // 4)
    return held + max(0, more, short if short <= left else 0)


def passed(spent_micro: int, limit_micro: int) -> list[int]:
    """The thresholds that a sum has reached. Pure."""
    if limit_micro <= 0:
        return []
    return [share for share in THRESHOLDS if spent_micro * 100 >= limit_micro * share]


class BudgetStore(Protocol):
    """See the module."""

    def renew(self, holder: str, wants: Sequence[Want], now_ms: int) -> list[Told]:
        """Report and ask, all in one transaction. May be run twice: amounts are totals."""
        ...

    def expired(self, now_ms: int, abandoned_ms: int) -> list[Expired]:
        """Leases to be settled by the truth: expired, and their holder's journal is in the ledger
        whole, or they expired before `abandoned_ms`, when nobody brings it any more. At most
        1,000."""
        ...

    def truth(self, lease: Expired, scope: Scope, since_ms: int) -> list[Sum]:
        """What the holder's attempts that began in the period and since then really cost."""
        ...

    def settle(self, lease: Expired, spent_micro: int, now_ms: int) -> None:
        """Put the truth in place of the grant; nothing where the holder came back."""
        ...

    def rows(self, since_ms: int, now_ms: int) -> list[Row]:
        """Periods that end after then, newest first; at most 10,000."""
        ...

    def alerts(self, since_ms: int) -> list[Alert]:
        """Of periods that begin at or after then, newest first; at most 10,000."""
        ...

    def forget(self, before_ms: int) -> None:
        """Drop periods that ended before."""
        ...

    def tell_lengths(self, new: Mapping[Feature, Counts], now_ms: int) -> None:
        """Add what a process learnt of answer lengths to what all did."""
        ...

    def lengths(self, since_ms: int) -> list[tuple[Feature, Counts]]:
        """What all learnt of features that were used since then, the latest first."""
        ...

    def close(self) -> None:
        """Release the store; no call may follow."""
        ...
