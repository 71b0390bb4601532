"""Where engines of ours are and whose law holds there."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from serving.records import DataLabel


class Group(BaseModel):
    """Frozen, and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Pool(Group):
    """Where our own engines stand."""

    jurisdiction: str = "cn"
    operator: str = "self"
    on_premises: bool = True

    @property
    def label(self) -> DataLabel:
        """As the router judges residency by it."""
        return DataLabel(self.jurisdiction, self.operator, self.on_premises)


class Stand(Pool):
    """Where one engine stands that is not where the others are: nothing goes without saying."""

    jurisdiction: str = Field(pattern="^[a-z]{2}$")
    operator: str = Field(min_length=1)
    on_premises: bool


class StaticReplica(Group):
    """An engine at a fixed address."""

    model: str
    url: str = Field(pattern=r"^http://([^@/?#:\s]+|\[[0-9a-f:]+\])(:\d{1,5})?(/[^?#\s]*)?$")
    """`http://host:port/prefix`"""
    limit: int = Field(256, ge=1)
    pool: Stand | None = None
    """Its own label; None: `fleet.pool`, like all that a Ray cluster lists."""
