"""What a buyer must know of a provider beyond prices: each a fact with its source, or unknown;
and how its keys are shown."""

from __future__ import annotations

from typing import Generic, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")
Unknown: TypeAlias = Literal["unknown"]


class Group(BaseModel):
    """Frozen, and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Sourced(Group, Generic[T]):
    """A value, where it was read and when."""

    value: T
    source: str = Field(min_length=1)
    as_of: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")


class Limits(Group):
    """What the provider allows one account for one model; None where nobody has read it."""

    requests_per_min: int | None = Field(None, ge=1)
    tokens_per_min: int | None = Field(None, ge=1)
    concurrent: int | None = Field(None, ge=1)
    source: str = Field(min_length=1)


class Facts(Group):
    """For compliance and purchase. Packaged rows say each, if only that it is unknown."""

    filing_no: Sourced[str] | Unknown = "unknown"
    """Of the mainland's registration of generative services."""
    trains_on_data: Sourced[bool] | Unknown = "unknown"
    """Whether it may train on what an API call holds, by default."""
    retention_days: Sourced[int] | Unknown = "unknown"
    certs: Sourced[tuple[str, ...]] | Unknown = "unknown"
    sla_percent: Sourced[float] | Unknown = "unknown"
    """Promised availability of a month."""
    free_tier: Sourced[str] | Unknown = "unknown"
    """What a new account gets for nothing; capacity is never planned on it."""


UNKNOWN = Facts()


class Processing(Group):
    """Where a provider works on data: its own words, which `jurisdiction` sums up."""

    law: str = Field(min_length=1)
    """Whose law the operator answers to."""
    regions: tuple[str, ...] = ()
    note: str = ""
    source: str = Field(min_length=1)
    as_of: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")


class Prefix(Group):
    """It goes on with an answer begun elsewhere: the last message is the assistant's, and marked.
    Thinking must be off."""

    member: Literal["partial", "prefix"]
    """Of that message, set to true."""
    path: str | None = Field(None, pattern=r"^/")
    """Where such chats go, if not where all do."""
    source: str = Field(min_length=1)
    as_of: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")


class Retired(Group):
    """A name that is no longer sold."""

    id: str
    on: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")
    successor: str | None = None
    """None where the provider named none."""
    source: str = Field(min_length=1)


class Auth(Group):
    """How a key is shown."""

    header: str = Field("authorization", pattern=r"^[a-z][a-z0-9-]*$")
    scheme: str = "Bearer"
    """Word before the key; empty for none."""
    is_short_lived: bool = False
    """A token that somebody renews in a file: an environment variable would go stale."""
