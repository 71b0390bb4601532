"""`ballast scorecard`: how each third party did in a month, promised against measured."""

from __future__ import annotations

import csv
import sys
import time
from typing import Annotated

import typer
from rich.text import Text

from ballast import books
from ballast.admin_flags import AsJson, Config
from ballast.admin_words import table, when
from ballast.messages import Said, say, tell
from ballast.messages.chosen import spoken
from ballast.printing import print_json, show
from ballast.problem import ProblemError, worded
from ballast.running import settings_of
from serving.finance import months
from serving.finance.values import HOUR_MS, FinanceError
from serving.scorecard import asking
from serving.scorecard.cards import FEW, Card, csv_rows

COLUMNS = (
    "provider", "model", "attempts", "429", "refused", "faulty", "first p50", "p95",
    "down min", "measured %", "promised %", "tokens", "money", "note",
)  # fmt: skip
NOTES = Said("scorecard.notes")


def scorecard(
    month: Annotated[str, typer.Option(help="As 2026-11, in the books' time zone.")] = "",
    provider: Annotated[str, typer.Option(help="One account only.")] = "",
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    config: Config = None,
) -> None:
    """How each third party did in a month: 429s, first token, refusals, downtime, promised
    availability against measured, tokens and money."""
    found = _asked(config, month)
    kept = [one for one in found.cards if provider in ("", one.provider)]
    if as_json:
        print_json(asking.as_object(found, provider))
    elif as_csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows(csv_rows(found.month, kept))
    else:
        title = say("scorecard.title", month=found.month, until_ms=when(found.until_ms))
        if found.scored_ms > found.since_ms:
            title += say("scorecard.since", scored_ms=when(found.scored_ms))
        show(Text(title))
        table(COLUMNS, map(_cells, kept))
        show(Text(tell(NOTES, spoken()), style="dim"))


def _asked(config: Config, month: str) -> asking.Month:
    settings = settings_of(config)
    offset_ms = settings.ledger.utc_offset_hours * HOUR_MS
    with books.finance(settings, is_to_read=True) as database:
        try:
            named = month or months.of(time.time_ns() // 1_000_000, offset_ms)
            return asking.asked(database, named, offset_ms, asking.promises(settings))
        except FinanceError as error:
            raise ProblemError(worded(error), Said("scorecard.see")) from None


def _cells(card: Card) -> list[str]:
    promised = say("scorecard.unknown") if card.promised is None else f"{card.promised.percent:g}"
    note = say("scorecard.few", few=FEW) if card.is_few else ""
    if card.is_kept is not None:
        note = f"{note} {say('scorecard.kept' if card.is_kept else 'scorecard.not_kept')}".strip()
    return [
        card.provider, card.model, f"{card.attempts:,}", _share(card.limited_rate),
        _share(card.refused_rate), f"{card.faulty:,}", _seconds(card.first_p50_ms),
        _seconds(card.first_p95_ms), f"{card.minutes_down:,}",
        "-" if card.seen_percent is None else f"{card.seen_percent:.3f}", promised,
        f"{card.prompt_tokens + card.completion_tokens:,}",
        ", ".join(books.amount(one.currency, one.micro) for one in card.money), note,
    ]  # fmt: skip


def _share(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.2%}"


def _seconds(at_ms: float | None) -> str:
    return "-" if at_ms is None else f"{at_ms / 1000:.2f}"
