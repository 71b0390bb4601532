"""One suite for every ledger."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from serving.accounting import lost
from serving.ledger import sqlite
from serving.ledger.base import Attempt, Ledger, LedgerUnavailable, Position, Total, Violation
from serving.ledger.recover import sweep
from serving.ledger.sqlite import SqliteLedger
from serving.records import Charge, Usage
from serving.rows import AttemptBegin, AttemptEnd, EgressIntent, Record, RequestEnd

DAY_MS = 86_400_000


def begin(
    request_id: str, attempt: int = 1, is_egress: bool = False, at_ms: int = 10
) -> AttemptBegin:
    return AttemptBegin(
        request_id, attempt, at_ms, 5, "acme", "p", "k", "chat", "m", "interactive",
        "openai/gpt" if is_egress else "local", is_egress, "why", 7, 8, "USD", 1000, 2000,
        "search", "hmac", 500, "price list", "2026-11-01",
    )  # fmt: skip


def end(request_id: str, attempt: int = 1, micro: int = 0, ended_ms: int = 20) -> AttemptEnd:
    charge = Charge("USD", micro) if micro else Charge()
    return AttemptEnd(
        request_id, attempt, ended_ms, "ok", "", Usage(7, 3, 2, 1), charge, 4, "prepaid"
    )


def request(request_id: str, attempts: int = 1, ended_ms: int = 20, key: str = "") -> RequestEnd:
    return RequestEnd(
        request_id, 5, ended_ms, "acme", "p", "k", "chat", "m", "interactive", "ok", 200, "", "why",
        "local", attempts, 1, 4, Usage(7, 3, 2, 1, True), key, "search", "hmac",
    )  # fmt: skip


def intent(request_id: str, attempt: int = 1) -> EgressIntent:
    return EgressIntent(request_id, attempt, 9, "acme", 1, "mainland", "cn", "openai", "gpt")


STORY: list[Record] = [
    begin("a"), end("a"), request("a"),
    begin("b"), end("b"), intent("b", 2), begin("b", 2, True), end("b", 2, 1500),
    request("b", 2, 30, "k1"),
    request("refused", 0, 25), begin("open"),
]  # fmt: skip


def dump(ledger: Ledger) -> object:
    ids = ["a", "b", "refused", "open"]
    rows = [ledger.attempts(i) for i in ids]
    return rows, ledger.requests(100), ledger.open_attempts(), ledger.totals(), ledger.law()


def test_rows_come_back_as_they_went_in(ledger: Ledger) -> None:
    ledger.apply(STORY)
    assert ledger.attempts("b") == [
        Attempt("b", 1, begin("b"), end("b"), None),
        Attempt("b", 2, begin("b", 2, True), end("b", 2, 1500), intent("b", 2)),
    ]
    assert ledger.attempts("refused") == []
    assert ledger.requests(100) == [
        request("b", 2, 30, "k1"),
        request("refused", 0, 25),
        request("a"),
    ]
    assert ledger.requests(1) == [request("b", 2, 30, "k1")]
    assert ledger.requests(100, since_ms=25) == ledger.requests(2)
    assert ledger.request("b") == request("b", 2, 30, "k1")
    assert ledger.request("open") is None
    assert ledger.latest_since_ms(3) == 0
    assert ledger.latest_since_ms(2) == 21
    assert ledger.open_attempts() == [begin("open")]
    assert ledger.idempotency(0) == [request("b", 2, 30, "k1")]
    assert ledger.idempotency(31) == []


def test_applying_again_changes_nothing(ledger: Ledger) -> None:
    ledger.apply(STORY)
    once = dump(ledger)
    ledger.apply(STORY)
    for record in STORY:
        ledger.apply([record])
    assert dump(ledger) == once


@pytest.mark.parametrize("seed", range(5))
def test_order_and_slicing_do_not_matter(books: Any, seed: int) -> None:
    ledger, other = books.new(), books.new()
    ledger.apply(STORY)
    shuffled = STORY[:]
    random.Random(seed).shuffle(shuffled)
    for at in range(0, len(shuffled), 3):
        other.apply(shuffled[at : at + 3])
    assert dump(other) == dump(ledger)
    assert other.unsettled("") == ledger.unsettled("")


def test_many_records_at_once_leave_the_rows_of_each_alone(books: Any) -> None:
    """Whole, begun only and ended only; intents, retries and twice the same, 47 of each."""
    records: list[Record] = []
    for n in range(47):
        records += [intent(f"w{n}"), begin(f"w{n}", 1, True), end(f"w{n}", 1, n), request(f"w{n}")]
        records += [begin(f"b{n}"), end(f"e{n}"), request(f"e{n}"), begin(f"r{n}"), end(f"r{n}")]
        records += [begin(f"r{n}", 2), end(f"r{n}"), end(f"r{n}", 2, 7), request(f"r{n}", 2)]
    ledger, other = books.new(), books.new()
    ledger.apply(records)
    for record in records:
        other.apply([record])
    for store in (ledger, other):
        assert len(store.requests(999)) == 141
    assert other.requests(999) == ledger.requests(999)
    for name in (f"{kind}{n}" for kind in "wber" for n in range(47)):
        assert other.attempts(name) == ledger.attempts(name) != []
    assert other.unsettled("") == ledger.unsettled("")
    assert sorted(other.law(), key=str) == sorted(ledger.law(), key=str)


def test_a_request_seen_begun_before_is_settled_when_all_of_it_comes_again(ledger: Ledger) -> None:
    here = Position("life", 1, 1)
    ledger.apply([begin("a")], here)
    ledger.apply([begin("a"), end("a"), request("a")], here)
    assert ledger.unsettled("life") == []


def test_an_attempt_lost_with_its_gateway_is_paid_as_its_begin_said(ledger: Ledger) -> None:
    for kind in ("cash", "prepaid"):
        ledger.apply([msgspec.structs.replace(begin(kind), paid_by=kind)], Position("dead", 0, 9))
    ended = [lost(row, 99)[0] for row in ledger.open_attempts("dead")]
    ledger.apply(ended)
    for kind in ("cash", "prepaid"):
        (attempt,) = ledger.attempts(kind)
        assert attempt.end is not None
        assert attempt.end.money_kind == kind


def test_what_a_dead_gateway_spent_is_found_by_its_life(books: Any) -> None:
    """Without an index the store reads a month's attempts for each lease of the dead."""
    place = books.place()
    books.open(place)
    query = (
        "SELECT count(*) FROM attempts WHERE life = 'x' AND begun_ms >= 5 AND begun_ms < 9"
        " AND ended_ms >= 5"
    )
    if books.kind == "sqlite":
        with contextlib.closing(sqlite3.connect(place)) as db:
            plan = db.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
    else:
        books.open(place).heads()  # makes the tables
        with psycopg.connect(place, autocommit=True) as connection:
            connection.execute("SET enable_seqscan = off")
            plan = connection.execute(f"EXPLAIN {query}").fetchall()
    assert "attempts_life" in str(plan)


