"""What a scenario's model costs at an API and on GPUs: our own rows, offers and capacity model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from functools import cache

import msgspec

from ballast import models_ask as ask
from ballast.messages import Said
from ballast.planning_values import Currency, Request, Scenario
from ballast.problem import ProblemError
from models import prices, provider
from models.card import Card
from models.gpu import Gpu
from models.prices import MICRO, Price
from models.provider import Provider
from models.rank import Objective, PriceOf, meets, rank
from models.sizing import Knowledge, Sized, size
from models.steady import Demand

CONTEXT_TOKENS = 8192
"""Longest prompt with its answer, at least: what a layout must hold."""
AS_SAID = "as the scenario says"
"""In place of an offering; shown by its message of plan.name."""


class Sale(msgspec.Struct, frozen=True):
    """One row that sells the model's weights; money for a million tokens in the plan's currency."""

    offering: str
    input: float
    output: float
    cached: float
    source: str

    def request(self, request: Request) -> float:
        """The mean request's price."""
        known = request.prompt_tokens * request.cached_share
        fresh = request.prompt_tokens - known
        money = fresh * self.input + known * self.cached + request.output_tokens * self.output
        return money / 1e6

    def blended(self, request: Request) -> float:
        """A million tokens, prompt and answer together, in that mix."""
        return self.request(request) * 1e6 / (request.prompt_tokens + request.output_tokens)


class Machine(msgspec.Struct, frozen=True):
    """One replica, filled to the edge of the objective."""

    layout: str
    gpus: int
    gpu_hour: float
    """In the plan's currency."""
    requests_per_s: float
    callers: int
    first_token_s: float
    per_token_s: float
    answer_s: float
    """A request's stay: what demand is averaged over."""
    error: float
    """Of the predicted time per token."""
    source: str

    @property
    def hour(self) -> float:
        """Rent of the replica."""
        return self.gpu_hour * self.gpus


class Facts(msgspec.Struct, frozen=True):
    """What is known today."""

    day: date
    cny_per_usd: float
    sale: Sale
    sales: tuple[Sale, ...]
    """All that sell the weights, cheapest first."""
    machine: Machine


def gather(scenario: Scenario, known: Knowledge, day: date) -> Facts:
    """Look everything up. Raises ProblemError."""
    rate = prices.load().rate(day)
    per_usd = float(rate.cny_per_usd)
    card, _ = ask.card_of(known, scenario.model)
    found = tuple(sales(card, scenario, per_usd))
    sale = _own_price(scenario, per_usd) or (found[0] if found else None)
    if sale is None:
        raise ProblemError(Said("plan.nobody_sells", model=card.id), Said("plan.name_price"))
    machine = cheapest_machine(known, card, scenario, day)
    return Facts(day, per_usd, sale, found, machine)


def rate_of(day: date) -> Decimal:
    """Yuan for one US dollar."""
    return prices.load().rate(day).cny_per_usd


def _own_price(scenario: Scenario, per_usd: float) -> Sale | None:
    api = scenario.api
    if api.input_per_mtok is None or api.output_per_mtok is None:
        return None
    factor = _factor(api.currency, scenario.currency, per_usd)
    a, b = api.input_per_mtok * factor, api.output_per_mtok * factor
    return Sale(AS_SAID, a, b, a, api.source)


def sales(card: Card, scenario: Scenario, per_usd: float) -> Iterator[Sale]:
    """Rows that sell these weights at a known price, cheapest for the scenario's request first."""
    hubs = {
        name.casefold()
        for variant in card.variants.values()
        for name in (variant.huggingface, variant.modelscope)
        if name
    }
    rows = [
        sale for row in _rows().values()
        for sale in _sold(row, hubs, scenario.currency, per_usd)
    ]  # fmt: skip
    yield from sorted(rows, key=lambda sale: sale.request(scenario.request))


@cache
def _rows() -> Mapping[str, Provider]:
    """The packaged rows, read once; without prices for batches alone."""
    found = provider.load(provider.FOLDER)
    return {name: row for name, row in found.items() if not row.vendor}


