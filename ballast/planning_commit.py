"""Small fleets, and which GPUs to commit to for how long. Pure.

The k-th GPU is weighed over all years of the plan: left to the API, rented by the hour, or bound
for a month, a year or longer. A term longer than the plan is paid to its end.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ballast.planning_cost import AS_ASSUMED, Levers, load_of, market_of
from ballast.planning_fleet import HOURS, WEEKS_A_MONTH, Term, fixed, weighed
from ballast.planning_market import Facts
from ballast.planning_values import Scenario

SMALL: Final = 8
"""GPUs of a small fleet at most."""
WORTH: Final = 1e-3
"""Of what the first replica's work costs at the API: a smaller saving is no reason to rent."""
LONG: Final = 1200
"""Months: all terms are weighed here."""


class Small(msgspec.Struct, frozen=True):
    """A small fleet of fixed size, the rest to the API; money a month, machines only."""

    gpus: int
    term: str
    rent: float
    api: float
    share: float
    use: float

    @property
    def total(self) -> float:
        return self.rent + self.api


class Weighed(msgspec.Struct, frozen=True):
    """The k-th replica over all years. Money; the rest of the fleet is not in it."""

    number: int
    gpus: int
    busy: tuple[float, ...]
    """Share of its time, by year."""
    costs: dict[str, float]
    choice: str
    saved: float
    """Against the API."""
    lean: dict[str, float]
    """The same costs when requests are at the low end of the scenario's range."""

    @property
    def regret(self) -> float:
        """What the choice would cost above the best one then."""
        return self.lean[self.choice] - min(self.lean.values())


def small_fleets(scenario: Scenario, facts: Facts, requests_per_month: float) -> list[Small]:
    """From none to eight GPUs on each term, as far as a replica fits into them."""
    load = load_of(scenario, facts, requests_per_month)
    market = market_of(scenario, facts, months_max=LONG)
    found = []
    for term in (Term("by the hour", 0, market.hour), *market.terms):
        for count in range(SMALL // facts.machine.gpus + 1):
            fleet = fixed(load, market, count, term)
            found.append(
                Small(count * facts.machine.gpus, term.name, fleet.rent * WEEKS_A_MONTH,
                      fleet.api * WEEKS_A_MONTH, fleet.share, fleet.use)
            )  # fmt: skip
    return found


def best_counts(small: list[Small]) -> dict[str, Small]:
    """The cheapest size on each term."""
    found: dict[str, Small] = {}
    for one in small:
        if one.term not in found or one.total < found[one.term].total:
            found[one.term] = one
    return found


def commitments(scenario: Scenario, facts: Facts) -> list[Weighed]:
    """The first replicas, one by one, until one is left to the API."""
    low = next((s.low for s in scenario.sensitivity if s.what == "requests"), 1.0)
    lean = AS_ASSUMED.moved("requests", low)
    found: list[Weighed] = []
    for number in range(1, max(1, SMALL // facts.machine.gpus) + 1):
        costs, busy = _costs(scenario, facts, number, AS_ASSUMED)
        choice = min(costs, key=lambda name: costs[name])
        if costs["api"] - costs[choice] < WORTH * (found[0].costs if found else costs)["api"]:
            choice = "api"
        found.append(
            Weighed(number, facts.machine.gpus, busy, costs, choice,
                    costs["api"] - costs[choice], _costs(scenario, facts, number, lean)[0])
        )  # fmt: skip
        if choice == "api":
            break
    return found


def _costs(
    scenario: Scenario, facts: Facts, number: int, levers: Levers
) -> tuple[dict[str, float], tuple[float, ...]]:
    """By way to pay, over all years; what is bound for a year or less is taken only in the years
    in which it is the cheapest."""
    market = market_of(scenario, facts, levers, LONG)
    weeks = 12 * WEEKS_A_MONTH
    costs: dict[str, float] = {}
    busy = []
    for one in scenario.years:
        load = load_of(scenario, facts, one.requests_per_month, levers)
        part = load.part(float(number - 1), 1.0)
        busy.append(sum(part) / HOURS)
        year = weighed(part, market)
        free = min(year["api"], year["by the hour"])
        for term in market.terms:
            if term.months <= 12:
                year[term.name] = min(year[term.name], free)
        year["by the hour"] = free
        for name, cost in year.items():
            costs[name] = costs.get(name, 0.0) + cost * weeks
    for term in market.terms:
        beyond = term.months - 12 * len(scenario.years)
        if term.months > 12 and beyond > 0:
            costs[term.name] += beyond * WEEKS_A_MONTH * HOURS * term.hour
    return costs, tuple(busy)