@pytest.mark.parametrize("lost_first", [True, False])
def test_the_gateways_own_word_beats_gateway_lost(ledger: Ledger, lost_first: bool) -> None:
    told: list[Record] = [end("a"), request("a")]
    lost = [msgspec.structs.replace(r, outcome="gateway_lost", ended_ms=99) for r in told]
    for records in (lost, told) if lost_first else (told, lost):
        ledger.apply(records)
    assert ledger.attempts("a")[0].end == told[0]
    assert ledger.requests(9) == [told[1]]


def test_the_position_is_part_of_the_transaction(ledger: Ledger) -> None:
    assert ledger.position("life") is None
    ledger.apply([begin("a")], Position("life", 1, 100))
    ledger.apply([], Position("life", 2, 7))
    ledger.apply([begin("b")], Position("other", 1, 50))
    assert ledger.position("life") == Position("life", 2, 7)
    assert ledger.open_attempts("life") == [begin("a")]
    ledger.forget("life")
    assert ledger.position("life") is None
    assert ledger.position("other") == Position("other", 1, 50)


def test_unsettled_are_open_attempts_and_requests_without_a_row(ledger: Ledger) -> None:
    here = Position("life", 1, 1)
    ledger.apply(
        [begin("done"), end("done"), request("done"), begin("open"), begin("between")], here
    )
    ledger.apply([end("between"), begin("late")], here)
    ledger.apply([request("late")], here)
    ledger.apply([begin("elsewhere")], Position("other", 1, 1))
    found = [(a.request_id, a.end is None) for a in ledger.unsettled("life")]
    assert found == [("between", False), ("late", True), ("open", True)]


