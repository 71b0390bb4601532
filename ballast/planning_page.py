"""A plan as a page of plots that stands alone: values in, HTML out; no figures are made here."""

from __future__ import annotations

from itertools import cycle

from ballast.planning_cost import SCHEMES, Scheme, load_of, market_of, year
from ballast.planning_fleet import best
from ballast.planning_page_tables import cards_of_tables
from ballast.planning_run import Planned
from models.plots import charts, ranked
from models.plots.axes import Axis, linear, powers, short
from models.plots.charts import Line, Mark
from models.plots.page import Card, page

PIECES = ("API", "GPU rent", "people", "other")
PIECE_COLOURS = (1, 0, 3, 7)
CURVES: dict[Scheme, int] = {"pure API": 1, "cloud-hosted": 6, "hybrid": 2, "pure self-hosted": 3}
VOLUMES = 33
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
TERM_COLOURS = {"api": 1, "by the hour": 2}


def made(plan: Planned) -> str:
    """The whole page."""
    scenario, facts = plan.scenario, plan.facts
    lead = (
        f"{scenario.model} on {facts.machine.layout.partition(' on ')[2]}, against "
        f"{facts.sale.offering}; prices of {facts.day}. Money in {scenario.currency}. "
        "What is assumed stands below, each with its source."
    )
    foot = (
        "Made by ballast plan. A forecast from published prices and a capacity model, not an offer:"
        " ask for one before you sign."
    )
    cards = [_years(plan), _volumes(plan), _week(plan), _small(plan), _tornado(plan), _past(plan),
             *cards_of_tables(plan)]  # fmt: skip
    return page(scenario.title, lead, _figures(plan), cards, foot)


def _figures(plan: Planned) -> list[tuple[str, str]]:
    totals = {row[0].scheme: sum(m.total for m in row) for row in plan.table}
    cheapest = min(totals, key=lambda name: totals[name])
    hybrid = next(one for one in plan.break_evens if one.what.startswith("hybrid, all"))
    first = plan.break_evens[0]
    return [
        (f"{plan.blended:.2f}", f"{plan.scenario.currency} a million tokens at the API"),
        (
            f"{plan.ratio:.2f}",
            f"r: a replica pays when busy above {1 / plan.ratio:.0%} of its time",
        ),
        (_load(first.requests_per_month), "requests a month: the first GPU pays its rent"),
        (_load(hybrid.requests_per_month), "requests a month: hybrid pays, people and all"),
        (cheapest, f"cheapest over {len(plan.scenario.years)} years: {short(totals[cheapest])}"),
    ]


def _load(requests: float | None) -> str:
    return "never" if requests is None else short(requests)


