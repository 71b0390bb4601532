"""Settings of the third-party APIs that are switched on: key, address, proxy, contract."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from models.hearing import AudioFormat, Hearing

Money: TypeAlias = Annotated[Decimal, Field(ge=0, decimal_places=6)]


class Group(BaseModel):
    """As all settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Terms(Group):
    """What this account's contract says of one model; it wins over the row. A price given here
    holds at all hours and sizes."""

    deployment: str | None = Field(None, pattern=r"^[\w.:-]{1,128}$")
    """The model's name at the provider, where the account gives it one (Azure, Ark endpoints)."""
    context_tokens: int | None = Field(None, ge=1)
    output_tokens_max: int | None = Field(None, ge=1)
    sees: bool | None = None
    """Whether it takes pictures, where the row does not know."""
    audio_formats: tuple[AudioFormat, ...] = ()
    """Of a model that says texts aloud, where the row does not know it: `[mp3, wav]`. Context and
    price then count characters; output_per_mtok is 0."""
    hearing: Hearing | None = None
    """Of a model that writes down what is said, where the row does not know it; its `per_hour`
    stands for the other prices."""
    currency: Literal["CNY", "USD", "EUR"] | None = None
    input_per_mtok: Money | None = None
    """Per million tokens, exact to a millionth."""
    output_per_mtok: Money | None = None
    cached_per_mtok: Money | None = None
    as_of: str = Field("", pattern=r"^(\d{4}-\d\d-\d\d)?$")
    """Day of the contract or of the look at the price list."""

    @model_validator(mode="after")
    def _whole_price(self) -> Self:
        given = [self.currency, self.input_per_mtok, self.output_per_mtok]
        if self.hearing is not None and self.hearing.per_hour is not None:
            given = [self.currency, self.hearing.per_hour]
        has_price = any(part is not None for part in (*given, self.cached_per_mtok))
        if has_price and (None in given or not self.as_of):
            raise ValueError("a price is currency, input_per_mtok, output_per_mtok and as_of")
        return self


class ProviderAccess(Group):
    """Switches a row of `models/providers/` on."""

    id: str
    base_url: str | None = None
    """Replaces the row's."""
    address: dict[str, str] = {}
    """Fills the braces of the row's address: `{resource: acme}`."""
    jurisdiction: str | None = Field(None, pattern="^[a-z]{2}$")
    """Where this account's data is processed, when its contract binds the provider to a place."""
    api_key_env: str | None = None
    api_key_file: Path | None = None
    """Read anew when it changes: keys are rotated, tokens renewed."""
    proxy: str | None = None
    """Way out for this provider alone, `http://host:port`. Without one the connection is direct,
    whatever the environment says."""
    paid_by: Literal["cash", "credit", "prepaid"] = "cash"
    """What the account pays with; grants that cover a part of it are told to `ballast money`."""
    models: dict[str, Terms] = {}

    @field_validator("proxy")
    @classmethod
    def _names_a_proxy(cls, proxy: str | None) -> str | None:
        if proxy is None:
            return None
        parts = urlsplit(proxy)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise ValueError("a proxy is http://host:port")
        if parts.username or parts.password:
            raise ValueError("a proxy that wants a password is not supported: it would stand here")
        return proxy

    @field_validator("address")
    @classmethod
    def _fits_an_address(cls, address: dict[str, str]) -> dict[str, str]:
        odd = [
            k for k, v in address.items() if not v or not all(c.isalnum() or c in "-._" for c in v)
        ]
        if odd:
            raise ValueError(f"{', '.join(odd)}: letters, digits, dots and dashes only")
        return address
