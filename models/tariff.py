"""Prices that depend on the day, the hour and the size of the prompt. Pure.

A price is a decimal string in the provider's own currency per million tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Annotated, Final, Literal, NamedTuple, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Weekday: TypeAlias = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
MicroPrice: TypeAlias = Annotated[Decimal, Field(ge=0, decimal_places=6)]
"""Exact in micro-units: nothing is rounded before there is usage to multiply with."""
_CLOCK = r"([01]\d|2[0-3]):[0-5]\d"
Span: TypeAlias = Annotated[str, Field(pattern=f"^{_CLOCK}-({_CLOCK}|24:00)$")]
Day: TypeAlias = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]
DAY_MIN: Final = 1440
EPOCH_WEEKDAY: Final = 3
"""1 January 1970 was a Thursday."""


class Exceptional(BaseModel):
    """Prices that hold instead of a model's own when all that is said here is so. A price not
    given stays as it is; a cached one not given beside a new input price is that input price."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    above_tokens: int = Field(0, ge=0)
    """For prompts with more tokens than this, then for the whole call."""
    since: Day | None = None
    """First day, UTC."""
    until: Day | None = None
    """Last day, UTC."""
    hours_utc: tuple[Span, ...] = ()
    weekdays: tuple[Weekday, ...] = ()
    input_per_mtok: MicroPrice | None = None
    output_per_mtok: MicroPrice | None = None
    cached_per_mtok: MicroPrice | None = None

    @model_validator(mode="after")
    def _says_when_and_what(self) -> Self:
        if not (self.above_tokens or self.since or self.until or self.hours_utc or self.weekdays):
            raise ValueError("say when it holds: above_tokens, since, until, hours_utc, weekdays")
        if self.input_per_mtok is self.output_per_mtok is self.cached_per_mtok is None:
            raise ValueError("say what it costs then")
        for span in self.hours_utc:
            begin, end = minutes(span)
            if begin >= end:
                raise ValueError(f"hours_utc: {span} ends before it begins; cut it at midnight")
        return self


class When(NamedTuple):
    """When a price holds, in integers that are quick to compare."""

    above_tokens: int
    since_day: int
    until_day: int
    """Days since 1970; both are part of the time."""
    spans: tuple[tuple[int, int], ...]
    """Minutes of the day, UTC; empty is all day."""
    weekdays: frozenset[int]
    """0 is Monday; empty is all."""

    def holds(self, at_min: int, prompt_tokens: int) -> bool:
        """Whether it holds for a prompt of that size at that minute since 1970, UTC."""
        day, minute = divmod(at_min, DAY_MIN)
        if prompt_tokens < self.above_tokens + bool(self.above_tokens):
            return False
        if not self.since_day <= day <= self.until_day:
            return False
        if self.weekdays and (day + EPOCH_WEEKDAY) % 7 not in self.weekdays:
            return False
        return not self.spans or any(begin <= minute < end for begin, end in self.spans)


def when(rule: Exceptional) -> When:
    """The conditions of an exception."""
    return When(
        rule.above_tokens,
        day_number(rule.since) if rule.since else 0,
        day_number(rule.until) if rule.until else 1 << 30,
        tuple(map(minutes, rule.hours_utc)),
        frozenset(DAYS.index(day) for day in rule.weekdays),
    )


def minutes(span: str) -> tuple[int, int]:
    """`01:00-04:00` as minutes of the day."""
    found = [int(h) * 60 + int(m) for h, m in re.findall(r"(\d\d):(\d\d)", span)]
    return found[0], found[1]


def day_number(text: str) -> int:
    """Days since 1970 of an ISO date."""
    return date.fromisoformat(text).toordinal() - date(1970, 1, 1).toordinal()


def micro(price: Decimal | None) -> int | None:
    """Currency per million tokens into micro-units per million tokens."""
    return None if price is None else int((price * 1_000_000).to_integral_exact())


def words(rule: Exceptional) -> Iterator[str]:
    """When an exception holds, for people."""
    if rule.above_tokens:
        yield f"above {rule.above_tokens} tokens"
    if rule.since:
        yield f"from {rule.since}"
    if rule.until:
        yield f"until {rule.until}"
    if rule.hours_utc:
        yield f"{', '.join(rule.hours_utc)} UTC"
    if rule.weekdays:
        yield f"on {', '.join(rule.weekdays)}"
