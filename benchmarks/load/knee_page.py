"""A search as a page that stands alone: where the target bends. Values in, HTML out."""

from __future__ import annotations

from benchmarks.load.capacity import Found, sentence, sentence_zh
from benchmarks.load.report import foot, goals, title_of
from benchmarks.load.results import Result
from benchmarks.load.wording import Language, word
from models.plots import charts
from models.plots.axes import Axis, linear, powers
from models.plots.charts import Line, Mark
from models.plots.page import Card, Table, in_language, page


def knee(result: Result, answer: Found, language: Language) -> str:
    """The page of a search."""
    title = title_of(result.scenario, language)
    goal = goals(result.scenario)
    say = sentence_zh if language == "zh" else sentence
    points = sorted((t.rate, t.visible_p95_ms) for t in answer.tried if t.visible_p95_ms >= 0)
    shares = sorted((t.rate, t.goodput) for t in answer.tried)
    marks = [Mark(answer.rate, f"{answer.rate:.3g}")] if answer.rate is not None else []
    x = linear([t.rate for t in answer.tried], word("requests", language))
    cards = [
        Card(word("knee", language), word("knee_says", language), charts.lines(
            "p95", (x, powers([v for _, v in points] or [1.0], word("milliseconds", language))),
            [Line("p95", points, 0)], marks)),
        Card(word("within", language), goal, charts.lines(
            "goodput", (x, Axis(0.0, 1.0)),
            [Line(word("in_goal", language), shares, 2),
             Line(word("goal", language), [(x.low, answer.share), (x.high, answer.share)], 7,
                  is_dashed=True)], marks)),
        Card(word("tried", language), word("knee_says", language), is_wide=True, table=Table(
            (f"{word('requests', language)}", word("in_goal", language),
             f"{word('first_seen', language)} p95 ms", f"{word('complete', language)} p95 ms",
             f"<{word('held', language)}"),
            [(f"{t.rate:.4g}", f"{t.goodput:.2%}", f"{t.visible_p95_ms:.0f}",
              f"{t.complete_p95_ms:.0f}", t.invalid or ("+" if t.goodput >= answer.share else "-"))
             for t in sorted(answer.tried, key=lambda t: t.rate)])),
    ]  # fmt: skip
    shown = f"{answer.rate:.3g}" if answer.rate is not None else "-"
    figures = [(shown, word("highest", language))]
    document = page(f"{word('report', language)}: {title}", say(answer, result.model, goal),
                    figures, cards, foot(result))  # fmt: skip
    return in_language(document, "zh-CN" if language == "zh" else "en")
