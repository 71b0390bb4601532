"""Grants, settlement, invoices, closings, rollups, retention and erasure on every ledger."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from serving.finance import entries, rolling
from serving.finance.base import Database, Work
from serving.finance.listing import closed, listed
from serving.finance.postgres import PostgresDatabase
from serving.finance.reconcile import reconciled
from serving.finance.rolling import Kept
from serving.finance.settling import settle, used
from serving.finance.sqlite import SqliteDatabase
from serving.finance.statements import BUSY
from serving.finance.values import (
    DAY_MS,
    HOUR_MS,
    Closing,
    Correction,
    CostLine,
    FinanceError,
    Grant,
    InvoiceLine,
    Rental,
)
from serving.ledger.address import address
from serving.ledger.base import Ledger, LedgerUnavailable
from serving.ledger.costs import Money, Question, begin_ms
from serving.records import Charge, Usage
from serving.rows import AttemptBegin, AttemptEnd, Record, RequestEnd
from serving.settings import Ledger as LedgerSettings

AT = begin_ms(date(2026, 11, 10), 0)
NOW = AT + 5 * DAY_MS
API, OWN = "acme-ai/big", "m@10.0.0.1:8000"


class Case:
    """A ledger and the finance books in the same database."""

    def __init__(self, books: Any, closing: contextlib.ExitStack) -> None:
        self._kind, self._closing = books.kind, closing
        self.place = books.place()
        self.ledger: Ledger = books.open(self.place)
        self.ledger.apply([])
        self.books = self.open()

    def open(self) -> Database:
        """The books once more, as another process has them."""
        found: Database
        if self._kind == "sqlite":
            found = SqliteDatabase.open(Path(self.place))
        else:
            settings = LedgerSettings(url=self.place)
            found = PostgresDatabase.at(address(settings), settings)
        self._closing.callback(found.close)
        return found

    def kinds(self, *by: str) -> dict[tuple[str, ...], tuple[Money, ...]]:
        """Money by group."""
        answer = self.ledger.costs(Question(by, 0, NOW + 90 * DAY_MS))
        return {cost.key: cost.money for cost in answer.costs}


@pytest.fixture
def case(books: Any) -> Iterator[Case]:
    with contextlib.ExitStack() as closing:
        yield Case(books, closing)


def served(
    name: str, micro: int, at_ms: int = AT, target: str = API, kind: str = "cash", person: str = ""
) -> list[Record]:
    """A request of 80 + 20 tokens."""
    usage, currency = Usage(80, 20), "" if target == OWN else "CNY"
    return [
        AttemptBegin(
            name, 1, at_ms - 1000, at_ms - 1000, "acme", "shop", "k", "chat", "m", "interactive",
            target, target != OWN, "why", 80, 20, currency, 0, 0, "search", person,
        ),
        AttemptEnd(name, 1, at_ms, "ok", "", usage, Charge(currency, micro), 4, kind),
        RequestEnd(
            name, at_ms - 1000, at_ms, "acme", "shop", "k", "chat", "m", "interactive", "ok", 200,
            "", "why", target, 1, 1, 4, usage, "", "search", person,
        ),
    ]  # fmt: skip


def grant(name: str, amount: int | None = 1000, **more: Any) -> Grant:
    facts: dict[str, Any] = {
        "id": name, "kind": "credit", "unit": "micro", "amount": amount, "currency": "CNY",
        "provider": "acme-ai", "begin_ms": AT - DAY_MS, "end_ms": AT + 30 * DAY_MS,
    }  # fmt: skip
    return Grant(**facts | more)


def write(case: Case, *told: Grant | Rental | CostLine) -> None:
    for entry in told:
        entries.write(case.books, entry, 0)


def test_a_grant_pays_until_it_is_used_up_and_cash_pays_the_rest(case: Case) -> None:
    write(case, grant("g"))
    case.ledger.apply([*served("a", 700), *served("b", 700, AT + 1)])
    assert settle(case.books, NOW, 0) == 2
    assert case.kinds() == {(): (Money("CNY", "cash", 400), Money("CNY", "credit", 1000))}
    assert used(case.books) == {("g", ""): 1000}


def test_settling_again_and_duplicate_rows_burn_nothing_twice(case: Case) -> None:
    write(case, grant("g"))
    rows = served("a", 300)
    for _ in range(3):
        case.ledger.apply(rows)
        settle(case.books, NOW, 0)
    assert settle(case.books, NOW, 0) == 0
    assert used(case.books) == {("g", ""): 300}


def test_two_settlements_at_once_never_overdraw_a_grant(case: Case) -> None:
    write(case, grant("g"))
    case.ledger.apply([row for n in range(60) for row in served(f"{n:03}", 50, AT + n)])
    others = [case.open() for _ in range(3)]
    counts: list[int] = []
    threads = [
        threading.Thread(target=lambda one=one: counts.append(settle(one, NOW, 0)))  # type: ignore[misc]
        for one in others
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 60
    assert used(case.books) == {("g", ""): 1000}
    assert case.kinds()[()] == (Money("CNY", "cash", 2000), Money("CNY", "credit", 1000))


def test_a_row_that_changes_after_it_was_settled_is_split_anew(case: Case) -> None:
    """Recovery supposed 900, then the gateway's own word came: 200."""
    write(case, grant("g"))
    begin, end, told = served("a", 200)
    lost = AttemptEnd("a", 1, AT, "gateway_lost", "", Usage(1, 1), Charge("CNY", 900), -1)
    case.ledger.apply([begin, lost])
    settle(case.books, AT + HOUR_MS, 0)
    assert used(case.books) == {("g", ""): 900}
    case.ledger.apply([end, told])
    settle(case.books, NOW, 0)
    assert used(case.books) == {("g", ""): 200}
    assert case.kinds() == {(): (Money("CNY", "credit", 200),)}


