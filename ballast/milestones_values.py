"""What milestones are judged by, and what the judgement says. Values only; pure."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import msgspec

from ballast.messages import Said
from ballast.traffic import Calls, Side

State: TypeAlias = Literal["met", "not_met", "unknown"]


class Month(msgspec.Struct, frozen=True):
    """One month of the books."""

    month: str
    """`2026-11`."""
    tokens: int
    own_tokens: int

    @property
    def share(self) -> float:
        """Of tokens, by own engines."""
        return self.own_tokens / self.tokens if self.tokens else 0.0


class Spending(msgspec.Struct, frozen=True):
    """The last days' money in one currency, converted at `rate`."""

    currency: str
    rate: str
    api_micro: int
    """To third parties, granted included."""
    own_micro: int
    """GPUs, idle included."""
    shared_micro: int
    instead_micro: int
    """What own tokens would have cost at their models' first offerings."""
    unpriced: tuple[str, ...] = ()

    @property
    def saving(self) -> float | None:
        """Share saved against pure API; None without any API price to compare with."""
        pure = self.api_micro + self.instead_micro
        paid = self.api_micro + self.own_micro + self.shared_micro
        return 1 - paid / pure if pure else None


class Even(msgspec.Struct, frozen=True):
    """Loads from which it pays, requests a month; None: at no load."""

    model: str
    first_gpu: float | None
    hybrid_saves: float | None
    """By the gate, people included."""


class Growth(NamedTuple):
    """Requests of the first and the last week of the time looked at; 0: not known."""

    before: int
    after: int
    weeks: float


class Evidence(msgspec.Struct, frozen=True):
    """All that is judged."""

    since_ms: int
    calls: Calls
    sides: tuple[Side, ...]
    months: tuple[Month, ...]
    """Oldest first."""
    growth: Growth
    spending: Spending | None
    spending_fault: str
    """Why the money could not be summed."""
    even: Even | None
    even_fault: str
    has_rent: bool
    is_dry_run: bool
    reports: tuple[str, ...]
    """Months with a signed compliance report that still holds."""
    utc_offset_hours: float = 0
    """Of the books, by which `months` and `reports` are named."""


class Lack(NamedTuple):
    """What is missing, and how to get it."""

    what: Said
    remedy: Said


class Verdict(msgspec.Struct, frozen=True):
    """One milestone or trigger."""

    id: str
    state: State
    since: str
    """Day or month from which on it is met; empty otherwise."""
    evidence: tuple[Said, ...] = ()
    missing: tuple[Lack, ...] = ()
