"""The tables on a plan's page: break-evens, commitments, the report's verdicts, assumptions."""

from __future__ import annotations

from collections.abc import Iterator

from ballast.messages import named, say
from ballast.messages.chosen import spoken
from ballast.planning_run import Planned
from ballast.planning_tables import called, cells
from models.plots.page import Card, Table


def cards_of_tables(plan: Planned) -> Iterator[Card]:
    """In the order of the page."""
    rows = [(called(one.what), *cells(one)) for one in plan.break_evens]
    yield Card(say("plan.break_even_card"), say("plan.cheaper"),
               table=Table(_heads("<pays from", "requests/month", "requests/day", "tokens/month"),
                           rows))  # fmt: skip
    verdicts = [
        (
            called(one.name),
            f"{one.blended:.2f}",
            f"{one.api:,.0f}",
            called(one.cheapest),
            f"{one.saving:.0%}",
        )
        for one in plan.past.verdicts
    ]
    yield Card(
        say("plan.year3"),
        say("plan.turns"),
        table=Table(
            _heads("<API price of", "CNY/Mtok", "pure API", "<cheapest", "saves"), verdicts
        ),
    )
    names = list(plan.commitments[0].costs) if plan.commitments else []
    bought = [
        (str(one.number), " ".join(f"{b:.0%}" for b in one.busy),
         *(f"{one.costs[n]:,.0f}" for n in names), called(one.choice), f"{one.saved:,.0f}",
         f"{one.regret:,.0f}")
        for one in plan.commitments
    ]  # fmt: skip
    yield Card(
        say("plan.which"),
        say("plan.each_replica"),
        table=Table(_heads("<replica", "busy by year", *names, "<buy", "saves", "regret"), bought),
        is_wide=True,
    )
    yield Card(say("plan.assumed"), say("plan.from_file"),
               table=Table(_heads("<what", "<value", "<source"), list(_assumed(plan))),
               is_wide=True)  # fmt: skip


def _heads(*names: str) -> list[str]:
    """Heads of columns; `<` before one aligns to the left, and stays."""
    return [
        ("<" if name.startswith("<") else "")
        + named("admin.column", called(name.removeprefix("<")), spoken())
        for name in names
    ]


def _assumed(plan: Planned) -> Iterator[tuple[str, str, str]]:
    s, facts = plan.scenario, plan.facts
    loads = ", ".join(f"{one.requests_per_month:,.0f}" for one in s.years)
    yield say("plan.requests"), loads, s.years_source
    tokens = f"{s.request.prompt_tokens} + {s.request.output_tokens}"
    yield say("plan.tokens_request"), tokens, s.request.source
    yield say("plan.spread"), f"{s.load.spread:g}", s.load.source
    yield say("plan.api_price"), f"{facts.sale.input:.2f} / {facts.sale.output:.2f}", (
        f"{called(facts.sale.offering)}: {facts.sale.source}")  # fmt: skip
    yield say("plan.gpu_hour"), f"{facts.machine.gpu_hour:.2f}", facts.machine.source
    yield (
        say("plan.full_replica"),
        say("plan.per_s", requests_per_s=f"{facts.machine.requests_per_s:.2f}"),
        s.capacity_source,
    )
    goal = say(
        "plan.goal",
        first_token_s=f"{s.objective.first_token_s:g}",
        per_token_s=f"{s.objective.per_token_s * 1000.0:g}",
    )
    yield say("plan.objective"), goal, s.objective.source
    terms = ", ".join(f"{called(one.name)} -{one.discount:.0%}" for one in s.commitments)
    yield say("plan.commitments"), terms, s.commitments_source
    yield say("plan.hosted_hour"), f"{s.hosted.gpu_hour:g} {s.hosted.currency}", s.hosted.source
    staff = say(
        "plan.staff",
        year_cost=f"{s.people.year_cost:,.0f}",
        hybrid=f"{s.people.hybrid:g}",
        own=f"{s.people.own:g}",
    )
    yield called("people"), staff, s.people.source
    yield say("plan.other"), f"{s.other_share:.0%}", s.other_source
    yield say("plan.wanted"), f"{s.saving_wanted:.0%}", s.saving_source
    if s.sensitivity:
        swings = ", ".join(
            say("plan.swing", what=called(one.what), low=f"{one.low:g}", high=f"{one.high:g}")
            for one in s.sensitivity
        )
        yield say("plan.sensitive"), swings, s.sensitivity_source
