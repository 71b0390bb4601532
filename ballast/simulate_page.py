"""A simulation as a page of plots that stands alone: values in, HTML out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import mean
from typing import TYPE_CHECKING

from models.plots import charts, ranked
from models.plots.axes import Axis, linear
from models.plots.charts import Line
from models.plots.page import Card, Table, page

if TYPE_CHECKING:
    from autoscale.contest import Run
    from ballast.simulate_run import Result

OURS = "Ballast"
SHOWN = 3
"""Policies in a plot over time: ours and the cheapest others."""
COLOURS = (2, 1, 3, 6)
DEMAND = 7


def made(results: Sequence[Result], what: str) -> str:
    """The whole page; `what` names the command."""
    cards = [card for result in results for card in _cards(result)]
    first = results[0]
    best = {r.ratio: _sorted(r)[0] for r in results}
    figures = [
        (f"{mean(run.cost for run in _of(r, OURS)):.3f}", _words(r, best[r.ratio][0]))
        for r in results[:5]
    ]  # fmt: skip
    lead = (
        f"{', '.join(dict.fromkeys(r.trace for r in results))}: demand {first.mean:.2f} replicas "
        f"on average, {first.most:.1f} at most. Costs are over that of the optimum, which knows "
        "the future; the bars show the mean of the seeds."
    )
    return page("What scaling would have cost", lead, figures, cards, f"Made by {what}.")


def _words(result: Result, cheapest: str) -> str:
    return f"our cost over the optimum at r = {result.ratio:g}; cheapest law: {cheapest}"


def _cards(result: Result) -> Iterator[Card]:
    rows = _sorted(result)
    name = f"{result.trace}, r = {result.ratio:g}"
    costs = [(policy, [run.cost for run in runs]) for policy, runs in rows]
    bars = [(policy, mean(found), min(found), max(found)) for policy, found in costs]
    best = next((k for k, row in enumerate(bars) if row[0] == OURS), -1)
    yield Card(
        f"Cost: {name}", "Over the optimum in hindsight, which is 1; the line is the seeds' range.",
        ranked.ranked("cost", bars, "cost / optimum", best),
    )  # fmt: skip
    shown = _shown(rows)
    if shown:
        yield from _courses(name, shown)
    yield Card(f"Figures: {name}", "Mean over seeds, with the least and the most.",
               table=_table(rows), is_wide=True)  # fmt: skip


def _table(rows: Sequence[tuple[str, Sequence[Run]]]) -> Table:
    lines = []
    for policy, runs in rows:
        costs = [run.cost for run in runs]
        lines.append((
            policy, f"{mean(costs):.3f}", f"{min(costs):.3f} to {max(costs):.3f}",
            f"{mean(r.starts for r in runs):.0f}", f"{mean(r.own_share for r in runs):.1%}",
            f"{mean(r.kept for r in runs):.2%}", f"{mean(r.saved for r in runs):.1%}",
        ))  # fmt: skip
    ours = next((k for k, row in enumerate(lines) if row[0] == OURS), None)
    columns = ("<policy", "cost / optimum", "range", "starts", "own share", "kept", "saved")
    return Table(columns, lines, ours)


def _courses(name: str, shown: Sequence[tuple[str, Run]]) -> Iterator[Card]:
    """Replicas, queue, share and objective over time."""
    ours = shown[0][1].course
    x = Axis(0.0, max(ours[-1].at_s / 3600, 0.1), label="hours")
    demand = Line("demand", [(p.at_s / 3600, p.demand) for p in ours], DEMAND)
    plots = (
        ("Replicas", "Ready ones, and demand in replicas.", "ready"),
        ("Queue", "Calls held for a replica.", "queued"),
        ("Share self-hosted", "Of the work, by own replicas.", "own_share"),
        ("Objective", "Share served; in runs by request, share of answers in time.", "kept"),
    )
    for heading, sentence, field in plots:
        curves = [
            Line(policy, [(p.at_s / 3600, getattr(p, field)) for p in run.course], colour,
                 is_step=field == "ready")
            for (policy, run), colour in zip(shown, COLOURS, strict=False)
        ]  # fmt: skip
        values = [v for line in curves for _, v in line.points]
        if field == "queued" and not any(values):
            continue
        if field == "ready":
            curves.insert(0, demand)
            values += [v for _, v in demand.points]
        low = min(values) if field == "kept" else 0.0
        y = linear(values, low=low if low < 1.0 else 0.0)
        yield Card(f"{heading}: {name}", sentence, charts.lines(heading, (x, y), curves))


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
