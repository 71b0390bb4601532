"""A run as a page that stands alone, in English or Chinese. Values in, HTML out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.load.percentiles import Spread, quantiles
from benchmarks.load.results import Result
from benchmarks.load.seen import Seen
from benchmarks.load.summary import Figures
from benchmarks.load.values import Goal, Scenario
from benchmarks.load.wording import Language, text, word
from benchmarks.telling import noted
from models.plots import charts
from models.plots.axes import Axis, linear, powers
from models.plots.charts import Line
from models.plots.page import Card, Table, in_language, page

POINTS = 200
"""Of a distribution's curve."""


def made(result: Result, rows: Sequence[Seen], language: Language) -> str:
    """The page of one run."""
    summary, scenario = result.summary, result.scenario
    state = word("valid" if summary.is_valid else "invalid", language)
    if summary.is_partial:
        state += f" · {word('partial', language)}"
    title = title_of(scenario, language)
    by = f"{word('tokens_by', language)}: {noted(result.tokens_by, language)}"
    notes = " ".join(noted(said, language) for said in result.notes)
    lead = f"{state}. {result.model} @ {result.url}; seed {result.seed}; {by}. {notes}"
    cards = [card for card in _cards(result, rows, language) if card is not None]
    head = f"{word('report', language)}: {title}"
    document = page(head, lead, _figures(result, language), cards, foot(result))
    return in_language(document, "zh-CN" if language == "zh" else "en")


def goals(scenario: Scenario) -> str:
    """All goals in words that need no language."""
    return "; ".join(f"{kind.name}: {_goal(kind.goal)}" for kind in scenario.kinds)


def _goal(goal: Goal) -> str:
    limits = {"TTFT": goal.first_token_ms, "TPOT": goal.token_ms, "E2E": goal.complete_ms}
    return ", ".join(f"{k} <= {v:g} ms" for k, v in limits.items() if v is not None) or "-"


def title_of(scenario: Scenario, language: Language) -> str:
    """In the language, where the scenario has one."""
    return scenario.title_zh if language == "zh" and scenario.title_zh else scenario.title


def foot(result: Result) -> str:
    """Where figures come from."""
    p = result.provenance
    load = " ".join(f"{v:.1f}" for v in p.load_before)
    commit = p.commit[:12] + (" (dirty)" if p.is_dirty else "")
    machine = f"{p.cpu_model}, {p.cores} cores, load {load}"
    return f"{p.command} | {p.at} | {commit} | {machine} | {p.versions.get('python', '')}"


def _figures(result: Result, language: Language) -> list[tuple[str, str]]:
    total = result.summary.total
    lost = total.failed + total.unfinished
    found = [
        (f"{total.per_s:.4g}", word("per_s", language)),
        (f"{total.goodput:.1%}", word("goodput", language)),
        (_ms(total.visible_ms.p95), word("visible", language)),
        (f"{lost / max(1, total.sent):.1%}", word("failed", language)),
        (f"{total.tokens_per_s:.4g}", word("tokens_per_s", language)),
    ]
    found += _cached(result, language)
    if total.api_share >= 0:
        found.append((f"{total.api_share:.1%}", word("overflow", language)))
    if result.summary.currency:
        found.append((f"{total.cost:.4g} {result.summary.currency}", word("cost", language)))
    return found


def _cached(result: Result, language: Language) -> Iterator[tuple[str, str]]:
    """Each kind with a goal by itself: over all kinds the share of one is not to be seen."""
    total = result.summary.total
    wanted = [f for f in result.summary.kinds if f.cached_goal]
    for f in wanted:
        said = text("cached_goal", language, name=f.name, goal=f"{f.cached_goal:.0%}")
        yield f"{f.cached_share:.1%}", said
    if total.prompt_tokens and not wanted:
        yield f"{total.cached_share:.1%}", word("cached", language)


def _cards(result: Result, rows: Sequence[Seen], language: Language) -> Iterator[Card | None]:
    summary = result.summary
    if summary.reasons:
        yield Card(word("why", language), "; ".join(summary.told(language)), is_wide=True)
    yield _load(result, language)
    yield _latency(result, language)
    yield _distribution(result, rows, language)
    yield _machine(result, language)
    yield _faults(result, language)
    yield _by_kind(result, language)
    yield _usage(result, language)


def _load(result: Result, language: Language) -> Card:
    course = result.summary.course
    each = course[1].at_s if len(course) > 1 else max(1.0, result.summary.seconds)
    end_s = result.scenario.warmup_s + result.summary.seconds

    def steps(name: str) -> list[tuple[float, float]]:
        """Of the last stretch as much as there was."""
        long = [min(each, max(1e-3, end_s - s.at_s)) for s in course]
        points = [(s.at_s, getattr(s, name) / t) for s, t in zip(course, long, strict=True)]
        return [*points, (points[-1][0] + long[-1], points[-1][1])] if points else []

    curves = [
        Line(word("sent", language), steps("sent"), 7, is_step=True),
        Line(word("good", language), steps("good"), 2, is_step=True),
        Line(word("failed", language), steps("failed"), 4, is_step=True),
        Line(word("under_way", language), [(s.at_s + each, s.under_way) for s in course], 1,
             is_dashed=True),
    ]  # fmt: skip
    return Card(word("load", language), word("load_says", language), _over(curves, "/s", language))


