"""A plan for people at a terminal: values in, rich renderables out; no figures are made here."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ballast.messages import named, say, tell
from ballast.messages.chosen import spoken
from ballast.planning_commit import best_counts
from ballast.planning_even import BreakEven
from ballast.planning_run import Past, Planned, Worth
from ballast.wide import table


def tables(plan: Planned) -> Iterator[RenderableType]:
    """Today's plan."""
    yield from _inputs(plan)
    yield _years(plan)
    yield _break_evens(plan)
    yield _small(plan)
    yield _commitments(plan)
    yield _tornado(plan)


def _inputs(plan: Planned) -> Iterator[RenderableType]:
    scenario, machine, sale = plan.scenario, plan.facts.machine, plan.facts.sale
    money, request = scenario.currency, scenario.request
    yield Text(
        say("plan.head", title=called(scenario.title), model=scenario.model, day=plan.facts.day),
        style="bold",
    )
    yield Text(
        say(
            "plan.request",
            prompt_tokens=request.prompt_tokens,
            output_tokens=request.output_tokens,
            offering=called(sale.offering),
            input=f"{sale.input:.2f}",
            output=f"{sale.output:.2f}",
            blended=f"{plan.blended:.2f}",
            money=money,
            count=len(plan.facts.sales),
        )
    )
    yield Text(
        say(
            "plan.replica",
            layout=machine.layout,
            hour=f"{machine.hour:.2f}",
            money=money,
            requests_per_s=f"{machine.requests_per_s:.2f}",
            callers=machine.callers,
            first_token_s=f"{machine.first_token_s:.2f}",
            per_token_s=f"{machine.per_token_s * 1000.0:.0f}",
            error=f"{machine.error:.0%}",
        )
    )
    yield Text(
        say(
            "plan.ratio",
            ratio=f"{plan.ratio:.2f}",
            value=f"{1 / plan.ratio:.0%}",
            source=machine.source,
        )
    )


def _years(plan: Planned) -> Table:
    years = plan.scenario.years
    made = table("scheme", *(f">{called(one.name)}" for one in years), ">total", ">own share",
                 ">GPUs", ">busy",
                 title=say("plan.cost", currency=plan.scenario.currency))  # fmt: skip
    totals = [sum(money.total for money in row) for row in plan.table]
    for row, total in zip(plan.table, totals, strict=True):
        last = row[-1]
        style = "bold" if total == min(totals) else ""
        made.add_row(called(row[0].scheme), *(f"{m.total:,.0f}" for m in row), f"{total:,.0f}",
                     f"{last.share:.0%}", f"{last.gpus:.1f}",
                     f"{last.use:.0%}" if last.use else "-", style=style)  # fmt: skip
    made.caption = say("plan.of_last_year")
    return made


def _break_evens(plan: Planned) -> Table:
    made = table("pays from", ">requests/month", ">requests/day", ">tokens/month",
                 title=say("plan.break_even"))  # fmt: skip
    for one in plan.break_evens:
        made.add_row(called(one.what), *cells(one))
    return made


def called(name: str) -> str:
    """A scheme, a term, a break-even or an assumption as it is shown."""
    return tell(named("plan.name", name, spoken()), spoken())


def cells(one: BreakEven) -> tuple[str, str, str]:
    """A month's requests, a day's, a month's tokens."""
    if one.requests_per_month is None:
        return (say("plan.never"),) * 3
    assert one.requests_per_day is not None
    assert one.tokens_per_month is not None
    return (f"{one.requests_per_month:,.0f}", f"{one.requests_per_day:,.0f}",
            f"{one.tokens_per_month:,.0f}")  # fmt: skip


def _small(plan: Planned) -> Table:
    made = table("year", "term", ">GPUs", ">rent", ">API", ">a month", ">own share", ">busy",
                 title=say("plan.small"))  # fmt: skip
    for one, small in zip(plan.scenario.years, plan.small, strict=True):
        for term, best in best_counts(small).items():
            made.add_row(called(one.name), called(term), str(best.gpus), f"{best.rent:,.0f}",
                         f"{best.api:,.0f}",
                         f"{best.total:,.0f}", f"{best.share:.0%}",
                         f"{best.use:.0%}" if best.use else "-")  # fmt: skip
    return made


def _commitments(plan: Planned) -> Table:
    names = list(plan.commitments[0].costs) if plan.commitments else []
    made = table("replica", ">busy by year", *(f">{called(name)}" for name in names), "buy",
                 ">saves",
                 ">regret", title=say("plan.commitment"))  # fmt: skip
    for one in plan.commitments:
        busy = " ".join(f"{share:.0%}" for share in one.busy)
        made.add_row(str(one.number), busy, *(f"{one.costs[name]:,.0f}" for name in names),
                     called(one.choice), f"{one.saved:,.0f}", f"{one.regret:,.0f}")  # fmt: skip
    made.caption = say("plan.regret")
    return made


