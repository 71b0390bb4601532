"""What the admin API's requests may hold. Values and bounds only; rules stand in `commands`."""

# No `from __future__ import annotations`: FastAPI and pydantic read these at run time.
from datetime import datetime
from typing import Literal

from pydantic import Field

from serving.directory.values import WHY_CHARS_MAX
from serving.records import Exposure, LatencyClass, Overflow, Role
from serving.settings import AllowanceSettings, Group

Scope = Literal["all", "model", "tenant", "provider", "jurisdiction"]


class NewTenant(Group):
    """A tenant to be. Its residency must be said."""

    id: str
    residency: Literal["premises", "mainland", "named", "anywhere"]
    jurisdictions: tuple[str, ...] = ()
    allowance: AllowanceSettings | None = None
    customer_allowance: AllowanceSettings | None = None


class TenantChange(Group):
    """What may change; left out stays as it is."""

    residency: Literal["premises", "mainland", "named", "anywhere"] | None = None
    jurisdictions: tuple[str, ...] | None = None
    is_suspended: bool | None = None
    allowance: AllowanceSettings | None = None
    customer_allowance: AllowanceSettings | None = None


class NewProject(Group):
    """A project to be."""

    tenant: str
    name: str
    environment: Literal["prod", "dev", "test"] = "prod"
    owner: str = ""
    allowance: AllowanceSettings | None = None


class KeyTerms(Group):
    """What a key may do; left out is the default, or stays as it is."""

    feature: str | None = None
    overflow: Overflow | None = None
    latency_class: LatencyClass | None = None
    exposure: Exposure | None = None
    models: tuple[str, ...] | None = None
    is_load_test: bool | None = None
    is_forwarder: bool | None = None
    allowance: AllowanceSettings | None = None
    expires: datetime | None = None
    """With its time zone."""


class NewKey(KeyTerms):
    """A key to be."""

    id: str
    tenant: str
    project: str = "default"


class NewAdministrator(Group):
    """An administrator to be."""

    id: str
    role: Role
    expires: datetime | None = None


class NewSwitch(Group):
    """A switch to throw."""

    scope: Scope
    value: str = ""
    why: str = Field(min_length=1, max_length=WHY_CHARS_MAX)