def test_a_grant_told_late_or_changed_pays_what_it_would_have_paid(case: Case) -> None:
    case.ledger.apply(served("a", 700))
    settle(case.books, NOW, 0)
    assert case.kinds() == {(): (Money("CNY", "cash", 700),)}
    write(case, grant("g"))
    settle(case.books, NOW, 0)
    assert case.kinds() == {(): (Money("CNY", "credit", 700),)}
    write(case, grant("g", 100))
    settle(case.books, NOW, 0)
    assert case.kinds() == {(): (Money("CNY", "cash", 600), Money("CNY", "credit", 100))}
    entries.drop(case.books, Grant, "g", 0)
    settle(case.books, NOW, 0)
    assert case.kinds() == {(): (Money("CNY", "cash", 700),)}
    assert used(case.books) == {("g", ""): 0}


def test_a_prepaid_account_s_money_is_no_cash(case: Case) -> None:
    case.ledger.apply(served("a", 700, kind="prepaid"))
    settle(case.books, NOW, 0)
    assert case.kinds() == {(): (Money("CNY", "prepaid", 700),)}


def test_an_interrupted_settlement_leaves_nothing_behind(case: Case) -> None:
    write(case, grant("g"))
    case.ledger.apply(served("a", 700))

    def work(at: Work) -> None:
        at.run("DELETE FROM finance_entries")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        case.books.write(work)
    assert [g.id for g in listed(case.books, Grant)] == ["g"]


def line(model: str, micro: int, tokens: int = 100, place: int = 0) -> InvoiceLine:
    return InvoiceLine(
        id=f"acme-ai:2026-11:{place:06}", provider="acme-ai", month="2026-11", model=model,
        tokens=tokens, currency="CNY", micro=micro, tax_micro=0,
    )  # fmt: skip


def test_ledger_credits_and_invoice_agree_or_say_why_not(case: Case) -> None:
    write(case, grant("g", 300_000))
    case.ledger.apply(served("a", 900_000))
    settle(case.books, NOW, 0)
    entries.import_invoice(case.books, [line("big", 600_000)], 0)
    held = entries.sums(case.books, "2026-11", 0)
    found = reconciled(held, listed(case.books, InvoiceLine))
    assert [(one.expected_micro, one.difference_micro, one.is_agreed) for one in found] == [
        (600_000, 0, True)
    ]
    lines = [line("big", 900_000), line("ghost", 50_000, place=1)]
    assert entries.import_invoice(case.books, lines, 0) == (2, 1)
    found = reconciled(held, listed(case.books, InvoiceLine))
    assert "did not take our credits off" in found[0].explanations[0]
    assert "no such attempts" in found[1].explanations[0]


