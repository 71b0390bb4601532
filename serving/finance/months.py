"""Months and days in the books' time zone, and what a closed month still takes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime

import msgspec

from models.worded import Worded
from serving.finance.values import (
    DAY_MS,
    Closing,
    Correction,
    CostLine,
    Entry,
    FinanceError,
    Grant,
    InvoiceLine,
    Rental,
    Sum,
)
from serving.ledger.costs import begin_ms

_MONTH = re.compile(r"[12][0-9]{3}-(0[1-9]|1[0-2])")


def month(text: str) -> str:
    """The month if it is one. Raises FinanceError."""
    if not _MONTH.fullmatch(text):
        raise FinanceError(
            Worded("finance.month", "{text} is no month: write it as 2026-11", text=repr(text[:40]))
        )
    return text


def of(at_ms: int, offset_ms: int) -> str:
    """The month that a time belongs to."""
    return day_of(at_ms, offset_ms)[:7]


def day_of(at_ms: int, offset_ms: int) -> str:
    """The day that a time belongs to."""
    return datetime.fromtimestamp((at_ms + offset_ms) // 1000, UTC).date().isoformat()


def bounds(name: str, offset_ms: int) -> tuple[int, int]:
    """Begin and end of a month, in UTC milliseconds. Raises FinanceError."""
    year, number = map(int, month(name).split("-"))
    following = date(year + number // 12, number % 12 + 1, 1)
    return begin_ms(date(year, number, 1), offset_ms), begin_ms(following, offset_ms)


def between(since_ms: int, until_ms: int, offset_ms: int) -> Iterator[str]:
    """All months that [since, until) touches."""
    at_ms = since_ms
    while at_ms < until_ms:
        name = of(at_ms, offset_ms)
        yield name
        at_ms = bounds(name, offset_ms)[1]


def touched(entry: Entry, offset_ms: int) -> tuple[str, ...]:
    """The months whose sums an entry changes when it is written."""
    match entry:
        case Rental():
            return tuple(between(entry.begin_ms, entry.end_ms, offset_ms))
        case Grant():
            return (of(entry.begin_ms, offset_ms),)
        case CostLine() | InvoiceLine() | Correction():
            return (entry.month,)
        case Closing():
            return ()


def need_open(entry: Entry, before: Entry | None, closed: Iterable[str], offset_ms: int) -> None:
    """Raises FinanceError for an entry that would change a closed month. One that is there already
    may grow beyond it."""
    months = set(touched(entry, offset_ms))
    if isinstance(entry, Rental) and isinstance(before, Rental) and _is_longer(entry, before):
        months = set(between(before.end_ms, entry.end_ms, offset_ms))
    shut = sorted(months & set(closed))
    if shut:
        raise FinanceError(
            Worded(
                "finance.shut",
                "{id}: {shut} is closed: book it in an open month and say in `why` "
                "which one it belongs to",
                id=entry.id,
                shut=[*shut],
            )
        )


def _is_longer(entry: Rental, before: Rental) -> bool:
    grown = msgspec.structs.replace(
        before, end_ms=entry.end_ms, by=entry.by, at_ms=entry.at_ms, why=entry.why
    )
    return entry.end_ms >= before.end_ms and entry == grown


def may_close(name: str, now_ms: int, offset_ms: int, closed: Iterable[str]) -> None:
    """Raises FinanceError while rows of the month may still come, and for one that is closed."""
    if name in set(closed):
        raise FinanceError(Worded("finance.closed", "{name} is closed already", name=name))
    end_ms = bounds(name, offset_ms)[1]
    if now_ms < end_ms + 2 * DAY_MS:
        raise FinanceError(
            Worded(
                "finance.early",
                "{name} cannot be closed yet: rows may come until two days after its end, {names}",
                name=name,
                names=day_of(end_ms + 2 * DAY_MS, offset_ms),
            )
        )


def late(
    closing: Closing, now: Iterable[Sum], booked: Iterable[Correction], into: str
) -> list[Correction]:
    """What came to a closed month since, less what corrections say already, as lines of the month
    `into`. Booked once each: the id counts them."""
    had = {(s.provider, s.model, s.currency): (s.micro, s.tokens) for s in closing.sums}
    count = 1
    for one in booked:
        if one.of_month == closing.id:
            at = (one.provider, one.model, one.currency)
            micro, tokens = had.get(at, (0, 0))
            had[at] = (micro + one.micro, tokens + one.tokens)
            count += 1
    have = {(s.provider, s.model, s.currency): (s.micro, s.tokens) for s in now}
    found = []
    for at in sorted(had.keys() | have.keys()):
        micro, tokens = have.get(at, (0, 0))
        micro, tokens = micro - had.get(at, (0, 0))[0], tokens - had.get(at, (0, 0))[1]
        if micro or tokens:
            provider, model, currency = at
            found.append(
                Correction(
                    id=f"{closing.id}:{count}",
                    month=into,
                    of_month=closing.id,
                    provider=provider,
                    model=model,
                    currency=currency,
                    micro=micro,
                    tokens=tokens,
                )
            )
            count += 1
    return found
