"""Every budget store: slices add up to the limit, the dead are settled by the truth, and nobody
overspends, not with eight processes that are killed at any moment."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from serving.budgets.base import LEASE_MS, Alert, BudgetStore, Row, Scope, Sum, Told, Want
from serving.budgets.funds import Funds
from serving.budgets.period import span
from serving.budgets.postgres import PostgresBudgets
from serving.budgets.purse import Purse
from serving.budgets.settings import BudgetSettings
from serving.budgets.settle import settle_dead
from serving.budgets.sqlite import SqliteBudgets
from serving.budgets.values import Budget
from serving.ledger.address import address
from serving.ledger.base import Ledger, Position
from serving.ledger.postgres import PostgresLedger
from serving.ledger.recover import settle
from serving.ledger.sqlite import SqliteLedger
from serving.records import Charge, Outcome, Usage
from serving.rows import AttemptBegin, AttemptEnd, RequestEnd
from serving.settings import Ledger as LedgerSettings

NOW_MS = 1_790_000_000_000
SPAN = span("month", "Asia/Shanghai", NOW_MS)
MONTH = Budget(id="b", limit_micro=1000, tenant="acme", created_by="me", created_ms=0)
HOLDERS = [f"{n:012x}" for n in range(100)]


class Place(NamedTuple):
    """A database, to be opened by any process."""

    kind: str
    where: str

    def budgets(self) -> BudgetStore:
        """The store there."""
        if self.kind == "sqlite":
            return SqliteBudgets.open(Path(self.where), busy_s=30.0)
        settings = LedgerSettings(url=self.where)
        return PostgresBudgets.at(address(settings), settings)

    def ledger(self) -> Ledger:
        """The ledger there."""
        if self.kind == "sqlite":
            return SqliteLedger.open(Path(self.where), busy_s=30.0)
        settings = LedgerSettings(url=self.where)
        return PostgresLedger.at(address(settings), settings)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def place(request: pytest.FixtureRequest, tmp_path: Any) -> Place:
    """An empty database of every kind."""
    if request.param == "sqlite":
        return Place("sqlite", str(tmp_path / "ledger.sqlite"))
    return Place("postgres", request.getfixturevalue("new_database")())


@pytest.fixture
def store(place: Place) -> Iterator[BudgetStore]:
    """A store there."""
    found = place.budgets()
    yield found
    found.close()


def want(**changes: Any) -> Want:
    quiet = Want("b", SPAN.start_ms, SPAN.end_ms, 1000, True, 0, 0, 0, 400, 0)
    return msgspec.structs.replace(quiet, **changes)


def one(store: BudgetStore, holder: int, now_ms: int = NOW_MS, **changes: Any) -> Told:
    (found,) = store.renew(HOLDERS[holder], [want(**changes)], now_ms)
    return found


def test_slices_shrink_and_add_up_to_the_limit(store: BudgetStore) -> None:
    granted = [one(store, n).granted_micro for n in range(12)]
    assert granted[:3] == [250, 187, 140]
    assert sum(granted) <= 1000
    last = one(store, 20, need_micro=1000 - sum(granted))
    assert (sum(granted) + last.granted_micro, last.left_micro) == (1000, 0)
    assert one(store, 21, need_micro=1).granted_micro == 0


def test_what_is_given_back_is_there_for_others(store: BudgetStore) -> None:
    first = one(store, 1, need_micro=1000)
    assert (first.granted_micro, first.left_micro) == (1000, 0)
    one(store, 1, spent_micro=300, had_micro=1000, is_last=True)
    second = one(store, 2, need_micro=700)
    assert (second.granted_micro, second.others_spent_micro) == (700, 300)


def test_a_report_that_is_run_twice_counts_once(store: BudgetStore) -> None:
    asked = {"spent_micro": 100, "had_micro": 250, "reserved_micro": 20}
    one(store, 1)
    assert one(store, 1, **asked) == one(store, 1, **asked)
    (row,) = store.rows(NOW_MS, NOW_MS)
    assert (row.spent_micro, row.holders) == (100, 1)


def test_periods_and_budgets_do_not_mix(store: BudgetStore) -> None:
    told = store.renew(
        HOLDERS[1],
        [want(), want(budget="c"), want(start_ms=SPAN.end_ms, end_ms=SPAN.end_ms + 1000)],
        NOW_MS,
    )
    assert [t.granted_micro for t in told] == [250, 250, 250]
    assert len(store.rows(NOW_MS, NOW_MS)) == 3
    store.forget(SPAN.end_ms + 1)
    assert [r.start_ms for r in store.rows(0, NOW_MS)] == [SPAN.end_ms]


def test_a_threshold_is_told_of_once_and_kept(store: BudgetStore) -> None:
    spent = [one(store, n % 2, spent_micro=s).passed for n, s in enumerate((300, 400, 350, 800))]
    assert spent == [(), (50,), (), (80, 100)]
    kept = [(a.threshold, a.spent_micro) for a in store.alerts(SPAN.start_ms)]
    assert kept == [(100, 1150), (80, 1150), (50, 700)]
    assert store.alerts(SPAN.start_ms)[0] == Alert("b", SPAN.start_ms, 100, NOW_MS, 1150, 1000)
    assert one(store, 1, start_ms=SPAN.end_ms, end_ms=SPAN.end_ms + 9, spent_micro=600).passed == (
        50,
    )


def test_a_lowered_limit_takes_back_what_is_free_at_the_next_report(store: BudgetStore) -> None:
    assert one(store, 1, need_micro=800).granted_micro == 800
    lowered = one(store, 1, had_micro=800, spent_micro=100, limit_micro=200)
    assert lowered.granted_micro == 200


def begin(holder: str, number: int, **changes: Any) -> AttemptBegin:
    row = AttemptBegin(
        f"{holder}-{number}", 1, NOW_MS, NOW_MS, "acme", "p", "k", "chat", "m", "batch",
        "alpha/big", True, "overflow", 10, 10, "CNY", 500_000, 500_000,
    )  # fmt: skip
    return msgspec.structs.replace(row, **changes)


def end(begun: AttemptBegin, micro: int, currency: str = "CNY") -> AttemptEnd:
    return AttemptEnd(
        begun.request_id, 1, NOW_MS + 5, Outcome.OK, "", Usage(10, 10), Charge(currency, micro), 1
    )


def request(begun: AttemptBegin) -> RequestEnd:
    return RequestEnd(
        begun.request_id, NOW_MS, NOW_MS + 5, begun.tenant, begun.project, "k", "chat", begun.model,
        "batch", Outcome.OK, 200, "", "", begun.target, 1, 0, 1, Usage(10, 10), "",
    )  # fmt: skip


def recovered(ledger: Ledger, life: str) -> None:
    """What `ledger.recover` does with a dead life whose journal is in the ledger."""
    by_request = itertools.groupby(ledger.unsettled(life), key=lambda a: a.request_id)
    for _, attempts in by_request:
        ledger.apply(settle(list(attempts), NOW_MS + 10))
    ledger.forget(life)


def funds(*budgets: Budget) -> Funds:
    made = Funds(BudgetSettings(), {}, lambda: NOW_MS)
    made.take({b.id: b for b in budgets})
    return made


LATER = (NOW_MS + LEASE_MS + 1, NOW_MS - 1)


def test_the_dead_count_in_full_until_their_rows_tell(place: Place, store: BudgetStore) -> None:
    ledger = place.ledger()
    one(store, 1, need_micro=600)
    one(store, 1, had_micro=600, spent_micro=40)
    done, lost = begin(HOLDERS[1], 1), begin(HOLDERS[1], 2)
    ledger.apply([done, end(done, 50), request(done), lost], Position(HOLDERS[1], 0, 9))
    assert settle_dead(store, funds(MONTH), (NOW_MS, 0)) == 0, "the lease is still good"
    assert settle_dead(store, funds(MONTH), LATER) == 0, "its journal may still come"
    (row,) = store.rows(NOW_MS, LATER[0])
    assert (row.spent_micro, row.granted_micro, row.presumed_micro) == (40, 600, 560)
    assert one(store, 2, need_micro=401).granted_micro < 401
    recovered(ledger, HOLDERS[1])
    assert settle_dead(store, funds(MONTH), LATER) == 1
    rows = {r.budget: r for r in store.rows(NOW_MS, NOW_MS)}
    # 50 as told, and the lost one's estimate: 7 of 10 prompt tokens are the mean, 10 of answer.
    assert rows["b"].spent_micro == 50 + 9
    assert settle_dead(store, funds(MONTH), LATER) == 0
    ledger.close()


def test_a_holder_that_comes_back_goes_on_where_it_was(place: Place, store: BudgetStore) -> None:
    one(store, 1)
    told = one(store, 1, LATER[0], had_micro=250, spent_micro=200)
    assert told.granted_micro >= 250
    assert settle_dead(store, funds(MONTH), LATER) == 0


def test_rows_that_never_come_are_given_up_after_a_day(store: BudgetStore) -> None:
    one(store, 1, need_micro=900)
    assert settle_dead(store, funds(MONTH), (LATER[0], LATER[0] + 1)) == 1
    assert one(store, 2, need_micro=1000).granted_micro == 1000


@pytest.mark.parametrize(
    ("scope", "micro"),
    [
        (Scope("", "", "", ""), 1111),
        (Scope("fw", "", "", ""), 11),
        (Scope("own", "", "", ""), 100_000),
        (Scope("fw/one", "", "", ""), 10),
        (Scope("f", "", "", ""), 0),
        (Scope("", "q", "", ""), 100),
        (Scope("", "", "m2", ""), 1000),
        (Scope("", "", "", "alpha"), 1011),
        (Scope("", "", "", "alp"), 0),
        (Scope("fw", "p", "m", "alpha"), 11),
    ],
)
def test_the_truth_is_what_is_in_scope(
    place: Place, store: BudgetStore, scope: Scope, micro: int
) -> None:
    ledger = place.ledger()
    one(store, 1)
    rows = [
        (begin(HOLDERS[1], 1, tenant="fw"), 1),
        (begin(HOLDERS[1], 2, tenant="fw/one"), 10),
        (begin(HOLDERS[1], 3, project="q", target="beta/big"), 100),
        (begin(HOLDERS[1], 4, model="m2"), 1000),
        (begin(HOLDERS[1], 5, at_ms=SPAN.start_ms - 1), 10_000),
        (begin(HOLDERS[1], 6, at_ms=SPAN.end_ms), 10_000),
        (begin(HOLDERS[1], 7, tenant="own", model="m3", target="alpha@own/big"), 100_000),
    ]
    for begun, cost in rows:
        kind = "tenant" if begun.tenant == "own" else "cash"
        ended = msgspec.structs.replace(end(begun, cost), money_kind=kind)
        ledger.apply([begun, ended, request(begun)], Position(HOLDERS[1], 0, 9))
    other = begin(HOLDERS[2], 1)
    ledger.apply([other, end(other, 7)], Position(HOLDERS[2], 0, 9))
    recovered(ledger, HOLDERS[1])
    (lease,) = store.expired(*LATER)
    sums = store.truth(lease, scope, 0)
    assert sum(s.micro for s in sums) == micro
    assert all(isinstance(s, Sum) and s.currency == "CNY" for s in sums)
    ledger.close()


# -- Eight processes -------------------------------------------------------------------------------

QUICK, LONG = (150_000, 4), (600_000, 20)
"""Limit in micro-units, about a call for each 150, and processes killed."""
COST_MAX, AT_ONCE, WORKERS = 300, 3, 8


def big(limit: int) -> Budget:
    return MONTH.model_copy(update={"limit_micro": limit})


class Spender(NamedTuple):
    """One process that spends as a gateway does: reserve, begin on record, end on record, settle.

    What it pays is at most what it reserved; with `overrun` up to half as much again."""

    place: Place
    holder: str
    seed: int
    limit: int
    overrun: bool = False

    def run(self) -> None:
        """Spend until nothing is left, then give back."""
        store, ledger = self.place.budgets(), self.place.ledger()
        with closing(store), closing(ledger):
            self.spend(store, ledger)

    def spend(self, store: BudgetStore, ledger: Ledger) -> None:
        rng, purse = random.Random(self.seed), Purse(big(self.limit), SPAN, 7_000_000)
        under_way: list[tuple[AttemptBegin, int, int]] = []
        now_ms, dry, number = NOW_MS, 0, 0
        while dry < 3 or under_way:
            now_ms += 50
            most = rng.randint(1, COST_MAX)
            if dry < 3 and len(under_way) < AT_ONCE and purse.fits(most):
                number += 1
                purse.reserve(most)
                # What recovery supposes of a lost attempt is below its bound, as in production.
                begun = begin(
                    self.holder, number, prompt_tokens=0, completion_tokens=most,
                    output_micro_per_mtok=1_000_000,
                )  # fmt: skip
                ledger.apply([begun], Position(self.holder, 0, number))
                paid = rng.randint(0, most + (most // 2 if self.overrun else 0))
                under_way.append((begun, most, paid))
            elif under_way:
                begun, reserved, paid = under_way.pop(rng.randrange(len(under_way)))
                ended = [end(begun, paid), request(begun)]
                ledger.apply(ended, Position(self.holder, 0, number))
                purse.settle(reserved, Charge("CNY", paid))
            if purse.is_due(now_ms):
                asked = purse.want(now_ms)
                purse.told(store.renew(self.holder, [asked], now_ms)[0])
                dry = dry + 1 if asked.need_micro and purse.free < asked.need_micro else 0
        purse.is_closing = True
        store.renew(self.holder, [purse.want(now_ms)], now_ms)


def spent_in_all(ledger: Ledger) -> int:
    return sum(total.micro for total in ledger.totals())


def torment(place: Place, seed: int, size: tuple[int, int], *, overrun: bool) -> int:
    """Eight spenders, some killed and replaced at random moments; the money really spent."""
    limit, kills = size
    rng, serial = random.Random(seed), itertools.count()
    context = multiprocessing.get_context("fork")
    place.budgets().close()  # the schema is there before the race begins
    alive: dict[str, multiprocessing.process.BaseProcess] = {}
    dead: list[str] = []

    def start() -> None:
        number = next(serial)
        spender = Spender(place, HOLDERS[number], seed * 1000 + number, limit, overrun)
        alive[spender.holder] = process = context.Process(target=spender.run)
        process.start()

    with ExitStack() as ending:
        ending.callback(lambda: [p.kill() for p in alive.values()])
        for _ in range(WORKERS):
            start()
        while any(p.is_alive() for p in alive.values()):
            time.sleep(0.02)
            running = sorted(h for h, p in alive.items() if p.is_alive())
            if len(dead) < kills and running and rng.random() < 0.3:
                victim = rng.choice(running)
                process = alive.pop(victim)
                assert process.pid is not None
                os.kill(process.pid, signal.SIGKILL)
                process.join()
                dead.append(victim)
                start()
        for process in alive.values():
            process.join()
            assert process.exitcode == 0
    assert len(dead) == kills
    store, ledger = place.budgets(), place.ledger()
    with closing(store), closing(ledger):
        assert len(ledger.open_attempts()) <= AT_ONCE * len(dead)
        for life in [*dead, *alive]:
            recovered(ledger, life)
        later = (NOW_MS + 10 * 86_400_000, NOW_MS)
        settle_dead(store, funds(big(limit)), later)
        (row,) = store.rows(NOW_MS, later[0])
        spent = spent_in_all(ledger)
        assert row == Row("b", SPAN.start_ms, SPAN.end_ms, spent, spent, 0, row.holders)
        # What the dead had leased and not spent is there again for the living.
        Spender(place, HOLDERS[99], seed, limit).run()
        assert spent_in_all(ledger) >= limit - COST_MAX
        return spent_in_all(ledger)


SEEDS: Callable[[int], list[Any]] = lambda n: [  # noqa: E731
    seed if seed < 2 else pytest.param(seed, marks=pytest.mark.full) for seed in range(n)
]


@pytest.mark.parametrize("seed", SEEDS(4))
def test_nobody_overspends_though_processes_are_killed(place: Place, seed: int) -> None:
    size = QUICK if seed < 2 else LONG
    assert torment(place, seed, size, overrun=False) <= size[0]


@pytest.mark.full
@pytest.mark.parametrize("seed", range(100, 102))
def test_calls_that_cost_more_than_their_bound_overspend_by_what_is_under_way(
    place: Place, seed: int
) -> None:
    spent = torment(place, seed, QUICK, overrun=True)
    assert spent <= QUICK[0] + WORKERS * AT_ONCE * COST_MAX
