"""Third-party APIs as data: one YAML file each in `models/providers/`, strictly validated.

Everything a row says is a fact with a source and a date; what nobody has read at a source is
unknown and says so. A model without a price or a context is not sold until the operator names it.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from models.batch_price import BatchPrice, derived
from models.hearing import AudioFormat, Hearing
from models.provider_facts import UNKNOWN, Auth, Facts, Limits, Prefix, Processing, Retired
from models.tariff import Exceptional, MicroPrice, micro
from models.thinking import SWITCHES, Thinking

__all__ = [
    "FOLDER", "ErrorKind", "ErrorRule", "MicroPrice", "Provider", "ProviderFileError", "Sold",
    "load", "micro",
]  # fmt: skip
FOLDER = Path(__file__).parent / "providers"
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml: a tenth of the time
MESSAGE_CHARS_MAX = 2000
DAY = r"^\d{4}-\d\d-\d\d$"
ErrorKind: TypeAlias = Literal[
    "connect", "timeout", "full", "rate_limit", "overloaded", "server_error", "account_dead",
    "key_dead", "target_dead", "quota_window", "content_filter", "context_too_long", "bad_request",
    "cut", "protocol",
]  # fmt: skip
"""What `serving.errors.Kind` knows: a rule that names another refuses to load."""
Member: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.=]*$")]


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
    context_tokens: int | None = Field(ge=1)
    """None is unknown: not offered until the operator says."""
    output_tokens_max: int | None = Field(None, ge=1)
    currency: Literal["CNY", "USD", "EUR"] = "USD"
    input_per_mtok: MicroPrice | None = None
    output_per_mtok: MicroPrice | None = None
    cached_per_mtok: MicroPrice | None = None
    exceptions: tuple[Exceptional, ...] = ()
    """Where other prices hold: large prompts, hours, days to come. The first that matches wins."""
    free: bool = False
    drop_fields: tuple[Member, ...] = ()
    """Beyond those of the provider."""
    sees: bool = False
    sees_source: str = ""
    """Takes pictures, and by what source and day; false also where nobody has read it."""
    audio_formats: tuple[AudioFormat, ...] = ()
    """In which it says a text aloud, and nothing else; context and prices count letters (0138)."""
    hearing: Hearing | None = None  # it writes down what is said, and does nothing else (0141)
    limits: Limits | None = None
    retires: str | None = Field(None, pattern=DAY)
    """The day on which it will be withdrawn, as announced."""
    confidence: Literal["high", "medium", "low"] = "medium"
    """Of the price: two sources agree; one machine-readable source; inferred or third party."""
    source: str = Field(min_length=1)
    as_of: str = Field(pattern=DAY)

    @model_validator(mode="after")
    def _free_is_free(self) -> Self:
        if self.free and (self.input_per_mtok or self.output_per_mtok or self.exceptions):
            raise ValueError("free, and with a price: one of them is wrong")
        if self.audio_formats and (self.output_per_mtok or self.cached_per_mtok):
            raise ValueError("audio_formats: what is said aloud is priced by its text alone")
        if (told := self.hearing) and (
            self.audio_formats or (told.by == "time" and self.input_per_mtok is not None)
        ):
            raise ValueError("hearing: beside audio_formats, or beside prices of tokens")
        return self


class Provider(Group):
    """One API."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,40}$")
    name: str
    jurisdiction: str = Field(pattern=r"^[a-z]{2}$")
    """Country where data is processed, as far as the provider binds itself; `zz` where it does
    not: only tenants whose data may go anywhere are admitted then."""
    operator: str
    processing: Processing | None = None
    dialect: Literal["openai", "minimax", "mistral", "anthropic", "gemini"] = "openai"
    base_url: str = Field(pattern=r"^https?://")
    """Braces stand for what the account's owner fills in."""
    path: str | None = Field(None, pattern=r"^/")
    """Of chats, where it is not the dialect's own; `{model}` is the model's name there."""
    query: dict[str, str] = {}
    auth: Auth = Auth()
    headers: dict[str, str] = {}
    api_key_env: str
    surfaces: tuple[Literal["chat", "completions", "embeddings", "rerank"], ...] = ("chat",)
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    drop_fields: tuple[Member, ...] = ()
    """Standard members of a body that it does not honour; `name=value` for one value of one."""
    extra_fields: tuple[Member, ...] = ()
    """Members beyond the standard that it honours as our engines do."""
    rename_fields: dict[Member, Member] = {}
    rename_values: dict[Member, dict[str, str]] = {}
    """By member: its spelling of a value."""
    set_fields: dict[Member, Any] = {}
    """Members that every body gets."""
    thinking: Thinking | None = None
    prefix: Prefix | None = None
    """None: it has no such mode, or nobody has read of one."""
    stream_usage: Literal["asked", "always"] = "asked"
    """`always`: usage comes unasked, and `stream_options` is refused."""
    error_shape: Literal["openai", "flat", "base_resp", "anthropic", "google"] = "openai"
    first_token_s: float = Field(1.5, gt=0)
    """Expected; replaced by what is seen."""
    wait_s: float | None = Field(None, gt=0)
    """An answer's first content may take so long; None: no longer than anybody's."""
    vendor: str = ""
    """The row whose batch price this one is: it takes lines of batches alone, and is stopped with
    that one. Empty: a row of its own."""
    batch: BatchPrice | None = None
    """None: it sells no such price, or nobody has read of one."""
    error_rules: tuple[ErrorRule, ...] = ()
    facts: Facts = UNKNOWN
    notes: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()
    models: tuple[Sold, ...]
    retired: tuple[Retired, ...] = ()
    any_model: bool = False
    """Sells what the account's owner says it does, at the owner's terms."""

    @field_validator("extra_fields")
    @classmethod
    def _no_switch(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if odd := sorted(set(names) & set(SWITCHES)):
            raise ValueError(f"{', '.join(odd)}: say it as `thinking`, which all spellings become")
        return names

    @model_validator(mode="after")
    def _can_say_it(self) -> Self:
        if self.dialect in ("anthropic", "gemini") and self.surfaces != ("chat",):
            raise ValueError(f"surfaces: the {self.dialect} dialect has chats only")
        if self.dialect != "openai" and self.prefix is not None:
            raise ValueError(f"prefix: not in the {self.dialect} dialect")
        if self.dialect != "openai" and any(s.audio_formats or s.hearing for s in self.models):
            raise ValueError(f"audio_formats, hearing: not in the {self.dialect} dialect")
        return self

    @model_validator(mode="after")
    def _names_are_one(self) -> Self:
        sold = [model.id for model in self.models]
        gone = [model.id for model in self.retired]
        twice = sorted({name for name in sold + gone if (sold + gone).count(name) > 1})
        if twice:
            raise ValueError(f"models: named twice: {', '.join(twice)}")
        odd = [r.successor for r in self.retired if r.successor and r.successor not in sold]
        if odd:
            raise ValueError(f"retired: successor not among models: {', '.join(odd)}")
        if self.batch is not None and (unsold := self.batch.odd(set(sold))):
            raise ValueError(f"batch: not among models: {unsold}")
        return self

    def withdrawn(self, model: str, day: date) -> str | None:
        """Why a model is not sold on a day; None where it is, or is not known at all."""
        for row in self.retired:
            if row.id == model:
                hint = f"; its successor is {row.successor!r}" if row.successor else ""
                return f"{self.id} withdrew {model!r} on {row.on}{hint}"
        for sold in self.models:
            if sold.id == model and sold.retires and sold.retires <= day.isoformat():
                return f"{self.id} announced to withdraw {model!r} on {sold.retires}"
        return None


def load(*folders: Path) -> dict[str, Provider]:
    """Rows by id; a later folder replaces rows of an earlier one. What sells single calls at its
    batch price has a row more, unless a file says otherwise. Raises ProviderFileError."""
    found: dict[str, Provider] = {}
    for folder in folders:
        rows: dict[str, Provider] = {}
        for path in sorted(folder.glob("*.yaml")):
            row = _read(path)
            if row.id in rows:
                raise ProviderFileError(f"{path}: id: {row.id!r} is given twice in this folder")
            rows[row.id] = row
        found |= rows
    more = filter(None, map(derived, found.values()))
    return {row.id: row for row in more} | found


def _read(path: Path) -> Provider:
    try:
        data: Any = yaml.load(path.read_text(encoding="utf-8"), _LOADER)  # noqa: S506 - both safe
        return Provider.model_validate(data)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ProviderFileError(f"{path}:\n  " + "\n  ".join(lines)) from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ProviderFileError(f"{path}: {error}") from None
