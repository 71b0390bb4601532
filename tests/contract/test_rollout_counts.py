"""What the ledger tells of a rollout's sides: the same of both stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving.finance.postgres import PostgresDatabase
from serving.finance.sqlite import SqliteDatabase
from serving.ledger.address import address
from serving.records import Charge, LatencyClass, Usage
from serving.rollout import counts
from serving.rollout.counts import Load
from serving.rollout.decide import Tally
from serving.rollout.values import Rollout
from serving.rows import AttemptBegin, AttemptEnd, Record, RequestEnd
from serving.settings import Ledger as LedgerSettings

ROW = Rollout(id="chat", old="a", new="b")
FIRST_S = dict.fromkeys(LatencyClass, 5.0)
NEW, OLD = "split:chat~new", "split:chat~old"
AT = 1_800_000_000_000


def call(name: str, reason: str, *tries: str, at: str = "", **more: Any) -> list[Record]:
    """A request's row and its attempts' outcomes."""
    begins = [
        AttemptBegin(name, n, AT, AT, "acme", "p", "k", "chat", "b", "interactive", "b@x:1",
                     False, at or reason, 1, 1, "", 0, 0)
        for n, _ in enumerate(tries, 1)
    ]  # fmt: skip
    ends = [
        AttemptEnd(name, n, AT + 9, outcome, "", Usage(10, 2), Charge(), 5)
        for n, outcome in enumerate(tries, 1)
    ]
    given = {"received_ms": AT, "outcome": "ok", "status": 200, "first_token_ms": 9, "batch": "",
             "latency_class": "interactive", "code": ""} | more  # fmt: skip
    given.setdefault("route", reason.partition("/")[0] if reason.startswith("split:") else "")
    end = RequestEnd(
        request_id=name, ended_ms=AT + 10, tenant="acme", project="p", key_id="k", surface="chat",
        model="b", reason=reason, target="b@x:1", attempts=len(tries), queue_ms=0,
        usage=Usage(10, 2), **given,
    )  # fmt: skip
    return [*begins, *ends, end]


CALLS = {
    "good": (call("1", f"{NEW}/local", "ok"), (1, 0, 0)),
    "its side is the whole reason": (call("2", NEW, "ok"), (1, 0, 0)),
    "late": (call("3", f"{NEW}/local", "ok", first_token_ms=5001), (1, 0, 1)),
    "another helped out": (call("4", f"{NEW}/overflow:retry", "upstream_error", "ok"), (1, 1, 0)),
    "cut": (call("5", f"{NEW}/local", "cut", outcome="cut"), (1, 1, 0)),
    "refused by us": (
        call("6", "no_target", outcome="refused", status=503, route=NEW),
        (1, 1, 0),
    ),
    "a direct call's refusal": (
        call("18", "no_target", outcome="refused", status=503),
        (0, 0, 0),
    ),
    "a refusal of the other side": (
        call("19", "no_target", outcome="refused", status=503, route=OLD),
        (0, 0, 0),
    ),
    "the old model answered after its failure": (
        call("20", f"{NEW}/old_side/local", "upstream_error", "ok", route=f"{NEW}/old_side"),
        (1, 1, 0),
    ),
    "the old model answered, as no engine was there": (
        call("21", f"{NEW}/old_side/local", "ok", route=f"{NEW}/old_side"),
        (1, 1, 0),
    ),
    "this gateway stopped": (
        call("22", "", outcome="refused", status=503, code="draining", route=NEW),
        (0, 0, 0),
    ),
    "tried, then refused": (
        call(
            "16",
            "no_target",
            "upstream_error",
            outcome="upstream_error",
            status=502,
            at=NEW,
            route=NEW,
        ),
        (1, 1, 0),
    ),
    "stopped by an operator": (
        call("17", "kill_switch", outcome="refused", status=503, code="stopped", route=NEW),
        (0, 0, 0),
    ),
    "no engine of its side": (call("7", f"{NEW}/overflow:no_replica", "ok"), (1, 1, 0)),
    "full is no error": (call("8", f"{NEW}/overflow:full", "full", "ok"), (1, 0, 0)),
    "the caller's fault": (call("9", NEW, outcome="caller_error", status=400), (0, 0, 0)),
    "the caller's limit": (call("10", NEW, outcome="refused", status=429), (0, 0, 0)),
    "the caller's limit, as the gateway writes it": (
        call("23", NEW, outcome="caller_error", status=429, code="rate_limit_exceeded"),
        (0, 0, 0),
    ),
    "hung up": (call("11", f"{NEW}/local", "disconnected", outcome="disconnected"), (0, 0, 0)),
    "a batch's line": (call("12", f"{NEW}/local", "ok", batch="b1"), (0, 0, 0)),
    "the other side": (call("13", f"{OLD}/local", "ok"), (0, 0, 0)),
    "another name's": (call("14", "split:chat~newer/local", "ok"), (0, 0, 0)),
    "came before the step": (call("15", f"{NEW}/local", "ok", received_ms=AT - 2), (0, 0, 0)),
}


@pytest.fixture
def told(books: Any) -> Any:
    place = books.place()
    ledger = books.open(place)
    ledger.apply([record for records, _ in CALLS.values() for record in records])
    if books.kind == "sqlite":
        found: Any = SqliteDatabase.open_to_read(Path(place))
    else:
        settings = LedgerSettings(url=place)
        found = PostgresDatabase.to_read(address(settings, is_read_only=True))
    yield found
    found.close()


def test_each_call_counts_as_it_should(told):
    expected = [sum(parts) for parts in zip(*(row for _, row in CALLS.values()), strict=True)]
    asked = counts.asked(ROW, "new", AT - 1, FIRST_S)
    assert counts.tally(told.rows(counts.SIDE, asked)) == Tally(*expected)
    assert counts.tally(told.rows(counts.SIDE, counts.asked(ROW, "old", AT - 1, FIRST_S))) == Tally(
        2, 1, 0
    )
    assert counts.tally(
        told.rows(counts.SIDE, counts.asked(ROW, "new", AT + 1000, FIRST_S))
    ) == Tally(0, 0, 0)


def test_the_load_of_a_model_comes_by_key_and_class(told):
    rows = told.rows(counts.LOADS, {"since": AT, "model": "b"})
    assert counts.loads(rows) == [Load("acme", "k", LatencyClass.INTERACTIVE, 23, 230, 46)]
    assert counts.loads(told.rows(counts.LOADS, {"since": AT, "model": "c"})) == []


def test_answers_of_4xx_are_counted_by_key(told):
    asked = counts.asked(ROW, "new", AT - 1, FIRST_S)
    ((key, calls, faults),) = told.rows(counts.REJECTED, counts.of_keys(asked))
    good = sum(row[0] for _, row in CALLS.values())
    assert (key, calls, faults) == ("k", good + 1, 1)
