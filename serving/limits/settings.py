"""Settings of limits: what may be asked for, and the Redis that rates are shared through."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from models.worded import Worded
from serving.settings_tree import SettingsError
from serving.settings_words import cannot_read

MOST = 10**12
_ALWAYS = frozenset({"requests_per_min", "tokens_per_min", "concurrent"})


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class AllowanceSettings(_Group):
    """How much may be asked for; 0 is no limit. Tokens are prompt and answer together."""

    requests_per_min: int = Field(0, ge=0, le=MOST)
    tokens_per_min: int = Field(0, ge=0, le=MOST)
    concurrent: int = Field(0, ge=0, le=MOST)
    """Calls under way at once."""
    requests_per_5h: int = Field(0, ge=0, le=MOST)
    """A plan: five hours from the first use on, then anew with the next; so are the others."""
    tokens_per_5h: int = Field(0, ge=0, le=MOST)
    requests_per_week: int = Field(0, ge=0, le=MOST)
    """Seven days."""
    tokens_per_week: int = Field(0, ge=0, le=MOST)
    requests_per_month: int = Field(0, ge=0, le=MOST)
    """Thirty days: a calendar month is a matter of bills, see budgets."""
    tokens_per_month: int = Field(0, ge=0, le=MOST)

    @model_serializer(mode="wrap")
    def _written(self, handler: SerializerFunctionWrapHandler) -> dict[str, int]:
        """Without plans that there are not: a row stays readable for gateways that know none."""
        rows: dict[str, int] = handler(self)
        return {name: value for name, value in rows.items() if value or name in _ALWAYS}


class RedisSettings(_Group):
    """Where rates are shared; nothing set counts in each process alone."""

    url: str = ""
    """`redis://host:6379/0`, `rediss://` with TLS, `unix:///path`. Never with a password."""
    password_file: Path | None = None
    """Read at the start."""
    password_env: str | None = None
    """Name of a variable; with neither there is none."""
    ca_file: Path | None = None
    """Of who signed the server's certificate; else the system's."""
    timeout_s: float = Field(0.25, gt=0, le=5)
    """Longer than any healthy answer on one network, short beside what a share of its own costs."""

    @field_validator("url")
    @classmethod
    def _keeps_no_password(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and parts.scheme not in ("redis", "rediss", "unix"):
            raise ValueError(
                Worded(
                    "settings.redis_url", "an address begins with redis://, rediss:// or unix://"
                )
            )
        if parts.password is not None or "password" in parts.query.lower():
            raise ValueError(
                Worded(
                    "settings.password",
                    "a password does not belong here: see password_file, password_env",
                )
            )
        return url

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if self.password_file is not None and self.password_env is not None:
            raise ValueError(
                Worded("settings.password_one", "name password_file or password_env, one of them")
            )
        return self

    def password(self, environ: Mapping[str, str] | None = None) -> str | None:
        """The password, if one is named. Raises SettingsError."""
        if self.password_file is not None:
            try:
                return self.password_file.read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                what = getattr(error, "strerror", None) or "not UTF-8"
                raise SettingsError(
                    cannot_read("redis.password_file", self.password_file, what)
                ) from None
        if self.password_env is not None:
            found: Any = (os.environ if environ is None else environ).get(self.password_env)
            if not found:
                template, name = "{key}: {name} is not set", self.password_env
                said = Worded("settings.env_not_set", template, key="redis.password_env", name=name)
                raise SettingsError(said)
            return str(found)
        return None
