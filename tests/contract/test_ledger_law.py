"""The law of the books, whatever happened and in whatever pieces it arrives; and that both stores
hold the same."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings

from serving.ledger.address import address
from serving.ledger.base import Ledger, Position
from serving.ledger.postgres import PostgresLedger
from serving.ledger.recover import settle
from serving.ledger.sqlite import SqliteLedger
from serving.records import Charge, Usage
from serving.rows import AttemptBegin, AttemptEnd, EgressIntent, Record, RequestEnd
from serving.settings import Ledger as LedgerSettings

LIFE = "0123456789ab"
EXAMPLES = 40
TABLES = "attempts, requests, intents, pending, positions"
OUTCOMES = ("ok", "full", "timeout", "disconnected", "upstream_error")


Fresh = Callable[[], Ledger]


def files(folder: Path, closing: contextlib.ExitStack) -> Fresh:
    """An empty file at each call."""
    serial = itertools.count(1)

    def fresh() -> Ledger:
        return closing.enter_context(
            contextlib.closing(SqliteLedger.open(folder / f"ledger{next(serial)}"))
        )

    return fresh


def tables(url: str, closing: contextlib.ExitStack) -> Fresh:
    """The same database, emptied at each call."""
    at = LedgerSettings(url=url)
    ledger = closing.enter_context(contextlib.closing(PostgresLedger.at(address(at), at)))
    ledger.law()

    def fresh() -> Ledger:
        with psycopg.connect(url, autocommit=True) as db:
            db.execute(f"TRUNCATE {TABLES}".encode())
        return ledger

    return fresh


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fresh]:
    """An empty ledger for each example."""
    with contextlib.ExitStack() as closing:
        if request.param == "sqlite":
            yield files(tmp_path, closing)
        else:
            yield tables(request.getfixturevalue("new_database")(), closing)


counts = st.integers(0, 5_000)
usages = st.builds(Usage, counts, counts, st.just(0), st.just(0), st.booleans())


@st.composite
def requests(draw: st.DrawFn, number: int) -> list[list[Record]]:
    """One request as its gateway journals it: the frames, in order."""
    request_id, tenant = f"r{number:03}", draw(st.sampled_from(["acme", "beta"]))
    frames: list[list[Record]] = []
    target, usage, attempts = "", Usage(), draw(st.integers(0, 3))
    for attempt in range(1, attempts + 1):
        is_egress = draw(st.booleans())
        target = "openai/gpt" if is_egress else "m@h:1"
        currency, price = ("USD", 1_500_000) if is_egress else ("", 0)
        opening: list[Record] = [
            AttemptBegin(
                request_id, attempt, 10, 5, tenant, "p", "k", "chat", "m", "interactive", target,
                is_egress, "why", 7, 8, currency, price, price,
            )
        ]  # fmt: skip
        if is_egress:
            opening.insert(
                0, EgressIntent(request_id, attempt, 9, tenant, 1, "r", "us", "openai", "gpt")
            )
        usage = draw(usages)
        charge = Charge(currency, draw(counts)) if is_egress else Charge()
        outcome = draw(st.sampled_from(OUTCOMES))
        frames += [opening, [AttemptEnd(request_id, attempt, 20, outcome, "", usage, charge, 4)]]
    end = RequestEnd(
        request_id, 5, 20, tenant, "p", "k", "chat", "m", "interactive", "ok", 200, "", "why",
        target, attempts, 1, 4, usage,
    )  # fmt: skip
    if frames:
        frames[-1].append(end)
    else:
        frames.append([end])
    return frames


@st.composite
def days(draw: st.DrawFn) -> list[list[Record]]:
    """Some requests whose frames are interleaved, each request's own in order."""
    open_ = [draw(requests(number)) for number in range(draw(st.integers(1, 6)))]
    day: list[list[Record]] = []
    while open_:
        one = draw(st.integers(0, len(open_) - 1))
        day.append(open_[one].pop(0))
        open_ = [frames for frames in open_ if frames]
    return day


def told(day: list[list[Record]]) -> tuple[dict[Any, AttemptEnd], dict[str, RequestEnd]]:
    records = [record for frame in day for record in frame]
    ends = {(r.request_id, r.attempt): r for r in records if isinstance(r, AttemptEnd)}
    return ends, {r.request_id: r for r in records if isinstance(r, RequestEnd)}


def held(ledger: Ledger, ids: set[str]) -> tuple[dict[Any, AttemptEnd], dict[str, RequestEnd]]:
    attempts = [a for i in sorted(ids) for a in ledger.attempts(i)]
    ends = {(a.request_id, a.attempt): a.end for a in attempts if a.end is not None}
    assert len(ends) == sum(a.end is not None for a in attempts)
    return ends, {r.request_id: r for r in ledger.requests(999)}


