"""`ballast milestones`: gathers the evidence, has it judged, and tells it. Reads, never writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ballast import books, compliance_files, models_ask, planning_cost, traffic
from ballast import planning_even as even_at
from ballast import planning_market as market
from ballast import planning_values as plans
from ballast.messages import Said, Words, words
from ballast.messages.chosen import Language, spoken
from ballast.milestones_judge import SAVING_GATE, judge
from ballast.milestones_values import Even, Evidence, Growth, Month, Spending, Verdict
from ballast.printing import print_json, show
from ballast.problem import ProblemError, worded
from ballast.running import settings_of
from serving.finance import asking, rolling
from serving.finance.base import Database
from serving.finance.listing import listed
from serving.finance.values import FinanceError, Rental
from serving.ledger.base import Ledger
from serving.ledger.costs import DAY_MS, ROWS_MAX, Cost, Question
from serving.settings import Settings

DAYS = 30
HISTORY_DAYS = 400
WEEK_MS = 7 * DAY_MS
STYLES = {"met": "green", "not_met": "yellow", "unknown": "red"}


def gather(
    settings: Settings, now_ms: int, currency: str, scenario: plans.Scenario, days: int = DAYS
) -> Evidence:
    """Ask ledger, books, settings and the state folder. Raises ProblemError."""
    since_ms = now_ms - days * DAY_MS
    with books.opened(settings) as ledger, books.finance(settings, is_to_read=True) as database:
        calls = traffic.calls(database, since_ms, now_ms)
        spending, fault = spent(settings, (ledger, database), (since_ms, now_ms), currency)
        rentals = [r for r in listed(database, Rental) if r.end_ms > since_ms]
        even, even_fault = even_of(settings, scenario, calls, since_ms)
        return Evidence(
            since_ms=since_ms, calls=calls, sides=tuple(traffic.sides(database, since_ms, now_ms)),
            months=months(settings, ledger, database, now_ms),
            growth=growth(database, now_ms, days),
            spending=spending, spending_fault=fault, even=even, even_fault=even_fault,
            has_rent=bool(rentals), is_dry_run=settings.controller.is_dry_run,
            reports=tuple(compliance_files.sealed_months(settings)),
            utc_offset_hours=settings.ledger.utc_offset_hours,
        )  # fmt: skip


def months(
    settings: Settings, ledger: Ledger, database: Database, now_ms: int
) -> tuple[Month, ...]:
    """Tokens by month and tier: of the rows, and before them of the sums by day."""
    offset_ms = settings.ledger.utc_offset_hours * 3_600_000
    rows_ms = (now_ms - (settings.ledger.row_days - 1) * DAY_MS + offset_ms) // DAY_MS * DAY_MS
    rows_ms -= offset_ms
    recent = Question(("day", "tier"), rows_ms, now_ms, offset_ms, ROWS_MAX)
    older = msgspec.structs.replace(
        recent, since_ms=now_ms - HISTORY_DAYS * DAY_MS, until_ms=rows_ms
    )
    return by_month([*rolling.costs(database, older, "day").costs, *ledger.costs(recent).costs])


def by_month(costs: Iterable[Cost]) -> tuple[Month, ...]:
    """Sums of days. Pure."""
    found: dict[str, Month] = {}
    for cost in costs:
        name = cost.key[0][:7]
        before = found.get(name, Month(name, 0, 0))
        own = cost.own_prompt_tokens + cost.own_completion_tokens
        found[name] = Month(name, before.tokens + cost.tokens, before.own_tokens + own)
    return tuple(found[name] for name in sorted(found) if found[name].tokens)


def growth(database: Database, now_ms: int, days: int) -> Growth:
    """Requests of the first and of the last of the whole weeks looked at."""
    weeks = days // 7
    if weeks < 2:
        return Growth(0, 0, 0)
    first_ms = now_ms - weeks * WEEK_MS
    before = traffic.calls(database, first_ms, first_ms + WEEK_MS).requests
    after = traffic.calls(database, now_ms - WEEK_MS, now_ms).requests
    return Growth(before, after, weeks - 1)


def spent(
    settings: Settings, sources: tuple[Ledger, Database], bounds: tuple[int, int], currency: str
) -> tuple[Spending | None, str]:
    """The period's money in one currency, or why it cannot be said in one."""
    ledger, database = sources
    question = Question((), *bounds, settings.ledger.utc_offset_hours * 3_600_000, ROWS_MAX)
    try:
        first = asking.first_prices(settings)
        found = asking.asked((ledger.costs, database), question, first, currency)
    except FinanceError as error:
        return None, worded(error)
    rate = f"{found.cny_per_usd} CNY/USD, {found.rate_day}"
    return Spending(
        currency, rate, found.cash_micro + found.granted_micro, found.allocation_micro,
        found.shared_micro, found.saving.api_micro, found.saving.unpriced,
    ), ""  # fmt: skip


