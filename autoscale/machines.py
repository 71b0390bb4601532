"""Rented machines: what providers offer, what they say is running, what we asked for. Pure.

Money is integer micro-units an hour, in `controller.scaling.currency`. A machine is ours if the
deployment's tag says so, and belongs to an order by its client token; whatever else a provider's
account holds is never touched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

State: TypeAlias = Literal["creating", "running", "ending", "ended", "failed"]
Kind: TypeAlias = Literal["short", "refused", "busy", "away"]
"""short: no machine to give now. refused: this request is wrong or forbidden. busy: ask later.
away: not reached, or an answer nobody can read; the request may have been carried out."""


class ProviderError(Exception):
    """A provider did not do it."""

    def __init__(self, kind: Kind, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after_s = retry_after_s


class Offer(msgspec.Struct, frozen=True):
    """What may be rented now."""

    id: str
    hour_micro: int
    available: int | None = None
    """None: the provider does not say."""


class Machine(msgspec.Struct, frozen=True):
    """One as its provider lists it."""

    id: str
    client_token: str
    state: State = "running"
    hour_micro: int | None = None
    """None: as ordered."""
    since_ms: int = 0
    address: str = ""
    """Where its replicas listen; empty: unknown."""
    why: str = ""
    """Of one that failed, where the provider says."""


class Tags(msgspec.Struct, frozen=True):
    """What we put on each machine."""

    deployment: str
    model: str
    pool: str


def ours(tags: Tags) -> str:
    """How the client tokens of our orders begin. A digest of all three tags: names may hold dashes,
    so `a-b` and `c` read like `a` and `b-c`, and two models may have pools of one name."""
    whole = "\0".join((tags.deployment, tags.model, tags.pool)).encode()
    return f"{tags.deployment}-{tags.pool}-{hashlib.sha256(whole).hexdigest()[:8]}-"


def formerly(tags: Tags) -> str:
    """How tokens began before they held a digest. One is ours only where our book names it."""
    return f"{tags.deployment}-{tags.pool}-"


class Create(msgspec.Struct, frozen=True):
    """An order for one machine. The same token twice is the same machine."""

    client_token: str
    tags: Tags
    offer: str
    hour_micro_max: int
    gpu: str = ""
    terms: str = "on_demand"
    jurisdiction: str = ""
    fence: int = 0
    """The lease's token: whoever keeps the highest seen may refuse a lower one."""


class Intent(msgspec.Struct, frozen=True):
    """A machine that we decided to have, from before the first request until it is gone."""

    token: str
    since_ms: int
    offer: str = ""
    id: str = ""
    """Empty until the provider told it."""
    seen_ms: int = 0
    """Listed last."""
    asked_ms: int = 0
    """Of the last create or terminate request."""
    ending_ms: int = 0
    """When we first asked for its end; 0: we did not."""


class Book(msgspec.Struct, frozen=True):
    """All that must outlive a restart, of one pool."""

    intents: tuple[Intent, ...] = ()
    strangers: Mapping[str, tuple[int, int]] = {}
    """Machines with our tag that no order explains: since when, and when they were listed last."""
    failed: Mapping[str, int] = {}
    """Machines that failed and are listed still: when their end was asked for last."""
    wanted: int = -1
    """As decided last; negative: never."""
    short_until_ms: int = 0
    why_short: str = ""
    wait_until_ms: int = 0
    """The provider asked us to leave it alone until then."""
    serial: int = 0


class Bounds(msgspec.Struct, frozen=True):
    """What this pool's machines may cost and take, whatever was decided."""

    machines_max: int
    hour_micro_max: int | None
    price_micro: int
    """Of one machine, as decided with."""
    price_micro_max: int
    create_ms: int = 900_000
    """An order that is not listed after this came to nothing."""
    missing_ms: int = 300_000
    """A machine not listed for so long is gone; lists are incomplete at times."""
    stranger_ms: int = 600_000
    retry_ms: int = 30_000
    end_ms: int = 600_000
    """A machine that is still there so long after its end was asked for is told as stuck."""
    cool_ms: int = 600_000
