"""What gateways learn of answer lengths outlives them, and is one sum over all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from serving.budgets.base import BudgetStore
from serving.budgets.learnt import (
    BUCKETS,
    FEATURES_MAX,
    FIRST_GUESS,
    SEEN_MAX,
    SEEN_MIN,
    Feature,
    Lengths,
)
from serving.budgets.memory import LengthMemory
from serving.budgets.postgres import PostgresBudgets
from serving.budgets.remembered import FORGOTTEN_MS, TOLD_MAX
from serving.budgets.sqlite import SqliteBudgets
from serving.ledger.address import address
from serving.ledger.base import LedgerUnavailable
from serving.settings import Ledger as LedgerSettings

NOW_MS = 1_790_000_000_000
SEARCH = Feature("acme", "p", "search", "m")
Open = Callable[[], BudgetStore]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    is_file = request.param == "sqlite"
    settings = LedgerSettings(url="" if is_file else request.getfixturevalue("new_database")())
    opened: list[BudgetStore] = []

    def make() -> BudgetStore:
        found: BudgetStore
        if is_file:
            found = SqliteBudgets.open(tmp_path / "ledger.sqlite")
        else:
            found = PostgresBudgets.at(address(settings), settings)
        opened.append(found)
        return found

    yield make
    for store in opened:
        store.close()


class Pod:
    """A gateway's lengths and its way to the store."""

    def __init__(self, store: BudgetStore) -> None:
        self.lengths, self.store = Lengths(), store
        self.now_ms, self.is_away = NOW_MS, False
        self._memory = LengthMemory(self.lengths, self._ask, lambda: self.now_ms)

    async def _ask(self, question: Callable[[BudgetStore], Any]) -> Any:
        if self.is_away:
            raise LedgerUnavailable("away")
        return question(self.store)

    def learn(self, times: int, tokens: int = 300, feature: Feature = SEARCH) -> None:
        for _ in range(times):
            self.lengths.learn(feature, tokens, is_cut=False)

    def exchange(self) -> None:
        asyncio.run(self._memory.exchange())


def test_a_restart_forgets_nothing(open_store: Open) -> None:
    first = Pod(open_store())
    first.learn(SEEN_MIN)
    learnt = first.lengths.longest(SEARCH)
    assert learnt < FIRST_GUESS
    first.exchange()
    second = Pod(open_store())
    assert second.lengths.longest(SEARCH) == FIRST_GUESS
    second.exchange()
    assert second.lengths.longest(SEARCH) == learnt


def test_pods_that_each_saw_too_little_know_together(open_store: Open) -> None:
    pods = [Pod(open_store()) for _ in range(4)]
    for pod in pods:
        pod.learn(SEEN_MIN // 4)
    for _ in range(2):
        for pod in pods:
            pod.exchange()
    assert {300 <= pod.lengths.longest(SEARCH) < 300 * 1.25 for pod in pods} == {True}
    with closing(open_store()) as store:
        ((_, counts),) = store.lengths(0)
        assert sum(counts) == SEEN_MIN, "each answer counts once"


def test_what_all_saw_fades_and_what_one_learnt_since_comes_on_top(open_store: Open) -> None:
    one, two = Pod(open_store()), Pod(open_store())
    for _ in range(2):
        one.learn(SEEN_MAX // 2 + 1)
        one.exchange()
    two.learn(7, 20_000)
    two.exchange()
    with closing(open_store()) as store:
        ((_, counts),) = store.lengths(0)
    assert SEEN_MAX // 2 <= sum(counts) < SEEN_MAX
    one.learn(SEEN_MAX // 2, 100_000)
    one.exchange()
    assert one.lengths.longest(SEARCH) >= 100_000


def test_a_store_that_is_away_costs_nothing_that_was_learnt(open_store: Open) -> None:
    pod = Pod(open_store())
    pod.is_away = True
    pod.learn(60)
    pod.exchange()
    pod.learn(60)
    pod.is_away = False
    pod.exchange()
    ((_, counts),) = pod.store.lengths(0)
    assert sum(counts) == 120


def test_only_news_are_heard_again_and_what_nobody_uses_goes(open_store: Open) -> None:
    pod = Pod(open_store())
    old, new = SEARCH._replace(feature="old"), SEARCH._replace(feature="new")
    pod.learn(1, feature=old)
    pod.exchange()
    pod.now_ms += FORGOTTEN_MS - 1000
    pod.learn(1, feature=new)
    pod.exchange()
    assert [f for f, _ in pod.store.lengths(0)] == [new, old]
    assert [f for f, _ in pod.store.lengths(NOW_MS + 1)] == [new]
    pod.now_ms += 2000
    pod.learn(1, feature=new)
    pod.exchange()
    assert [f for f, _ in pod.store.lengths(0)] == [new]


def test_more_features_than_one_transaction_takes_are_told_in_several(open_store: Open) -> None:
    pod = Pod(open_store())
    for number in range(TOLD_MAX + 1):
        pod.learn(1, feature=SEARCH._replace(feature=f"f{number}"))
    pod.exchange()
    assert len(pod.store.lengths(0)) == TOLD_MAX + 1


def test_counts_of_other_buckets_are_nobodys() -> None:
    pod = Pod(Rows([(SEARCH, [5] * BUCKETS)]))  # type: ignore[arg-type]
    pod.exchange()
    assert pod.lengths.longest(SEARCH) > 1000


class Rows:
    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def lengths(self, since_ms: int) -> Any:
        return self.rows


def test_features_are_bounded_and_the_longest_unused_go(open_store: Open) -> None:
    lengths = Lengths()
    for number in range(FEATURES_MAX + 5):
        lengths.learn(SEARCH._replace(feature=f"f{number}"), 10, is_cut=False)
    assert len(lengths.take_new(FEATURES_MAX * 2)) == FEATURES_MAX
