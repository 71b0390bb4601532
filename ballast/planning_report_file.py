"""The design report's table and what it says of itself, as a file; strictly validated."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ballast import messages
from ballast.planning_values import Amount, Group, Positive, Share, Text, Year


class Tokens(Group):
    """Of a request."""

    prompt: Positive
    output: Positive


class Line(Group):
    """A scheme's cost by year, in the dollars that the printed yuan are made of."""

    name: Text
    usd: tuple[Amount, ...]
    kind: Literal["hosted", "hybrid", "own"]


class Gpu(Group):
    """What the rent is worked out with."""

    kind: Text
    model: Text
    cny_per_hour: Positive
    source: Text


class Said(Group):
    """A break-even as the report names it."""

    said: Text
    calls_per_month: tuple[Positive, Positive] | None = None
    tokens_per_month: tuple[Positive, Positive] | None = None

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        if (self.calls_per_month is None) == (self.tokens_per_month is None):
            raise ValueError(messages.Said("problem.which_count"))
        return self


class Listed(Group):
    """A price of the report's list, for a million tokens."""

    name: Text
    input: Amount
    output: Amount


class Report(Group):
    """The file."""

    title: Text
    currency: Literal["CNY"]
    per_usd: Positive
    request_tokens: Tokens
    years: Annotated[tuple[Year, ...], Field(min_length=2)]
    api_usd_per_mtok: Positive
    schemes: tuple[Line, ...]
    printed: dict[str, tuple[Amount, ...]]
    other_share: Share
    gpu: Gpu
    engineer_cny_per_year: Positive
    engineer_source: Text
    break_evens: tuple[Said, ...]
    prices: tuple[Listed, ...]
    source: Text

    @model_validator(mode="after")
    def _years_agree(self) -> Self:
        odd = [line.name for line in self.schemes if len(line.usd) != len(self.years)]
        if odd:
            raise ValueError(messages.Said("problem.figure_a_year", names=odd))
        return self

    @property
    def tokens(self) -> float:
        """Of one request."""
        return self.request_tokens.prompt + self.request_tokens.output

    def mtok(self, year: int) -> float:
        """Million tokens of a year."""
        return self.years[year].requests_per_month * 12 * self.tokens / 1e6
