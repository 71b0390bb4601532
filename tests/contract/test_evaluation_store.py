"""Evaluations and votes, the same in every database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.evaluation import store
from serving.evaluation.store import EvaluationError
from serving.evaluation.values import Answer, Arm, Asked, Evaluation, Vote
from serving.finance.base import Database
from serving.finance.postgres import PostgresDatabase
from serving.finance.sqlite import SqliteDatabase
from serving.ledger.address import address
from serving.settings import Ledger as LedgerSettings


@pytest.fixture
def database(books: Any) -> Iterator[Database]:
    place = books.place()
    books.open(place).apply([])
    found: Database
    if books.kind == "sqlite":
        found = SqliteDatabase.open(Path(place))
    else:
        settings = LedgerSettings(url=place)
        found = PostgresDatabase.at(address(settings), settings)
    yield found
    found.close()


def made(name: str, created_ms: int = 5) -> Evaluation:
    arms = (Arm("own", "m", "own"), Arm("alpha/big", "m", "alpha/big"))
    answers = (
        Answer("q", True, {"json": "不是 JSON"}, text="\u0000 odd"),
        Answer("q", False, arm=1),
    )
    return Evaluation(name, "set.yaml", "d", created_ms, arms, (Asked("q", "问题"),), answers)


def test_what_is_kept_comes_back_whole_and_is_listed_newest_first(database: Database) -> None:
    for name, at_ms in (("a", 1), ("b", 3), ("c", 2)):
        store.add(database, made(name, at_ms))
    assert store.get(database, "a") == made("a", 1)
    assert [(one.id, one.questions) for one in store.listed(database)] == [
        ("b", 1), ("c", 1), ("a", 1)
    ]  # fmt: skip


def test_a_second_vote_of_a_person_replaces_the_first(database: Database) -> None:
    store.add(database, made("a"))
    for voter, choice in (("ann", "0"), ("bob", "tie"), ("ann", "1")):
        store.vote(database, "a", Vote("q", voter, choice), 7)
    assert store.votes(database, "a") == [Vote("q", "ann", "1"), Vote("q", "bob", "tie")]


def test_what_is_removed_takes_its_votes_along(database: Database) -> None:
    store.add(database, made("a"))
    store.vote(database, "a", Vote("q", "ann", "0"), 7)
    assert store.remove(database, "a")
    assert not store.remove(database, "a")
    assert store.votes(database, "a") == []
    with pytest.raises(EvaluationError, match="no evaluation 'a'"):
        store.get(database, "a")


def test_only_so_many_and_so_large_ones_are_kept(database: Database) -> None:
    store.add(database, made("a"), kept_max=1)
    with pytest.raises(EvaluationError, match="remove one first"):
        store.add(database, made("b"), kept_max=1)
    with pytest.raises(EvaluationError, match="at most 10"):
        store.add(database, made("c"), bytes_max=10)


class Narrow:
    """A database of which no question brings more than one evaluation's answers."""

    def __init__(self, inner: Database) -> None:
        self._inner = inner

    def rows(self, query: str, values: Any = None) -> Any:
        found = self._inner.rows(query, values or {})
        assert sum(isinstance(cell, bytes | memoryview) for row in found for cell in row) <= 1
        return found


def test_a_list_never_holds_the_answers_of_two_evaluations_at_once(database: Database) -> None:
    for name in ("a", "b", "c"):
        store.add(database, made(name))
    assert len(store.listed(Narrow(database))) == 3  # type: ignore[arg-type]
