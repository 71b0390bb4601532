"""Sides of a split compared, the same from every ledger."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.evaluation import splits
from serving.evaluation.splits import Found, Report, Side
from serving.finance.base import Database
from serving.finance.postgres import PostgresDatabase
from serving.finance.sqlite import SqliteDatabase
from serving.ledger.address import address
from serving.placement.assign import arm_at
from serving.placement.values import Arm
from serving.records import Charge, Usage
from serving.rows import AttemptBegin, AttemptEnd, RequestEnd
from serving.settings import Ledger as LedgerSettings

ARMS = (Arm("a", 50), Arm("b", 50))
QUESTIONS = (splits.PARTS, splits.MONEY, splits.TARGETS, splits.TIMES)
OWN, API = "m@10.0.0.1:8000", "alpha/big@2026"


class Case:
    """A ledger and the database beside it."""

    def __init__(self, books: Any, closing: contextlib.ExitStack) -> None:
        place = books.place()
        self.ledger = books.open(place)
        self.ledger.apply([])
        self.books: Database
        if books.kind == "sqlite":
            self.books = SqliteDatabase.open(Path(place))
        else:
            settings = LedgerSettings(url=place)
            self.books = PostgresDatabase.at(address(settings), settings)
        closing.callback(self.books.close)
        self._count = 0

    def served(self, arm: str, part: int, micro: int = 0, **more: Any) -> None:
        """A request of a side; `more` are fields of its row."""
        self._count += 1
        name, target = f"r{self._count:05}", API if micro else OWN
        facts = {
            "outcome": "ok", "status": 200, "code": "", "attempts": 1, "finish": "stop",
            "json": "", "is_stream": True, "first_token_ms": 200, "name": "chat",
            "usage": Usage(50, 20),
        } | more  # fmt: skip
        currency = "CNY" if micro else ""
        self.ledger.apply(
            [
                AttemptBegin(
                    name, 1, 1000, 1000, "acme", "p", "k", "chat", "m", "interactive", target,
                    False, f"split:{arm}", 50, 20, currency, 0, 0, route=f"split:{arm}",
                ),
                AttemptEnd(name, 1, 3000, "ok", "", Usage(50, 20), Charge(currency, micro), 200),
                RequestEnd(
                    name, 1000, 3000, "acme", "p", "k", "chat", "m", "interactive",
                    facts["outcome"], facts["status"], facts["code"], f"split:{arm}", target,
                    facts["attempts"], 0, facts["first_token_ms"], facts["usage"],
                    name=facts["name"], route=f"split:{arm}", part=part, finish=facts["finish"],
                    json=facts["json"], is_stream=facts["is_stream"],
                ),
            ]
        )  # fmt: skip

    def report(self) -> Report:
        """What is said of `chat`."""
        values = {"name": "chat", "since_ms": 0, "until_ms": 10_000, "limit": splits.ROWS_MAX}
        rows = [self.books.rows(question, values) for question in QUESTIONS]
        percents = {arm.name: arm.percent for arm in ARMS}
        return splits.report("chat", percents, lambda part: arm_at(part, ARMS).name, Found(*rows))


@pytest.fixture
def case(books: Any) -> Iterator[Case]:
    with contextlib.ExitStack() as closing:
        yield Case(books, closing)


def figure(side: Side, name: str) -> Any:
    (found,) = [one for one in side.figures if one.name == name]
    return found


def test_each_side_has_its_signs_with_intervals_and_its_difference(case: Case) -> None:
    for part in range(40):
        case.served("a", part, usage=Usage(50, 20))
        case.served("b", 5000 + part, usage=Usage(50, 30 if part % 2 else 50), micro=600,
                    finish="length" if part < 10 else "stop")  # fmt: skip
    found = case.report()
    first, second = found.sides
    assert (first.name, first.percent, first.requests, first.parts) == ("a", 50, 40, 40)
    assert (first.targets, second.targets) == ((("own", 40),), ((API, 40),))
    assert figure(first, "answer tokens").found.value == 20
    longer = figure(second, "answer tokens")
    assert (longer.found.value, longer.more.value) == (40, 20)
    assert longer.more.is_off_zero
    cut = figure(second, "cut at max_tokens")
    assert (cut.found.value, cut.found.low > 0.1, cut.found.high < 0.45) == (0.25, True, True)
    assert cut.more.is_off_zero
    assert figure(second, "CNY micro a request").found.value == 600
    assert figure(first, "CNY micro a request").found.value == 0
    assert figure(first, "first token p50 ms").found.value == pytest.approx(200, rel=0.05)
    assert figure(first, "whole answer ms").found.value == 2000
    assert (found.moved, found.elsewhere) == (0, 0)


def test_failures_refusals_retries_and_broken_json_are_counted(case: Case) -> None:
    case.served("a", 1, outcome="timeout", status=504, finish="", first_token_ms=-1)
    case.served("a", 2, code="content_filter", outcome="caller_error", status=400, finish="")
    case.served("a", 3, finish="content_filter", attempts=2)
    case.served("a", 4, json="invalid", finish="tool_calls")
    case.served("a", 5, json="valid", is_stream=False)
    (side, _) = case.report().sides
    values = {one.name: one.found and one.found.value for one in side.figures}
    assert (values["failed"], values["refused"], values["retried"]) == (0.2, 0.4, 0.2)
    assert values["JSON invalid"] == 0.5
    assert values["called a tool"] == pytest.approx(1 / 3)
    assert values["first token p50 ms"] is None
    assert side.is_few


def test_a_caller_seen_on_two_sides_is_counted_as_moved(case: Case) -> None:
    case.served("a", 1)
    case.served("b", 1)
    case.served("b", 2)
    case.served("gone", 9000)
    found = case.report()
    assert (found.moved, found.elsewhere) == (1, 3)
    assert [(side.name, side.percent) for side in found.sides] == [
        ("a", 50), ("b", 50), ("gone", None)
    ]  # fmt: skip


def test_other_names_and_requests_without_a_side_do_not_count(case: Case) -> None:
    case.served("a", 1)
    case.served("a", -1)
    case.served("a", 2, name="other")
    assert case.report().sides[0].requests == 1


def test_one_talkative_caller_widens_the_interval(case: Case) -> None:
    for part in range(30):
        case.served("a", part, attempts=1 + part % 2)
        for _ in range(8 if part < 4 else 0):
            case.served("b", 5000 + part, attempts=2)
        case.served("b", 5000 + part)
    narrow, wide = (figure(side, "retried").found for side in case.report().sides)
    assert wide.high - wide.low > narrow.high - narrow.low
