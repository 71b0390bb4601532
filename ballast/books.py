"""The ledger as the command line reads it: beside the running gateway, read-only, bounded."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

from ballast.digits import exact
from ballast.messages import Said
from ballast.problem import ProblemError, worded
from serving.finance import store as finance_store
from serving.finance.base import Database
from serving.finance.values import FinanceError
from serving.ledger.base import Attempt, Ledger, LedgerUnavailable, Total
from serving.ledger.store import open_to_read, place, sqlite_file
from serving.rows import RequestEnd
from serving.settings import Settings

DAY_MS = 86_400_000
ATTEMPTS_MAX = 200_000
"""Most that one sum looks at: 0.34 s of SQLite on 2 cores, of a million rows (2026-11-25)."""
BOOKED_S_MAX = 3.0
"""A row is in the ledger `ledger.drain_s` (1 s) after its end, and a little."""
POLL_S = 0.1


class Booked(NamedTuple):
    """What the ledger holds of one request."""

    row: RequestEnd | None
    attempts: tuple[Attempt, ...]


def must_be_there(settings: Settings) -> str:
    """Where the ledger is. Raises ProblemError where none was ever made."""
    where = place(settings)
    if not settings.ledger.url and not sqlite_file(settings).exists():
        raise ProblemError(Said("books.no_ledger", where=where), Said("books.up_makes_one"))
    return where


@contextmanager
def opened(settings: Settings) -> Iterator[Ledger]:
    """The ledger, to read. Raises ProblemError."""
    where = must_be_there(settings)
    try:
        with closing(open_to_read(settings)) as ledger:
            yield ledger
    except LedgerUnavailable as error:
        away = Said("books.unavailable", where=where, error=error)
        raise ProblemError(away, Said("books.try_again")) from None


def find(settings: Settings, request_id: str, wait_s: float = 0.0) -> Booked:
    """One request's rows; waits so long for its last one. Raises ProblemError."""
    until_s = time.monotonic() + wait_s
    with opened(settings) as ledger:
        while True:
            found = Booked(ledger.request(request_id), tuple(ledger.attempts(request_id)))
            if found.row is not None or time.monotonic() >= until_s:
                return found
            time.sleep(POLL_S)


def latest_id(settings: Settings) -> str | None:
    """The id of the request that ended last. Raises ProblemError."""
    with opened(settings) as ledger:
        rows = ledger.requests(1)
        return rows[0].request_id if rows else None


def spent(settings: Settings, now_ms: int) -> dict[str, Any]:
    """Tries, tokens and money by target and currency over a day, the latest tries if there are
    more than `ATTEMPTS_MAX`. Raises ProblemError."""
    with opened(settings) as ledger:
        since_ms = max(now_ms - DAY_MS, ledger.latest_since_ms(ATTEMPTS_MAX))
        totals = ledger.totals(since_ms)
    return {"since_ms": since_ms, "rows": by_target(totals)}


def by_target(totals: Sequence[Total]) -> list[dict[str, Any]]:
    """Sums over days and tenants, the dearest of each currency first."""
    sums: dict[tuple[str, str], Counter[str]] = {}
    for total in totals:
        row = sums.setdefault((total.currency, total.target), Counter())
        for name in ("attempts", "estimated", "prompt_tokens", "completion_tokens", "micro"):
            row[name] += getattr(total, name)
    rows = [
        {"target": target, "currency": currency, **counted}
        for (currency, target), counted in sums.items()
    ]
    return sorted(rows, key=lambda row: (row["currency"], -row["micro"], row["target"]))


def charges(attempts: Sequence[Attempt]) -> dict[str, int]:
    """Micro-units by currency over ended tries that cost money."""
    sums: Counter[str] = Counter()
    for attempt in attempts:
        if attempt.end is not None and attempt.end.charge.currency:
            sums[attempt.end.charge.currency] += attempt.end.charge.micro
    return dict(sums)


def amount(currency: str, micro: int) -> str:
    """`USD 0.000017`: exact, at least two decimals."""
    return f"{currency} {exact(micro)}"


def amounts(charged: dict[str, int]) -> str:
    """All currencies of a request; what costs nothing says why."""
    if not charged:
        return Said("books.no_charge")
    return " + ".join(amount(currency, micro) for currency, micro in sorted(charged.items()))


@contextmanager
def finance(settings: Settings, *, is_to_read: bool = False) -> Iterator[Database]:
    """The finance books in the ledger's database. Raises ProblemError."""
    where = must_be_there(settings)
    try:
        found = finance_store.open_to_read if is_to_read else _open_to_write
        with closing(found(settings)) as database:
            yield database
    except LedgerUnavailable as error:
        away = Said("books.unavailable", where=where, error=error)
        raise ProblemError(away, Said("books.try_again")) from None
    except FinanceError as error:
        raise ProblemError(worded(error), Said("books.page")) from None


def _open_to_write(settings: Settings) -> Database:
    return finance_store.opener(settings)()
