"""A rollout as a row of the directory. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from models.worded import Worded
from serving.settings import Group, ModelName, Words

State: TypeAlias = Literal["running", "paused", "done", "rolled_back", "aborted"]
CANARY = (1, 5, 25, 50, 100)
BLUE_GREEN = (100,)
CARRYING: frozenset[State] = frozenset({"running", "paused", "done"})
"""States in which the weight of the step counts; in the others all calls are the old model's."""


class Checks(Group):
    """What a step must show."""

    calls_min: int = Field(50, ge=1, le=1_000_000)
    """Ended calls of the new model before a step may pass."""
    hold_s: float = Field(300.0, ge=0, le=604_800)
    """A step lasts at least this long, whatever it shows: some faults need time."""
    deadline_s: float = Field(3600.0, gt=0, le=2_592_000)
    """A step that has not passed by then is paused, or taken back where calls do not come back."""
    error_max: float = Field(0.01, ge=0, lt=1)
    """Share of errors that is nobody's alarm. Above it, and above the old model's, is burn."""
    late_max: float = Field(0.05, ge=0, lt=1)
    """The same of calls whose first token came after their class's deadline."""
    error_hard: float = Field(0.5, gt=0, le=1)
    """From this share on no comparison is asked."""
    hard_calls_min: int = Field(5, ge=1, le=1_000_000)
    """Fewer calls are no ground to take anything back."""


class Rollout(Group):
    """One public name on its way from `old` to `new`."""

    id: ModelName
    """The public name."""
    old: ModelName
    new: ModelName
    """Models of the settings; every gateway must know both."""
    steps: tuple[Annotated[int, Field(ge=1, le=100)], ...] = Field(CANARY, max_length=32)
    """Percent of the calls that are the new model's, rising to 100."""
    checks: Checks = Checks()
    needs_engine: bool = True
    """Whether the new model is to be served by engines of ours: no step begins or passes without
    one."""
    is_in_place: bool = False
    """No room for both: the step begins without an engine, and third parties carry the gap."""
    has_begun: bool = False
    """In place: the new model's first engine is there, and its step is judged from then on."""
    state: State = "running"
    step: int = Field(-1, ge=-1, le=31)
    """Index of the step under way; -1 before the first."""
    since_ms: int = 0
    """When that step began, or went on after a pause."""
    started_ms: int = 0
    by: str = ""
    reason: Words = Field("", max_length=500)
    """Why it is where it is, in English."""
    said: dict[str, Any] | None = None
    """The same by code and values (`models.worded`), for who tells it in another language."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.old == self.new:
            template = "old and new are both {name}"
            raise ValueError(Worded("rollout.same", template, name=repr(self.old)))
        if not self.steps or self.steps[-1] != 100:
            raise ValueError(Worded("rollout.steps_end", "steps must end with 100"))
        if list(self.steps) != sorted(set(self.steps)):
            raise ValueError(Worded("rollout.steps_rise", "steps must rise"))
        if self.is_in_place and self.steps != BLUE_GREEN:
            raise ValueError(Worded("rollout.steps_one", "in place there is one step: 100"))
        if self.step >= len(self.steps):
            template = "step {step} of {count}"
            told = Worded("rollout.step_of", template, step=self.step, count=len(self.steps))
            raise ValueError(told)
        return self

    @property
    def percent(self) -> int:
        """Of the name's calls that are the new model's now."""
        return self.steps[self.step] if self.step >= 0 and self.state in CARRYING else 0

    @property
    def is_under_way(self) -> bool:
        """Whether it may still change by itself or be resumed."""
        return self.state in ("running", "paused")
