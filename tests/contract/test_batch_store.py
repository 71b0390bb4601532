"""Every store of batches: files are their tenant's, a batch has one owner, a line ends once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from serving.batch.base import TRIMMED_MAX, BatchStore, Lost, Page, Piece, Used
from serving.batch.envelope import Request
from serving.batch.postgres import PostgresBatches
from serving.batch.sqlite import SqliteBatches
from serving.batch.values import Batch, Counts, Ended, File, Purpose, State, Status
from serving.ledger.address import address
from serving.settings import Ledger as LedgerSettings

Open = Callable[[], BatchStore]
DAY_MS = 86_400_000


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same store as often as asked."""
    opened: list[BatchStore] = []
    if request.param == "postgres":
        settings = LedgerSettings(url=request.getfixturevalue("new_database")())
        make: Open = lambda: PostgresBatches.at(address(settings), settings)  # noqa: E731
    else:
        make = lambda: SqliteBatches.open(tmp_path / "batches.sqlite")  # noqa: E731

    def open_one() -> BatchStore:
        opened.append(make())
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


def file(number: int, tenant: str = "acme", **more: object) -> File:
    made = File(
        f"file-{number:04}", tenant, "k", Purpose.BATCH, "in.jsonl", 10, 1000 + number,
        DAY_MS * 40, is_whole=True,
    )  # fmt: skip
    return msgspec.structs.replace(made, **more)


def batch(number: int = 1, tenant: str = "acme", **more: object) -> Batch:
    made = Batch(
        f"batch_{number:04}", tenant, "k", "/v1/chat/completions", "file-0001", "24h",
        1000 + number, DAY_MS,
    )  # fmt: skip
    return msgspec.structs.replace(made, **more)


def lines(*numbers: int) -> list[Request]:
    return [Request(n, f"c{n}", "m", b'{"n":%d}' % n) for n in numbers]


def owned(store: BatchStore, count: int) -> None:
    """A batch of `one`, with lines."""
    store.add_batch(batch(), 9)
    store.claim("one", 0, 100, 9)
    store.put_lines("one", "batch_0001", lines(*range(1, count + 1)))


def test_a_file_is_read_by_everybody_in_the_pieces_it_came_in(open_store: Open) -> None:
    one, two = open_store(), open_store()
    one.put_file(file(1, is_whole=False))
    one.add_piece("file-0001", 0, b"first")
    one.add_piece("file-0001", 1, b"second")
    assert two.file("acme", "file-0001") is None
    one.put_file(file(1, size=11))
    assert two.file("acme", "file-0001") == file(1, size=11)
    assert [two.piece("file-0001", n) for n in range(3)] == [b"first", b"second", None]


def test_another_tenant_neither_sees_nor_removes_a_file(open_store: Open) -> None:
    store = open_store()
    store.put_file(file(1))
    store.add_piece("file-0001", 0, b"x")
    assert store.file("acme/customer", "file-0001") is None
    assert store.files("beta", Page()) == []
    assert not store.drop_file("beta", "file-0001")
    assert store.piece("file-0001", 0) == b"x"
    assert store.drop_file("acme", "file-0001")
    assert store.piece("file-0001", 0) is None
    assert not store.drop_file("acme", "file-0001")


def test_a_listing_comes_in_pages_with_one_more_to_say_so(open_store: Open) -> None:
    store = open_store()
    for number in range(1, 6):
        store.put_file(file(number))
    store.put_file(file(6, purpose=Purpose.OUTPUT))
    store.put_file(file(7, "beta"))
    found = store.files("acme", Page(limit=2))
    assert [one.id[-1] for one in found] == ["6", "5", "4"]
    assert [one.id[-1] for one in store.files("acme", Page("file-0005", 9))] == list("4321")
    oldest = Page("file-0002", 9, is_oldest_first=True)
    assert [one.id[-1] for one in store.files("acme", oldest)] == list("3456")
    output = store.files("acme", Page(purpose=Purpose.OUTPUT))
    assert [one.id[-1] for one in output] == ["6"]


def test_what_a_tenant_stores_is_counted_while_it_comes_in(open_store: Open) -> None:
    store = open_store()
    assert store.used("acme") == Used(0, 0)
    store.put_file(file(1))
    store.put_file(file(2, is_whole=False, size=5))
    store.put_file(file(3, "beta"))
    assert store.used("acme") == Used(2, 15)
    store.add_batch(batch(1, input_size=100), 9)
    store.add_batch(batch(2, "beta", input_size=1000), 9)
    assert store.used("acme") == Used(3, 115)
    store.claim("one", 0, 100, 9)
    store.finish("one", batch(1, input_size=100, status=Status.COMPLETED))
    assert store.used("acme") == Used(2, 15)


