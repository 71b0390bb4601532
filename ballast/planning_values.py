"""What a plan assumes: a scenario file, strictly validated, every group with its source.

Money of a plan is in whole units of the scenario's currency, as floats: it is a forecast over
years, and nobody is billed by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeAlias, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ballast.messages import Said
from ballast.problem import ProblemError
from models.worded import Worded, checked, lines

FOLDER: Final = Path(__file__).parent / "scenarios"
FILE_BYTES_MAX: Final = 1 << 20
Currency: TypeAlias = Literal["CNY", "USD"]
Text: TypeAlias = Annotated[str, Field(min_length=1)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Amount: TypeAlias = Annotated[float, Field(ge=0, lt=1e12, allow_inf_nan=False)]
Positive: TypeAlias = Annotated[float, Field(gt=0, lt=1e12, allow_inf_nan=False)]
Lever: TypeAlias = Literal[
    "api price", "gpu price", "capacity", "requests", "output tokens", "people", "spread of demand"
]


class Group(BaseModel):
    """Frozen, and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Kind = TypeVar("Kind", bound=Group)


class Year(Group):
    """One year's load."""

    name: Text
    requests_per_month: Positive


class Request(Group):
    """The mean request."""

    prompt_tokens: int = Field(ge=1, le=1_000_000)
    output_tokens: int = Field(ge=1, le=1_000_000)
    cached_share: float = Field(0.0, ge=0, lt=1)
    """Of the prompt that a prefix cache holds already."""
    source: Text


class Shape(Group):
    """How demand moves over a week; weights against the mean."""

    hours: Annotated[tuple[Amount, ...], Field(min_length=24, max_length=24)]
    days: Annotated[tuple[Amount, ...], Field(min_length=7, max_length=7)]
    """From Monday on."""
    spread: float = Field(ge=0, le=3)
    """Deviation of demand over a minute from hour x day, against it."""
    source: Text

    @model_validator(mode="after")
    def _is_a_load(self) -> Self:
        if not (sum(self.hours) and sum(self.days)):
            raise ValueError(Said("plan.no_demand"))
        return self


class Goal(Group):
    """What callers are promised."""

    first_token_s: Positive
    per_token_s: Positive
    source: Text


class Api(Group):
    """The third party's price; without one, the cheapest row that sells the same weights."""

    input_per_mtok: Amount | None = None
    output_per_mtok: Amount | None = None
    currency: Currency = "CNY"
    source: Text

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.input_per_mtok is None) != (self.output_per_mtok is None):
            raise ValueError(Said("plan.both_prices"))
        return self


class Rent(Group):
    """The price of a GPU by the hour; without one, the median published offer."""

    terms: Literal["on_demand", "spot"] = "on_demand"
    gpu_hour: Positive | None = None
    currency: Currency = "CNY"
    ready_s: float = Field(180, ge=0, le=3600)
    """From order to service; paid."""
    loss: Share = 0.0
    """What scaling by need costs above the optimum in hindsight."""
    source: Text


class Commitment(Group):
    """A GPU paid for whether used or not."""

    name: Text
    months: int = Field(ge=1, le=60)
    discount: float = Field(ge=0, lt=1)
    """Off the hour's price."""


class Hosted(Group):
    """A GPU behind an endpoint that a cloud runs."""

    gpu_hour: Positive
    currency: Currency
    source: Text


class People(Group):
    """Engineers, beyond what pure API takes."""

    year_cost: Amount
    api: Amount = 0.0
    hosted: Amount
    hybrid: Amount
    own: Amount
    source: Text


class Swing(Group):
    """A factor's range, against what is assumed."""

    what: Lever
    low: Positive
    high: Positive


class Scenario(Group):
    """All of it."""

    title: Text
    currency: Currency = "CNY"
    years: Annotated[tuple[Year, ...], Field(min_length=1, max_length=10)]
    years_source: Text
    request: Request
    load: Shape
    model: Text
    gpus: Annotated[tuple[str, ...], Field(min_length=1)]
    objective: Goal
    capacity_factor: Positive = 1.0
    capacity_source: Text
    api: Api
    rent: Rent
    commitments: tuple[Commitment, ...] = ()
    commitments_source: Text
    hosted: Hosted
    people: People
    other_share: Share
    other_source: Text
    saving_wanted: Share
    saving_source: Text
    sensitivity: tuple[Swing, ...] = ()
    sensitivity_source: Text


def load(path: Path | None) -> Scenario:
    """A scenario file, or the packaged one. Raises ProblemError naming the key."""
    return read(path or FOLDER / "today.yaml", Scenario)


def read(path: Path, kind: type[Kind]) -> Kind:
    """One file as that kind. Raises ProblemError naming the key."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            what = Said("plan.too_large", path=path, bytes=FILE_BYTES_MAX)
            raise ProblemError(what, Said("plan.a_page"))
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ProblemError(f"{path}: {error}", Said("plan.yaml_file")) from None
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        found = lines(f"{path}:", [_said(one) for one in error.errors()])
        raise ProblemError(found, Said("plan.copy_today")) from None


def _said(error: Mapping[str, Any]) -> str:
    key = ".".join(map(str, error["loc"])) or "-"
    return Worded("settings.key", "{key}: {said}", key=key, said=checked(error))
