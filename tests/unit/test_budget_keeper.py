"""The keeper against a store in memory: when it asks, what it tells, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest

from serving.budgets.base import Alert, Expired, Row, Scope, Sum, Told, Want, grant
from serving.budgets.funds import Funds
from serving.budgets.gauges import series
from serving.budgets.keeper import Keeper, Terms
from serving.budgets.learnt import Counts, Feature
from serving.budgets.purse import HEARTBEAT_MS
from serving.budgets.settings import BudgetSettings
from serving.budgets.values import Budget
from serving.ledger.base import LedgerUnavailable
from serving.records import Charge

NOW_MS = 1_795_600_000_000
HOUR_MS = 3_600_000


class Memory:
    """A store of one holder that can be away."""

    def __init__(self) -> None:
        self.asked: list[Want] = []
        self.granted: dict[tuple[str, int], int] = {}
        self.spent: dict[tuple[str, int], int] = {}
        self.is_away = False
        self.passed: tuple[int, ...] = ()
        self.dead: list[Expired] = []
        self.settled: dict[str, int] = {}
        self.is_closed = False
        self.lengths_told: list[dict[Feature, Counts]] = []

    def renew(self, holder: str, wants: Sequence[Want], now_ms: int) -> list[Told]:
        if self.is_away:
            raise LedgerUnavailable("away")
        self.asked += wants
        told = []
        for want in wants:
            key = (want.budget, want.start_ms)
            mine = self.granted[key] = grant(want, 0)
            self.spent[key] = want.spent_micro
            left = max(0, want.limit_micro - mine)
            told.append(Told(*key, mine, 0, left, self.passed))
        self.passed = ()
        return told

    def expired(self, now_ms: int, abandoned_ms: int) -> list[Expired]:
        return self.dead

    def truth(self, lease: Expired, scope: Scope, since_ms: int) -> list[Sum]:
        return [Sum("USD", 3, 0, 0), Sum("CNY", 5, 0, 0), Sum("", 0, 7, 7), Sum("EUR", 9, 0, 0)]

    def settle(self, lease: Expired, spent_micro: int, now_ms: int) -> None:
        self.settled[lease.budget] = spent_micro

    def rows(self, since_ms: int, now_ms: int) -> list[Row]:
        return []

    def alerts(self, since_ms: int) -> list[Alert]:
        return []

    def forget(self, before_ms: int) -> None:
        pass

    def tell_lengths(self, new: Mapping[Feature, Counts], now_ms: int) -> None:
        if self.is_away:
            raise LedgerUnavailable("away")
        self.lengths_told.append(dict(new))

    def lengths(self, since_ms: int) -> list[tuple[Feature, Counts]]:
        return []

    def close(self) -> None:
        self.is_closed = True


class Desk:
    """A keeper, its store, and the clock."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS
        self.store = Memory()
        self.funds = Funds(BudgetSettings(), {"m": 4096}, lambda: self.now_ms)
        terms = Terms(self.funds, lambda: self.store, "life", lambda: self.now_ms)
        self.keeper = Keeper(terms)

    @property
    def purse(self) -> Any:
        return self.funds.purses[max(self.funds.purses)]


def budget(id_: str = "b", **changes: Any) -> dict[str, Budget]:
    row = {"id": id_, "limit_micro": 10_000, "created_by": "me", "created_ms": 0} | changes
    return {id_: Budget.model_validate(row)}


def run(check: Callable[[Desk], Awaitable[None]]) -> None:
    async def main() -> None:
        desk = Desk()
        async with asyncio.timeout(20.0):
            await check(desk)
            await desk.keeper.close()

    asyncio.run(main())


