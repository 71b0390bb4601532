"""A month's cards, asked of the finance books and of the providers' rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from models.provider import FOLDER, ProviderFileError
from models.provider import load as load_rows
from models.worded import Worded, of
from serving.finance import months, rolling
from serving.finance.base import Database
from serving.finance.values import FinanceError
from serving.scorecard import statements
from serving.scorecard.cards import ROWS_MAX, Card, Promise, cards
from serving.settings import Settings

MINUTE_MS = 60_000


class Month(msgspec.Struct, frozen=True):
    """What a month's cards are of."""

    month: str
    since_ms: int
    until_ms: int
    """The end of the month, or of what is summed up of it."""
    scored_ms: int
    """Sums begin here: attempts of before, if there were any, are not in the cards."""
    cards: tuple[Card, ...]


def promises(settings: Settings) -> dict[str, Promise]:
    """By provider, its promised availability; one that says none is left out. Raises FinanceError
    for a row that cannot be read."""
    folders = [FOLDER, *([settings.providers_dir] if settings.providers_dir else [])]
    try:
        rows = load_rows(*folders)
    except ProviderFileError as error:
        raise FinanceError(
            Worded("field", "{name}: {what}", name="providers", what=of(error))
        ) from None
    told = {name: row.facts.sla_percent for name, row in rows.items()}
    return {
        name: Promise(one.value, one.source, one.as_of)
        for name, one in told.items()
        if one != "unknown"
    }


def asked(database: Database, month: str, offset_ms: int, promised: Mapping[str, Promise]) -> Month:
    """The cards of a month in the books' time zone. Raises FinanceError for a month that is none or
    of which nothing is summed up; LedgerUnavailable."""
    since_ms, until_ms = months.bounds(month, offset_ms)
    rolled_ms, scored_ms = rolling.rolled_ms(database), rolling.scored_ms(database)
    if not scored_ms or rolled_ms <= since_ms or scored_ms >= until_ms:
        raise FinanceError(
            Worded(
                "scorecard.none",
                "nothing of {month} is summed up for scorecards: the controller does "
                "so each minute, and `ballast ledger rollup --since {month}-01` from "
                "rows that are still there",
                month=month,
            )
        )
    bounds = {"since_ms": since_ms, "until_ms": until_ms, "limit": ROWS_MAX + 1}
    rows = database.rows(statements.MONTH, bounds)
    if len(rows) > ROWS_MAX:
        raise FinanceError(
            Worded(
                "scorecard.many",
                "{month} has more than {rows_max} sums: too many targets for one card",
                month=month,
                rows_max=ROWS_MAX,
            )
        )
    end_ms = min(until_ms, rolled_ms)
    minutes = (end_ms - max(since_ms, scored_ms)) // MINUTE_MS
    found = [
        msgspec.structs.replace(
            one, promised=promised.get(one.provider), month_minutes=max(0, minutes)
        )
        for one in cards(rows)
    ]
    return Month(month, since_ms, end_ms, scored_ms, tuple(found))


def as_object(found: Month, provider: str = "") -> dict[str, Any]:
    """For a program: the fields, and what follows from them."""
    rows = []
    for card in found.cards:
        if provider and card.provider != provider:
            continue
        names = ("is_few", "limited_rate", "refused_rate", "seen_percent", "month_percent")
        derived = {name: getattr(card, name) for name in (*names, "is_kept")}
        rows.append(msgspec.to_builtins(card) | derived)
    facts = {name: getattr(found, name) for name in ("month", "since_ms", "until_ms", "scored_ms")}
    return facts | {"cards": rows}
