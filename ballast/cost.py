"""`ballast cost`: what was spent on what, asked of the ledger itself. Reads, never writes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import typer
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from ballast import books, cost_summary
from ballast.messages import Language, Said, named, words
from ballast.messages.chosen import spoken
from ballast.problem import ProblemError, worded
from serving.finance import asking, rolling
from serving.ledger.costs import DIMENSIONS, ROWS_MAX, Answer, Cost, Money, Question, begin_ms
from serving.settings import Settings

DAYS_MAX = 400
HOUR_MS = 3_600_000


class Wish(NamedTuple):
    """What the flags ask for."""

    by: str = "tenant,model,target"
    since: str = ""
    """ISO date; empty is `days` before `until`."""
    until: str = ""
    """ISO date, exclusive; empty is the end of today."""
    days: int = 30
    utc_offset_hours: float | None = None
    """Where days begin; None: as in the books."""
    limit: int = 50
    currency: str = "CNY"
    """Of the summary."""
    tax_percent: float = 0.0
    """On top of the summary's total, in its last line."""
    is_of_rollups: bool = False
    """Ask the sums by day, which outlive the rows."""


class Report(msgspec.Struct, frozen=True):
    """The figures and what they are of."""

    since: date
    until: date
    question: Question
    total: Cost | None
    """None when nothing ended in that time."""
    answer: Answer
    summary: cost_summary.Said
    tax_percent: Decimal


def question(wish: Wish, now_s: float, books_hours: int = 0) -> tuple[date, date, Question]:
    """The period and the question; `books_hours` is the books' own offset. Raises ProblemError
    naming the flag. Pure."""
    hours = books_hours if wish.utc_offset_hours is None else wish.utc_offset_hours
    offset_ms = round(hours * HOUR_MS)
    today = datetime.fromtimestamp(now_s + offset_ms / 1e3, UTC).date()
    until = _date("--until", wish.until) or today + timedelta(days=1)
    since = _date("--since", wish.since) or until - timedelta(days=wish.days)
    if not 1 <= (until - since).days <= DAYS_MAX:
        raise ProblemError(
            Said("cost.no_period", since=since, until=until), Said("cost.ask_days", days=DAYS_MAX)
        )
    by = tuple(name.strip() for name in wish.by.split(",") if name.strip())
    try:
        asked = Question(
            by, begin_ms(since, offset_ms), begin_ms(until, offset_ms), offset_ms, wish.limit
        )
    except ValueError as error:
        known = Said("cost.known", names=tuple(DIMENSIONS))
        raise ProblemError(Said("cost.by", error=worded(error)), known) from None
    return since, until, asked


