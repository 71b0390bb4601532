"""What happens to an answer that breaks off after its first byte, or does not begin (0124)."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Hedge(BaseModel):
    """A second try beside one whose first token is late; the first of the two answers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    hour_max: Annotated[Decimal, Field(ge=0, decimal_places=6, max_digits=18)] = Decimal(0)
    """The most that second tries may cost in an hour, in `currency`, by this process; 0 hedges
    nothing. Targets with another currency are not hedged with."""
    currency: Literal["CNY", "USD", "EUR"] = "USD"
    after_s: float = Field(1.0, gt=0, le=60)
    """At least so long for the first token, and what was predicted for nine of ten, unless that is
    more than half of what is left until the caller's first token is due."""


class Rescue(BaseModel):
    """Frozen, and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    exact: bool = True
    """Our engines tell the ids they make, and another one goes on with them."""
    inexact: bool = False
    """Where none can, a third party with a prefix mode goes on with the text: what the client has
    stays, but the rest is another model's or another host's. Marked in the stream and the rows."""
    hedge: Hedge = Hedge()
