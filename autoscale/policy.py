"""What the settings ask of the autoscaler: pools to rent from, prices, bounds, schedules. Values.

Money is integer micro-units of one currency, the same for pools and API: whoever fills these in
converts. Units of work are explained in `work`.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from autoscale.work import Work

Terms: TypeAlias = Literal["on_demand", "spot", "reserved"]


class Pool(msgspec.Struct, frozen=True):
    """Where replicas of one model may be rented, on one set of terms."""

    name: str
    terms: Terms = "on_demand"
    gpu: str = ""
    provider: str = ""
    jurisdiction: str = ""
    hour_micro: int = 0
    """Price of one replica for an hour. Of a reserved one it is sunk: paid whether used or not."""
    is_hourly: bool = False
    """Every started hour is charged whole; else seconds are."""
    capacity: float = 1.0
    """Work of one replica per second, in full replicas of the plan's own kind."""
    ready_s: float = 120.0
    """First guess of the time from order to service; what is seen replaces it."""
    least: int = 0
    most: int = 1
    tenant: str = ""
    """Pays for it alone: held at `least`, and no other demand is laid on it."""


class Api(msgspec.Struct, frozen=True):
    """Price of the third party that takes what does not fit."""

    prompt_micro_per_mtok: int
    output_micro_per_mtok: int

    def of(self, prompt_tokens: int, output_tokens: int) -> int:
        """Price of so many tokens, in millionths of a micro-unit."""
        prompt = prompt_tokens * self.prompt_micro_per_mtok
        return prompt + output_tokens * self.output_micro_per_mtok


class Window(msgspec.Struct, frozen=True):
    """A part of the week with bounds of its own; the last that matches counts."""

    days: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)
    """0 is Monday."""
    from_minute: int = 0
    until_minute: int = 1440
    """Exclusive; below `from_minute` it ends on the next day."""
    least: int = 0
    most: int | None = None


class Plan(msgspec.Struct, frozen=True, cache_hash=True):
    """One model."""

    model: str
    slots: int
    """Calls that one replica runs at once."""
    pools: tuple[Pool, ...] = ()
    """In the order in which equal prices are filled. Empty: an owned machine that costs nothing
    more to keep, so replicas are added when calls find no place and never taken away."""
    api: Api | None = None
    """None: what does not fit waits or is refused."""
    work: Work = Work()
    jurisdictions: tuple[str, ...] = ()
    """Where it may run; empty: anywhere."""
    windows: tuple[Window, ...] = ()
    utc_offset_minutes: int = 0
    wait_s_max: float = 5.0
    """A predicted wait above this that no API relieves asks for replicas at once."""
    on_demand_floor: int = 0
    """Replicas above the reserved ones that are never spot."""
    insurance: float = 0.0
    """Share of what overflows that is reckoned to find no API, though it does today: replicas are
    kept for the day on which it does not. What is seen to be refused counts where it is more."""
    up_max: int = 8
    down_max: int = 4
    """Replicas added or taken away in one tick."""


class Budget(msgspec.Struct, frozen=True):
    """Bounds over all models together; None: unbounded."""

    hour_micro_max: int | None = None
    """Of all replicas that are not sunk, per hour."""
    day_micro_max: int | None = None
    """From 00:00 UTC."""
    replicas_max: int | None = None

    @property
    def is_bounded(self) -> bool:
        """Whether any of them is set."""
        bounds = (self.hour_micro_max, self.day_micro_max, self.replicas_max)
        return bounds != (None, None, None)


class Policy(msgspec.Struct, frozen=True):
    """All of it."""

    plans: tuple[Plan, ...]
    budget: Budget = Budget()
    trust: float = 0.5
    """How far a forecast may hasten or put off a switch, 0 to below 1. With 0 the account decides
    alone and its bound holds (3 for integer servers, Albers and Quedenfeld 2018)."""
    edge_least: float = 1.0
    """Least share of the model's figure that replicas may be learnt to do at their edge (`edge`);
    1: nothing is learnt, as in journals from before."""
