"""Every ledger keeps egress intents on one chain for each life, however they are applied."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest

from serving.audit.values import Question
from serving.directory.chain import breaks
from serving.ledger.base import Position
from serving.rows import AttemptBegin, EgressIntent

assert dataclasses


def intent(number: int, **more: Any) -> EgressIntent:
    row = EgressIntent(
        f"{number:032x}", 1, 1000 + number, "acme", 2, "key:anywhere", "us", "alpha", "big"
    )
    return msgspec.structs.replace(row, **more)


def entries(store: Any, life: str) -> Any:
    return [one.entry for one in store.chained(life, 0, 1000)]


def test_intents_stand_on_their_lifes_chain_in_their_order(ledger: Any) -> None:
    ledger.apply([intent(1), intent(2)], Position("a", 0, 10))
    ledger.apply([intent(9)], Position("b", 0, 10))
    ledger.apply([intent(3)], Position("a", 0, 20))
    assert [e.number for e in entries(ledger, "a")] == [1, 2, 3]
    assert breaks(entries(ledger, "a")) == breaks(entries(ledger, "b")) == []
    assert [(h.writer, h.number) for h in ledger.heads()] == [("a", 3), ("b", 1)]
    assert all(one.row is not None for one in ledger.chained("a", 0, 10))
    assert ledger.chained("a", 2, 10)[0].row == intent(3)
    assert ledger.unchained() == (0, 0)


def test_what_is_applied_again_is_on_the_chain_once(ledger: Any) -> None:
    rows = [intent(1), intent(2)]
    ledger.apply(rows, Position("a", 0, 10))
    before = entries(ledger, "a")
    ledger.apply(rows, Position("a", 0, 10))
    ledger.apply([intent(1)], Position("b", 0, 5))
    assert entries(ledger, "a") == before
    assert entries(ledger, "b") == []


def test_a_slice_with_one_intent_twice_is_taken(ledger: Any) -> None:
    ledger.apply([intent(1), intent(1)], Position("a", 0, 10))
    assert len(entries(ledger, "a")) == 1


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"tenant": "acme"}, [1, 2, 4]),
        ({"tenant": "acme/x"}, [4]),
        ({"sensitivity": 0}, [3]),
        ({"jurisdiction": "cn"}, [2]),
        ({"provider": "beta"}, [5]),
        ({"since_ms": 1002, "until_ms": 1004}, [2, 3]),
        ({"limit": 2}, [1, 2]),
        ({"after": (1003, f"{3:032x}", 1)}, [4, 5]),
    ],
)
def test_egress_is_listed_by_what_is_asked(
    ledger: Any, wanted: dict[str, Any], numbers: list[int]
) -> None:
    rows = [
        intent(1), intent(2, jurisdiction="cn"), intent(3, tenant="acmebeta", sensitivity=0),
        intent(4, tenant="acme/x"), intent(5, tenant="acme0", provider="beta"),
    ]  # fmt: skip
    ledger.apply(rows, Position("a", 0, 10))
    found = ledger.egress(Question()._replace(**wanted))
    assert found == [rows[n - 1] for n in numbers]


def begin(number: int, key_id: str) -> AttemptBegin:
    return AttemptBegin(
        f"{number:032x}", 1, 1000 + number, 5, "acme", "p", key_id, "chat", "m", "interactive",
        "alpha/big", True, "why", 7, 8, "USD", 1000, 2000, "", "", 500, "list", "2026-11-01",
    )  # fmt: skip


def test_keys_are_named_in_pages_that_miss_none_and_egress_is_listed_by_key(ledger: Any) -> None:
    keys = ["web", "App", "bot", "web", "a_b"]
    for number, key in enumerate(keys, 1):
        ledger.apply([intent(number), begin(number, key)], Position("a", 0, number))
    question, found = Question(limit=2), list[str]()
    while page := ledger.keys_of(question):
        assert len(page) <= 2
        found += page
        question = question._replace(after_key=page[-1])
    assert found == sorted(set(keys))
    assert ledger.egress(Question(key="web")) == [intent(1), intent(4)]
    assert ledger.keys_of(Question(key="bot")) == ["bot"]
    assert ledger.egress(Question(key="we%")) == []
