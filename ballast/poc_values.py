"""What a PoC's report compares and decides by. Values and rules only; pure.

The conditions are the company's (brief of January 2026): at least 30 % lower cost, shown with its
own data; proof of latency, stability and compatibility; migration effort below half of the
expected gain; no exclusivity.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from ballast.traffic import Times

Answer: TypeAlias = Literal["yes", "no", "unknown"]
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

    @property
    def cost(self) -> float:
        """Once."""
        return self.hours * self.hour_cost


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


class Gate(msgspec.Struct, frozen=True):
    """One condition."""

    id: Literal["cost", "latency", "stability", "compatibility", "effort", "exit"]
    answer: Answer
    figures: dict[str, float]
    missing: str = ""
    """Key of what is missing below `poc.lacks`."""


def saving(trial: Trial) -> float | None:
    """Share of the API's price of a million tokens that the local side saves."""
    api = trial.api.per_mtok if trial.api else None
    local = trial.local.per_mtok if trial.local else None
    return None if api is None or local is None or api <= 0 else 1 - local / api


def gain(trial: Trial) -> float | None:
    """Money saved in a year at the pace seen."""
    share = saving(trial)
    if share is None or trial.monthly_tokens is None or trial.api is None:
        return None
    price = trial.api.per_mtok
    return None if price is None else share * price * trial.monthly_tokens / 1e6 * GAIN_MONTHS


def gates(trial: Trial) -> list[Gate]:
    """Each condition in the order a manager asks."""
    return [_cost(trial), _latency(trial), _stability(trial), _compatibility(trial),
            _effort(trial), _exit(trial)]  # fmt: skip


def _lack(trial: Trial) -> str:
    """What keeps the two sides from being compared at all; empty if nothing does."""
    if trial.simulated:
        return "real"
    if trial.api is None or trial.api.requests < REQUESTS_MIN:
        return "api"
    if trial.local is None or trial.local.requests < REQUESTS_MIN:
        return "local"
    return ""


def _cost(trial: Trial) -> Gate:
    if lack := _lack(trial):
        return Gate("cost", "unknown", {}, lack)
    share = saving(trial)
    if share is None:
        return Gate("cost", "unknown", {}, "rent")
    return Gate("cost", _said(share >= SAVING_WANTED), {"saving": share})


def _latency(trial: Trial) -> Gate:
    if lack := _lack(trial):
        return Gate("latency", "unknown", {}, lack)
    assert trial.api is not None, "nothing lacks"
    assert trial.local is not None, "nothing lacks"
    api, local = trial.api.first_token.p95_ms, trial.local.first_token.p95_ms
    if api is None or local is None:
        return Gate("latency", "unknown", {}, "times")
    return Gate("latency", _said(local <= api * LATENCY_SLACK), {"api": api, "local": local})


def _stability(trial: Trial) -> Gate:
    if lack := _lack(trial):
        return Gate("stability", "unknown", {}, lack)
    share = trial.local.ok_share if trial.local else None
    if share is None:
        return Gate("stability", "unknown", {}, "local")
    return Gate("stability", _said(share >= OK_SHARE_MIN), {"share": share})


def _compatibility(trial: Trial) -> Gate:
    tried = [one for one in trial.works if one.requests]
    if trial.simulated:
        return Gate("compatibility", "unknown", {}, "real")
    if sum(one.requests for one in tried) < REQUESTS_MIN:
        return Gate("compatibility", "unknown", {}, "surfaces")
    worst = min(one.ok / one.requests for one in tried)
    return Gate("compatibility", _said(worst >= OK_SHARE_MIN), {"worst": worst})


def _effort(trial: Trial) -> Gate:
    yearly = gain(trial)
    if lack := _lack(trial):
        return Gate("effort", "unknown", {"effort": trial.effort.cost}, lack)
    if yearly is None:
        lack = "rent" if saving(trial) is None else "week"
        return Gate("effort", "unknown", {"effort": trial.effort.cost}, lack)
    is_worth = yearly > 0 and trial.effort.cost < EFFORT_SHARE_MAX * yearly
    return Gate("effort", _said(is_worth), {"effort": trial.effort.cost, "gain": yearly})


def _exit(trial: Trial) -> Gate:
    """All data leaves, counted against its manifest, or it is not proved."""
    if trial.exit_faults is None:
        return Gate("exit", "unknown", {}, "export")
    figures: dict[str, float] = {"rows": trial.exit_rows, "faults": trial.exit_faults}
    return Gate("exit", _said(not trial.exit_faults), figures)


def verdict(found: list[Gate]) -> Answer:
    """All conditions together."""
    answers = {one.answer for one in found}
    return "no" if "no" in answers else "unknown" if "unknown" in answers else "yes"


def _said(is_so: bool) -> Answer:
    return "yes" if is_so else "no"
