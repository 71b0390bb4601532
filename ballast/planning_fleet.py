"""A week's demand in layers, and what to buy for each: the API, a replica by the hour, or one for
months. Pure.

Layer k is the work that the k-th replica would do. Layers do not touch each other, so the cheapest
choice for each is the cheapest for all (docs/autoscaler.md); what is bought by the hour is weighed
by the optimum that the autoscaler is held against, plus what it loses to that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import msgspec

from autoscale.forecast import Outlook

HOURS: Final = 168
WEEKS_A_MONTH: Final = 365 / 7 / 12
LAYERS_MAX: Final = 48
"""Of a larger fleet several replicas make one layer."""
PEAK: Final = 3.0
"""Deviations above the mean up to which a fleet without an API is built; what comes above waits."""
OVER_MAX: Final = 1e-3
"""Share of the work that a fleet without an API may keep waiting."""


class Load(msgspec.Struct, frozen=True):
    """Demand in replicas by hour of the week, and its deviation over a minute."""

    means: tuple[float, ...]
    deviations: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the week."""
        return sum(self.means) / len(self.means)

    def part(self, below: float, width: float) -> tuple[float, ...]:
        """Expected work of one layer, by hour."""
        return tuple(
            _share(mean, deviation, below, width)
            for mean, deviation in zip(self.means, self.deviations, strict=True)
        )


@lru_cache(65_536)
def _share(mean: float, deviation: float, below: float, width: float) -> float:
    """Most hours of a week are like others. A normal distribution cut off at 0 has a higher mean;
    the work is what it is, so all layers are made less in proportion."""
    outlook = Outlook(mean, deviation)
    whole = outlook.share(0.0, 1e9)
    return outlook.share(below, width) * mean / whole if whole else 0.0


class Term(msgspec.Struct, frozen=True):
    """One way to pay for a replica for a while."""

    name: str
    months: int
    hour: float
    """Price of one replica-hour, used or not."""


class Market(msgspec.Struct, frozen=True):
    """What replicas and their work cost."""

    hour: float
    """A replica by the hour, in the scenario's currency."""
    api_hour: float
    """What the API takes for an hour of a full replica's work."""
    terms: tuple[Term, ...]
    start_hours: float
    """Paid from order to service."""
    loss: float

    @property
    def ratio(self) -> float:
        """r: self-hosting pays where a replica is busy more than 1 / r of its time."""
        return self.api_hour / self.hour


class Layer(msgspec.Struct, frozen=True):
    """What is bought for one layer, in money a week."""

    term: str
    """`api`, `by the hour`, or a commitment's name."""
    replicas: float
    rent: float
    api: float
    own: float
    """Work done by the replica, replica-hours."""
    rented_hours: float
    used: tuple[float, ...]
    """Work by hour of the week, of this layer."""


class Fleet(msgspec.Struct, frozen=True):
    """The layers of one load. Money a week, work in replica-hours."""

    layers: tuple[Layer, ...]
    work: float

    @property
    def rent(self) -> float:
        return sum(layer.rent for layer in self.layers)

    @property
    def api(self) -> float:
        return sum(layer.api for layer in self.layers)

    @property
    def share(self) -> float:
        """Of the work that own replicas do."""
        return sum(layer.own for layer in self.layers) / self.work if self.work else 0.0

    @property
    def use(self) -> float:
        """Of the hours rented."""
        rented = sum(layer.rented_hours for layer in self.layers)
        return sum(layer.own for layer in self.layers) / rented if rented else 0.0

    @property
    def replicas(self) -> float:
        """Rented on average."""
        return sum(layer.rented_hours for layer in self.layers) / HOURS

    def count(self, term: str) -> float:
        """Replicas on those terms at most."""
        return sum(layer.replicas for layer in self.layers if layer.term == term)


def best(load: Load, market: Market) -> Fleet:
    """The cheapest choice for each layer."""
    layers = [_cheapest(part, width, market) for part, width in _layers(load)]
    return Fleet(tuple(layers), sum(load.means))


def fixed(load: Load, market: Market, count: int, term: Term) -> Fleet:
    """So many replicas all week on one term, the rest to the API."""
    part = load.part(0.0, float(count)) if count else (0.0,) * HOURS
    own, work = sum(part), sum(load.means)
    over = _api(tuple(m - p for m, p in zip(load.means, part, strict=True)), market)
    mine = Layer(term.name, count, count * term.hour * HOURS, 0.0, own, count * HOURS, part)
    return Fleet((mine, over), work)


