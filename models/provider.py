"""Third-party APIs as data: one YAML file each in `models/providers/`, strictly validated.

Prices are decimal strings in the provider's own currency per million tokens; unknown is an error
when the offering is used, free must be said (`free: true`).
"""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

FOLDER = Path(__file__).parent / "providers"
MESSAGE_CHARS_MAX = 2000
ErrorKind: TypeAlias = Literal[
    "connect", "timeout", "full", "rate_limit", "overloaded", "server_error", "account_dead",
    "key_dead", "target_dead", "quota_window", "content_filter", "context_too_long", "bad_request",
    "cut", "protocol",
]  # fmt: skip
"""What `serving.errors.Kind` knows: a rule that names another refuses to load."""
MicroPrice: TypeAlias = Annotated[Decimal, Field(ge=0, decimal_places=6)]
"""Exact in micro-units: nothing is rounded before there is usage to multiply with."""


class ProviderFileError(Exception):
    """A provider file is wrong; names the file and the key."""


class Group(BaseModel):
    """Frozen, and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ErrorRule(Group):
    """One line of the error table; the first that matches wins."""

    kind: ErrorKind
    """Value of `serving.errors.Kind`."""
    http: int | None = None
    code: re.Pattern[str] | None = None
    """Regular expression for the whole of the error's code or type."""
    message: re.Pattern[str] | None = None
    """Regular expression found anywhere in the error's message, in upper or lower case."""

    @field_validator("message", mode="before")
    @classmethod
    def _ignore_case(cls, text: Any) -> Any:
        return f"(?i:{text})" if isinstance(text, str) else text

    def matches(self, status: int, code: str, kind: str, message: str) -> bool:
        """Whether this rule is about that error. An error that came under a good status has none
        of its own: there code and message must tell."""
        if self.http is not None and self.http != status and (status >= 400 or self._is_by_status):
            return False
        if self.code is not None and not (self.code.fullmatch(code) or self.code.fullmatch(kind)):
            return False
        return self.message is None or bool(self.message.search(message[:MESSAGE_CHARS_MAX]))

    @property
    def _is_by_status(self) -> bool:
        return self.code is None and self.message is None


class Sold(Group):
    """One model as this provider sells it."""

    id: str
    weights: str | None = None
    """Hub id of the same open weights, when they are."""
    context_tokens: int = Field(ge=1)
    currency: Literal["CNY", "USD", "EUR"] = "USD"
    input_per_mtok: MicroPrice | None = None
    output_per_mtok: MicroPrice | None = None
    cached_per_mtok: MicroPrice | None = None
    free: bool = False
    source: str = Field(min_length=1)
    as_of: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")


class Provider(Group):
    """One API of the OpenAI dialect."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,40}$")
    name: str
    jurisdiction: str = Field(pattern=r"^[a-z]{2}$")
    operator: str
    base_url: str = Field(pattern=r"^https?://")
    api_key_env: str
    surfaces: tuple[Literal["chat", "completions", "embeddings", "rerank"], ...] = ("chat",)
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    drop_fields: tuple[str, ...] = ()
    """Standard members of a body that it does not honour."""
    extra_fields: tuple[str, ...] = ()
    """Members beyond the standard that it honours as our engines do."""
    first_token_s: float = Field(1.5, gt=0)
    """Expected; replaced by what is seen."""
    error_rules: tuple[ErrorRule, ...] = ()
    models: tuple[Sold, ...]


def micro(price: Decimal | None) -> int | None:
    """Currency per million tokens into micro-units per million tokens."""
    return None if price is None else int((price * 1_000_000).to_integral_exact())


def load(*folders: Path) -> dict[str, Provider]:
    """Rows by id; a later folder replaces rows of an earlier one. Raises ProviderFileError."""
    found: dict[str, Provider] = {}
    for folder in folders:
        rows: dict[str, Provider] = {}
        for path in sorted(folder.glob("*.yaml")):
            row = _read(path)
            if row.id in rows:
                raise ProviderFileError(f"{path}: id: {row.id!r} is given twice in this folder")
            rows[row.id] = row
        found |= rows
    return found


def _read(path: Path) -> Provider:
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Provider.model_validate(data)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ProviderFileError(f"{path}:\n  " + "\n  ".join(lines)) from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ProviderFileError(f"{path}: {error}") from None