def test_a_tenant_has_only_so_many_open_batches(open_store: Open) -> None:
    store = open_store()
    assert store.add_batch(batch(1), 2)
    assert store.add_batch(batch(2), 2)
    assert not store.add_batch(batch(3), 2)
    assert store.add_batch(batch(4, "beta"), 2)
    store.claim("one", 0, 100, 9)
    store.save("one", batch(1, status=Status.COMPLETED))
    assert store.add_batch(batch(3), 2)
    listed = store.batches("acme", Page(limit=2))
    assert [one.batch.id[-1] for one in listed] == ["3", "2", "1"]
    assert store.batch("beta", "batch_0001") is None


def test_a_batch_is_held_by_one_owner_until_its_lease_ends(open_store: Open) -> None:
    one, two = open_store(), open_store()
    one.add_batch(batch(1), 9)
    one.add_batch(batch(2), 9)
    assert [s.batch.id for s in one.claim("one", 0, 100, 1)] == ["batch_0001"]
    assert [s.batch.id for s in two.claim("two", 0, 300, 9)] == ["batch_0002"]
    assert one.renew("one", ["batch_0001", "batch_0002"], 200) == {"batch_0001": 0}
    assert two.claim("two", 199, 300, 9) == []
    assert [s.batch.id for s in two.claim("two", 200, 300, 9)] == ["batch_0001"]
    assert one.renew("one", ["batch_0001"], 400) == {}
    two.release("two")
    assert len(one.claim("one", 1, 100, 9)) == 2


def test_an_owner_finds_again_what_it_held_before_it_died(open_store: Open) -> None:
    store = open_store()
    store.add_batch(batch(), 9)
    store.claim("one", 0, 100, 9)
    store.release("two")
    assert store.claim("one", 1, 100, 9) == []
    store.release("one")
    assert len(store.claim("one", 1, 100, 9)) == 1
    assert store.claim("two", 1, 100, 9) == []


def test_the_lines_of_a_batch_that_ended_are_forgotten(open_store: Open) -> None:
    store = open_store()
    owned(store, 2)
    done = batch(status=Status.COMPLETED, counts=Counts(done=2))
    store.finish("one", done)
    assert store.counts("batch_0001") == Counts()
    found = store.batch("acme", "batch_0001")
    assert found is not None
    assert found.batch == done
    with pytest.raises(Lost):
        store.finish("two", done)


def test_an_owner_that_lost_a_batch_can_write_nothing_of_it(open_store: Open) -> None:
    store = open_store()
    owned(store, 2)
    store.take("one", "batch_0001", 1)
    store.claim("two", 101, 200, 9)
    ended = [Ended(1, State.DONE, b"late")]
    for write in (
        lambda: store.save("one", batch()),
        lambda: store.put_lines("one", "batch_0001", lines(3)),
        lambda: store.take("one", "batch_0001", 1),
        lambda: store.give_back("one", "batch_0001", None),
        lambda: store.keep_home("one", "batch_0001", 1),
        lambda: store.end_lines("one", "batch_0001", ended),
        lambda: store.results("one", "batch_0001", 0, 9),
        lambda: store.put_output("one", "batch_0001", file(1)),
        lambda: store.add_output("one", "batch_0001", Piece("file-0001", 0, b"late")),
    ):
        with pytest.raises(Lost):
            write()
    assert store.counts("batch_0001") == Counts(waiting=1, running=1)
    assert (store.files("acme", Page()), store.piece("file-0001", 0)) == ([], None)


def test_what_was_erased_is_not_written_again_by_a_batch_that_ends(open_store: Open) -> None:
    store = open_store()
    owned(store, 1)
    store.put_output("one", "batch_0001", file(1, is_whole=False))
    store.add_output("one", "batch_0001", Piece("file-0001", 0, b"text"))
    assert store.erase("acme") == 2
    for write in (
        lambda: store.add_output("one", "batch_0001", Piece("file-0001", 1, b"text")),
        lambda: store.put_output("one", "batch_0001", file(1)),
        lambda: store.finish("one", batch(status=Status.COMPLETED)),
    ):
        with pytest.raises(Lost):
            write()
    assert (store.files("acme", Page()), store.piece("file-0001", 1)) == ([], None)


def test_what_was_erased_is_not_stored_again_by_an_upload_that_goes_on(open_store: Open) -> None:
    store = open_store()
    store.put_file(file(1, is_whole=False))
    store.add_piece("file-0001", 0, b"text")
    assert store.erase("acme") == 1
    for write in (
        lambda: store.add_piece("file-0001", 1, b"text"),
        lambda: store.end_file(file(1)),
    ):
        with pytest.raises(Lost):
            write()
    assert (store.files("acme", Page()), store.piece("file-0001", 1)) == ([], None)


