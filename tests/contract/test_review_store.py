"""Every store of reviews: cases are listed by facts, stepped by one at a time, and forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from serving.ledger.address import address
from serving.review.base import Overtaken, ReviewStore, Wanted
from serving.review.postgres import PostgresReviews
from serving.review.sqlite import SqliteReviews
from serving.review.values import Case, Kind, State, appealed, judged
from serving.settings import Ledger as LedgerSettings

Open = Callable[[], ReviewStore]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same store as often as asked."""
    opened: list[ReviewStore] = []
    if request.param == "postgres":
        settings = LedgerSettings(url=request.getfixturevalue("new_database")())
        make: Open = lambda: PostgresReviews.at(address(settings), settings)  # noqa: E731
    else:
        make = lambda: SqliteReviews.open(tmp_path / "reviews.sqlite")  # noqa: E731

    def open_one() -> ReviewStore:
        opened.append(make())
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


def sample(number: int, tenant: str = "acme", **more: object) -> Case:
    case = Case(f"{number:032x}", Kind.SAMPLE, 1000 + number, tenant, why="random")
    return msgspec.structs.replace(case, **more)


def complaint(number: int, tenant: str = "acme") -> Case:
    return Case(f"complaint-{number}", Kind.COMPLAINT, 1000 + number, tenant, why="content")


def ids(store: ReviewStore, **wanted: object) -> list[str]:
    return [case.id for case in store.listed(Wanted()._replace(**wanted))]


def test_a_case_is_found_by_everybody_as_it_was_stored(open_store: Open) -> None:
    one, two = open_store(), open_store()
    case = sample(1, findings=("input/PHONE/mask",), end_user="a" * 32)
    assert one.add(case, b"sealed")
    assert two.find(case.id) == (case, b"sealed")
    assert two.find("nobody") is None


def test_a_case_stored_twice_stays_as_it_was(open_store: Open) -> None:
    store = open_store()
    store.add(sample(1), b"first")
    assert not store.add(sample(1, model="other"), b"second")
    assert store.find(sample(1).id) == (sample(1), b"first")


def test_a_listing_is_newest_first_in_pages_and_by_what_is_asked(open_store: Open) -> None:
    store = open_store()
    cases = [sample(n, "acme" if n % 2 else "shop/cust") for n in range(6)] + [complaint(9)]
    for case in cases:
        store.add(case, b"")
    newest = [case.id for case in reversed(cases)]
    assert ids(store) == newest
    first = store.listed(Wanted(limit=3))
    rest = ids(store, before=(first[-1].at_ms, first[-1].id))
    assert [case.id for case in first] + rest == newest
    assert ids(store, kind=Kind.COMPLAINT) == ["complaint-9"]
    assert ids(store, state=State.FINE) == []
    assert ids(store, tenants=frozenset({"shop"})) == [sample(n).id for n in (4, 2, 0)]
    assert ids(store, tenants=frozenset()) == []


def test_of_two_steps_from_one_state_only_the_first_is_stored(open_store: Open) -> None:
    store = open_store()
    store.add(sample(1), b"")
    case = sample(1)
    store.step(judged(case, State.FINE, "ann", 5))
    with pytest.raises(Overtaken):
        store.step(judged(case, State.VIOLATION, "bob", 6))
    found = store.find(case.id)
    assert found is not None
    assert (found[0].state, [n.by for n in found[0].notes]) == (State.FINE, ["ann"])
    assert ids(store, state=State.FINE) == [case.id]


def test_old_cases_go_but_for_complaints_and_appeals_that_wait(open_store: Open) -> None:
    store = open_store()
    contested = sample(2)
    for case in (sample(1), contested, complaint(3), complaint(4), sample(50)):
        store.add(case, b"")
    first = judged(contested, State.VIOLATION, "ann", 5)
    store.step(first)
    store.step(appealed(first, "user", 6, "it was harmless"))
    store.step(judged(complaint(4), State.FINE, "ann", 5))
    assert store.trim(before_ms=1040, cases_max=100) == 2
    assert ids(store) == [sample(50).id, "complaint-3", contested.id]


def test_beyond_the_bound_the_oldest_samples_go_first(open_store: Open) -> None:
    store = open_store()
    store.add(complaint(0), b"")
    for number in range(1, 6):
        store.add(sample(number), b"")
    assert store.trim(before_ms=0, cases_max=3) == 3
    assert ids(store) == [sample(5).id, sample(4).id, "complaint-0"]


def test_erasing_a_person_takes_that_persons_cases_of_that_tenant(open_store: Open) -> None:
    store = open_store()
    store.add(sample(1, end_user="a" * 32), b"")
    store.add(sample(2, end_user="b" * 32), b"")
    store.add(sample(3, "shop", end_user="a" * 32), b"")
    assert store.erase("acme", "a" * 32) == 1
    assert ids(store) == [sample(3).id, sample(2).id]
