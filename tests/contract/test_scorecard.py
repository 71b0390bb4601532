"""Scorecards of third parties, the same from every ledger."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from serving.finance import rolling
from serving.finance.base import Database
from serving.finance.postgres import PostgresDatabase
from serving.finance.rolling import Kept
from serving.finance.sqlite import SqliteDatabase
from serving.finance.values import DAY_MS, HOUR_MS, FinanceError
from serving.ledger.address import address
from serving.ledger.base import Ledger
from serving.ledger.costs import begin_ms
from serving.records import Charge, Usage
from serving.rows import AttemptBegin, AttemptEnd, Record
from serving.scorecard.asking import Month, asked
from serving.scorecard.cards import Card, Promise, Sum
from serving.settings import Ledger as LedgerSettings

MINUTE_MS = 60_000
AT = begin_ms(date(2026, 11, 10), 0)
API, OWN = "alpha/big", "m@10.0.0.1:8000"


class Case:
    """A ledger, the finance books beside it, and attempts with numbers of their own."""

    def __init__(self, books: Any, closing: contextlib.ExitStack) -> None:
        place = books.place()
        self.ledger: Ledger = books.open(place)
        self.ledger.apply([])
        self.books: Database
        if books.kind == "sqlite":
            self.books = SqliteDatabase.open(Path(place))
        else:
            settings = LedgerSettings(url=place)
            self.books = PostgresDatabase.at(address(settings), settings)
        closing.callback(self.books.close)
        self._count = 0

    def ended(
        self, at_ms: int, error: str = "", target: str = API, first_ms: int = -1, times: int = 1
    ) -> None:
        """Attempts that ended so."""
        rows: list[Record] = []
        for _ in range(times):
            self._count += 1
            name = f"r{self._count:07}"
            currency = "" if target == OWN else "CNY"
            rows += [
                AttemptBegin(
                    name, 1, at_ms - 1000, at_ms - 1000, "acme", "shop", "k", "chat", "m",
                    "interactive", target, target != OWN, "why", 80, 20, currency, 0, 0,
                    is_stream=first_ms >= 0,
                ),
                AttemptEnd(
                    name, 1, at_ms, "ok" if not error else "upstream_error", error,
                    Usage(80, 20, 8), Charge(currency, 500 if currency else 0), max(first_ms, 4),
                ),
            ]  # fmt: skip
        self.ledger.apply(rows)

    def month(self, since_ms: int = AT - DAY_MS, until_ms: int = AT + DAY_MS) -> Month:
        """November's cards once it is summed up."""
        rolling.roll(self.books, since_ms, until_ms, 0)
        return asked(self.books, "2026-11", 0, {"alpha": Promise(99.9, "its page", "2026-11-01")})

    def card(self) -> Card:
        """The one there is."""
        (found,) = self.month().cards
        return found


@pytest.fixture
def case(books: Any) -> Iterator[Case]:
    with contextlib.ExitStack() as closing:
        yield Case(books, closing)


def test_a_card_counts_how_attempts_ended_and_what_they_cost(case: Case) -> None:
    for error in ("", "rate_limit", "quota_window", "content_filter", "connect", "server_error",
                  "account_dead", "bad_request", "deadline", "hedged"):  # fmt: skip
        case.ended(AT, error)
    case.ended(AT, target=OWN)
    card = case.card()
    assert (card.provider, card.model, card.attempts) == ("alpha", "big", 10)
    assert (card.ok, card.limited, card.refused, card.faulty) == (1, 2, 1, 2)
    assert (card.account, card.caller, card.other) == (1, 1, 2)
    assert (card.prompt_tokens, card.completion_tokens, card.cached_tokens) == (800, 200, 80)
    assert card.money == (Sum("CNY", 5000),)
    assert card.is_few
    assert (card.limited_rate, card.refused_rate) == (0.2, 0.1)


def test_times_to_first_content_are_of_streams_only_and_within_a_twentieth(case: Case) -> None:
    for first_ms in range(10, 1010, 10):
        case.ended(AT, first_ms=first_ms)
    case.ended(AT, times=50)
    card = case.card()
    assert (card.streams, card.attempts) == (100, 150)
    assert card.first_p50_ms == pytest.approx(500, rel=0.05)
    assert card.first_p95_ms == pytest.approx(950, rel=0.05)


def test_fewer_than_a_hundred_streams_give_no_percentile(case: Case) -> None:
    case.ended(AT, first_ms=300, times=99)
    assert (case.card().first_p50_ms, case.card().first_p95_ms) == (None, None)


def test_a_minute_is_down_only_if_all_that_told_of_it_failed(case: Case) -> None:
    case.ended(AT, "connect")
    case.ended(AT + 1000, "overloaded")
    case.ended(AT + MINUTE_MS, "connect")
    case.ended(AT + MINUTE_MS + 1)
    for silent in ("rate_limit", "deadline", "content_filter", "account_dead"):
        case.ended(AT + 2 * MINUTE_MS, silent)
    card = case.card()
    assert (card.minutes_up, card.minutes_down) == (1, 1)


def test_silence_between_two_probes_of_an_open_breaker_is_down(case: Case) -> None:
    """Also where the hour ends between them."""
    edge = AT + HOUR_MS
    case.ended(edge - 2 * MINUTE_MS, "connect")
    case.ended(edge + MINUTE_MS, "connect")
    case.ended(edge + 5 * MINUTE_MS, "connect")
    case.ended(edge + 7 * MINUTE_MS)
    card = case.card()
    assert (card.minutes_up, card.minutes_down) == (1, 5)


def test_a_promise_is_held_against_the_month_so_far(case: Case) -> None:
    for minute in range(99):
        case.ended(AT + minute * MINUTE_MS)
    case.ended(AT + 100 * MINUTE_MS, "timeout")
    card = case.card()
    assert card.promised == Promise(99.9, "its page", "2026-11-01")
    assert card.seen_percent == 99.0
    assert card.month_minutes == 2 * 24 * 60
    assert card.month_percent == pytest.approx(100 * (1 - 1 / 2880))
    assert card.is_kept


def test_summing_up_again_changes_nothing_and_days_outlive_rows(case: Case) -> None:
    case.ended(AT, times=3, first_ms=20)
    case.ended(AT + 3 * MINUTE_MS, "connect")
    first = case.month()
    assert case.month() == first
    rolling.trim(case.books, AT + 100 * DAY_MS, 0, Kept(row_days=1))
    found = asked(case.books, "2026-11", 0, {})
    assert [one.attempts for one in found.cards] == [one.attempts for one in first.cards] == [4]
    hours = case.books.rows("SELECT count(*) FROM scores WHERE span = 'hour'")
    assert int(hours[0][0]) == 0


def test_accounts_and_models_have_a_card_each(case: Case) -> None:
    for target in ("alpha/big", "alpha/small", "beta/big/v2"):
        case.ended(AT, target=target)
    names = [(one.provider, one.model) for one in case.month().cards]
    assert names == [("alpha", "big"), ("alpha", "small"), ("beta", "big/v2")]


def test_a_month_that_is_not_summed_up_says_how_to_get_it(case: Case) -> None:
    with pytest.raises(FinanceError, match="ballast ledger rollup --since 2026-11-01"):
        asked(case.books, "2026-11", 0, {})
    case.ended(AT)
    case.month()
    with pytest.raises(FinanceError, match="nothing of 2026-09"):
        asked(case.books, "2026-09", 0, {})