def test_tenants_take_turns_however_many_batches_one_has(open_store: Open) -> None:
    store = open_store()
    for number in range(1, 7):
        store.add_batch(batch(number), 9)
    store.add_batch(batch(7, "beta"), 9)
    store.add_batch(batch(8, "beta"), 9)
    store.add_batch(batch(9, "gamma"), 9)
    assert store.waiting(0) == {"acme": 6, "beta": 2, "gamma": 1}
    first = store.claim("one", 0, 100, 4)
    assert [s.batch.id[-1] for s in first] == ["1", "2", "7", "9"]
    # What one owner holds counts, not what others do.
    assert [s.batch.id[-1] for s in store.claim("one", 0, 100, 1)] == ["8"]
    assert [s.batch.id[-1] for s in store.claim("two", 0, 100, 1)] == ["3"]
    assert store.waiting(0) == {"acme": 3}


def test_a_batch_that_was_given_up_waits_behind_the_others_of_its_tenant(open_store: Open) -> None:
    store = open_store()
    for number in (1, 2, 3):
        store.add_batch(batch(number), 9)
    store.claim("one", 5000, 6000, 1)
    store.give_up("two", "batch_0001", 0)
    assert store.claim("two", 5000, 6000, 0) == []
    store.give_up("one", "batch_0001", 5500)
    assert store.renew("one", ["batch_0001"], 9000) == {}
    assert store.waiting(5499) == {"acme": 2}  # it rests
    assert store.waiting(5500) == {"acme": 3}
    found = [store.claim("two", 5500, 6000, 1)[0].batch.id[-1] for _ in range(3)]
    assert found == ["2", "3", "1"]


def test_what_is_late_or_cancelled_is_taken_by_itself_even_while_it_rests(open_store: Open) -> None:
    store = open_store()
    for number in range(1, 5):
        store.add_batch(batch(number, expires_ms=DAY_MS + number), 9)
    assert store.claim_late("one", DAY_MS, DAY_MS + 100, 9) == []
    store.cancel("acme", "batch_0004", 5)
    store.claim("one", 0, 100, 1)
    store.give_up("one", "batch_0001", 2 * DAY_MS)
    found = store.claim_late("two", DAY_MS + 2, DAY_MS + 100, 9)
    assert [s.batch.id[-1] for s in found] == ["1", "2", "4"]
    assert store.claim_late("one", DAY_MS + 2, DAY_MS + 100, 9) == []
    assert [s.batch.id[-1] for s in store.claim("one", DAY_MS, DAY_MS + 100, 9)] == ["3"]


def test_of_what_ended_a_tenant_keeps_only_the_newest(open_store: Open) -> None:
    store = open_store()
    for number in range(1, 5):
        store.add_batch(batch(number), 9)
        store.claim("one", 0, 100, 9)
        store.put_lines("one", f"batch_{number:04}", lines(1))
        store.save("one", batch(number, status=Status.FAILED))
    store.add_batch(batch(5, "beta"), 9, 2)
    assert len(store.batches("acme", Page())) == 4
    assert store.add_batch(batch(6), 9, 2)
    assert [s.batch.id[-1] for s in store.batches("acme", Page())] == ["6", "4", "3"]
    assert store.counts_of([f"batch_{n:04}" for n in range(1, 7)]) == {
        "batch_0003": Counts(waiting=1), "batch_0004": Counts(waiting=1),
    }  # fmt: skip


def test_batches_are_listed_by_when_they_were_made_whatever_their_ids(open_store: Open) -> None:
    store = open_store()
    for name, made in (("x", 1), ("a", 3), ("m", 2), ("b", 3)):
        store.add_batch(batch(id=f"batch_{name}", created_ms=made), 9)
    store.add_batch(batch(id="batch_z", created_ms=9, tenant="beta"), 9)
    assert [s.batch.id[-1] for s in store.batches("acme", Page())] == ["b", "a", "m", "x"]
    assert [s.batch.id[-1] for s in store.batches("acme", Page("batch_a"))] == ["m", "x"]
    assert store.batches("acme", Page("batch_z")) == []


def test_a_batch_that_is_made_twice_stays_as_it_was(open_store: Open) -> None:
    store = open_store()
    assert store.add_batch(batch(metadata={"a": "b"}), 9)
    assert store.add_batch(batch(), 9)
    (found,) = store.batches("acme", Page())
    assert found.batch.metadata == {"a": "b"}


def test_old_things_go_in_small_helpings_and_it_is_said_when_more_may_be_left(
    open_store: Open,
) -> None:
    store = open_store()
    for number in range(TRIMMED_MAX + 1):
        store.put_file(file(number, expires_ms=10))
    assert [store.trim(11, 0) for _ in range(3)] == [TRIMMED_MAX, 1, 0]


