"""What the autoscaler may rent and spend. Read by the controller alone."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.worded import Worded

Currency: TypeAlias = Literal["CNY", "USD", "EUR"]
Money: TypeAlias = Annotated[Decimal, Field(ge=0, decimal_places=6, max_digits=18)]
DAY_MINUTES = 1440


class Group(BaseModel):
    """Frozen, and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RentPool(Group):
    """Replicas of one model on one set of terms."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    model: str
    """A name of `models`."""
    terms: Literal["on_demand", "spot", "reserved"] = "on_demand"
    gpu: str = Field("", max_length=64)
    provider: str = Field("", max_length=64)
    jurisdiction: str = Field("", pattern="^([a-z]{2})?$")
    hour: Money
    """Price of one replica (all its GPUs) for an hour, in `scaling.currency`. Of a reserved one it
    is sunk: paid whether it runs or not. Free must be said: 0."""
    is_hourly: bool = False
    """Every started hour is charged whole."""
    capacity: float = Field(1.0, gt=0, le=64)
    """Work per second against a replica of the model's own profile."""
    ready_s: float = Field(180.0, ge=1, le=3600)
    """First guess of the time from order to service."""
    least: int = Field(0, ge=0, le=1000)
    most: int = Field(1, ge=0, le=1000)
    tenant: str = Field("", max_length=64)
    """Pays for it alone: kept at `least`."""

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if self.least > self.most:
            template = "least ({least}) is above most ({most})"
            least, most = self.least, self.most
            raise ValueError(Worded("settings.least_most", template, least=least, most=most))
        return self


class Schedule(Group):
    """Bounds of one model in a part of the week; the last that matches counts."""

    model: str
    days: tuple[Annotated[int, Field(ge=0, le=6)], ...] = (0, 1, 2, 3, 4, 5, 6)
    """0 is Monday."""
    from_minute: int = Field(0, ge=0, lt=DAY_MINUTES)
    until_minute: int = Field(DAY_MINUTES, ge=0, le=DAY_MINUTES)
    """Exclusive; below `from_minute`: ends on the next day."""
    least: int = Field(0, ge=0, le=1000)
    most: int | None = Field(None, ge=0, le=1000)


class Scaling(Group):
    """All of it. Without pools replicas are only ever added, when calls find no place."""

    pools: tuple[RentPool, ...] = Field((), max_length=256)
    schedules: tuple[Schedule, ...] = Field((), max_length=256)
    jurisdictions: tuple[Annotated[str, Field(pattern="^[a-z]{2}$")], ...] = Field(
        (), max_length=64
    )
    """Where machines may be rented, as pools name it; empty: anywhere."""
    currency: Currency = "USD"
    hour_max: Money | None = None
    """Rent of all models per hour, reserved machines left out. None: unbounded."""
    day_max: Money | None = None
    """From 00:00 UTC. What is left must last an hour, so it is never passed."""
    replicas_max: int | None = Field(None, ge=0, le=1_000_000)
    utc_offset_minutes: int = Field(0, ge=-720, le=840)
    """Of the schedules, and of the day that a reserved machine's month ends."""
    wait_s_max: float = Field(5.0, gt=0, le=86_400)
    """A longer predicted wait that no API relieves asks for replicas at once."""
    insurance: float = Field(0.0, ge=0, le=1)
    """Share of what overflows that is reckoned to find no API on the day it fails: the more, the
    more replicas stand ready for that. 0: what has been seen counts alone (docs/autoscaler.md has
    what each tenth costs)."""
    edge_least: float = Field(0.5, gt=0, le=1)
    """Replicas that are seen to do less than the capacity model says while calls overflow are
    reckoned with as much as they do, down to this share; 1: always with the model's figure."""
    on_demand_floor: int = Field(0, ge=0, le=1000)
    """Replicas of each model, above the reserved ones, that are never spot."""
    up_max: int = Field(8, ge=1, le=1000)
    down_max: int = Field(4, ge=1, le=1000)
    """Added or taken away in one tick."""
    trust: float = Field(0.5, ge=0, lt=1)
    """How far a forecast may hasten or put off a decision (0118)."""
    batch: int = Field(64, ge=1, le=100_000)
    """Sequences of a full replica, from which the work of a token is computed."""

    @model_validator(mode="after")
    def _has_distinct_names(self) -> Self:
        names = [(pool.model, pool.name) for pool in self.pools]
        if len(set(names)) < len(names):
            raise ValueError(
                Worded("settings.two_pools", "pools: two pools of one model have the same name")
            )
        return self
