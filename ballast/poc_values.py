"""What a PoC's report compares, and the conditions it is held against. Values only; pure.

The conditions are the company's (brief of January 2026): at least 30 % lower cost, shown with its
own data; proof of latency, stability and compatibility; migration effort below half of the
expected gain; no exclusivity.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from ballast.traffic import Times

Answer: TypeAlias = Literal["yes", "no", "unknown"]
Basis: TypeAlias = Literal["runs", "ledger", "export", "given", "stated", "assumed"]
"""What an answer rests on: measured (the first three), typed in a flag, stated in the file of
effort with a name to it, or taken for granted by this program."""
SPOKEN: Final[frozenset[Basis]] = frozenset({"given", "stated", "assumed"})
LENGTHS_ALIKE: Final = 0.1
"""Answers whose mean lengths differ by more are not compared as wholes."""
SAVING_WANTED: Final = 0.30
EFFORT_SHARE_MAX: Final = 0.5
OK_SHARE_MIN: Final = 0.99
REQUESTS_MIN: Final = 100
LATENCY_SLACK: Final = 1.1
"""Local first tokens may take a tenth longer than the API's and still count as no worse."""
GAIN_MONTHS: Final = 12
HOURS_OF_BASE_URL: Final = 8.0
"""ASSUMED: one client is pointed at another base URL and tested again in a day."""


class Measured(msgspec.Struct, frozen=True):
    """One side of the comparison; money in the report's currency."""

    name: str
    source: str
    """The command or rows it was read from."""
    requests: int
    ok: int
    judged: int
    """Requests whose end was not the caller's doing."""
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    """None: not known."""
    first_token: Times
    whole: Times
    at_api_price: float | None = None
    """Of the own side: what its tokens would have cost at the API's price; None: not known."""

    @property
    def ok_share(self) -> float | None:
        """0..1; None without any request."""
        return self.ok / self.judged if self.judged else None

    @property
    def per_mtok(self) -> float | None:
        """Cost of a million tokens."""
        tokens = self.prompt_tokens + self.completion_tokens
        return None if self.cost is None or not tokens else self.cost * 1e6 / tokens


class Works(msgspec.Struct, frozen=True):
    """One surface that clients used."""

    surface: str
    requests: int
    ok: int


class Effort(msgspec.Struct, frozen=True):
    """Of the migration."""

    hours: float
    hour_cost: float
    source: str
    once: float = 0.0
    """Paid once beside the hours."""
    monthly: float = 0.0
    """Paid each month from then on."""
    items: tuple[tuple[str, float], ...] = ()
    """What the hours are for."""
    by: str = ""
    """Who stated it, and when; empty: nobody did."""
    monthly_tokens: float | None = None
    """That would move, as stated."""
    is_assumed: bool = False

    @property
    def cost(self) -> float:
        """Once."""
        return self.hours * self.hour_cost + self.once

    @property
    def basis(self) -> Basis:
        """Never a measurement."""
        return "stated" if self.by else "assumed" if self.is_assumed else "given"


class Trial(msgspec.Struct, frozen=True):
    """All that the page shows."""

    day: str
    since: str
    currency: str
    rate: str
    api: Measured | None
    local: Measured | None
    works: tuple[Works, ...]
    effort: Effort
    monthly_tokens: float | None
    """Of all traffic, at the pace seen; None for less than a week."""
    simulated: int = 0
    """Tries that simulated providers answered."""
    exit_faults: int | None = None
    """Of a checked export; None: none was shown."""
    exit_rows: int = 0
    speed: float = 1.0
    """Of the replay, times that of the traffic."""

    @property
    def basis(self) -> Basis:
        """Of what was measured."""
        return "ledger" if self.since else "runs"

    @property
    def tokens(self) -> float | None:
        """A month: as the ledger has it, else as stated."""
        seen = self.monthly_tokens
        return self.effort.monthly_tokens if seen is None else seen


class Gate(msgspec.Struct, frozen=True):
    """One condition."""

    id: Literal["cost", "latency", "stability", "compatibility", "effort", "exit"]
    answer: Answer
    figures: dict[str, float]
    missing: str = ""
    """Key of what is missing below `poc.lacks`."""
    rests_on: tuple[Basis, ...] = ()
    """Empty where nothing is answered."""
