"""The tables on a plan's page: break-evens, commitments, the report's verdicts, assumptions."""

from __future__ import annotations

from collections.abc import Iterator

from ballast.planning_run import Planned
from ballast.planning_tables import cells
from models.plots.page import Card, Table


def cards_of_tables(plan: Planned) -> Iterator[Card]:
    """In the order of the page."""
    rows = [(one.what, *cells(one)) for one in plan.break_evens]
    yield Card("Break-even", "Loads from which each is cheaper than pure API.",
               table=Table(("<pays from", "requests a month", "requests a day", "tokens a month"),
                           rows))  # fmt: skip
    verdicts = [
        (one.name, f"{one.blended:.2f}", f"{one.api:,.0f}", one.cheapest, f"{one.saving:.0%}")
        for one in plan.past.verdicts
    ]
    yield Card(
        "The report's year 3 at its own price list",
        "The verdict turns with the API's price, which the report does not print.",
        table=Table(("<API price of", "CNY/Mtok", "pure API", "<cheapest", "saves"), verdicts),
    )
    names = list(plan.commitments[0].costs) if plan.commitments else []
    bought = [
        (str(one.number), " ".join(f"{b:.0%}" for b in one.busy),
         *(f"{one.costs[n]:,.0f}" for n in names), one.choice, f"{one.saved:,.0f}",
         f"{one.regret:,.0f}")
        for one in plan.commitments
    ]  # fmt: skip
    yield Card(
        "Which commitment to buy",
        "Each replica over all years; regret is what the choice costs too much if requests stay at "
        "the low end of their range.",
        table=Table(("<replica", "busy by year", *names, "<buy", "saves", "regret"), bought),
        is_wide=True,
    )
    yield Card("What is assumed", "From the scenario file; change it and run again.",
               table=Table(("<what", "<value", "<source"), list(_assumed(plan))),
               is_wide=True)  # fmt: skip


def _assumed(plan: Planned) -> Iterator[tuple[str, str, str]]:
    s, facts = plan.scenario, plan.facts
    loads = ", ".join(f"{one.requests_per_month:,.0f}" for one in s.years)
    yield "requests a month", loads, s.years_source
    tokens = f"{s.request.prompt_tokens} + {s.request.output_tokens}"
    yield "tokens of a request", tokens, s.request.source
    yield "spread of demand", f"{s.load.spread:g}", s.load.source
    yield "API, a million in / out", f"{facts.sale.input:.2f} / {facts.sale.output:.2f}", (
        f"{facts.sale.offering}: {facts.sale.source}")  # fmt: skip
    yield "GPU, an hour", f"{facts.machine.gpu_hour:.2f}", facts.machine.source
    yield "a full replica", f"{facts.machine.requests_per_s:.2f} requests/s", s.capacity_source
    goal = f"{s.objective.first_token_s:g} s, {s.objective.per_token_s * 1e3:g} ms a token"
    yield "objective", goal, s.objective.source
    terms = ", ".join(f"{one.name} -{one.discount:.0%}" for one in s.commitments)
    yield "commitments", terms, s.commitments_source
    yield "hosted GPU, an hour", f"{s.hosted.gpu_hour:g} {s.hosted.currency}", s.hosted.source
    staff = f"{s.people.year_cost:,.0f} a year; hybrid {s.people.hybrid:g}, own {s.people.own:g}"
    yield "people", staff, s.people.source
    yield "other costs", f"{s.other_share:.0%}", s.other_source
    yield "saving wanted", f"{s.saving_wanted:.0%}", s.saving_source
    if s.sensitivity:
        swings = ", ".join(f"{one.what} x{one.low:g} to x{one.high:g}" for one in s.sensitivity)
        yield "sensitivity", swings, s.sensitivity_source