def apply_in_slices(ledger: Ledger, day: list[list[Record]], sizes: list[int]) -> None:
    at = 0
    for size in itertools.chain(sizes, itertools.repeat(len(day))):
        if at >= len(day):
            return
        frames = day[at : at + size]
        at += size
        records = [record for frame in frames for record in frame]
        ledger.apply(records, Position(LIFE, 1, at))


calm = settings(
    max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # fmt: skip
slices = st.lists(st.integers(1, 5), max_size=8)


@calm
@given(day=days(), sizes=slices, again=slices)
def test_whole_days_are_lawful_and_hold_what_was_told(
    empty: Fresh, day: list[list[Record]], sizes: list[int], again: list[int]
) -> None:
    ledger = empty()
    apply_in_slices(ledger, day, sizes)
    apply_in_slices(ledger, day, again)  # a commit whose answer was lost
    ends, rows = told(day)
    assert held(ledger, {r.request_id for f in day for r in f}) == (ends, rows)
    assert ledger.law() == []
    assert ledger.unsettled(LIFE) == ledger.open_attempts() == []
    spent = sum(end.charge.micro for end in ends.values())
    assert sum(total.micro for total in ledger.totals()) == spent
    assert sum(total.attempts for total in ledger.totals()) == len(ends)


@calm
@given(day=days(), sizes=slices, cut=st.integers(0, 30), data=st.data())
def test_a_life_cut_anywhere_is_settled_lawfully_and_its_own_word_still_wins(
    empty: Fresh, day: list[list[Record]], sizes: list[int], cut: int, data: Any
) -> None:
    ledger = empty()
    cut = min(cut, len(day))
    apply_in_slices(ledger, day[:cut], sizes)
    groups = itertools.groupby(ledger.unsettled(LIFE), key=lambda a: a.request_id)
    settled = [row for _, attempts in groups for row in settle(list(attempts), 99)]
    ledger.apply(settled)
    assert ledger.law() == []
    assert ledger.unsettled(LIFE) == []
    if data.draw(st.booleans(), label="the journal turns up after all"):
        apply_in_slices(ledger, day, sizes)
        ledger.apply(settled)
        assert held(ledger, {r.request_id for f in day for r in f}) == told(day)
        assert ledger.law() == []


def dump(ledger: Ledger, ids: list[str]) -> object:
    law = sorted(msgspec.structs.astuple(violation) for violation in ledger.law())
    attempts = [ledger.attempts(i) for i in ids]
    return (
        attempts, ledger.requests(999), ledger.open_attempts(), ledger.open_attempts(LIFE),
        ledger.unsettled(LIFE), ledger.totals(), ledger.idempotency(0), ledger.position(LIFE), law,
    )  # fmt: skip


@st.composite
def odd_records(draw: st.DrawFn) -> Record:
    """Any row under few keys: orphans, doubles, strangers' attempts, money nobody owns."""
    key = (f"r{draw(st.integers(0, 2))}", draw(st.integers(1, 2)))
    tenant, at_ms = draw(st.sampled_from(["acme", "租户"])), draw(st.integers(0, 1 << 40))
    outcome = draw(st.sampled_from(["ok", "gateway_lost"]))
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return EgressIntent(*key, at_ms, tenant, 1, "r", "us", "openai", "gpt")
    if kind == 1:
        return AttemptBegin(
            *key, at_ms, 5, tenant, "p", "k", "chat", "m", "interactive", "t", draw(st.booleans()),
            "why", 7, 8, draw(st.sampled_from(["", "CNY"])), 10, 20,
        )  # fmt: skip
    if kind == 2:
        charge = Charge(draw(st.sampled_from(["", "CNY"])), draw(st.integers(-1, 3)))
        return AttemptEnd(*key, at_ms, outcome, "", draw(usages), charge, -1)
    return RequestEnd(
        key[0], 5, at_ms, tenant, "p", "k", "chat", "m", "interactive", outcome, 200, "", "why",
        "t", draw(st.integers(0, 2)), 1, 4, draw(usages), draw(st.sampled_from(["", "key"])),
    )  # fmt: skip


@pytest.fixture
def both(tmp_path: Path, new_database: Callable[[], str]) -> Iterator[tuple[Fresh, Fresh]]:
    with contextlib.ExitStack() as closing:
        yield files(tmp_path, closing), tables(new_database(), closing)


@pytest.mark.server
@settings(calm, max_examples=80)
@given(soup=st.lists(st.lists(odd_records(), max_size=8), max_size=4))
def test_both_stores_hold_and_judge_the_same(
    both: tuple[Fresh, Fresh], soup: list[list[Record]]
) -> None:
    embedded, production = both[0](), both[1]()
    for number, records in enumerate(soup):
        for ledger in (embedded, production):
            ledger.apply(records, Position(LIFE, 1, number))
    ids = ["r0", "r1", "r2"]
    assert dump(production, ids) == dump(embedded, ids)
