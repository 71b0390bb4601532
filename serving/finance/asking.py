"""A period's summary, asked of ledger and books; and the prices that it compares with."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from models import prices
from models.provider import FOLDER, Provider, ProviderFileError, micro
from models.provider import load as load_rows
from models.worded import Worded, of
from serving.finance import statements
from serving.finance.allocation import lines_within, pools
from serving.finance.base import Database
from serving.finance.listing import listed
from serving.finance.summary import BY, Facts, Summary, summary
from serving.finance.values import CostLine, FinanceError, Rental
from serving.ledger.costs import ROWS_MAX, Answer, Question
from serving.records import Price
from serving.settings import Settings


def first_prices(settings: Settings) -> dict[str, Price]:
    """By model, the price of its first offering; a model without one, or without a price, is left
    out. Raises FinanceError for a provider row that cannot be read."""
    try:
        rows = load_rows(*[FOLDER, *([settings.providers_dir] if settings.providers_dir else [])])
    except ProviderFileError as error:
        raise FinanceError(
            Worded("field", "{name}: {what}", name="providers", what=of(error))
        ) from None
    found = {}
    for model in settings.models:
        if model.offerings and (price := _price(rows, model.offerings[0])) is not None:
            found[model.name] = price
    return found


def _price(rows: dict[str, Provider], offering: str) -> Price | None:
    provider, _, upstream = offering.partition("/")
    row = rows.get(provider)
    sold = next((one for one in row.models if one.id == upstream), None) if row else None
    if sold is None:
        return None
    fresh, out, cached = map(
        micro, (sold.input_per_mtok, sold.output_per_mtok, sold.cached_per_mtok)
    )
    if fresh is None or out is None:
        return None
    known = fresh if cached is None else cached
    return Price(sold.currency, fresh, out, known, sold.source, sold.as_of)


def asked(
    sources: tuple[Callable[[Question], Answer], Database],
    question: Question,
    first: dict[str, Price],
    currency: str,
) -> Summary:
    """The summary of a question's period, by whatever answers it. Raises LedgerUnavailable and
    FinanceError."""
    ask, books = sources
    whole = msgspec.structs.replace(question, by=BY, rows_max=ROWS_MAX)
    since_ms, until_ms = question.since_ms, question.until_ms
    bounds = {"since_ms": since_ms, "until_ms": until_ms}
    busy_ms = {row[0]: int(row[1]) for row in books.rows(statements.BUSY, bounds)}
    facts = Facts(
        ask(whole),
        pools(listed(books, Rental), busy_ms, since_ms, until_ms),
        lines_within(listed(books, CostLine), since_ms, until_ms, question.offset_ms),
        first,
    )
    last = datetime.fromtimestamp((until_ms - 1 + question.offset_ms) / 1e3, UTC).date()
    return summary(facts, currency, prices.load().rate(last))


def as_object(found: Summary) -> dict[str, object]:
    """For a program: the fields, and what follows from them."""
    body = msgspec.to_builtins(found)
    for name in ("features", "models"):
        for row, share in zip(body[name], getattr(found, name), strict=True):
            row |= {"micro": share.micro, "micro_per_mtok": share.micro_per_mtok}
    for row, pool in zip(body["pools"], found.pools, strict=True):
        row["use"] = pool.use
    body["saving"]["micro"] = found.saving.micro
    return body  # type: ignore[no-any-return]