def test_what_nobody_will_settle_is_found_when_it_is_old_enough(ledger: Ledger) -> None:
    """Of a machine that is gone with its journal; whatever is younger may still be told of."""
    here = Position("life", 1, 1)
    ledger.apply(
        [begin("done", at_ms=10), end("done"), request("done"), begin("a", at_ms=10)], here
    )
    ledger.apply([begin("b", at_ms=10), end("b", ended_ms=15), begin("b", 2, at_ms=30)], here)
    ledger.apply([begin("c", at_ms=10), end("c", ended_ms=15)], Position("other", 1, 1))
    ledger.apply([begin("d", at_ms=10), request("d")], Position("other", 1, 1))
    assert ledger.abandoned(9) == []
    assert [(a.request_id, a.attempt) for a in ledger.abandoned(29)] == [
        ("a", 1),
        ("c", 1),
        ("d", 1),
    ]
    assert [(a.request_id, a.attempt) for a in ledger.abandoned(30)] == [
        ("a", 1), ("b", 1), ("b", 2), ("c", 1), ("d", 1),
    ]  # fmt: skip
    assert sweep(ledger, 30, 99) == 4
    assert ledger.abandoned(30) == ledger.open_attempts() == ledger.law() == []
    ledger.apply([end("a"), request("a")])  # it comes back after all
    assert {r.request_id: r.outcome for r in ledger.requests(9)} == {
        "a": "ok", "b": "gateway_lost", "c": "gateway_lost", "d": "ok", "done": "ok",
    }  # fmt: skip


def test_totals_are_by_utc_day_tenant_target_and_currency(ledger: Ledger) -> None:
    for n in range(3):
        ledger.apply([begin(f"x{n}", 1, True), end(f"x{n}", 1, 100 + n, DAY_MS - 1 + n)])
    ledger.apply([begin("free"), end("free", 1, 0, DAY_MS)])
    assert ledger.totals() == [
        Total("1970-01-01", "acme", "openai/gpt", "USD", 1, 0, 7, 3, 2, 1, 100),
        Total("1970-01-02", "acme", "local", "", 1, 0, 7, 3, 2, 1, 0),
        Total("1970-01-02", "acme", "openai/gpt", "USD", 2, 0, 14, 6, 4, 2, 203),
    ]
    assert ledger.totals(0, DAY_MS) == ledger.totals()[:1]
    assert ledger.totals(DAY_MS) == ledger.totals()[1:]