def alone(load: Load, market: Market, term: Term) -> Fleet:
    """A fixed fleet large enough to need no API."""
    most = OVER_MAX * sum(load.means)
    low, high = 0, max(1, math.ceil(load.mean))
    while sum(load.part(float(high), 1e9)) > most:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if sum(load.part(float(middle), 1e9)) > most else (low, middle)
    count = high
    made = fixed(load, market, count, term)
    return Fleet((msgspec.structs.replace(made.layers[0], own=made.work),), made.work)


def followed(load: Load, hour: float) -> Fleet:
    """Replicas by the hour for each hour's peak, and no API: what an endpoint that scales costs."""
    needs = [
        max(1, math.ceil(mean + PEAK * deviation))
        for mean, deviation in zip(load.means, load.deviations, strict=True)
    ]
    work = sum(load.means)
    one = Layer("by the hour", max(needs), sum(needs) * hour, 0.0, work, sum(needs), load.means)
    return Fleet((one,), work)


def _layers(load: Load) -> list[tuple[tuple[float, ...], int]]:
    """Work by hour, and replicas, of each layer that has any to speak of."""
    top = max(m + PEAK * d for m, d in zip(load.means, load.deviations, strict=True))
    width = max(1, math.ceil(top / LAYERS_MAX))
    count = max(1, math.ceil(top / width))
    found = [(load.part(float(k * width), float(width)), width) for k in range(count)]
    rest = load.part(float(count * width), 1e9)
    last, _ = found[-1]
    found[-1] = (tuple(a + b for a, b in zip(last, rest, strict=True)), width)
    return found


def _cheapest(part: tuple[float, ...], width: int, market: Market) -> Layer:
    choices = [_api(part, market), _by_the_hour(part, width, market)]
    choices += [_committed(part, width, term, market) for term in market.terms]
    return min(choices, key=lambda layer: layer.rent + layer.api)


def weighed(part: tuple[float, ...], market: Market) -> dict[str, float]:
    """What one replica's layer costs a week by each way to pay."""
    choices = [_api(part, market), _by_the_hour(part, 1, market)]
    choices += [_committed(part, 1, term, market) for term in market.terms]
    names = ["api", "by the hour", *(term.name for term in market.terms)]
    return {n: one.rent + one.api for n, one in zip(names, choices, strict=True)}


def _committed(part: tuple[float, ...], width: int, term: Term, market: Market) -> Layer:
    rent = width * term.hour * HOURS
    own = sum(min(work, width) for work in part)
    over = market.api_hour * (sum(part) - own)
    return Layer(term.name, width, rent, over, own, width * HOURS, part)


def _api(part: tuple[float, ...], market: Market) -> Layer:
    return Layer("api", 0, 0.0, market.api_hour * sum(part), 0.0, 0.0, part)


def _by_the_hour(part: Sequence[float], width: int, market: Market) -> Layer:
    """On in the hours that earn it: two states, a start's price between them; the week repeats,
    so the cheapest path begins and ends in the same state."""
    rent, start = width * market.hour, width * market.hour * market.start_hours
    best_cost = math.inf
    best_path: tuple[bool, ...] = ()
    for first in (False, True):
        costs: dict[bool, tuple[float, tuple[bool, ...]]] = {first: (0.0, ())}
        for work in part:
            following: dict[bool, tuple[float, tuple[bool, ...]]] = {}
            for is_on in (False, True):
                over = work - min(work, width) if is_on else work
                spent = market.api_hour * over + (rent if is_on else 0.0)
                following[is_on] = min(
                    (cost + spent + (start if is_on and not was_on else 0.0), (*path, is_on))
                    for was_on, (cost, path) in costs.items()
                )
            costs = following
        cost, path = costs[first]
        if cost < best_cost:
            best_cost, best_path = cost, path
    hours = sum(best_path)
    own = sum(min(work, width) for work, on in zip(part, best_path, strict=True) if on)
    api = market.api_hour * (sum(part) - own)
    # What following the demand loses to hindsight is rent that came too early or stayed too long.
    extra = market.loss * (best_cost if hours else 0.0)
    spent = best_cost - api + extra if hours else 0.0
    return Layer("by the hour", width if hours else 0, spent, api, own, float(width * hours),
                 tuple(part))  # fmt: skip
