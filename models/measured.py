"""Published measurements that predictions are held against. Facts only."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final, Self

import yaml
from pydantic import Field, model_validator

from models.fact import Group, Positive, Source

FILE: Final = Path(__file__).parent / "measured.yaml"


class Subject(Group):
    """A configuration and what it was asked."""

    card: str
    variant: str
    gpu: str = ""
    tensor: Positive = 1
    engine: str
    prompt_tokens: Positive
    output_tokens: Positive
    source: str
    note: str = ""


class Point(Subject):
    """A closed loop of so many callers."""

    concurrency: Positive | None = None
    first_token_ms: float | None = Field(None, gt=0)
    per_token_ms: float | None = Field(None, gt=0)
    output_tokens_per_s: float = Field(gt=0)
    is_derived: bool = False
    """Tokens a second computed from the times."""
    not_compared: str = ""
    """Why it cannot be."""

    @property
    def token_ms(self) -> float | None:
        """Time per output token; where only a rate was published, what the rate leaves for it."""
        if self.per_token_ms is not None or self.concurrency is None:
            return self.per_token_ms
        return 1e3 * self.concurrency / self.output_tokens_per_s


class Burst(Subject):
    """So many requests at once; the rate is over the whole run, its filling and draining too."""

    requests: Positive
    requests_per_s: float = Field(gt=0)


class Measured(Group):
    """All of them."""

    sources: dict[str, Source]
    points: tuple[Point, ...]
    bursts: tuple[Burst, ...]

    @model_validator(mode="after")
    def _sourced(self) -> Self:
        missing = {row.source for row in (*self.points, *self.bursts)} - self.sources.keys()
        if missing:
            raise ValueError(f"sources that are not in `sources`: {', '.join(sorted(missing))}")
        return self


@cache
def load() -> Measured:
    """The packaged measurements, read once."""
    return Measured.model_validate(yaml.safe_load(FILE.read_text(encoding="utf-8")))