def _tornado(plan: Planned) -> Table:
    made = table("assumption", ">low", ">saves then", ">high", ">saves then",
                 title=say("plan.sensitivity"))  # fmt: skip
    for one in plan.tornado:
        made.add_row(called(one.what), f"x {one.low:g}", f"{one.saving_low:,.0f}",
                     f"x {one.high:g}",
                     f"{one.saving_high:,.0f}")  # fmt: skip
    return made


def past(found: Past) -> Iterator[RenderableType]:
    """The report's own table."""
    report = found.report
    made = table("scheme", *(f">{called(one.name)}" for one in report.years), ">total",
                 "as printed", title=say("plan.report", title=called(report.title)))  # fmt: skip
    for row in found.rows:
        made.add_row(called(row.scheme), *(f"{x:,.0f}" for x in row.years), f"{row.total:,.0f}",
                     say("plan.yes" if row.is_as_printed else "plan.no"))  # fmt: skip
    yield made
    yield Text(
        say(
            "plan.hidden",
            hidden_price=f"{found.hidden_price:.3f}",
            api_usd_per_mtok=f"{report.api_usd_per_mtok:g}",
            per_usd=f"{report.per_usd:g}",
        )
    )
    yield _claims(found)
    yield _crossings(found)
    yield _verdicts(found)
    yield _rests(found)


def _claims(found: Past) -> Table:
    names = [row.scheme for row in found.rows[1:]]
    made = table("the report says it pays from", ">calls/month", ">pure API there",
                 *(f">{called(name)}" for name in names), ">needs a price of",
                 title=say("plan.three"))  # fmt: skip
    for one in found.claims:
        low, high = one.calls_low, one.calls_high
        span = (
            f"{low:,.0f}"
            if low == high
            else say("plan.span", low=f"{low:,.0f}", high=f"{high:,.0f}")
        )
        prices = [one.price_wanted[name] for name in names]
        made.add_row(called(one.said), span, f"{one.api:,.0f}",
                     *(f"{one.costs[n]:,.0f}" for n in names),
                     say("plan.span", low=f"{min(prices):.1f}",
                         high=f"{max(prices):.1f}"))  # fmt: skip
    made.caption = say("plan.needs")
    return made


def _crossings(found: Past) -> Table:
    made = table("scheme", ">calls/month", ">calls/day", "",
                 title=say("plan.meet"))  # fmt: skip
    for one in found.crossings:
        if one.calls_per_month is None:
            made.add_row(called(one.scheme), say("plan.never"), say("plan.never"), "")
        else:
            note = say("plan.beyond") if one.is_beyond else say("plan.within")
            made.add_row(called(one.scheme), f"{one.calls_per_month:,.0f}",
                         f"{one.calls_per_month * 12 / 365:,.0f}", note)  # fmt: skip
    return made


def _verdicts(found: Past) -> Table:
    made = table("API price of", ">CNY/Mtok", ">pure API", "cheapest", ">saves",
                 title=say("plan.last_year"))  # fmt: skip
    for one in found.verdicts:
        made.add_row(called(one.name), f"{one.blended:.2f}", f"{one.api:,.0f}",
                     called(one.cheapest), f"{one.saving:.0%}" if one.saving else "-")  # fmt: skip
    return made


def _rests(found: Past) -> Table:
    made = table("year", ">printed", ">other costs", ">GPUs", ">their rent", ">rest",
                 ">engineers", title=say("plan.leave_people"))  # fmt: skip
    for one in found.rests:
        made.add_row(called(one.year), f"{one.printed:,.0f}", f"{one.other:,.0f}", str(one.gpus),
                     f"{one.rent:,.0f}", f"{one.rest:,.0f}", f"{one.engineers:.1f}")  # fmt: skip
    made.caption = say("plan.own_rent")
    return made


def worths(found: list[Worth], currency: str) -> Table:
    """Which models are worth a GPU."""
    made = table("model", "cheapest layout", ">r", f">{currency}/Mtok", ">sellers",
                 f">{currency}/h", ">requests/s", ">first pays from, requests/month",
                 title=say("plan.worth"))  # fmt: skip
    for one in found:
        if one.reason:
            made.add_row(
                one.model, tell(one.reason, spoken()), "-", f"{one.blended:.2f}", str(one.sellers)
            )
            continue
        first = say("plan.never") if one.first_pays is None else f"{one.first_pays:,.0f}"
        made.add_row(one.model, one.layout.partition("/")[2], f"{one.ratio:.2f}",
                     f"{one.blended:.2f}", str(one.sellers), f"{one.hour:.0f}",
                     f"{one.requests_per_s:.1f}", first)  # fmt: skip
    return made
