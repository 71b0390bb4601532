"""Third-party APIs as data: one YAML file each in `models/providers/`, strictly validated.

Prices are decimal strings in the provider's own currency per million tokens; unknown is an error
when the offering is used, free must be said (`free: true`).
"""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

FOLDER = Path(__file__).parent / "providers"
MESSAGE_CHARS_MAX = 2000


class ProviderFileError(Exception):
    """A provider file is wrong; names the file and the key."""


class Group(BaseModel):
    """Frozen, and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ErrorRule(Group):
    """One line of the error table; the first that matches wins."""

    kind: str
    """Value of `serving.errors.Kind`."""
    http: int | None = None
    code: str | None = None
    """Regular expression for the whole of the error's code or type."""
    message: str | None = None
    """Regular expression found anywhere in the error's message."""

    def matches(self, status: int, code: str, kind: str, message: str) -> bool:
        """Whether this rule is about that error."""
        if self.http is not None and self.http != status:
            return False
        if self.code is not None and not (
            re.fullmatch(self.code, code) or re.fullmatch(self.code, kind)
        ):
            return False
        return self.message is None or bool(
            re.search(self.message, message[:MESSAGE_CHARS_MAX], re.IGNORECASE)
        )


class Sold(Group):
    """One model as this provider sells it."""

    id: str
    weights: str | None = None
    """Hub id of the same open weights, when they are."""
    context_tokens: int = Field(ge=1)
    currency: Literal["CNY", "USD", "EUR"] = "USD"
    input_per_mtok: Decimal | None = None
    output_per_mtok: Decimal | None = None
    cached_per_mtok: Decimal | None = None
    free: bool = False
    source: str
    as_of: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")


class Provider(Group):
    """One API of the OpenAI dialect."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,40}$")
    name: str
    jurisdiction: str = Field(pattern=r"^[a-z]{2}$")
    operator: str
    base_url: str = Field(pattern=r"^https?://")
    api_key_env: str
    surfaces: tuple[Literal["chat", "completions"], ...] = ("chat",)
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    drop_fields: tuple[str, ...] = ()
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
        for path in sorted(folder.glob("*.yaml")):
            row = _read(path)
            found[row.id] = row
    return found


def _read(path: Path) -> Provider:
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Provider.model_validate(data)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ProviderFileError(f"{path}:\n  " + "\n  ".join(lines)) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ProviderFileError(f"{path}: {error}") from None