def _years(plan: Planned) -> Card:
    groups = [
        (
            one.name,
            [
                (_brief(row[k].scheme),
                 (row[k].api, row[k].rent, row[k].people, row[k].other))
                for row in plan.table
            ],
        )
        for k, one in enumerate(plan.scenario.years)
    ]  # fmt: skip
    picture = charts.bars("Cost by year", groups, f"{plan.scenario.currency} a year", PIECE_COLOURS)
    return Card(
        "Cost by year and scheme",
        "A scheme is worth its people only when the API's share of the bar outgrows them.",
        picture, legend=list(zip(PIECES, PIECE_COLOURS, strict=True)),
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
            scheme,
            [(x, year(plan.scenario, plan.facts, scheme, x).total / 12) for x in grid],
            CURVES[scheme],
        )
        for scheme in SCHEMES
    ]
    values = [value for line in curves for _, value in line.points if value > 0]
    axes = (
        Axis(low, high, is_log=True, label="requests a month"),
        powers(values, f"{plan.scenario.currency} a month"),
    )
    marks = [Mark(one.requests_per_month, one.name, is_faint=True) for one in plan.scenario.years]
    hybrid = next(one for one in plan.break_evens if one.what.startswith("hybrid, all"))
    if hybrid.requests_per_month is not None:
        at = hybrid.requests_per_month
        marks.append(Mark(at, f"hybrid pays from {short(at)}"))
    return Card(
        "Where self-hosting begins to pay",
        "Monthly cost, all included, over the load; both axes in powers of ten.",
        charts.lines("Cost over load", axes, curves, marks),
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
        Line("the API" if name == "api" else name, list(enumerate(sums[name])), colours[name])
        for name in order if sum(sums.get(name, [])) > 1e-3 * sum(load.means)
    ]  # fmt: skip
    x = Axis(0, 167, label="day of the week", words=lambda hour: DAYS[int(hour // 24) % 7])
    y = linear(load.means, "replicas kept busy")
    return Card(
        f"Who does the work: {one.name}, the cheapest fleet",
        f"Own GPUs do {fleet.share:.0%} of it and are busy {fleet.use:.0%} of the time rented; "
        "saving on machines = share x (1 - 1 / (r x busy)).",
        charts.areas("The week's work", (x, y), layers),
    )


def _small(plan: Planned) -> Card:
    """The first year in which a fleet pays, by its size."""
    which = len(plan.small) - 1
    terms = list(dict.fromkeys(one.term for one in plan.small[which]))
    curves = [
        Line(term, [(one.gpus, one.total) for one in plan.small[which] if one.term == term], k)
        for k, term in zip((2, 6, 0, 3, 4, 5), terms, strict=False)
    ]
    values = [v for line in curves for _, v in line.points]
    most = max(one.gpus for one in plan.small[which])
    axes = (Axis(0, max(1, most), label="GPUs, the rest to the API"),
            linear(values, f"{plan.scenario.currency} a month, machines only"))  # fmt: skip
    return Card(
        f"Small fleets: {plan.scenario.years[which].name}",
        "The lowest point of a curve is the fleet to have on those terms; left of it the API is "
        "dear, right of it GPUs stand idle.",
        charts.lines("Small fleets", axes, curves),
    )


def _tornado(plan: Planned) -> Card:
    base = sum(
        a.total - h.total for a, h in zip(
            next(r for r in plan.table if r[0].scheme == "pure API"),
            next(r for r in plan.table if r[0].scheme == "hybrid"), strict=True)
    )  # fmt: skip
    rows = [
        (one.what, (one.saving_low, f"x {one.low:g}"), (one.saving_high, f"x {one.high:g}"))
        for one in plan.tornado
    ]
    label = f"saving of hybrid against pure API over all years, {plan.scenario.currency}"
    return Card(
        "What the answer hangs on",
        f"As assumed: {short(base)}. Each bar moves one assumption alone, to the factor beside it.",
        ranked.tornado("Sensitivity", base, rows, label),
    )


def _past(plan: Planned) -> Card:
    found = plan.past
    report = found.report
    xs = [one.requests_per_month for one in report.years]
    curves = [
        Line(row.scheme, list(zip(xs, row.years, strict=True)), colour)
        for row, colour in zip(found.rows, (1, 6, 2, 3), strict=False)
    ]
    now = report.mtok(len(xs) - 1) / xs[-1] * plan.blended
    curves.append(Line("API today", [(x, x * now) for x in xs], 4, is_dashed=True))
    values = [v for line in curves for _, v in line.points]
    marks = [Mark(one.calls_high, one.said, is_faint=True) for one in found.claims]
    marks += [
        Mark(one.calls_per_month, f"its {one.scheme} line meets API")
        for one in found.crossings if one.calls_per_month is not None and not one.is_beyond
    ]  # fmt: skip
    low = min(min(xs), *(mark.at for mark in marks)) * 0.8
    axes = (Axis(low, max(xs) * 1.25, is_log=True, label="requests a month"),
            powers(values, "CNY a year"))  # fmt: skip
    return Card(
        "The report of June 2025, held against itself",
        f"Its API line hides {found.hidden_price:.3f} CNY a million tokens. Of the three "
        "break-evens it names, none is where its own lines meet.",
        charts.lines("The report's table", axes, curves, marks),
    )
