"""How rollouts are driven and told of, and which names end when. Read by gateways (names that end)
and by the controller."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.worded import Worded
from serving.safe_url import is_safe_url

HTTPS = Worded("settings.https", "{name}: https, or http on this machine", name="url")
Word = Annotated[str, Field(min_length=1, max_length=1000)]


class Group(BaseModel):
    """Frozen, and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class GateSettings(Group):
    """Asked once, before the first step of each rollout; its no ends the rollout."""

    argv: tuple[Word, ...] = Field((), max_length=64)
    """A program of the controller's machine, run without a shell; `{name}`, `{old}` and `{new}` are
    filled in. Exit code 0 is yes."""
    url: str = Field("", max_length=2000)
    """Or an address: a POST of `{"name", "old", "new"}`; any status of 2xx is yes."""
    timeout_s: float = Field(900.0, gt=0, le=86_400)
    """An evaluation of a few hundred prompts takes minutes. No answer in time is a no."""

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.argv and self.url:
            raise ValueError(Worded("settings.argv_url", "name argv or url, not both"))
        if self.url and not is_safe_url(self.url):
            raise ValueError(HTTPS)
        return self


class HookSettings(Group):
    """Told of every change of a rollout, in order, at least once."""

    url: str = Field("", max_length=2000)
    secret_file: Path | None = None
    """Signs the body: `x-ballast-signature: sha256=<hex of HMAC-SHA-256>`. Must be named."""
    tries_max: int = Field(8, ge=1, le=100)
    """Of one change; then it is logged, counted and left out."""

    @model_validator(mode="after")
    def _is_signed(self) -> Self:
        if self.url and not is_safe_url(self.url):
            raise ValueError(HTTPS)
        if self.url and self.secret_file is None:
            raise ValueError(
                Worded("settings.secret_file", "secret_file: what is not signed could be anybody's")
            )
        return self


class Ending(Group):
    """A public name that will go."""

    deprecated: date
    """The day (UTC); answers name it before and after."""
    sunset: date | None = None
    """The name may be gone after this day; it is told, and nothing is switched off by it."""
    successor: str = Field("", max_length=200)
    """What to call instead."""

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if self.sunset is not None and self.sunset < self.deprecated:
            template = "sunset ({sunset}) is before deprecated ({deprecated})"
            dates = {"sunset": self.sunset, "deprecated": self.deprecated}
            raise ValueError(Worded("settings.sunset", template, **dates))
        return self


class RolloutSettings(Group):
    """All of it."""

    tick_s: float = Field(2.0, gt=0, le=60)
    """How often the controller looks at running rollouts: a bad canary is taken back about this
    long, and a drain of the ledger, after the call that was one too many."""
    gate: GateSettings = GateSettings()
    hook: HookSettings = HookSettings()
    endings: dict[str, Ending] = Field({}, max_length=1000)
    """By public name."""
