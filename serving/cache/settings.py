"""The settings of the cache, as `cache:` in the settings file. Nothing is kept unless asked for."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.worded import Worded


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Kept(_Group):
    """Whose whole answers are kept."""

    tenant: str = Field(min_length=1)
    """Its customers' too, each apart."""
    models: tuple[str, ...] = ()
    """Names or aliases as calls name them; empty is all."""


class CacheSettings(_Group):
    """What is kept in the memory of each process, and how long."""

    inputs_bytes_max: int = Field(0, ge=0)
    """For vectors and scores, by input; 0 keeps none. A vector of 1,024 numbers takes some 20 KB as
    text, 5.5 KB in base64: 256 MiB hold 13,000 or 48,000."""
    inputs_ttl_s: float = Field(86_400.0, gt=0)
    """They do not age while weights stay; this bounds how long a tenant's data lies about."""
    answers_bytes_max: int = Field(64 << 20, ge=0)
    """For whole answers, of those in `answers`."""
    answers_ttl_s: float = Field(3600.0, gt=0)
    answers: tuple[Kept, ...] = ()
    answer_bytes_max: int = Field(1 << 20, ge=1)
    """A longer answer is not kept."""
    is_shared: bool = False
    """Also in Redis (`redis.url`), for all processes."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [one.tenant for one in self.answers]
        if len(set(names)) < len(names):
            raise ValueError(Worded("settings.cache_answers", "answers: name each tenant once"))
        return self