LAWFUL: list[Record] = [
    begin("a"), end("a"), request("a"),
    intent("e"), begin("e", 1, True), end("e", 1, 5), request("e"), request("refused", 0),
]  # fmt: skip
BREACHES: dict[str, tuple[list[Record], list[Violation]]] = {
    "no breach": ([], []),
    "an attempt too few": ([request("x", 1)], [Violation("attempts_differ", "x", 0)]),
    "an attempt too many": (
        [begin("x"), end("x"), begin("x", 2), end("x", 2), request("x", 1)],
        [Violation("attempts_differ", "x", 0)],
    ),
    "a ticket never released": ([begin("x"), request("x")], [Violation("attempt_open", "x", 1)]),
    "no request row": ([begin("x"), end("x")], [Violation("request_missing", "x", 1)]),
    "no begin": ([end("x"), request("x")], [Violation("begin_missing", "x", 1)]),
    "egress without an intent": (
        [begin("x", 1, True), end("x"), request("x")],
        [Violation("intent_missing", "x", 1)],
    ),
    "intent of another attempt": (
        [intent("x", 2), begin("x", 1, True), end("x"), request("x")],
        [Violation("intent_missing", "x", 1)],
    ),
    "another tenant's attempt": (
        [begin("x"), end("x"), msgspec.structs.replace(request("x"), tenant="evil")],
        [Violation("tenant_differs", "x", 1)],
    ),
    "money without a currency": (
        [begin("x"), msgspec.structs.replace(end("x"), charge=Charge("", 5)), request("x")],
        [Violation("money_unowned", "x", 1)],
    ),
    "negative money": (
        [begin("x"), end("x", 1, -5), request("x")],
        [Violation("money_unowned", "x", 1)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BREACHES)
def test_the_law_finds(ledger: Ledger, name: str) -> None:
    records, violations = BREACHES[name]
    ledger.apply(LAWFUL + records)
    assert ledger.law() == violations


def test_the_law_lets_running_requests_be(ledger: Ledger) -> None:
    ledger.apply([begin("x", at_ms=100), end("x")])
    assert ledger.law(settled_by_ms=99) == []
    assert ledger.law(settled_by_ms=100) == [Violation("request_missing", "x", 1)]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_count_no_integer_can_hold_blocks_nothing(ledger: Ledger, sign: int) -> None:
    huge = msgspec.structs.replace(end("a"), usage=Usage(sign << 63, 3))
    ledger.apply([begin("a"), huge])
    stored = ledger.attempts("a")[0].end
    assert stored is not None
    assert stored.usage.prompt_tokens == sign * ((1 << 63) - 1)


def test_what_was_applied_outlives_the_process(books: Any) -> None:
    place = books.place()
    first = books.open(place)
    first.apply(STORY, Position("life", 3, 4))
    seen = dump(first)
    first.close()
    second = books.open(place)
    assert dump(second) == seen
    assert second.position("life") == Position("life", 3, 4)


def test_two_processes_write_one_ledger(books: Any) -> None:
    place = books.place()
    one, two = books.open(place), books.open(place)
    one.apply([begin("a"), end("a"), request("a")], Position("one", 1, 10))
    two.apply([begin("b"), end("b"), request("b")], Position("two", 1, 20))
    assert one.requests(9) == two.requests(9) == [request("b"), request("a")]
    assert two.position("one") == Position("one", 1, 10)
    assert one.position("two") == Position("two", 1, 20)
    assert one.unsettled("two") == two.unsettled("one") == []


def test_a_ledger_opened_to_read_cannot_be_written(books: Any) -> None:
    place = books.place()
    with pytest.raises(LedgerUnavailable):
        books.open(place, is_to_read=True).requests(9)  # nothing there: nothing is made
    books.open(place).apply(STORY)
    ledger = books.open(place, is_to_read=True)
    assert ledger.requests(1) == [request("b", 2, 30, "k1")]
    with pytest.raises(LedgerUnavailable):
        ledger.apply([begin("x")])
    with pytest.raises(LedgerUnavailable):
        ledger.forget("x")


def test_no_name_a_caller_makes_up_blocks_the_others(ledger: Ledger) -> None:
    names = [
        "'; DROP TABLE requests; --",
        "%(rows)s :rows $1",
        "租户\u202e",
        "\\u0000",
        "a\nb",
        "x" * 70_000,
    ]
    rows = [
        msgspec.structs.replace(request(f"r{n}", 0), model=name) for n, name in enumerate(names)
    ]
    ledger.apply(rows)
    assert sorted(row.model for row in ledger.requests(99)) == sorted(names)


def test_a_nul_in_a_name_blocks_nothing(ledger: Ledger) -> None:
    odd = msgspec.structs.replace(request("nul", 0, 40), model="a\0b")
    ledger.apply([odd, request("other", 0)], Position("life", 1, 1))
    assert [row.request_id for row in ledger.requests(9)] == ["nul", "other"]
    assert ledger.requests(1)[0].model in ("a\0b", "a\ufffdb")
    assert ledger.position("life") == Position("life", 1, 1)


def test_a_question_without_end_is_ended(tmp_path: Path) -> None:
    ledger = SqliteLedger.open(tmp_path / "l")
    ledger.query_s = 0.01
    endless = (
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    )
    with pytest.raises(LedgerUnavailable, match="interrupted"):
        ledger._rows(endless, {})
    ledger.apply(STORY)
    assert len(ledger.requests(99)) == 3
    ledger.close()


def test_the_embedded_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    SqliteLedger.open(tmp_path / "l").close()
    assert (tmp_path / "l").stat().st_mode & 0o777 == 0o600


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "l") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(LedgerUnavailable, match="schema version 99"):
        SqliteLedger.open(tmp_path / "l")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "l").write_bytes(b"not a database, not at all" * 100)
    with pytest.raises(LedgerUnavailable):
        SqliteLedger.open(tmp_path / "l")


def test_a_file_of_the_first_version_is_brought_up_to_date_with_its_rows(tmp_path: Path) -> None:
    schema = Path(sqlite.__file__).with_name("schema_1.sql").read_text("utf-8")
    with sqlite3.connect(tmp_path / "l") as db:
        db.executescript(f"{schema}; PRAGMA user_version = 1;")
        db.execute(
            "INSERT INTO requests VALUES ('old', 5, 20, 'acme', 'p', 'k', 'chat', 'm', 'batch',"
            " 'ok', 200, '', 'why', 'local', 0, 1, 4, 7, 3, 2, 1, 0, '')"
        )
    db.close()
    with pytest.raises(LedgerUnavailable, match="schema version 1"):
        SqliteLedger.open_to_read(tmp_path / "l")
    ledger = SqliteLedger.open(tmp_path / "l")
    ledger.apply([request("new")])
    found = {row.request_id: (row.feature, row.user) for row in ledger.requests(9)}
    assert found == {"old": ("", ""), "new": ("search", "hmac")}
    ledger.close()