def test_lines_are_given_out_once_in_order_and_again_only_when_given_back(open_store: Open) -> None:
    store = open_store()
    owned(store, 5)
    first = store.take("one", "batch_0001", 3)
    assert [(line.number, line.custom_id, line.run) for line in first] == [
        (1, "c1", 1), (2, "c2", 1), (3, "c3", 1),
    ]  # fmt: skip
    assert first[0].data == b'{"n":1}'
    assert [line.number for line in store.take("one", "batch_0001", 9)] == [4, 5]
    assert store.take("one", "batch_0001", 9) == []
    store.end_lines("one", "batch_0001", [Ended(1, State.DONE, b"done")])
    store.give_back("one", "batch_0001", [1, 2])
    again = store.take("one", "batch_0001", 9)
    assert [(line.number, line.run) for line in again] == [(2, 2)]
    store.give_back("one", "batch_0001", None)
    assert store.counts("batch_0001") == Counts(waiting=4, done=1)


def test_a_line_is_kept_home_whoever_takes_it_next_and_none_of_another_batch(
    open_store: Open,
) -> None:
    store = open_store()
    owned(store, 2)
    assert not any(line.is_home_only for line in store.take("one", "batch_0001", 2))
    for _ in range(2):
        store.keep_home("one", "batch_0001", 2)
    store.give_back("one", "batch_0001", None)
    store.claim("two", 101, 200, 9)
    again = store.take("two", "batch_0001", 2)
    assert [(line.number, line.is_home_only) for line in again] == [(1, False), (2, True)]
    store.finish("two", batch(status=Status.COMPLETED))
    store.add_batch(batch(2), 9)
    store.claim("one", 300, 400, 9)
    store.put_lines("one", "batch_0002", lines(2))
    assert not any(line.is_home_only for line in store.take("one", "batch_0002", 2))


def test_results_come_in_order_and_only_of_lines_that_ended(open_store: Open) -> None:
    store = open_store()
    owned(store, 4)
    store.take("one", "batch_0001", 4)
    ended = [Ended(3, State.FAILED, b"no"), Ended(1, State.DONE, b"yes")]
    store.end_lines("one", "batch_0001", ended)
    found = store.results("one", "batch_0001", 0, 3)
    assert [(r.number, r.custom_id, r.state, r.data) for r in found] == [
        (1, "c1", State.DONE, b"yes"), (2, "c2", State.RUNNING, b""),
        (3, "c3", State.FAILED, b"no"),
    ]  # fmt: skip
    assert [r.number for r in store.results("one", "batch_0001", 3, 3)] == [4]


def test_a_cancel_reaches_the_owner_and_the_first_one_counts(open_store: Open) -> None:
    one, two = open_store(), open_store()
    one.add_batch(batch(), 9)
    two.cancel("beta", "batch_0001", 5)
    one.claim("one", 0, 100, 9)
    two.cancel("acme", "batch_0001", 7)
    two.cancel("acme", "batch_0001", 8)
    assert one.renew("one", ["batch_0001"], 100) == {"batch_0001": 7}
    found = two.batch("acme", "batch_0001")
    assert found is not None
    assert found.cancel_ms == 7


def test_what_is_old_goes_and_what_is_open_stays(open_store: Open) -> None:
    store = open_store()
    store.put_file(file(1, expires_ms=10))
    store.put_file(file(2, is_whole=False))
    store.put_file(file(3))
    store.add_piece("file-0001", 0, b"x")
    owned(store, 1)
    store.add_batch(batch(2), 9)
    store.claim("one", 0, 100, 9)
    store.save("one", batch(2, status=Status.FAILED))
    assert store.trim(2 * DAY_MS, 2000) == 3
    assert store.piece("file-0001", 0) is None
    assert [one.id for one in store.files("acme", Page())] == ["file-0003"]
    assert [one.batch.id for one in store.batches("acme", Page())] == ["batch_0001"]
    assert store.counts("batch_0001") == Counts(waiting=1)


def test_a_tenant_is_erased_with_its_customers_or_one_of_its_people(open_store: Open) -> None:
    store = open_store()
    store.put_file(file(1, end_user="u"))
    store.put_file(file(2, "acme/shop", end_user="u"))
    store.put_file(file(3))
    store.put_file(file(4, "beta", end_user="u"))
    store.add_batch(batch(1, end_user="u"), 9)
    store.add_batch(batch(2), 9)
    assert store.erase("acme", "u") == 3
    assert [one.id for one in store.files("acme", Page())] == ["file-0003"]
    assert store.erase("acme") == 2
    assert store.batches("acme", Page()) == []
    assert [one.id for one in store.files("beta", Page())] == ["file-0004"]