def close(case: Case, now_ms: int) -> None:
    sums = tuple(entries.sums(case.books, "2026-11", 0))
    entries.close(case.books, Closing(id="2026-11", sums=sums, by="me"), now_ms, 0)


def test_a_closed_month_takes_no_change_and_late_rows_become_corrections(case: Case) -> None:
    case.ledger.apply(served("a", 700))
    settle(case.books, NOW, 0)
    with pytest.raises(FinanceError, match="cannot be closed yet"):
        close(case, NOW)
    december = begin_ms(date(2026, 12, 5), 0)
    close(case, december)
    assert closed(case.books) == ["2026-11"]
    with pytest.raises(FinanceError, match="closed already"):
        close(case, december)
    with pytest.raises(FinanceError, match="2026-11 is closed"):
        entries.import_invoice(case.books, [line("big", 1)], 0)
    with pytest.raises(FinanceError, match="2026-11 is closed"):
        write(case, grant("late"))
    with pytest.raises(FinanceError, match="2026-11 is closed"):
        write(case, cost("storage", 5))
    case.ledger.apply(served("late", 40))
    told = ("me", december, "2026-12")
    found = entries.correct(case.books, "2026-11", told, 0)
    assert [(one.micro, one.tokens, one.month) for one in found] == [(40, 100, "2026-12")]
    assert entries.correct(case.books, "2026-11", told, 0) == []
    assert listed(case.books, Correction) == found
    settle(case.books, december, 0)
    assert used(case.books) == {}
    with pytest.raises(FinanceError, match="not closed"):
        entries.correct(case.books, "2026-12", told, 0)


def cost(what: Any, micro: int) -> CostLine:
    return CostLine(
        id=f"{what}-11", month="2026-11", what=what, micro=micro, currency="CNY", key="tokens"
    )


def rental(end_ms: int, gpus: int = 2) -> Rental:
    return Rental(
        id="r", pool="a", gpu="h20", gpus=gpus, replicas=1, begin_ms=AT, end_ms=end_ms,
        micro_per_gpu_hour=10_000_000, currency="CNY", source="contract", models=("m",),
    )  # fmt: skip


