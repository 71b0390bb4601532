"""A simulation as a page of plots that stands alone: values in, HTML out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import mean
from typing import TYPE_CHECKING

from ballast.messages import named, say
from ballast.messages.chosen import spoken
from models.plots import charts, ranked
from models.plots.axes import Axis, linear
from models.plots.charts import Line
from models.plots.page import Card, Table, in_language, page

if TYPE_CHECKING:
    from autoscale.contest import Run
    from ballast.simulate_run import Result

OURS = "Ballast"
SHOWN = 3
"""Policies in a plot over time: ours and the cheapest others."""
COLOURS = (2, 1, 3, 6)
DEMAND = 7


def made(results: Sequence[Result]) -> str:
    """The whole page."""
    cards = [card for result in results for card in _cards(result)]
    first = results[0]
    best = {r.ratio: _sorted(r)[0] for r in results}
    figures = [
        (f"{mean(run.cost for run in _of(r, OURS)):.3f}", _words(r, best[r.ratio][1][0]))
        for r in results[:5]
    ]  # fmt: skip
    lead = say(
        "simulate.page.lead", traces=list(dict.fromkeys(r.trace for r in results)),
        mean=f"{first.mean:.2f}", most=f"{first.most:.1f}",
    )  # fmt: skip
    document = page(say("simulate.page.title"), lead, figures, cards, say("simulate.page.foot"))
    return in_language(document, "zh-CN" if spoken() == "zh" else "en")


def called(run: Run) -> str:
    """A policy as it is shown."""
    if run.fixed is not None:
        return say("simulate.best_fixed", count=run.fixed)
    return named("simulate.law", run.policy, spoken())


def span(values: Sequence[float]) -> str:
    """The least and the most."""
    return say("simulate.span", low=f"{min(values):.3f}", high=f"{max(values):.3f}")


def _words(result: Result, cheapest: Run) -> str:
    ratio = f"{result.ratio:g}"
    return say("simulate.page.figure", ratio=ratio, cheapest=called(cheapest))


def _head(what: str, name: str) -> str:
    return say("simulate.page.head", what=say(f"simulate.page.{what}"), name=name)


def _cards(result: Result) -> Iterator[Card]:
    rows = _sorted(result)
    name = f"{result.trace}, r = {result.ratio:g}"
    costs = [(called(runs[0]), [run.cost for run in runs]) for _, runs in rows]
    bars = [(policy, mean(found), min(found), max(found)) for policy, found in costs]
    best = next((k for k, row in enumerate(rows) if row[0] == OURS), -1)
    label = named("simulate.column", "cost / optimum", spoken())
    yield Card(
        _head("cost", name), say("simulate.page.cost_says"),
        ranked.ranked(say("simulate.page.cost"), bars, label, best),
    )  # fmt: skip
    shown = _shown(rows)
    if shown:
        yield from _courses(name, shown)
    yield Card(_head("figures", name), say("simulate.page.figures_says"),
               table=_table(rows), is_wide=True)  # fmt: skip


def _table(rows: Sequence[tuple[str, Sequence[Run]]]) -> Table:
    lines = []
    for _, runs in rows:
        costs = [run.cost for run in runs]
        lines.append((
            called(runs[0]), f"{mean(costs):.3f}", span(costs),
            f"{mean(r.starts for r in runs):.0f}", f"{mean(r.own_share for r in runs):.1%}",
            f"{mean(r.kept for r in runs):.2%}", f"{mean(r.saved for r in runs):.1%}",
        ))  # fmt: skip
    ours = next((k for k, row in enumerate(rows) if row[0] == OURS), None)
    names = ("policy", "cost / optimum", "range", "starts", "own share", "kept", "saved")
    first, *others = (named("simulate.column", name, spoken()) for name in names)
    return Table((f"<{first}", *others), lines, ours)


def _courses(name: str, shown: Sequence[tuple[str, Run]]) -> Iterator[Card]:
    """Replicas, queue, share and objective over time."""
    ours = shown[0][1].course
    x = Axis(0.0, max(ours[-1].at_s / 3600, 0.1), label=say("simulate.page.hours"))
    demand = Line(say("simulate.page.demand"), [(p.at_s / 3600, p.demand) for p in ours], DEMAND)
    for field in ("ready", "queued", "own_share", "kept"):
        curves = [
            Line(called(run), [(p.at_s / 3600, getattr(p, field)) for p in run.course], colour,
                 is_step=field == "ready")
            for (_, run), colour in zip(shown, COLOURS, strict=False)
        ]  # fmt: skip
        values = [v for line in curves for _, v in line.points]
        if field == "queued" and not any(values):
            continue
        if field == "ready":
            curves.insert(0, demand)
            values += [v for _, v in demand.points]
        low = min(values) if field == "kept" else 0.0
        y = linear(values, low=low if low < 1.0 else 0.0)
        picture = charts.lines(say(f"simulate.page.{field}"), (x, y), curves)
        yield Card(_head(field, name), say(f"simulate.page.{field}_says"), picture)


def _shown(rows: Sequence[tuple[str, Sequence[Run]]]) -> list[tuple[str, Run]]:
    found = [(policy, run) for policy, runs in rows for run in runs if run.course]
    return sorted(found, key=lambda one: one[0] != OURS)[:SHOWN]


def _sorted(result: Result) -> list[tuple[str, list[Run]]]:
    rows: dict[str, list[Run]] = {}
    for run in result.runs:
        rows.setdefault(run.policy, []).append(run)
    found = sorted(rows.items(), key=lambda row: mean(r.cost for r in row[1]))
    return [row for row in found if not row[0].startswith("optimum")]


def _of(result: Result, policy: str) -> list[Run]:
    return [run for run in result.runs if run.policy == policy]
