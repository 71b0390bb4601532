"""What finance tells the books: grants, rentals, monthly lines, invoices, closings. Pure values.

Money is integer micro-units of its currency, times are UTC milliseconds, months are `2026-11` in
the books' time zone. Each entry says who wrote it, when and why; ids are unique within their kind.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import msgspec

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
AMOUNT_MAX = 10**15
"""A milliard of a currency, in micro-units; also the most tokens of a grant."""
GrantKind: TypeAlias = Literal["credit", "free", "prepaid", "reservation"]
Key: TypeAlias = Literal["tokens", "output_tokens", "requests", "even"]
"""By what a shared cost is shared out."""
What: TypeAlias = Literal["storage", "egress", "logs", "waf", "kms", "people", "other"]


class FinanceError(ValueError):
    """An entry that cannot be booked; the text says which, why, and what to do."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """Who told an entry, when and why."""

    by: str = ""
    at_ms: int = 0
    why: str = ""


class Grant(Told, frozen=True, kw_only=True, tag="grant"):
    """Something that pays in place of cash, while it lasts and within its scope."""

    id: str
    kind: GrantKind
    unit: Literal["micro", "tokens"]
    amount: int | None
    """In units; None is without end, for a reservation only."""
    currency: str = ""
    """Of a grant in money; tokens have none."""
    provider: str
    model: str = ""
    """Our name of it or the provider's; empty is all of the provider's."""
    begin_ms: int
    end_ms: int
    """When it lapses."""
    every: Literal["", "day", "month"] = ""
    """It is filled up again so often, in the books' time zone; empty is once."""
    paid_micro: int = 0
    """What the whole of it cost; dearer ones burn later."""


class Rental(Told, frozen=True, kw_only=True, tag="rental"):
    """GPUs held over a time, used or not."""

    id: str
    pool: str
    gpu: str
    """Key of `models/gpus.yaml`."""
    gpus: int
    replicas: int
    """Engines that run on them."""
    begin_ms: int
    end_ms: int
    micro_per_gpu_hour: int
    currency: str
    source: str
    models: tuple[str, ...] = ()
    """Whose engines run there."""


class CostLine(Told, frozen=True, kw_only=True, tag="cost"):
    """A month's cost that no attempt tells."""

    id: str
    month: str
    what: What
    micro: int
    currency: str
    key: Key


class InvoiceLine(Told, frozen=True, kw_only=True, tag="invoice"):
    """One line of a vendor's invoice."""

    id: str
    provider: str
    month: str
    model: str
    """The vendor's name."""
    tokens: int
    currency: str
    micro: int
    """Before tax."""
    tax_micro: int
    credit_micro: int = 0
    """Credits that the vendor took off before `micro`."""


class Closing(Told, frozen=True, kw_only=True, tag="closing"):
    """A month that takes no more changes, with what the ledger held then."""

    id: str
    """The month."""
    sums: tuple[Sum, ...]


class Sum(msgspec.Struct, frozen=True):
    """What the ledger holds of one provider's model in one month and currency."""

    provider: str
    model: str
    currency: str
    micro: int
    tokens: int
    attempts: int
    estimated_micro: int
    """Part of `micro` whose usage is an estimate."""
    burnt_micro: int
    """Part of `micro` that grants or a prepaid account paid."""


class Correction(Told, frozen=True, kw_only=True, tag="correction"):
    """What came to a closed month afterwards, booked in an open one."""

    id: str
    month: str
    """The open one."""
    of_month: str
    provider: str
    model: str
    currency: str
    micro: int
    tokens: int


Entry: TypeAlias = Grant | Rental | CostLine | InvoiceLine | Closing | Correction


class Spent(NamedTuple):
    """One ended attempt that cost money."""

    request_id: str
    attempt: int
    ended_ms: int
    target: str
    """`provider/model`, as its offering is named."""
    model: str
    """Our name."""
    currency: str
    micro: int
    tokens: int
    kind: str
    """What the account pays with."""


class Burn(NamedTuple):
    """A part of an attempt's money and what paid it; the parts add up to the whole."""

    request_id: str
    attempt: int
    grant_id: str
    """Empty: the account itself."""
    kind: str
    period: str
    at_ms: int
    currency: str
    micro: int
    units: int
    """What it took out of the grant."""
