"""One budget's money in one process and period: the leased slice, what is spent of it, what is
reserved by calls under way. Pure but for those counters; the clock is an argument.
"""

from __future__ import annotations

import msgspec

from serving.budgets.base import Told, Want
from serving.budgets.money import believed, converted
from serving.budgets.period import Span
from serving.budgets.values import Budget
from serving.records import Charge

SLICE = 200
"""A process wants this part of the limit free, a half per cent, when nobody is in a hurry."""
SPENDINGS = 4
"""And so many times what it spent since it last asked: a second's worth, mostly."""
RENEW_MS = 1_000
"""A report is at most so old while money is spent."""
LOW_MS = 100
"""A slice that runs low is asked for so often: near the end of a budget all of them are low."""
HEARTBEAT_MS = 20_000
"""A lease nobody spends from is renewed so often, and then down to its quiet size."""


class Purse:
    """Made for one period; `told` and `reserve` change it."""

    __slots__ = (
        "_asked_ms", "_asked_spent", "_dirty", "budget", "granted", "is_closed", "is_closing",
        "left", "limit", "need", "others_spent", "rate_micro", "reserved", "span", "spent",
        "waiting",
    )  # fmt: skip

    def __init__(self, budget: Budget, span: Span, rate_micro: int) -> None:
        self.budget = budget
        self.span = span
        self.rate_micro = rate_micro
        """Micro-yuan for a dollar on the period's first day."""
        self.limit = budget.limit_micro
        """With raises, as of the last report."""
        self.granted = 0
        self.spent = 0
        self.reserved = 0
        self.others_spent = 0
        """By other processes, as of the last report."""
        self.left = -1
        """Of the limit, granted to nobody as of the last report; -1 before the first."""
        self.is_closing = False
        """Its period is over, or its budget is gone: the rest is given back."""
        self.is_closed = False
        """It was."""
        self.waiting = 0
        """Of all calls that wait for the next report's answer."""
        self.need = 0
        """Of the largest call that did not fit since the last report."""
        self._asked_ms = -HEARTBEAT_MS
        self._asked_spent = 0
        self._dirty = True

    @property
    def is_hard(self) -> bool:
        """Whether it stops paid calls."""
        return self.budget.kind == "hard"

    @property
    def free(self) -> int:
        """Micro-units that calls may still reserve; negative after one that cost more."""
        return self.granted - self.spent - self.reserved

    @property
    def share(self) -> float:
        """Spent by all, as a share of the limit; calls under way here count as reserved."""
        used = self.others_spent + self.spent + self.reserved
        return used / self.limit if self.limit > 0 else float("inf")

    def fits(self, micro: int | None) -> bool:
        """Whether a call that costs so much at most may be paid; None is a price that cannot be
        told. Notes what did not fit."""
        if not self.is_hard:
            return True
        if micro is None:
            return False
        if micro <= self.free:
            return True
        self.need = max(self.need, micro)
        return False

    def may_pay(self, micro: int) -> bool:
        """Whether what does not fit now may once the store has answered."""
        return micro >= 0 and (self.left < 0 or micro <= max(0, self.free) + self.left)

    def amount(self, micro: int, currency: str) -> int | None:
        """Money in this budget's currency; None where that cannot be told."""
        return converted(micro, currency, self.budget.currency, self.rate_micro)

    def reserve(self, micro: int) -> None:
        """A call begins. Mutates."""
        self.reserved += micro

    def settle(self, reserved_micro: int, charge: Charge, *, is_bounded: bool = True) -> bool:
        """It ended and cost so much; without a bound what it says is taken. Mutates. False when
        what it says was not believed."""
        self.reserved -= reserved_micro
        said = self.amount(charge.micro, charge.currency) if charge.currency else 0
        micro = reserved_micro if said is None else said
        taken = believed(micro, reserved_micro) if is_bounded else max(0, micro)
        self.spent += taken
        self._dirty = self._dirty or taken > 0
        return taken == micro

    def is_due(self, now_ms: int) -> bool:
        """Whether the store is to be asked now."""
        age_ms = now_ms - self._asked_ms
        if self.need or age_ms >= HEARTBEAT_MS or (self._dirty and age_ms >= RENEW_MS):
            return True
        return self.is_low and self.left > 0 and age_ms >= LOW_MS

    @property
    def is_low(self) -> bool:
        """Whether the slice runs dry."""
        return self.is_hard and self.free * 2 < self._wish()

    def want(self, now_ms: int) -> Want:
        """What to tell and ask. Mutates: an idle slice gives back what it does not need first, so
        that nobody spends what the store hands to another."""
        self.limit = self.budget.limit_at(now_ms)
        is_idle = self.spent == self._asked_spent and not self.need
        if is_idle and now_ms - self._asked_ms >= HEARTBEAT_MS:
            quiet = min(self._wish(), max(0, self.left) // 4)
            self.granted = min(self.granted, self.spent + self.reserved + quiet)
        is_last = self.is_closing and self.reserved == 0
        want = Want(
            self.budget.id, self.span.start_ms, self.span.end_ms, self.limit, self.is_hard,
            self.spent, self.reserved, self.granted, self._wish(), self.need, is_last,
        )  # fmt: skip
        self._asked_ms, self._asked_spent, self.need, self._dirty = now_ms, self.spent, 0, False
        self.waiting = 0
        return want

    def _wish(self) -> int:
        lately = SPENDINGS * (self.spent - self._asked_spent)
        return max(self.limit // SLICE, lately, self.reserved + self.waiting)

    def told(self, told: Told) -> None:
        """The store answered. Mutates."""
        self.granted, self.left = told.granted_micro, told.left_micro
        self.others_spent = told.others_spent_micro

    def unheard(self) -> None:
        """It did not: the report is still due, and nothing is known to be left. Mutates."""
        self._dirty = True
        self.left = 0 if self.left >= 0 else -1

    def changed(self, budget: Budget) -> None:
        """The budget has another limit, ladder or kind, or is back. Mutates."""
        self.is_closed = False
        self.budget = budget
        self.left = -1
        self._dirty, self._asked_ms = True, self._asked_ms - RENEW_MS


class Reserved(msgspec.Struct, frozen=True):
    """What one attempt holds of one purse."""

    purse: Purse
    micro: int
