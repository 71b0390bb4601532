"""A plan as a page of plots that stands alone: values in, HTML out; no figures are made here."""

from __future__ import annotations

from itertools import cycle

from ballast.messages import say
from ballast.messages.chosen import spoken
from ballast.planning_cost import SCHEMES, Scheme, load_of, market_of, year
from ballast.planning_fleet import best
from ballast.planning_page_tables import cards_of_tables
from ballast.planning_run import Planned
from ballast.planning_tables import called
from models.plots import charts, ranked
from models.plots.axes import Axis, linear, powers, short
from models.plots.charts import Line, Mark
from models.plots.page import Card, in_language, page

PIECES = ("API", "GPU rent", "people", "other")
PIECE_COLOURS = (1, 0, 3, 7)
CURVES: dict[Scheme, int] = {"pure API": 1, "cloud-hosted": 6, "hybrid": 2, "pure self-hosted": 3}
VOLUMES = 33
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
TERM_COLOURS = {"api": 1, "by the hour": 2}


def made(plan: Planned) -> str:
    """The whole page."""
    scenario, facts = plan.scenario, plan.facts
    lead = say(
        "plan.lead",
        model=scenario.model,
        value=facts.machine.layout.partition(" on ")[2],
        offering=called(facts.sale.offering),
        day=facts.day,
        currency=scenario.currency,
    )
    foot = say("plan.foot")
    cards = [_years(plan), _volumes(plan), _week(plan), _small(plan), _tornado(plan), _past(plan),
             *cards_of_tables(plan)]  # fmt: skip
    document = page(called(scenario.title), lead, _figures(plan), cards, foot)
    return in_language(document, "zh-CN" if spoken() == "zh" else "en")


def _figures(plan: Planned) -> list[tuple[str, str]]:
    totals = {row[0].scheme: sum(m.total for m in row) for row in plan.table}
    cheapest = min(totals, key=lambda name: totals[name])
    hybrid = next(one for one in plan.break_evens if one.what.startswith("hybrid, all"))
    first = plan.break_evens[0]
    return [
        (f"{plan.blended:.2f}", say("plan.at_api", currency=plan.scenario.currency)),
        (
            f"{plan.ratio:.2f}",
            say("plan.r_pays", value=f"{1 / plan.ratio:.0%}"),
        ),
        (_load(first.requests_per_month), say("plan.first_gpu")),
        (_load(hybrid.requests_per_month), say("plan.hybrid_pays")),
        (
            called(cheapest),
            say(
                "plan.cheapest_over", count=len(plan.scenario.years), totals=short(totals[cheapest])
            ),
        ),
    ]


def _load(requests: float | None) -> str:
    return say("plan.never") if requests is None else short(requests)


def _years(plan: Planned) -> Card:
    groups = [
        (
            called(one.name),
            [
                (called(_brief(row[k].scheme)),
                 (row[k].api, row[k].rent, row[k].people, row[k].other))
                for row in plan.table
            ],
        )
        for k, one in enumerate(plan.scenario.years)
    ]  # fmt: skip
    picture = charts.bars(
        say("plan.cost_by_year"),
        groups,
        say("plan.a_year", currency=plan.scenario.currency),
        PIECE_COLOURS,
    )
    return Card(
        say("plan.by_scheme"),
        say("plan.outgrows"),
        picture, legend=[(called(one), k) for one, k in zip(PIECES, PIECE_COLOURS, strict=True)],
    )  # fmt: skip


def _brief(scheme: Scheme) -> str:
    return {"pure API": "API", "cloud-hosted": "hosted", "hybrid": "hybrid",
            "pure self-hosted": "own"}[scheme]  # fmt: skip


def _volumes(plan: Planned) -> Card:
    loads = [one.requests_per_month for one in plan.scenario.years]
    low, high = min(loads) / 10, max(loads) * 10
    grid = [low * (high / low) ** (k / (VOLUMES - 1)) for k in range(VOLUMES)]
    curves = [
        Line(
            called(scheme),
            [(x, year(plan.scenario, plan.facts, scheme, x).total / 12) for x in grid],
            CURVES[scheme],
        )
        for scheme in SCHEMES
    ]
    values = [value for line in curves for _, value in line.points if value > 0]
    axes = (
        Axis(low, high, is_log=True, label=say("plan.requests")),
        powers(values, say("plan.a_month", currency=plan.scenario.currency)),
    )
    marks = [
        Mark(one.requests_per_month, called(one.name), is_faint=True) for one in plan.scenario.years
    ]
    hybrid = next(one for one in plan.break_evens if one.what.startswith("hybrid, all"))
    if hybrid.requests_per_month is not None:
        at = hybrid.requests_per_month
        marks.append(Mark(at, say("plan.pays_from", at=short(at))))
    return Card(
        say("plan.where_begins"),
        say("plan.monthly"),
        charts.lines(say("plan.over_load"), axes, curves, marks),
    )


