"""One plan from end to end: the scenario, what is known today, and all that follows from them."""

from __future__ import annotations

from datetime import date

import msgspec

from ballast import planning_commit, planning_cost, planning_even, planning_market, planning_report
from ballast import planning_values as values
from ballast.planning_commit import Small, Weighed
from ballast.planning_cost import Money
from ballast.planning_even import BreakEven, Effect
from ballast.planning_fleet import Fleet, best
from ballast.planning_market import Facts
from ballast.planning_report_file import Report
from ballast.planning_values import Scenario
from ballast.problem import ProblemError
from models.card import Card
from models.sizing import Knowledge

REPORT = values.FOLDER / "report-2025.yaml"


class Past(msgspec.Struct, frozen=True):
    """The report's own table, and what a reader finds in it."""

    report: Report
    rows: list[planning_report.Row]
    hidden_price: float
    rests: list[planning_report.Rest]
    claims: list[planning_report.Claim]
    crossings: list[planning_report.Crossing]
    verdicts: list[planning_report.Verdict]


class Planned(msgspec.Struct, frozen=True):
    """The answer."""

    scenario: Scenario
    facts: Facts
    ratio: float
    """r: the API's price of a full replica's work against the replica's rent."""
    blended: float
    """The API's price of a million tokens in this mix."""
    table: list[list[Money]]
    """By scheme, by year."""
    break_evens: list[BreakEven]
    tornado: list[Effect]
    small: list[list[Small]]
    """By year."""
    commitments: list[Weighed]
    last: Fleet
    """The cheapest fleet of the last year."""
    past: Past


class Worth(msgspec.Struct, frozen=True):
    """One model: what its API costs, and what our own replica of it would."""

    model: str
    layout: str
    sellers: int
    blended: float
    """Cheapest API, a million tokens."""
    hour: float
    requests_per_s: float
    ratio: float
    first_pays: float | None
    """Requests a month from which the first replica pays its rent by the hour."""
    reason: str = ""
    """Why there is no layout."""


def run(scenario: Scenario, known: Knowledge, day: date) -> Planned:
    """Everything. Raises ProblemError."""
    facts = planning_market.gather(scenario, known, day)
    market = planning_cost.market_of(scenario, facts)
    years = scenario.years
    last = planning_cost.load_of(scenario, facts, years[-1].requests_per_month)
    return Planned(
        scenario=scenario,
        facts=facts,
        ratio=market.ratio,
        blended=facts.sale.blended(scenario.request),
        table=planning_cost.table(scenario, facts),
        break_evens=planning_even.break_evens(scenario, facts),
        tornado=planning_even.tornado(scenario, facts),
        small=[
            planning_commit.small_fleets(scenario, facts, one.requests_per_month) for one in years
        ],
        commitments=planning_commit.commitments(scenario, facts),
        last=best(last, market),
        past=past(known, day),
    )


def past(known: Knowledge, day: date) -> Past:
    """The report's table, with our capacity model where it is silent. Raises ProblemError."""
    report = values.read(REPORT, Report)
    request = values.Request(
        prompt_tokens=round(report.request_tokens.prompt),
        output_tokens=round(report.request_tokens.output),
        source=report.source,
    )
    asked = values.load(None).model_copy(
        update={"model": report.gpu.model, "gpus": (report.gpu.kind,), "request": request}
    )
    machine = planning_market.gather(asked, known, day).machine
    return Past(
        report=report,
        rows=planning_report.rows(report),
        hidden_price=planning_report.hidden_price(report),
        rests=planning_report.rests(report, machine.requests_per_s / machine.gpus),
        claims=planning_report.claims(report),
        crossings=planning_report.crossings(report),
        verdicts=planning_report.verdicts(report),
    )


def worths(scenario: Scenario, known: Knowledge, day: date) -> list[Worth]:
    """All models whose weights somebody sells, those that pay most first."""
    found = []
    per_usd = float(planning_market.rate_of(day))
    for card in known.catalog.cards.values():
        sold = list(planning_market.sales(card, scenario, per_usd))
        if sold:
            found.append(_worth(scenario.model_copy(update={"model": card.id}), card, known, day))
    return sorted(found, key=lambda one: -one.ratio)


def _worth(scenario: Scenario, card: Card, known: Knowledge, day: date) -> Worth:
    per_usd = float(planning_market.rate_of(day))
    sold = list(planning_market.sales(card, scenario, per_usd))
    blended = sold[0].blended(scenario.request)
    try:
        machine = planning_market.cheapest_machine(known, card, scenario, day)
    except ProblemError as problem:
        return Worth(card.id, "", len(sold), blended, 0.0, 0.0, 0.0, None, problem.said)
    facts = Facts(day, per_usd, sold[0], tuple(sold), machine)
    plain = scenario.model_copy(update={"commitments": ()})
    ratio = planning_cost.market_of(plain, facts).ratio
    first = planning_even.break_evens(plain, facts, is_first_only=True)[0]
    return Worth(card.id, machine.layout, len(sold), blended, machine.hour,
                 machine.requests_per_s, ratio, first.requests_per_month)  # fmt: skip
