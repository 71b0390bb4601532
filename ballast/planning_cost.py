"""What each scheme costs a year at one load.

Pure: a scenario and the day's facts in, figures out. Money in the scenario's currency.
"""

from __future__ import annotations

import math
from typing import Final, Literal, TypeAlias

import msgspec

from ballast.planning_fleet import (
    HOURS,
    WEEKS_A_MONTH,
    Fleet,
    Load,
    Market,
    Term,
    alone,
    best,
    fixed,
    followed,
)  # fmt: skip
from ballast.planning_market import Facts, in_currency
from ballast.planning_values import Lever, Scenario

Scheme: TypeAlias = Literal["pure API", "cloud-hosted", "hybrid", "pure self-hosted"]
SCHEMES: Final[tuple[Scheme, ...]] = ("pure API", "cloud-hosted", "hybrid", "pure self-hosted")
MONTH_HOURS: Final = HOURS * WEEKS_A_MONTH
SECONDS_A_MONTH: Final = MONTH_HOURS * 3600
TERM_MONTHS_MAX: Final = 12
"""A year is planned with what is known in it: longer commitments are weighed over all years
(`planning_commit`), not bought for one."""


class Levers(msgspec.Struct, frozen=True):
    """What is multiplied for the sensitivity; 1 is as assumed."""

    api_price: float = 1.0
    gpu_price: float = 1.0
    capacity: float = 1.0
    requests: float = 1.0
    output_tokens: float = 1.0
    people: float = 1.0
    spread_of_demand: float = 1.0

    def moved(self, what: Lever, factor: float) -> Levers:
        """One of them changed."""
        return msgspec.structs.replace(self, **{what.replace(" ", "_"): factor})


AS_ASSUMED: Final = Levers()


class Money(msgspec.Struct, frozen=True):
    """A year of one scheme."""

    scheme: Scheme
    api: float
    rent: float
    people: float
    other: float
    share: float
    """Of the requests that own GPUs serve."""
    use: float
    """Of the rented hours."""
    gpus: float
    """Rented on average."""

    @property
    def total(self) -> float:
        return self.api + self.rent + self.people + self.other


def load_of(
    scenario: Scenario, facts: Facts, requests_per_month: float, levers: Levers = AS_ASSUMED
) -> Load:
    """Demand in replicas by hour. Beside what demand strays by, few requests stray by chance: the
    number under way has the spread of a Poisson distribution."""
    shape = scenario.load
    hours, days = sum(shape.hours) / 24, sum(shape.days) / 7
    rate = requests_per_month * levers.requests / SECONDS_A_MONTH
    # A longer answer takes a full replica longer, in proportion: decode is what it is full of.
    edge = facts.machine.requests_per_s * levers.capacity / levers.output_tokens
    means, deviations = [], []
    for day in shape.days:
        for hour in shape.hours:
            now = rate * (day / days) * (hour / hours)
            under_way = now * facts.machine.answer_s
            chance = 1.0 / under_way if under_way else 0.0
            spread = math.sqrt((shape.spread * levers.spread_of_demand) ** 2 + chance)
            means.append(now / edge)
            deviations.append(now / edge * spread)
    return Load(tuple(means), tuple(deviations))


def market_of(
    scenario: Scenario, facts: Facts, levers: Levers = AS_ASSUMED,
    months_max: int = TERM_MONTHS_MAX,
) -> Market:  # fmt: skip
    """Prices of a replica and of its work, on terms up to so long."""
    machine, request = facts.machine, scenario.request
    longer = request.model_copy(
        update={"output_tokens": round(request.output_tokens * levers.output_tokens)}
    )
    hour = machine.hour * levers.gpu_price
    edge = machine.requests_per_s * levers.capacity / levers.output_tokens
    terms = tuple(
        Term(one.name, one.months, hour * (1 - one.discount)) for one in scenario.commitments
        if one.months <= months_max
    )  # fmt: skip
    return Market(
        hour=hour,
        api_hour=facts.sale.request(longer) * levers.api_price * edge * 3600,
        terms=terms,
        start_hours=scenario.rent.ready_s / 3600,
        loss=scenario.rent.loss,
    )


def year(
    scenario: Scenario, facts: Facts, scheme: Scheme, requests_per_month: float,
    levers: Levers = AS_ASSUMED,
) -> Money:  # fmt: skip
    """Twelve months of one scheme at one load."""
    load = load_of(scenario, facts, requests_per_month, levers)
    market = market_of(scenario, facts, levers)
    fleet, people = _fleet(scenario, facts, scheme, (load, market))
    staff = people * scenario.people.year_cost * levers.people
    months = 12 * WEEKS_A_MONTH
    rent = fleet.rent * months
    return Money(
        scheme=scheme,
        api=fleet.api * months,
        rent=rent,
        people=staff,
        other=scenario.other_share * (rent + staff),
        share=fleet.share,
        use=fleet.use,
        gpus=fleet.replicas * facts.machine.gpus,
    )


def _fleet(
    scenario: Scenario, facts: Facts, scheme: Scheme, given: tuple[Load, Market]
) -> tuple[Fleet, float]:
    load, market = given
    people = scenario.people
    match scheme:
        case "pure API":
            return fixed(load, market, 0, cheapest_term(market)), people.api
        case "cloud-hosted":
            hosted = scenario.hosted
            hour = in_currency(hosted.gpu_hour, hosted.currency, scenario, facts.cny_per_usd)
            return followed(load, hour * facts.machine.gpus), people.hosted
        case "hybrid":
            return best(load, market), people.hybrid
        case "pure self-hosted":
            return alone(load, market, cheapest_term(market)), people.own


def cheapest_term(market: Market) -> Term:
    """Of all commitments and the plain hour."""
    plain = Term("by the hour", 0, market.hour)
    return min((plain, *market.terms), key=lambda term: term.hour)


def table(scenario: Scenario, facts: Facts, levers: Levers = AS_ASSUMED) -> list[list[Money]]:
    """By scheme, by year."""
    return [
        [year(scenario, facts, scheme, one.requests_per_month, levers) for one in scenario.years]
        for scheme in SCHEMES
    ]