def _latency(result: Result, language: Language) -> Card | None:
    course = [s for s in result.summary.course if s.first_p50_ms >= 0]
    if not course:
        return None
    curves = [
        Line("p95", [(s.at_s, s.first_p95_ms) for s in course], 1),
        Line("p50", [(s.at_s, s.first_p50_ms) for s in course], 0),
    ]
    picture = _over(curves, word("milliseconds", language), language)
    return Card(word("latency", language), word("latency_says", language), picture)


def _over(curves: Sequence[Line], label: str, language: Language) -> str:
    xs = [x for line in curves for x, _ in line.points]
    ys = [y for line in curves for _, y in line.points]
    axes = (linear(xs or [1.0], word("seconds", language)), linear(ys or [1.0], label))
    return charts.lines(label, axes, curves)


def _distribution(result: Result, rows: Sequence[Seen], language: Language) -> Card | None:
    good = [r for r in rows if r.is_good and r.due_s >= result.scenario.warmup_s]
    series = (
        ("first_any", [r.first_s - r.due_s for r in good if r.first_s >= 0]),
        ("first_seen", [r.visible_s - r.due_s for r in good if r.visible_s >= 0]),
        ("complete", [r.done_s - r.due_s for r in good]),
    )
    curves, every = [], []
    shares = [float(v) for v in np.linspace(0.005, 0.995, POINTS)]
    for colour, (key, values) in enumerate(series):
        if values:
            at = [v * 1e3 for v in quantiles(np.asarray(values), shares)]
            every += at
            curves.append(Line(word(key, language), list(zip(at, shares, strict=True)), colour))
    if not curves:
        return None
    axes = (powers(every, word("milliseconds", language)), Axis(0.0, 1.0))
    return Card(word("distribution", language), word("distribution_says", language),
                charts.lines("share", axes, curves))  # fmt: skip


def _faults(result: Result, language: Language) -> Card | None:
    faults = result.summary.faults
    if not faults:
        return None
    columns = (word("kind", language), word("count", language), f"<{word('example', language)}")
    rows = [(f.kind, str(f.count), f.example) for f in faults]
    return Card(word("faults", language), word("faults_says", language),
                table=Table(columns, rows))  # fmt: skip


def _by_kind(result: Result, language: Language) -> Card:
    def cells(f: Figures) -> tuple[str, ...]:
        spreads = (f.first_ms, f.visible_ms, f.gap_ms, f.token_ms, f.complete_ms)
        return (_name(f, result, language), str(f.sent), f"{f.goodput:.1%}", *map(_four, spreads))

    columns = (word("kind", language), word("sent", language), word("in_goal", language), *(
        f"{word(key, language)} p50/90/95/99"
        for key in ("first_any", "first_seen", "gap", "token", "complete")))  # fmt: skip
    summary = result.summary
    rows = [cells(f) for f in (*summary.kinds, summary.total)]
    says = word("figures_says", language)
    says += " " + text("goals", language, goals=goals(result.scenario))
    return Card(word("figures", language), says, is_wide=True,
                table=Table(columns, rows, len(rows) - 1))  # fmt: skip


def _name(f: Figures, result: Result, language: Language) -> str:
    return word("every", language) if f is result.summary.total else f.name


def _usage(result: Result, language: Language) -> Card:
    keys = ("kind", "feature", "mean_prompt", "mean_completion", "reasoning", "cached", "template",
            "overflow", "cost")  # fmt: skip
    rows = [
        (_name(f, result, language), f.feature or "-", f"{f.mean_prompt:.0f}",
         f"{f.mean_completion:.0f}", str(f.reasoning_tokens), f"{f.cached_share:.1%}",
         f"{f.prompt_off:+.0f}", f"{f.api_share:.1%}" if f.api_share >= 0 else "-",
         f"{f.cost:.4g} {result.summary.currency}" if result.summary.currency else "-")
        for f in (*result.summary.kinds, result.summary.total)
    ]  # fmt: skip
    return Card(word("usage", language), word("usage_says", language), is_wide=True,
                table=Table([word(key, language) for key in keys], rows))  # fmt: skip


def _machine(result: Result, language: Language) -> Card:
    m = result.summary.machine
    rows = [
        (word("processes", language), str(m.processes)),
        (word("cpu", language), f"{m.cpu_share:.0%}"),
        (
            word("late", language),
            f"{m.late_ms.p50:.2f} / {m.late_ms.p99:.2f} / {m.late_max_ms:.1f}",
        ),
        (word("connections", language), str(m.connections)),
        (word("not_sent", language), str(m.not_sent)),
    ]
    return Card(word("machine", language), word("machine_says", language),
                table=Table((word("what", language), word("value", language)), rows))  # fmt: skip


def _ms(value: float) -> str:
    return f"{value:.0f} ms" if value >= 0 else "-"


def _four(spread: Spread) -> str:
    if not spread.count:
        return "-"
    return " / ".join(f"{v:.3g}" if v < 100 else f"{v:.0f}"
                      for v in (spread.p50, spread.p90, spread.p95, spread.p99))  # fmt: skip