def _sold(row: Provider, hubs: set[str], currency: Currency, per_usd: float) -> Iterator[Sale]:
    for sold in row.models:
        if (sold.weights or "").casefold() not in hubs or sold.currency == "EUR":
            continue
        if sold.input_per_mtok is None or sold.output_per_mtok is None or sold.free:
            continue
        factor = _factor(sold.currency, currency, per_usd)
        fresh = float(sold.input_per_mtok) * factor
        cached = sold.cached_per_mtok
        yield Sale(
            offering=f"{row.id}/{sold.id}",
            input=fresh,
            output=float(sold.output_per_mtok) * factor,
            cached=fresh if cached is None else float(cached) * factor,
            source=f"{sold.source}, {sold.as_of}",
        )


def cheapest_machine(known: Knowledge, card: Card, scenario: Scenario, day: date) -> Machine:
    """The layout whose full replica does a request for the least rent. Raises ProblemError."""
    request, goal = scenario.request, scenario.objective
    objective = Objective(
        goal.first_token_s, goal.per_token_s, request.prompt_tokens, request.output_tokens, 1,
        max(CONTEXT_TOKENS, 2 * (request.prompt_tokens + request.output_tokens)),
        request.cached_share,
    )  # fmt: skip
    kinds: list[Gpu] = [ask.gpu_of(known, name) for name in scenario.gpus]
    ranking = rank(known, card, kinds, objective, price_of(scenario, day))
    priced = [c for c in ranking.choices if c.cny_per_mtok_full is not None]
    if not priced:
        reason = ranking.excluded[0].reason if ranking.excluded else Said("plan.no_offer")
        what = Said("plan.cannot_serve", model=card.id, gpus=scenario.gpus, reason=reason)
        raise ProblemError(what, Said("plan.other_gpus"))
    choice = min(priced, key=lambda c: c.cny_per_mtok_full or 0.0)
    demand = Demand(request.prompt_tokens, request.output_tokens, choice.callers_max,
                    request.cached_share)  # fmt: skip
    full = size(known, choice.layout, demand)
    assert isinstance(full, Sized), "it was ranked"
    assert choice.price is not None, "it was ranked with a price"
    assert meets(full, objective), "callers_max is within the objective"
    return _machine(choice.callers_max, full, choice.price, scenario, day)


def _machine(callers: int, full: Sized, price: Price, scenario: Scenario, day: date) -> Machine:
    steady, layout = full.steady, full.layout
    per_usd = float(prices.load().rate(day).cny_per_usd)
    rate = steady.output_tokens_per_s / scenario.request.output_tokens
    stay_s = steady.first_token_s + scenario.request.output_tokens * steady.per_token_s
    return Machine(
        layout=f"{layout.card}/{layout.variant} on {layout.gpus} x {layout.gpu}",
        gpus=layout.gpus,
        gpu_hour=price.cny_micro / MICRO * _factor("CNY", scenario.currency, per_usd),
        requests_per_s=rate * scenario.capacity_factor,
        callers=callers,
        first_token_s=steady.first_token_s,
        per_token_s=steady.per_token_s,
        answer_s=stay_s,
        error=full.model.error,
        source=price.source,
    )


def price_of(scenario: Scenario, day: date) -> PriceOf:
    """The scenario's own price of a GPU-hour, else the median of the published offers."""
    published, rent = prices.load(), scenario.rent
    rate = published.rate(day)

    def price(gpu: str, count: int) -> Price | None:
        if rent.gpu_hour is None:
            return published.price(gpu, count, rent.terms, day)
        amount = Decimal(str(rent.gpu_hour)) * MICRO
        micro = prices.cny_micro(int(amount), rent.currency, rate)
        return Price(micro, rent.terms, 0, f"{gpu}: named by the scenario")

    return price


def _factor(given: str, wanted: str, per_usd: float) -> float:
    if given == wanted:
        return 1.0
    return per_usd if wanted == "CNY" else 1.0 / per_usd


def in_currency(amount: float, given: Currency, scenario: Scenario, per_usd: float) -> float:
    """An amount in the plan's currency."""
    return amount * _factor(given, scenario.currency, per_usd)
