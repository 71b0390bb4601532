"""Where self-hosting begins to pay, and what hangs on which assumption. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from ballast.messages import Said
from ballast.planning_cost import AS_ASSUMED, Levers, Scheme, year
from ballast.planning_market import Facts
from ballast.planning_values import Lever, Scenario

REQUESTS: Final = (1e4, 1e9)
"""Requests a month between which a break-even is looked for."""
PER_DECADE: Final = 4


class BreakEven(msgspec.Struct, frozen=True):
    """From which load on something is cheaper than pure API."""

    what: str
    requests_per_month: float | None
    """None: not below 1e9."""
    tokens_per_month: float | None
    requests_per_day: float | None


def break_evens(
    scenario: Scenario, facts: Facts, *, is_first_only: bool = False
) -> list[BreakEven]:
    """Where hybrid, cloud-hosted and self-hosted begin to pay, and where the saving wanted is.
    The first row is about GPUs alone."""

    def saves(scheme: Scheme, wanted: float = 0.0) -> Callable[[float], float]:
        def margin(requests: float) -> float:
            api = year(scenario, facts, "pure API", requests).total
            return (1 - wanted) * api - year(scenario, facts, scheme, requests).total

        return margin

    def machines(requests: float) -> float:
        money = year(scenario, facts, "hybrid", requests)
        pure = year(scenario, facts, "pure API", requests)
        # A little above nothing, or a fleet of none would count as paying.
        return pure.api - money.api - money.rent - 1e-6 * pure.api

    wanted = scenario.saving_wanted
    asked: list[tuple[str, Callable[[float], float]]] = [
        ("the first GPU pays its rent (no people, no other costs)", machines),
        ("hybrid, all costs", saves("hybrid")),
        (Said("plan.hybrid_saves", wanted=f"{wanted:.0%}"), saves("hybrid", wanted)),
        ("pure self-hosted, all costs", saves("pure self-hosted")),
        ("cloud-hosted, all costs", saves("cloud-hosted")),
    ]
    per_request = scenario.request.prompt_tokens + scenario.request.output_tokens
    found = []
    for what, margin in asked[:1] if is_first_only else asked:
        at = crossing(margin)
        if at is None:
            found.append(BreakEven(what, None, None, None))
        else:
            days = 365 / 12
            found.append(BreakEven(what, at, at * per_request, at / days))
    return found


def volumes() -> Iterator[float]:
    """Loads on a logarithmic grid."""
    low, high = (math.log10(x) for x in REQUESTS)
    steps = round((high - low) * PER_DECADE)
    yield from (10 ** (low + (high - low) * k / steps) for k in range(steps + 1))


def crossing(margin: Callable[[float], float]) -> float | None:
    """The load from which on the margin stays positive over the grid, to a tenth of a per cent."""
    grid = list(volumes())
    signs = [margin(x) > 0 for x in grid]
    if not signs[-1]:
        return None
    first = len(signs) - signs[::-1].index(False) if False in signs else 0
    if first == 0:
        return grid[0]
    low, high = grid[first - 1], grid[first]
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if margin(middle) > 0 else (middle, high)
    return high


class Effect(msgspec.Struct, frozen=True):
    """One bar of the tornado: the saving of hybrid against pure API over all years."""

    what: Lever
    low: float
    high: float
    """Factors."""
    saving_low: float
    saving_high: float


def saving(scenario: Scenario, facts: Facts, levers: Levers = AS_ASSUMED) -> float:
    """Of hybrid against pure API, over all years."""
    return sum(
        year(scenario, facts, "pure API", one.requests_per_month, levers).total
        - year(scenario, facts, "hybrid", one.requests_per_month, levers).total
        for one in scenario.years
    )


def tornado(scenario: Scenario, facts: Facts) -> list[Effect]:
    """What hangs on each assumption, the most first."""
    found = [
        Effect(
            swing.what, swing.low, swing.high,
            saving(scenario, facts, AS_ASSUMED.moved(swing.what, swing.low)),
            saving(scenario, facts, AS_ASSUMED.moved(swing.what, swing.high)),
        )
        for swing in scenario.sensitivity
    ]  # fmt: skip
    return sorted(found, key=lambda one: -abs(one.saving_high - one.saving_low))