def test_a_rental_grows_out_of_a_closed_month_and_does_not_change_within_it(case: Case) -> None:
    december = begin_ms(date(2026, 12, 5), 0)
    write(case, rental(begin_ms(date(2026, 12, 1), 0)))
    close(case, december)
    write(case, rental(december))
    assert listed(case.books, Rental) == [rental(december)]
    with pytest.raises(FinanceError, match="closed"):
        write(case, rental(december, gpus=4))
    with pytest.raises(FinanceError, match="closed"):
        entries.drop(case.books, Rental, "r", 0)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (grant("", 1), "name it"),
        (grant("g", None), "how much"),
        (grant("g", 0), "between"),
        (grant("g", currency=""), "currency"),
        (grant("g", end_ms=0), "lapses before"),
        (rental(AT), "time is impossible"),
        (cost("storage", 10**17), "amount"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_impossible_entries_are_refused(case: Case, entry: Any, says: str) -> None:
    with pytest.raises(FinanceError, match=says):
        write(case, entry)


def test_busy_time_counts_overlapping_attempts_of_a_replica_once(case: Case) -> None:
    case.ledger.apply(
        [
            *served("a", 0, AT, OWN),
            *served("b", 0, AT + 400, OWN),
            *served("c", 0, AT + 9000, OWN),
            *served("d", 0, AT, "m@10.0.0.2:8000"),
            *served("api", 10),
        ]
    )
    case.ledger.apply([*served("e", 0, AT, "m@10.0.0.2:8000")])
    rows = case.books.rows(BUSY, {"since_ms": 0, "until_ms": NOW})
    assert {row[0]: int(row[1]) for row in rows} == {"m": 1400 + 1000}


BY = ("tenant", "feature", "model", "tier")


def test_rollups_answer_as_the_rows_do_after_any_number_of_rounds(case: Case) -> None:
    write(case, grant("g"))
    case.ledger.apply([*served("a", 700), *served("b", 700, AT + 3 * HOUR_MS)])
    case.ledger.apply(served("own", 0, AT + DAY_MS, OWN))
    settle(case.books, NOW, 0)
    for _ in range(2):
        rolling.roll(case.books, AT - HOUR_MS, NOW, 0)
    since, until = AT - 9 * DAY_MS, begin_ms(date(2026, 12, 1), 0)
    asked = Question(BY, since, until)
    for span in ("hour", "day", "month"):
        assert set(rolling.costs(case.books, asked, span).costs) == set(
            case.ledger.costs(asked).costs
        )
    case.ledger.apply(served("late", 5, AT + 10))
    settle(case.books, NOW, 0)
    rolling.roll(case.books, AT, AT + HOUR_MS, 0)
    by_day = Question(("day",), since, until)
    assert rolling.costs(case.books, by_day, "hour") == case.ledger.costs(by_day)
    assert rolling.costs(case.books, by_day, "day") == case.ledger.costs(by_day)


def test_days_of_rollups_begin_where_the_books_time_zone_says(case: Case) -> None:
    east = 8 * HOUR_MS
    case.ledger.apply(served("a", 7, AT + 17 * HOUR_MS))
    rolling.roll(case.books, AT, NOW, east)
    asked = Question(("day",), AT - DAY_MS, NOW, east)
    assert [cost.key for cost in rolling.costs(case.books, asked, "day").costs] == [("2026-11-11",)]
    with pytest.raises(FinanceError, match="whole hours"):
        rolling.roll(case.books, AT, NOW, HOUR_MS // 2)


def test_old_rows_go_once_they_are_in_the_sums_and_the_sums_still_answer(case: Case) -> None:
    case.ledger.apply([*served("old", 700), *served("new", 60, AT + 3 * DAY_MS)])
    settle(case.books, NOW, 0)
    kept = Kept(row_days=3, rollup_months=2)
    assert rolling.trim(case.books, NOW, 0, kept).requests == 0
    rolling.roll(case.books, AT, NOW, 0)
    asked = Question(("model",), 0, NOW)
    before = case.ledger.costs(asked)
    assert rolling.trim(case.books, NOW, 0, kept).requests == 1
    assert case.ledger.request("old") is None
    assert case.ledger.attempts("old") == []
    assert case.ledger.request("new") is not None
    assert rolling.costs(case.books, asked, "day") == before
    assert case.ledger.law() == [] or all(v.rule == "intent_missing" for v in case.ledger.law())
    with pytest.raises(FinanceError, match="trimmed"):
        rolling.roll(case.books, AT, NOW, 0)
    gone = rolling.trim(case.books, NOW + 200 * DAY_MS, 0, kept)
    assert gone.burns == 2
    assert rolling.costs(case.books, asked, "day").costs == ()


def test_erasing_a_person_leaves_money_and_everybody_else(case: Case) -> None:
    case.ledger.apply([*served("a", 700, person="p1"), *served("b", 60, person="p2")])
    before = case.ledger.costs(Question(("tenant", "model"), 0, NOW))
    assert rolling.erase(case.books, "other", "p1") == 0
    assert rolling.erase(case.books, "acme", "p1") == 2
    assert rolling.erase(case.books, "acme", "p1") == 0
    erased, other = case.ledger.request("a"), case.ledger.request("b")
    assert erased is not None
    assert other is not None
    assert (erased.user, other.user) == ("", "p2")
    assert case.ledger.costs(Question(("tenant", "model"), 0, NOW)) == before


@pytest.mark.server
@pytest.mark.parametrize("books", ["postgres"], indirect=True)
def test_a_database_that_restarts_meanwhile_is_settled_into_once(case: Case) -> None:
    """Every connection of the books is cut between two settlements, as a restart does."""
    write(case, grant("g"))
    case.ledger.apply(served("a", 300))
    settle(case.books, AT + 1, 0)
    cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    ours = " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    assert case.open().rows(cut + ours)[0][0] >= 1
    case.ledger.apply([*served("a", 300), *served("b", 300, AT + 1)])
    settle(case.books, AT + 2, 0)
    assert used(case.books) == {("g", ""): 600}


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    books = SqliteDatabase.open(tmp_path / "l")
    with contextlib.closing(books):
        entries.write(books, grant("g"), 0)
        pages = books.rows("PRAGMA page_count")[0][0]
        books.rows(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(LedgerUnavailable, match="full"):
            entries.write(books, grant("large", why="x" * 100_000), 0)
        books.rows(f"PRAGMA max_page_count = {pages + 1000}")
        entries.write(books, grant("after"), 0)
        assert {"g", "after"} <= {one.id for one in listed(books, Grant)}