def _date(flag: str, text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        no_date = Said("cost.no_date", flag=flag, text=repr(text))
        raise ProblemError(no_date, Said("cost.write_it")) from None


def collect(settings: Settings, wish: Wish, now_s: float | None = None) -> Report:
    """Ask the ledger. Raises ProblemError."""
    at_s = time.time() if now_s is None else now_s
    since, until, asked = question(wish, at_s, settings.ledger.utc_offset_hours)
    with books.opened(settings) as ledger, books.finance(settings, is_to_read=True) as database:
        ask: Callable[[Question], Answer] = ledger.costs
        if wish.is_of_rollups:
            ask = lambda one: rolling.costs(database, one, "day")  # noqa: E731
        total = ask(msgspec.structs.replace(asked, by=(), rows_max=ROWS_MAX))
        first_of = asking.first_prices(settings)
        found = cost_summary.said((ask, database), asked, first_of, wish.currency)
        tax = Decimal(str(wish.tax_percent))
        first = next(iter(total.costs), None)
        return Report(since, until, asked, first, ask(asked), found, tax)


def as_object(report: Report) -> dict[str, Any]:
    """Everything, for a program: money as integer micro-units, shares as 0..1."""
    return {
        "since": report.since,
        "until": report.until,
        "utc_offset_hours": report.question.offset_ms / HOUR_MS,
        "by": report.question.by,
        "is_cut": report.answer.is_cut,
        "total": _object(report.total) if report.total else None,
        "rows": [
            dict(zip(report.question.by, cost.key, strict=True)) | _object(cost)
            for cost in report.answer.costs
        ],
        **cost_summary.as_object(report.summary),
    }


def _object(cost: Cost) -> dict[str, Any]:
    counts = {
        name: getattr(cost, name) for name in Cost.__struct_fields__ if name not in ("key", "money")
    }
    return counts | {
        "own_request_share": cost.own_request_share,
        "own_token_share": cost.own_token_share,
        "tokens_per_request": cost.tokens_per_request,
        "money": [
            {
                "currency": money.currency,
                "kind": money.kind,
                "micro": money.micro,
                "micro_per_mtok": cost.micro_per_mtok(money),
            }
            for money in cost.money
        ],
    }


def tables(report: Report, language: Language = "en") -> Group:
    """Everything, for a person."""
    by, say = report.question.by, words(language)
    offset = f"{report.question.offset_ms / HOUR_MS:+g}"
    title = say("cost.title", since=report.since, until=report.until, offset=offset)
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in by:
        table.add_column(named("cost.by_column", name, language), overflow="fold")
    for name in ("requests", "own", "tokens", "own", "tokens_per_request", "money", "per_mtok"):
        table.add_column(say(f"cost.column.{name}"), justify="right")
    for cost in report.answer.costs:
        table.add_row(*map(_printable, cost.key), *_cells(cost))
    if report.total is not None and by:
        table.add_section()
        blank = [""] * (len(by) - 1)
        table.add_row(say("cost.all"), *blank, *_cells(report.total), style="bold")
    notes = [say("cost.note")]
    if not report.answer.costs:
        notes.insert(0, say("cost.nothing"))
    if report.answer.is_cut:
        notes.insert(0, say("cost.cut", rows=report.question.rows_max))
    dim = (Text(note, style="dim") for note in notes)
    below = cost_summary.tables(report.summary, report.tax_percent, language)
    return Group(table, "", *dim, "", below)


def _cells(cost: Cost) -> list[str]:
    return [
        f"{cost.requests:,}",
        _share(cost.own_request_share),
        f"{cost.tokens:,}",
        _share(cost.own_token_share),
        "-" if cost.tokens_per_request is None else f"{cost.tokens_per_request:,.0f}",
        _amounts((money, money.micro) for money in cost.money),
        _amounts((money, cost.micro_per_mtok(money)) for money in cost.money),
    ]


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _amounts(amounts: Iterable[tuple[Money, int | None]]) -> str:
    """One line each; four digits, because a request costs fractions of a cent."""
    lines = [
        f"{_printable(money.currency)} {micro / 1e6:,.4f}"
        + ("" if money.kind == "cash" else f" {_printable(money.kind)}")
        for money, micro in amounts
        if micro is not None
    ]
    return "\n".join(lines) or "-"


def _printable(text: str) -> Text:
    """A name as it is, but for what could steer a terminal."""
    return Text("".join(char if char.isprintable() else "\ufffd" for char in text))


def register(
    app: typer.Typer,
    guard: Callable[[Callable[..., None]], Callable[..., None]],
    running: Callable[[Path | None], Settings],
) -> None:
    """Add the command. `guard` turns problems into words, `running` finds the settings."""

    @app.command()
    @guard
    def cost(
        config: Annotated[
            Path | None, typer.Option("--config", "-c", help="Settings file (YAML).")
        ] = None,
        by: Annotated[
            str, typer.Option(help="Of day, tenant, project, feature, model, target, tier.")
        ] = Wish().by,
        since: Annotated[str, typer.Option(help="First day, as 2026-11-25; else --days.")] = "",
        until: Annotated[str, typer.Option(help="Day after the last; else tomorrow.")] = "",
        days: Annotated[int, typer.Option(help="Length of the period.", min=1)] = 30,
        utc_offset: Annotated[
            float | None,
            typer.Option(
                help="Hours ahead of UTC, where days begin; else `ledger.utc_offset_hours`.",
                min=-12,
                max=14,
            ),
        ] = None,
        limit: Annotated[int, typer.Option(help="Rows at most.", min=1, max=ROWS_MAX)] = 50,
        currency: Annotated[str, typer.Option(help="Of the summary: CNY or USD.")] = "CNY",
        tax: Annotated[
            float, typer.Option(help="Percent on top of the sum in all.", min=0, max=100)
        ] = 0.0,
        rollups: Annotated[
            bool, typer.Option("--rollups", help="Of the sums by day, where rows are trimmed.")
        ] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Say what was spent on what, and how much of it ran on our own engines."""
        wish = Wish(by, since, until, days, utc_offset, limit, currency, tax, rollups)
        report = collect(running(config), wish)
        if as_json:
            typer.echo(msgspec.json.format(msgspec.json.encode(as_object(report))))
        else:
            Console(width=None if sys.stdout.isatty() else 160).print(tables(report, spoken()))
