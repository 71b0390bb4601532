"""Every store of canaries: runs in order, what was found last, a baseline that can be forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serving.ledger.address import address
from serving.quality.base import Found, QualityStore
from serving.quality.postgres import PostgresQuality
from serving.quality.sqlite import SqliteQuality
from serving.quality.values import Drift, Run, Sign
from serving.settings import Ledger as LedgerSettings

Open = Callable[[], QualityStore]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same store as often as asked."""
    opened: list[QualityStore] = []
    if request.param == "postgres":
        settings = LedgerSettings(url=request.getfixturevalue("new_database")())
        make: Open = lambda: PostgresQuality.at(address(settings), settings)  # noqa: E731
    else:
        make = lambda: SqliteQuality.open(tmp_path / "canaries.sqlite")  # noqa: E731

    def open_one() -> QualityStore:
        opened.append(make())
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


def run(at_ms: int, target: str = "own", **more: object) -> Run:
    return Run(at_ms, "m", target, "p", True, **more)  # type: ignore[arg-type]


def test_runs_are_read_in_order_by_everybody(open_store: Open) -> None:
    one, two = open_store(), open_store()
    runs = [run(3, is_baseline=True, text="你好"), run(1, is_baseline=True), run(2)]
    one.add(runs)
    one.add([run(9, "x/y")])
    assert two.runs("m", "own") == sorted(runs, key=lambda r: r.at_ms)
    assert two.runs("m", "x/y") == [run(9, "x/y")]
    assert two.runs("n", "own") == []


def test_a_run_stored_twice_is_one(open_store: Open) -> None:
    store = open_store()
    store.add([run(1), run(1)])
    store.add([run(1, text="other")])
    assert store.runs("m", "own") == [run(1)]


def test_what_was_found_replaces_what_was(open_store: Open) -> None:
    store = open_store()
    drift = Drift("m", "x/y", Sign.LENGTH, 10, 20, 0)
    store.conclude(Found("m", "x/y", 1, [drift]))
    store.conclude(Found("m", "own", 1, []))
    assert store.found() == [Found("m", "own", 1, []), Found("m", "x/y", 1, [drift])]
    store.conclude(Found("m", "x/y", 2, []))
    assert store.found()[1] == Found("m", "x/y", 2, [])


def test_a_target_is_rebased_alone(open_store: Open) -> None:
    store = open_store()
    store.add([run(1, is_baseline=True), run(2), run(1, "x/y")])
    store.conclude(Found("m", "own", 1, []))
    assert store.rebase("m", "own") == 2
    assert store.runs("m", "own") == []
    assert store.found() == []
    assert store.runs("m", "x/y") == [run(1, "x/y")]


def test_old_runs_go_and_baselines_stay(open_store: Open) -> None:
    store = open_store()
    store.add([run(1, is_baseline=True), run(2), run(9)])
    store.trim(5)
    assert [r.at_ms for r in store.runs("m", "own")] == [1, 9]
