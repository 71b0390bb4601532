"""What every file of facts is made of: frozen groups, and blocks that name their sources."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _iso_date(value: Any) -> Any:
    # YAML reads a bare day as a date.
    return value.isoformat() if type(value) is date else value


Listed: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""One string or a list of them."""
IsoDate: TypeAlias = Annotated[
    str, BeforeValidator(_iso_date), Field(pattern=r"^\d{4}-\d\d(-\d\d)?$")
]
"""A day, or a month where the day is not known."""
Positive: TypeAlias = Annotated[int, Field(ge=1)]


class Group(BaseModel):
    """Frozen, and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Source(Group):
    """Where facts come from."""

    title: str
    date: IsoDate
    """The day it was read or its state of that day, the later one if both are known."""
    url: str = ""
    doubt: str = ""
    """Why its facts need another look; empty for a source that was read."""


class Sourced(Group):
    """A block of facts with the keys of `sources.yaml` that it was taken from."""

    source: Listed = Field(min_length=1)
    unknown: Listed = ()
    """Facts of this block that nobody has published as far as we found."""
