"""What the admin API's requests may hold. Values and bounds only; rules stand in `commands`."""

# No `from __future__ import annotations`: FastAPI and pydantic read these at run time.
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from serving.directory.values import WHY_CHARS_MAX
from serving.limits.settings import AllowanceSettings
from serving.placement.settings import Tier
from serving.records import Exposure, LatencyClass, Overflow, Role
from serving.settings import MANY, Country, Group, Words

Scope = Literal["all", "model", "tenant", "provider", "jurisdiction"]
Residency = Literal["premises", "mainland", "named", "anywhere"]
Id = Annotated[Words, Field(max_length=200)]
Why = Annotated[Words, Field(max_length=WHY_CHARS_MAX)]
Models = Annotated[tuple[Id, ...], Field(max_length=MANY)]


class NewTenant(Group):
    """A tenant to be. Its residency must be said."""

    id: Id
    residency: Residency
    jurisdictions: tuple[Country, ...] = Field((), max_length=MANY)
    substitutes_max_tier: Tier | None = None
    allowance: AllowanceSettings | None = None
    customer_allowance: AllowanceSettings | None = None


class TenantChange(Group):
    """What may change; left out stays as it is, null takes an allowance away."""

    residency: Residency | None = None
    jurisdictions: tuple[Country, ...] | None = Field(None, max_length=MANY)
    is_suspended: bool | None = None
    substitutes_max_tier: Tier | None = None
    allowance: AllowanceSettings | None = None
    customer_allowance: AllowanceSettings | None = None


class NewProject(Group):
    """A project to be."""

    tenant: Id
    name: Id
    environment: Literal["prod", "dev", "test"] = "prod"
    owner: Words = Field("", max_length=200)
    allowance: AllowanceSettings | None = None


class KeyTerms(Group):
    """What a key may do. Left out is the default, or stays as it is; null takes an expiry, an
    allow-list, an allowance or an overflow rule away."""

    feature: str | None = Field(None, max_length=200)
    overflow: Overflow | None = None
    latency_class: LatencyClass | None = None
    exposure: Exposure | None = None
    models: Models | None = None
    is_load_test: bool | None = None
    is_canary: bool | None = None
    is_forwarder: bool | None = None
    allowance: AllowanceSettings | None = None
    expires: datetime | None = None
    """With its time zone."""


class NewKey(KeyTerms):
    """A key to be."""

    id: Id
    tenant: Id
    project: Id = "default"


class NewRequest(Group):
    """A key that is asked for, and what for."""

    key: Id
    """The id it is to have."""
    tenant: Id = ""
    """Left out it is the API key's own."""
    project: Id = "default"
    feature: str = Field("", max_length=200)
    overflow: Overflow = Overflow.ALLOWED
    latency_class: LatencyClass = LatencyClass.INTERACTIVE
    models: Models | None = None
    expires: AwareDatetime | None = None
    why: Why = Field(min_length=1)


class NewAdministrator(Group):
    """An administrator to be."""

    id: Id
    role: Role
    expires: datetime | None = None
    tenants: tuple[Id, ...] | None = Field(None, max_length=MANY)


class NewSwitch(Group):
    """A switch to throw."""

    scope: Scope
    value: Words = Field("", max_length=200)
    why: Why = Field(min_length=1)