def even_of(
    settings: Settings, scenario: plans.Scenario, calls: traffic.Calls, since_ms: int
) -> tuple[Even | None, str]:
    """Break-evens of the plan for the mean request that was seen, or why there are none."""
    if not calls.requests or not calls.prompt_tokens or not calls.completion_tokens:
        return None, Said("problem.no_token_request")
    source = str(
        Said("problem.since_ledger", day=f"{datetime.fromtimestamp(since_ms / 1e3, UTC):%Y-%m-%d}")
    )
    request = plans.Request(
        prompt_tokens=max(1, calls.prompt_tokens // calls.requests),
        output_tokens=max(1, calls.completion_tokens // calls.requests),
        cached_share=min(0.99, calls.cached_tokens / calls.prompt_tokens), source=source,
    )  # fmt: skip
    wish = scenario.model_copy(update={"request": request})
    try:
        known = models_ask.knowledge(settings.cards_dir)
        facts = market.gather(wish, known, datetime.now(UTC).date())
    except ProblemError as problem:
        return None, problem.what
    (first,) = even_at.break_evens(wish, facts, is_first_only=True)

    def margin(requests: float) -> float:
        api, hybrid = (planning_cost.year(wish, facts, scheme, requests).total
                       for scheme in ("pure API", "hybrid"))  # fmt: skip
        return (1 - SAVING_GATE) * api - hybrid

    return Even(wish.model, first.requests_per_month, even_at.crossing(margin)), ""


def tables(verdicts: Sequence[Verdict], language: Language) -> Iterable[RenderableType]:
    """For a person."""
    say = words(language)
    table = Table(title=say("milestone.title"), title_justify="left", box=None, pad_edge=False)
    for head in ("what", "state", "since", "evidence"):
        table.add_column(say(f"milestone.head.{head}"), overflow="fold")
    for verdict in verdicts:
        table.add_row(
            say(f"milestone.id.{verdict.id}"),
            Text(say(f"milestone.state.{verdict.state}"), style=STYLES[verdict.state]),
            verdict.since or "-",
            Text("\n".join(lines(verdict, language))),
        )
    yield table


def lines(verdict: Verdict, language: Language) -> list[str]:
    """Evidence, and what is missing with how to get it."""
    say: Words = words(language)
    told = [said.told(language) for said in verdict.evidence]
    for lack in verdict.missing:
        told.append(say("milestone.missing", what=lack.what))
        told.append(say("milestone.to_get", remedy=lack.remedy))
    return told


def as_object(verdicts: Sequence[Verdict], evidence: Evidence, now_s: float) -> dict[str, Any]:
    """For a program: English words, the figures they were made from, and when."""
    return {
        "at": datetime.fromtimestamp(now_s, UTC).isoformat(timespec="seconds"),
        "since": datetime.fromtimestamp(evidence.since_ms / 1e3, UTC).isoformat(timespec="seconds"),
        "milestones": [
            {
                "id": one.id, "state": one.state, "since": one.since or None,
                "evidence": [str(said) for said in one.evidence],
                "missing": [{"what": str(a.what), "how": str(a.remedy)} for a in one.missing],
            }
            for one in verdicts
        ],
        "figures": {name: getattr(evidence, name)
                    for name in ("calls", "sides", "months", "spending", "even", "growth")},
    }  # fmt: skip


def register(app: typer.Typer, guard: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
    """Add the command."""

    @app.command()
    @guard
    def milestones(
        config: Annotated[
            Path | None, typer.Option("--config", "-c", help="Settings file (YAML).")
        ] = None,
        days: Annotated[int, typer.Option(help="Traffic looked at.", min=7, max=90)] = DAYS,
        currency: Annotated[str, typer.Option(help="CNY or USD.")] = "CNY",
        scenario: Annotated[
            Path | None, typer.Option("--plan", help="Scenario of `ballast plan`; else today's.")
        ] = None,
        model: Annotated[str, typer.Option(help="Card that own GPUs would serve.")] = "",
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Say which milestones and triggers of PoC, Beta and Scale are met, with evidence."""
        wish = plans.load(scenario)
        if model:
            wish = wish.model_copy(update={"model": model})
        now_s = time.time()
        evidence = gather(settings_of(config), int(now_s * 1e3), currency, wish, days)
        verdicts = judge(evidence, now_s)
        if as_json:
            print_json(as_object(verdicts, evidence, now_s))
        else:
            show(*tables(verdicts, spoken()))
