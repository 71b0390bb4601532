"""Rentals that follow the replicas seen, and the controller's minute of bookkeeping."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from autoscale.bookkeeping import Bookkeeper
from autoscale.records import Samples, Supply
from autoscale.rentals import GAP_MS_MAX, followed
from serving.finance import rolling
from serving.finance.entries import write
from serving.finance.listing import listed
from serving.finance.rolling import costs
from serving.finance.settings import Rented
from serving.finance.settling import used
from serving.finance.sqlite import SqliteDatabase
from serving.finance.values import DAY_MS, Grant, Rental
from serving.ledger.base import LedgerUnavailable
from serving.ledger.costs import Question
from serving.ledger.sqlite import SqliteLedger
from serving.records import Charge, Usage
from serving.rows import AttemptBegin, AttemptEnd
from serving.settings import Controller, Settings

H20 = Rented(model="m", gpu="h20", gpus=2, gpu_hour="9.5", currency="CNY", source="contract 7")
NOW_MS = 1_767_225_600_000
"""2026-01-01 in UTC."""


def supply(replicas: int) -> dict[str, Supply]:
    return {"m": Supply(replicas)}


def test_a_rental_grows_while_the_number_stays_and_the_next_begins_where_it_ended() -> None:
    held = followed({}, supply(1), [H20], 1_000)
    assert followed({}, supply(0), [H20], 1_000) == {}
    grown = followed(held, supply(1), [H20], 6_000)
    assert grown["m"].id == held["m"].id
    assert (grown["m"].begin_ms, grown["m"].end_ms, grown["m"].gpus) == (1_000, 6_000, 2)
    more = followed(grown, supply(3), [H20], 11_000)
    assert more["m"].id != grown["m"].id
    assert (more["m"].begin_ms, more["m"].end_ms, more["m"].gpus) == (6_000, 11_000, 6)
    assert more["m"].micro_per_gpu_hour == 9_500_000


def test_without_a_view_nothing_grows_and_after_a_long_gap_a_new_rental_begins() -> None:
    held = followed({}, supply(1), [H20], 1_000)
    assert followed(held, None, [H20], 5_000) == held
    later = followed(held, supply(1), [H20], 1_001 + GAP_MS_MAX)
    assert later["m"].begin_ms == 1_001 + GAP_MS_MAX
    assert followed(held, {}, [H20], 5_000) == {}


def spent(path: Path) -> None:
    ledger = SqliteLedger.open(path)
    ledger.apply(
        [
            AttemptBegin(
                "r", 1, NOW_MS - 9, NOW_MS - 9, "acme", "p", "k", "chat", "m", "interactive",
                "p/big", False, "why", 1, 1, "CNY", 0, 0,
            ),
            AttemptEnd("r", 1, NOW_MS - 5, "ok", "", Usage(5, 5), Charge("CNY", 700), 4),
        ]
    )  # fmt: skip
    ledger.close()


def test_a_minute_s_work_settles_sums_up_books_rentals_and_warns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ledger.sqlite"
    spent(path)
    books = SqliteDatabase.open(path)
    grant = Grant(
        id="g", kind="credit", unit="micro", amount=1000, currency="CNY", provider="p",
        begin_ms=NOW_MS - DAY_MS, end_ms=NOW_MS + 14 * DAY_MS,
    )  # fmt: skip
    write(books, grant, 0)
    settings = Settings(controller=Controller(rented=(H20,)))

    async def work() -> None:
        keeper = Bookkeeper(settings, lambda: SqliteDatabase.open(path))
        for at_ms in range(NOW_MS, NOW_MS + 130_000, 5_000):
            keeper.seen(Samples(at_ms, supply=supply(1)))
        await keeper.close()

    with caplog.at_level(logging.INFO):
        asyncio.run(work())
    assert used(books) == {("g", ""): 700}
    assert rolling.rolled_ms(books) >= NOW_MS
    (cost,) = costs(books, Question(("model",), NOW_MS - DAY_MS, NOW_MS + DAY_MS), "day").costs
    assert (cost.key, [money.kind for money in cost.money]) == (("m",), ["credit"])
    lapses = [record for record in caplog.records if record.message == "grant_lapses"]
    assert [(one.grant, one.alert) for one in lapses] == [("g", 15)]  # type: ignore[attr-defined]
    books.close()


def test_rentals_are_booked_each_minute_and_when_they_end(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    settings = Settings(controller=Controller(rented=(H20,)))

    async def work() -> None:
        keeper = Bookkeeper(settings, lambda: SqliteDatabase.open(path))
        keeper.seen(Samples(NOW_MS, supply=supply(1)))
        await keeper.settled()
        keeper.seen(Samples(NOW_MS + 50_000, supply=supply(1)))
        keeper.seen(Samples(NOW_MS + 55_000, supply=supply(0)))
        await keeper.settled()
        await keeper.close()

    asyncio.run(work())
    books = SqliteDatabase.open(path)
    assert [(r.begin_ms, r.end_ms, r.gpus) for r in listed(books, Rental)] == [
        (NOW_MS, NOW_MS + 50_000, 2)
    ]
    books.close()


def test_a_ledger_that_is_away_is_said_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    def away() -> SqliteDatabase:
        raise LedgerUnavailable("away")

    async def work() -> None:
        keeper = Bookkeeper(Settings(), away)
        keeper.seen(Samples(NOW_MS))
        await keeper.settled()
        keeper.seen(Samples(NOW_MS + 60_000))
        await keeper.close()

    asyncio.run(work())
    said = [record for record in caplog.records if record.message == "bookkeeping_failed"]
    assert len(said) == 2
