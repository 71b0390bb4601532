"""A budget as the directory stores it: whose money, how much in which period, and what its owner
wants done as it runs out. Values and bounds only.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import AwareDatetime, Field, field_validator, model_validator

from models.worded import Worded
from serving.budgets.period import DEFAULT, zone
from serving.budgets.settings import MICRO_MAX, Currency, Period
from serving.settings import NAME, Group, ModelName, Words

STEPS_MAX, RAISES_MAX, BUDGETS_MAX = 8, 20, 1000
WAIT_S_MAX = 600.0
Kind = Literal["hard", "soft"]
Action = Literal["smaller_model", "local_only", "queue_longer", "refuse"]


class Step(Group):
    """What is done from a share of the limit on. Later steps come on top of earlier ones."""

    at_share: float = Field(ge=0, le=10)
    """Spent / limit, with raises: 0.8 is 80 %."""
    action: Action
    model: ModelName = ""
    """Answers instead, with `smaller_model`: our name of it."""
    wait_s: float = Field(0.0, ge=0, le=WAIT_S_MAX)
    """First token may take so long, with `queue_longer`: a queue is preferred to a paid API."""

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if (self.action == "smaller_model") != bool(self.model):
            raise ValueError(
                Worded("budget.model", "`model` goes with smaller_model, and only there")
            )
        if (self.action == "queue_longer") != (self.wait_s > 0):
            raise ValueError(
                Worded("budget.wait", "`wait_s` goes with queue_longer, and only there")
            )
        return self


class Raise(Group):
    """More for a while."""

    micro: int = Field(gt=0, le=MICRO_MAX)
    until: AwareDatetime
    by: str
    at_ms: int
    why: str = ""


class Budget(Group):
    """Scope members that are empty hold for any; with several set, all must fit."""

    id: str = Field(pattern=f"^{NAME}$")
    tenant: str = Field("", pattern=f"^({NAME}(/{NAME})?)?$")
    """A forwarder's covers its customers too."""
    project: str = Field("", pattern=f"^({NAME})?$")
    model: ModelName = ""
    """Our name of the model that answers."""
    provider: str = Field("", pattern=f"^({NAME})?$")
    period: Period = "month"
    time_zone: str = Field(DEFAULT, max_length=64)
    """Where the period begins at midnight or on the hour, by its IANA name."""
    currency: Currency = "CNY"
    limit_micro: int = Field(ge=0, le=MICRO_MAX)
    kind: Kind = "hard"
    """`hard` stops paid calls; `soft` only warns, and does what its ladder says."""
    ladder: tuple[Step, ...] = Field((), max_length=STEPS_MAX)
    raises: tuple[Raise, ...] = Field((), max_length=RAISES_MAX)
    created_by: Words
    created_ms: int
    """Nothing spent before it counts."""

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        zone(name)
        return name

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        if self.project and not self.tenant:
            raise ValueError(Worded("budget.project", "a project needs its tenant"))
        shares = [step.at_share for step in self.ladder]
        if shares != sorted(shares):
            raise ValueError(
                Worded("budget.ladder", "the ladder's steps stand in the order of their shares")
            )
        if self.provider and any(step.action != "local_only" for step in self.ladder):
            raise ValueError(
                Worded(
                    "budget.provider", "a provider's budget only keeps calls from it: local_only"
                )
            )
        return self

    @property
    def scope(self) -> str:
        """What kind of budget it is, for people and metrics."""
        names = ("tenant", "project", "model", "provider")
        said = [name for name in names if getattr(self, name)]
        return "+".join(said[1:] if said[:2] == ["tenant", "project"] else said) or "all"

    def limit_at(self, now_ms: int) -> int:
        """The limit with what is raised now, micro-units."""
        return self.limit_micro + sum(r.micro for r in self.raises if is_good(r, now_ms))


def is_good(one: Raise, now_ms: int) -> bool:
    """Whether a raise still counts."""
    return one.until.timestamp() * 1e3 > now_ms