def _week(plan: Planned) -> Card:
    """The last year's week, by who does the work."""
    one = plan.scenario.years[-1]
    load = load_of(plan.scenario, plan.facts, one.requests_per_month)
    fleet = best(load, market_of(plan.scenario, plan.facts))
    sums: dict[str, list[float]] = {}
    free = cycle((0, 3, 6, 4, 5))
    colours = dict(TERM_COLOURS)
    for layer in fleet.layers:
        if layer.term not in colours:
            colours[layer.term] = next(free)
        mine = [min(work, layer.replicas) for work in layer.used]
        over = [work - m for work, m in zip(layer.used, mine, strict=True)]
        for name, parts in ((layer.term, mine), ("api", over)):
            old = sums.setdefault(name, [0.0] * len(parts))
            sums[name] = [a + b for a, b in zip(old, parts, strict=True)]
    order = [name for name in sums if name not in TERM_COLOURS] + ["by the hour", "api"]
    layers = [
        Line(say("plan.the_api") if name == "api" else called(name),
             list(enumerate(sums[name])), colours[name])
        for name in order if sum(sums.get(name, [])) > 1e-3 * sum(load.means)
    ]  # fmt: skip
    x = Axis(
        0, 167, label=say("plan.weekday"), words=lambda hour: called(DAYS[int(hour // 24) % 7])
    )
    y = linear(load.means, say("plan.kept_busy"))
    return Card(
        say("plan.who", name=called(one.name)),
        say("plan.own_do", share=f"{fleet.share:.0%}", use=f"{fleet.use:.0%}"),
        charts.areas(say("plan.week"), (x, y), layers),
    )


def _small(plan: Planned) -> Card:
    """The first year in which a fleet pays, by its size."""
    which = len(plan.small) - 1
    terms = list(dict.fromkeys(one.term for one in plan.small[which]))
    curves = [
        Line(
            called(term),
            [(one.gpus, one.total) for one in plan.small[which] if one.term == term],
            k,
        )
        for k, term in zip((2, 6, 0, 3, 4, 5), terms, strict=False)
    ]
    values = [v for line in curves for _, v in line.points]
    most = max(one.gpus for one in plan.small[which])
    axes = (Axis(0, max(1, most), label=say("plan.gpus")),
            linear(values, say("plan.machines", currency=plan.scenario.currency)))  # fmt: skip
    return Card(
        say("plan.small_of", name=called(plan.scenario.years[which].name)),
        say("plan.lowest"),
        charts.lines(say("plan.small_fleets"), axes, curves),
    )


def _tornado(plan: Planned) -> Card:
    base = sum(
        a.total - h.total for a, h in zip(
            next(r for r in plan.table if r[0].scheme == "pure API"),
            next(r for r in plan.table if r[0].scheme == "hybrid"), strict=True)
    )  # fmt: skip
    rows = [
        (called(one.what), (one.saving_low, f"x {one.low:g}"), (one.saving_high, f"x {one.high:g}"))
        for one in plan.tornado
    ]
    label = say("plan.saving", currency=plan.scenario.currency)
    return Card(
        say("plan.hangs"),
        say("plan.as_assumed", base=short(base)),
        ranked.tornado("Sensitivity", base, rows, label),
    )


def _past(plan: Planned) -> Card:
    found = plan.past
    report = found.report
    xs = [one.requests_per_month for one in report.years]
    curves = [
        Line(called(row.scheme), list(zip(xs, row.years, strict=True)), colour)
        for row, colour in zip(found.rows, (1, 6, 2, 3), strict=False)
    ]
    now = report.mtok(len(xs) - 1) / xs[-1] * plan.blended
    curves.append(Line(say("plan.api_today"), [(x, x * now) for x in xs], 4, is_dashed=True))
    values = [v for line in curves for _, v in line.points]
    marks = [Mark(one.calls_high, called(one.said), is_faint=True) for one in found.claims]
    marks += [
        Mark(one.calls_per_month, say("plan.its_line", scheme=called(one.scheme)))
        for one in found.crossings if one.calls_per_month is not None and not one.is_beyond
    ]  # fmt: skip
    low = min(min(xs), *(mark.at for mark in marks)) * 0.8
    axes = (Axis(low, max(xs) * 1.25, is_log=True, label=say("plan.requests")),
            powers(values, say("plan.cny_year")))  # fmt: skip
    return Card(
        say("plan.june"),
        say("plan.hides", hidden_price=f"{found.hidden_price:.3f}"),
        charts.lines(say("plan.reports_table"), axes, curves, marks),
    )