def test_the_next_period_s_slice_is_there_before_it_begins() -> None:
    async def check(desk: Desk) -> None:
        desk.now_ms = NOW_MS // HOUR_MS * HOUR_MS + 10
        desk.keeper.obey(budget(period="hour"))
        await desk.keeper.renew()
        first = desk.purse
        assert first.granted == 50
        desk.now_ms = first.span.end_ms - 1000
        desk.funds.prefetch()
        await desk.keeper.renew()
        assert desk.purse.span.start_ms == first.span.end_ms
        assert desk.purse.granted == 50
        first.reserve(10)
        desk.now_ms = first.span.end_ms + HEARTBEAT_MS
        await desk.keeper.renew()
        assert first in desk.funds.purses.values(), "a call of the old period is under way"
        first.settle(10, Charge("CNY", 7))
        await desk.keeper.renew()
        assert first not in desk.funds.purses.values()
        key = ("b", first.span.start_ms)
        assert (desk.store.granted[key], desk.store.spent[key]) == (7, 7)

    run(check)


def test_what_is_left_is_given_back_at_the_end() -> None:
    async def check(desk: Desk) -> None:
        desk.keeper.obey(budget())
        await desk.keeper.renew()
        desk.purse.reserve(30)
        desk.purse.settle(30, Charge("CNY", 20))
        await desk.keeper.close()
        assert desk.store.is_closed
        assert list(desk.store.granted.values()) == [20]

    async def main() -> None:
        await check(Desk())

    asyncio.run(main())


def test_a_threshold_is_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def check(desk: Desk) -> None:
        desk.store.passed = (50, 80)
        desk.keeper.obey(budget())
        await desk.keeper.renew()
        assert desk.keeper.alerts == {50: 1, 80: 1}
        told = {name: values for name, _, _, values in series(desk.keeper)}
        assert told["ballast_budget_thresholds"] == {("50",): 1.0, ("80",): 1.0}
        assert told["ballast_budget_used_ratio"] == {("all", "b"): 0.0}
        assert told["ballast_budgets"] == {(): 1.0}

    run(check)
    lines = [r for r in caplog.records if r.getMessage() == "budget_threshold"]
    assert [r.threshold_percent for r in lines] == [50, 80]  # type: ignore[attr-defined]


def test_it_says_once_that_the_store_is_away_and_once_that_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")

    async def check(desk: Desk) -> None:
        desk.keeper.obey(budget())
        await desk.keeper.renew()
        desk.store.is_away = True
        for _ in range(3):
            desk.now_ms += HEARTBEAT_MS
            await desk.keeper.renew()
        assert desk.keeper.last_error == "away"
        assert desk.purse.fits(desk.purse.free)
        desk.store.is_away = False
        desk.now_ms += HEARTBEAT_MS
        await desk.keeper.renew()
        assert desk.keeper.last_error == ""

    run(check)
    said = [r.getMessage() for r in caplog.records if r.getMessage().startswith("budget_store")]
    assert said == ["budget_store_away", "budget_store_available"]


def test_who_waits_is_served_by_the_renewal_that_hears_of_it() -> None:
    async def check(desk: Desk) -> None:
        desk.keeper.obey(budget())
        desk.keeper.start()
        while not desk.store.asked:
            await asyncio.sleep(0.001)
        assert not desk.purse.fits(5000)
        await desk.keeper.wait(10.0)
        assert desk.purse.fits(5000)

    run(check)


def test_the_dead_are_settled_by_their_rows_in_the_budget_s_currency() -> None:
    async def check(desk: Desk) -> None:
        leases = [Expired(id_, NOW_MS - 1, NOW_MS + 1, "dead", 40) for id_ in ("b", "gone")]
        desk.store.dead = leases
        desk.keeper.start()
        desk.keeper.obey(budget())
        while len(desk.store.settled) < 2:
            await asyncio.sleep(0.001)
        # 3 dollars at 7.0173, rounded up, and 5 yuan; own tokens have no price, and of euros there
        # were none.
        assert desk.store.settled == {"b": 27, "gone": 40}

    run(check)


def test_caps_by_default_wait_for_their_first_call() -> None:
    async def check(desk: Desk) -> None:
        cap = budget()["b"].model_copy(update={"id": "dev:acme:lab"})
        desk.keeper.obey({cap.id: cap})
        await desk.keeper.renew()
        assert desk.store.asked == []

    run(check)
