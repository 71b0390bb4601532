"""What a person sees while a run is under way, and at its end: rich, on standard error."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from rich.console import Console, Group, RenderableType
from rich.live import Live as Screen
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks.load.compare import SHARE, Compared
from benchmarks.load.percentiles import Spread
from benchmarks.load.sender import Live
from benchmarks.load.summary import Summary
from benchmarks.load.wording import Language, spoken, text, word

COLUMNS = ("kind", "sent", "good", "failed", "in_goal", "visible_3", "token_2", "complete_3",
           "tokens_rate")  # fmt: skip
ROWS = {"goodput": "goodput_row", "failed": "failed_row", "first visible token": "visible_row",
        "per token": "token_row", "complete": "complete_row"}  # fmt: skip
"""Figures of `compare` by their names there."""
WIDTH = 150
"""Where the output is no terminal, so that tables do not break."""


def _console(*, stderr: bool) -> Console:
    made = Console(stderr=stderr, highlight=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=WIDTH)


console = _console(stderr=True)


class Watching:
    """A bar over the time, and the figures so far. A no-op where nobody looks."""

    def __init__(self, title: str, seconds: float) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(), console=console,
        )  # fmt: skip
        self._bar = self._progress.add_task(title, total=seconds)
        self._screen = Screen(self._progress, console=console, refresh_per_second=4)

    def __enter__(self) -> Watching:
        if console.is_terminal:
            self._screen.start()
        return self

    def __exit__(self, *_: object) -> None:
        if console.is_terminal:
            self._screen.stop()

    def at(self, elapsed_s: float, lives: Sequence[Live]) -> None:
        """So far."""
        if console.is_terminal:
            self._progress.update(self._bar, completed=elapsed_s)
            self._screen.update(Group(self._progress, _so_far(lives, elapsed_s)))


def _so_far(lives: Sequence[Live], elapsed_s: float) -> RenderableType:
    sent, good, failed, under_way, tokens = (
        sum(getattr(one, name) for one in lives)
        for name in ("sent", "good", "failed", "under_way", "tokens")
    )
    recent = [v for one in lives for v in one.first_ms]
    first = f"{median(recent):.0f} ms" if recent else "-"
    late = max((one.late_ms for one in lives), default=0.0)
    return text(
        "so_far", spoken(), sent=sent, good=good, failed=failed, under_way=under_way,
        rate=f"{sent / max(elapsed_s, 1e-3):.1f}", tokens=tokens, first=first, late=f"{late:.1f}",
    )  # fmt: skip


def tell(summary: Summary) -> None:
    """The end of a run."""
    language = spoken()
    table = Table(box=None, header_style="dim")
    for name in COLUMNS:
        table.add_column(word(name, language), justify="left" if name == "kind" else "right")
    for f in (*summary.kinds, *([summary.total] if len(summary.kinds) > 1 else [])):
        table.add_row(
            word("every", language) if f is summary.total else f.name, str(f.sent), str(f.good),
            str(f.failed + f.unfinished), f"{f.goodput:.1%}", _three(f.visible_ms),
            _two(f.token_ms), _three(f.complete_ms), f"{f.tokens_per_s:.0f}",
        )  # fmt: skip
    console.print(table)
    for fault in summary.faults[:5]:
        console.print(f"  {fault.count} x {fault.kind}: {fault.example}", markup=False)
    for f in summary.kinds:
        if f.cached_goal:
            console.print(text("cached_says", language, name=f.name, goal=f"{f.cached_goal:.0%}",
                               share=f"{f.cached_share:.1%}"))  # fmt: skip
    m = summary.machine
    console.print(text(
        "sender_says", language, processes=m.processes, share=f"{m.cpu_share:.0%}",
        p99=f"{m.late_ms.p99:.1f}", most=f"{m.late_max_ms:.1f}",
        per_s=f"{summary.total.per_s:.1f}",
    ))  # fmt: skip
    if summary.is_partial:
        console.print(f"[yellow]{word('partial', language)}[/yellow]")
    for reason in summary.told(language):
        console.print(f"[red]{text('invalid_because', language, reason=reason)}[/red]")


def tell_compared(found: Sequence[Compared]) -> None:
    """The table of `compare`."""
    first, *numbers, last = heads(spoken())
    table = Table(box=None, header_style="dim")
    table.add_column(first)
    for name in numbers:
        table.add_column(name, justify="right")
    table.add_column(last)
    for one in found:
        table.add_row(called(one, spoken()), *words(one, spoken()))
    _console(stderr=False).print(table)


def heads(language: Language) -> tuple[str, ...]:
    """Columns of two runs side by side."""
    return (word("figure", language), "A", "B",
            *(word(key, language) for key in ("b_against_a", "interval", "b_is")))  # fmt: skip


def called(one: Compared, language: Language) -> str:
    """A figure's name: its measure, and which percentile."""
    head, _, point = one.name.rpartition(" p")
    key = ROWS.get(head or one.name)
    if key is None:
        return one.name
    return word(key, language) + (f" p{point}" if head else "")


def words(one: Compared, language: Language) -> tuple[str, str, str, str, str]:
    """The cells of a row after its name."""
    if one.unit == SHARE:
        low, high = f"{one.low:+.2%}", f"{one.high:+.2%}"
        cells = (f"{one.a:.2%}", f"{one.b:.2%}", f"{one.effect:+.2%}")
    else:
        low, high = f"x {one.low:.3f}", f"x {one.high:.3f}"
        cells = (f"{one.a:.1f} ms", f"{one.b:.1f} ms", f"x {one.effect:.3f}")
    is_known = one.verdict != "unknown"
    interval = word("too_short", language)
    if is_known:
        interval = text("span", language, low=low, high=high)
    return (*cells, interval, word(one.verdict, language))


def _two(spread: Spread) -> str:
    return f"{spread.p50:.1f} / {spread.p95:.1f}" if spread.count else "-"


def _three(spread: Spread) -> str:
    if not spread.count:
        return "-"
    return f"{spread.p50:.0f} / {spread.p95:.0f} / {spread.p99:.0f}"
