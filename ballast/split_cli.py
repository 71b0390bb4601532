"""`ballast split report`: the sides of a percentage split, compared with intervals."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from ballast import books
from ballast.admin_flags import AsJson, Config
from ballast.admin_words import table
from ballast.messages import Said, named, say, tell
from ballast.messages.chosen import spoken
from ballast.printing import print_json, show
from ballast.problem import ProblemError
from ballast.running import settings_of
from serving.evaluation import splits
from serving.evaluation.intervals import GROUPS_FEW, Interval
from serving.evaluation.splits import REQUESTS_FEW, ROWS_MAX, Compared, Found, Report
from serving.finance.values import HOUR_MS
from serving.ledger.costs import begin_ms
from serving.placement.assign import arm_at
from serving.placement.values import Arm
from serving.settings import Settings

split = typer.Typer(help="Percentage splits: which side does better.", no_args_is_help=True)
DAYS_MAX = 92
NOTES = Said("split.notes")


@split.command("report")
def report(
    name: Annotated[str, typer.Argument(help="The public name that is split.")],
    since: Annotated[str, typer.Option(help="First day, as 2026-11-01; else --days.")] = "",
    until: Annotated[str, typer.Option(help="Day after the last; else tomorrow.")] = "",
    days: Annotated[int, typer.Option(help="Length of the period.", min=1, max=DAYS_MAX)] = 14,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Signs of quality, latency and cost of each side, with confidence intervals."""
    settings = settings_of(config)
    bounds = _period(settings, since, until, days)
    found = collect(settings, name, bounds)
    if as_json:
        print_json(as_object(found, bounds))
        return
    show(Text(say("split.title", name=name, bounds=bounds[0], bounds_2=bounds[1])))
    _print(found)


def _period(settings: Settings, since: str, until: str, days: int) -> tuple[date, date]:
    offset_s = settings.ledger.utc_offset_hours * 3600
    today = datetime.fromtimestamp(time.time() + offset_s, UTC).date()
    try:
        last = date.fromisoformat(until) if until else today + timedelta(1)
        first = date.fromisoformat(since) if since else last - timedelta(days)
    except ValueError as error:
        raise ProblemError(f"{error}", Said("split.write_days")) from None
    if not 1 <= (last - first).days <= DAYS_MAX:
        raise ProblemError(
            Said("split.no_period", first=first, last=last),
            Said("split.ask_days", days_max=DAYS_MAX),
        )
    return first, last


def collect(settings: Settings, name: str, period: tuple[date, date]) -> Report:
    """Ask the ledger. Raises ProblemError."""
    given = settings.routing.names.get(name)
    arms = [Arm(one.name, one.percent) for one in given.split] if given is not None else []
    offset_ms = settings.ledger.utc_offset_hours * HOUR_MS
    values: dict[str, Any] = {
        "name": name, "since_ms": begin_ms(period[0], offset_ms),
        "until_ms": begin_ms(period[1], offset_ms), "limit": ROWS_MAX,
    }  # fmt: skip
    questions = (splits.PARTS, splits.MONEY, splits.TARGETS, splits.TIMES)
    with books.finance(settings, is_to_read=True) as database:
        rows = [database.rows(question, values) for question in questions]
    if any(len(one) >= ROWS_MAX for one in rows):
        raise ProblemError(
            Said("split.many_groups", name=name, rows_max=ROWS_MAX), Said("split.shorter")
        )
    if not rows[0]:
        raise ProblemError(_nothing(name, settings, is_split=bool(arms)), "docs/evaluation.md")
    percents = {arm.name: arm.percent for arm in arms}
    return splits.report(
        name, percents, lambda part: arm_at(part, arms).name if arms else "", Found(*rows)
    )


def _nothing(name: str, settings: Settings, *, is_split: bool) -> str:
    if is_split:
        return say("split.no_request", name=name)
    known = [one for one, given in settings.routing.names.items() if given.split]
    return Said("split.not_split", name=name, names=known or Said("admin.none"))


def as_object(found: Report, period: tuple[date, date]) -> dict[str, Any]:
    """For a program."""
    body = msgspec.to_builtins(found) | {"since": str(period[0]), "until": str(period[1])}
    for row, side in zip(body["sides"], found.sides, strict=True):
        row["is_few"] = side.is_few
    return dict(body)


def _print(found: Report) -> None:
    names = [one.name for one in max((s.figures for s in found.sides), key=len)]
    rows: list[list[str]] = [
        [_named("requests"), *(f"{side.requests:,}" for side in found.sides)],
        [say("split.parts"), *(f"{side.parts:,}" for side in found.sides)],
        [say("split.ended_at"), *(_targets(side.targets) for side in found.sides)],
    ]
    for place, name in enumerate(names):
        figures = [side.figures[place] for side in found.sides]
        rows.append([_named(name), *map(_figure, figures)])
        if any(one.more is not None for one in figures):
            rows.append(["", *map(_more, figures)])
    heads = [f"{s.name} {'' if s.percent is None else f'{s.percent} %'}" for s in found.sides]
    table(["", *heads], rows)
    few = [side.name for side in found.sides if side.is_few]
    if few:
        show(
            say("split.few", names=", ".join(few), requests_few=REQUESTS_FEW, groups_few=GROUPS_FEW)
        )
    show(say("split.sticky", moved=found.moved, elsewhere=found.elsewhere))
    show(Text(tell(NOTES, spoken()), style="dim"))


def _named(figure: str) -> str:
    """A figure's name; those of money go by their currency."""
    currency, _, rest = figure.partition(" ")
    if rest == "micro a request":
        return say("split.micro", currency=currency)
    return named("split.figure", figure, spoken())


def _targets(targets: tuple[tuple[str, int], ...]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in targets[:3])


def _figure(one: Compared) -> str:
    if one.found is None:
        return "-"
    return f"{_said(one.found.value, one.kind)} ({_span(one.found, one.kind)})"


def _more(one: Compared) -> str:
    if one.more is None:
        return ""
    mark = "*" if one.more.is_off_zero else ""
    return f"{_said(one.more.value, one.kind, sign='+')} ({_span(one.more, one.kind)}) {mark}"


def _span(found: Interval, kind: str) -> str:
    return say("split.span", low=_said(found.low, kind), high=_said(found.high, kind))


def _said(value: float, kind: str, sign: str = "") -> str:
    return f"{100 * value:{sign}.2f} %" if kind == "share" else f"{value:{sign},.1f}"
