"""Settings of placement: policies, splits and rules by public name, ceilings, when to spill."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.worded import Worded
from serving.placement.margin import LATE, MOST
from serving.placement.values import PolicyName

Usd: TypeAlias = Annotated[Decimal, Field(ge=0, decimal_places=6, max_digits=15)]
Tier: TypeAlias = Literal[1, 2, 3]
Name: TypeAlias = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
"""It becomes a part of reasons, which are metric labels."""


class Group(BaseModel):
    """Frozen, and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Way(Group):
    """Where calls of one kind go."""

    name: Name
    toward: str = Field("", max_length=200)
    """`own`, or one of the model's offerings."""
    model: str = Field("", max_length=200)
    """Another of our models."""


class ArmSettings(Way):
    """One side of a split; with neither target nor model, as the policy decides."""

    percent: int = Field(ge=0, le=100)

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.toward and self.model:
            raise ValueError(
                Worded(
                    "settings.arm_one",
                    "arm {name}: name a model or a target to go toward, not both",
                    name=repr(self.name),
                )
            )
        return self


class RuleSettings(Way):
    """Calls of one kind go to another model, or toward a target; all that is said must hold."""

    tokens_min: int | None = Field(None, ge=0)
    """Of the prompt, as estimated from its bytes (an upper bound)."""
    tokens_max: int | None = Field(None, ge=0)
    has_tools: bool | None = None
    language: Literal["zh", "en", "other"] | None = None
    header: str = Field("", pattern=r"^([a-z0-9-]{1,64})?$")
    value: str = Field("", max_length=200)
    is_cascade: bool = False
    """Only while an engine of `model` could begin at once, so a small one first costs no time."""

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Self:
        if bool(self.model) == bool(self.toward):
            raise ValueError(
                Worded(
                    "settings.rule_one",
                    "rule {name}: name a model or a target to go toward, one",
                    name=repr(self.name),
                )
            )
        if self.is_cascade and not self.model:
            raise ValueError(
                Worded(
                    "settings.rule_cascade",
                    "rule {name}: a cascade begins at a model",
                    name=repr(self.name),
                )
            )
        if bool(self.header) != bool(self.value):
            raise ValueError(
                Worded(
                    "settings.rule_header",
                    "rule {name}: a header and its value belong together",
                    name=repr(self.name),
                )
            )
        return self


class CeilingSettings(Group):
    """What may go to third parties at most, of all gateways together; what would pass it stays at
    home. Budgets (0111) are the exact account."""

    share: float = Field(0.0, ge=0, le=1)
    """Of the model's tokens of the last hour; 0 is no bound."""
    hour_usd: Usd = Decimal(0)
    day_usd: Usd = Decimal(0)
    """Of the last 60 minutes and 24 hours, other currencies by their dated rate; 0 is no bound."""


class NameSettings(Group):
    """How calls to one public name are placed."""

    policy: PolicyName = PolicyName.LOCAL_FIRST
    shadow: PolicyName | None = None
    """Asked too, logged as `shadow`, never obeyed."""
    split: tuple[ArmSettings, ...] = Field((), max_length=16)
    """Percentages of sessions, else of end users, else of conversations."""
    rules: tuple[RuleSettings, ...] = Field((), max_length=64)
    """The first that holds counts, before the split."""
    second_usd: Usd = Decimal("0.001")
    """What a second less to the first token is worth to `latency-first`."""
    ceilings: CeilingSettings | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        ways: tuple[Way, ...] = (*self.split, *self.rules)
        names = [way.name for way in ways]
        if len(set(names)) < len(names):
            raise ValueError(Worded("settings.two_names", "two arms or rules have the same name"))
        if self.split and sum(arm.percent for arm in self.split) != 100:
            raise ValueError(
                Worded("settings.percentages", "the percentages of a split must add up to 100")
            )
        return self


class SpillSettings(Group):
    """When calls that would be in time leave all the same, because a queue does not end: predicted
    wait before prefill / the first-token time of class interactive."""

    enter: float = Field(0.8, gt=0)
    leave: float = Field(0.4, ge=0)
    after_s: float = Field(3.0, ge=0)
    """The pressure must be past its mark for so long, both ways."""

    @model_validator(mode="after")
    def _is_apart(self) -> Self:
        if self.leave >= self.enter:
            raise ValueError(Worded("settings.flaps", "leave must be below enter, or it flaps"))
        return self


class MarginSettings(Group):
    """How much surer than nine times of ten our engines must be to be in time, learnt by model and
    class from calls that were late. Calls that nobody else may take are not asked it."""

    late: float = Field(LATE, gt=0, le=0.1)
    """Share of the calls given to engines as in time that may be late."""
    most: float = Field(MOST, ge=0, le=4)
    """Largest margin, in spreads (p90 - p50) beyond p90; 0 turns it off."""


class Routing(Group):
    """All of it."""

    substitutes_max_tier: Tier = 1
    """For tenants that say nothing themselves: 1 the same weights (or where the model names no
    weights, what its owner lists), 2 also other weights, 3 also other sizes and families."""
    spill: SpillSettings = SpillSettings()
    margin: MarginSettings = MarginSettings()
    names: dict[str, NameSettings] = Field({}, max_length=1000)
    """By public name: a model's, an alias's or an adapter's."""
