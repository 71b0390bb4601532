"""The pure parts of budgets: periods, money, learnt lengths, ladders, grants and purses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from serving.budgets import ladder, money, scopes
from serving.budgets.base import Told, Want, grant, passed
from serving.budgets.learnt import FIRST_GUESS, SEEN_MIN, Feature, Lengths
from serving.budgets.period import span, zone
from serving.budgets.purse import HEARTBEAT_MS, RENEW_MS, Purse
from serving.budgets.settings import BudgetSettings
from serving.budgets.values import Budget
from serving.directory.values import Project
from serving.records import Charge, Price, Usage

YUAN = 1_000_000
RATE = 7 * money.RATE


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1e3)


def budget(**changes: Any) -> Budget:
    row = {"id": "b", "limit_micro": 1000 * YUAN, "created_by": "me", "created_ms": 0}
    return Budget.model_validate(row | changes)


def purse(**changes: Any) -> Purse:
    made = budget(**changes)
    return Purse(made, span(made.period, made.time_zone, ms("2026-11-26T00:00+00:00")), RATE)


@pytest.mark.parametrize(
    ("period", "name", "at", "start", "end"),
    [
        ("month", "Asia/Shanghai", "2026-11-30T16:00:00+00:00",
         "2026-12-01T00:00+08:00", "2027-01-01T00:00+08:00"),
        ("month", "Asia/Shanghai", "2026-11-30T15:59:59.999+00:00",
         "2026-11-01T00:00+08:00", "2026-12-01T00:00+08:00"),
        ("day", "UTC", "2026-02-28T23:59:00+00:00",
         "2026-02-28T00:00+00:00", "2026-03-01T00:00+00:00"),
        ("hour", "Asia/Kolkata", "2026-01-01T00:29:00+00:00",
         "2026-01-01T05:30+05:30", "2026-01-01T06:30+05:30"),
        ("day", "Europe/Berlin", "2026-10-25T12:00:00+00:00",
         "2026-10-25T00:00+02:00", "2026-10-26T00:00+01:00"),
    ],
    ids=["first moment", "last moment", "short month", "half-hour zone", "long day"],
)  # fmt: skip
def test_a_period_begins_where_its_zone_says(
    period: Any, name: str, at: str, start: str, end: str
) -> None:
    try:
        zone(name)
    except ValueError:
        pytest.skip(f"no zone files for {name} here")
    expected = ms(start), ms(end)
    if period == "hour":
        expected = ms("2026-01-01T05:00+05:30"), ms("2026-01-01T06:00+05:30")
        at = "2026-01-01T00:15:00+00:00"
    assert span(period, name, ms(at))[:2] == expected


def test_a_zone_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValidationError, match="no time zone"):
        budget(time_zone="Mars/Olympus")


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ({"project": "p"}, "needs its tenant"),
        ({"ladder": [{"at_share": 0.9, "action": "refuse"},
                     {"at_share": 0.5, "action": "local_only"}]}, "order of their shares"),
        ({"ladder": [{"at_share": 0.9, "action": "smaller_model"}]}, "smaller_model"),
        ({"ladder": [{"at_share": 0.9, "action": "refuse", "wait_s": 3}]}, "queue_longer"),
        ({"provider": "x", "ladder": [{"at_share": 0.9, "action": "refuse"}]}, "local_only"),
        ({"limit_micro": -1}, "greater than or equal"),
        ({"limit_micro": float("nan")}, "finite|integer"),
        ({"currency": ""}, "CNY"),
        ({"tenant": "a' OR 1=1 --"}, "pattern"),
        ({"id": "x\ny"}, "pattern"),
    ],
)  # fmt: skip
def test_a_budget_that_says_nothing_sound_is_refused(row: dict[str, Any], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        budget(**row)


def test_a_raise_counts_until_its_end() -> None:
    one = {"micro": 5, "until": datetime(2026, 11, 26, tzinfo=UTC), "by": "me", "at_ms": 0}
    raised = budget(limit_micro=10, raises=[one])
    end_ms = ms("2026-11-26T00:00+00:00")
    assert (raised.limit_at(end_ms - 1), raised.limit_at(end_ms)) == (15, 10)


@pytest.mark.parametrize(
    ("row", "scope"),
    [({}, "all"), ({"tenant": "a"}, "tenant"), ({"tenant": "a", "project": "p"}, "project"),
     ({"model": "m", "provider": "x"}, "model+provider")],
)  # fmt: skip
def test_a_scope_is_named_for_people(row: dict[str, Any], scope: str) -> None:
    assert budget(**row).scope == scope


def test_the_most_of_an_attempt_is_rounded_up_at_its_dearest_price() -> None:
    price = Price("USD", 2_000_000, 8_000_000, 3_000_000, "", "")
    assert money.most(price, 1000, 500) == 3_000 + 4_000
    assert money.most(Price("USD", 1, 0, 0, "", ""), 1, 0) == 1


def test_money_without_a_currency_or_rate_cannot_be_told() -> None:
    assert money.converted(5, "", "CNY", RATE) is None
    assert money.converted(5, "EUR", "CNY", RATE) is None
    assert money.converted(5, "USD", "CNY", RATE) == 35
    assert money.converted(36, "CNY", "USD", RATE) == 6
    assert money.converted(36, "CNY", "CNY", RATE) == 36


def test_a_rate_is_that_of_the_day_it_is_asked_for() -> None:
    day = datetime(2026, 3, 1, tzinfo=UTC).date()
    assert money.rate_micro(day) == 7_017_300


@pytest.mark.parametrize(
    ("said", "taken"), [(90, 90), (700, 700), (801, 100), (1 << 62, 100), (-5, 100)]
)
def test_a_charge_beyond_belief_counts_its_bound(said: int, taken: int) -> None:
    assert money.believed(said, 100) == taken


def test_tokens_of_an_engine_cost_nothing_unless_a_price_is_set() -> None:
    free, priced = Price("CNY", 0, 0, 0, "", ""), Price("CNY", 1_000_000, 2_000_000, 0, "", "")
    usage = Usage(10, 5)
    assert money.of_engine(free, usage) == Charge()
    assert money.of_engine(priced, usage) == Charge("CNY", 20)


FEATURE = Feature("acme", "shop", "chat", "m")


def test_nothing_is_learnt_from_a_few_answers() -> None:
    lengths = Lengths()
    for _ in range(SEEN_MIN - 1):
        lengths.learn(FEATURE, 40, is_cut=False)
    assert lengths.longest(FEATURE) == FIRST_GUESS
    lengths.learn(FEATURE, 40, is_cut=False)
    assert 40 <= lengths.longest(FEATURE) <= 50


def test_the_longest_hundredth_may_be_cut_and_no_more() -> None:
    lengths = Lengths()
    for tokens in [100] * 195 + [5000] * 5:
        lengths.learn(FEATURE, tokens, is_cut=False)
    assert lengths.longest(FEATURE) >= 5000


def test_answers_cut_at_their_bound_teach_a_longer_one() -> None:
    lengths = Lengths()
    for _ in range(200):
        lengths.learn(FEATURE, 100, is_cut=False)
    before = lengths.longest(FEATURE)
    for _ in range(10):
        lengths.learn(FEATURE, before, is_cut=True)
    assert lengths.longest(FEATURE) >= 2 * before


def test_what_was_learnt_long_ago_fades() -> None:
    lengths = Lengths()
    for _ in range(2000):
        lengths.learn(FEATURE, 10_000, is_cut=False)
    for _ in range(20_000):
        lengths.learn(FEATURE, 50, is_cut=False)
    assert lengths.longest(FEATURE) < 100


LADDER = [
    {"at_share": 0.5, "action": "smaller_model", "model": "small"},
    {"at_share": 0.7, "action": "queue_longer", "wait_s": 30},
    {"at_share": 0.9, "action": "local_only"},
    {"at_share": 1.0, "action": "refuse"},
]


@pytest.mark.parametrize(
    ("share", "reached"), [(0.49, 0), (0.5, 1), (0.8, 2), (0.95, 3), (1.0, 4), (float("inf"), 4)]
)
def test_steps_come_one_on_top_of_the_other(share: float, reached: int) -> None:
    one = budget(ladder=LADDER)
    found = ladder.effects([(one, share)])
    said = [found.model == "small", found.wait_s == 30.0, found.local_by is one,
            found.refused_by is one]  # fmt: skip
    assert said == [True] * reached + [False] * (4 - reached)


def test_the_highest_step_reached_names_the_model() -> None:
    tiny = [{"at_share": 0.6, "action": "smaller_model", "model": "tiny"}]
    found = ladder.effects([(budget(ladder=tiny), 0.9), (budget(ladder=LADDER), 0.9)])
    assert found.model == "tiny"


def want(**changes: Any) -> Want:
    quiet = Want("b", 0, 1, 1000, True, 0, 0, 0, 100, 0)
    return msgspec.structs.replace(quiet, **changes)


@pytest.mark.parametrize(
    ("row", "others", "granted"),
    [
        ({}, 0, 100),
        ({"wish_micro": 400}, 0, 250),
        ({"need_micro": 600}, 0, 600),
        ({"need_micro": 600}, 500, 100),
        ({"need_micro": 500}, 500, 500),
        ({}, 1000, 0),
        ({}, 1200, 0),
        ({"spent_micro": 80, "had_micro": 100}, 0, 180),
        ({"spent_micro": 150, "had_micro": 100}, 1000, 150),
        ({"had_micro": 300, "limit_micro": 200}, 0, 200),
        ({"had_micro": 300, "spent_micro": 250, "limit_micro": 200}, 0, 250),
        ({"spent_micro": 10, "reserved_micro": 5, "had_micro": 100, "is_last": True}, 0, 15),
        ({"is_hard": False, "spent_micro": 5000}, 0, 5000),
    ],
)
def test_a_grant_never_makes_all_exceed_the_limit(
    row: dict[str, Any], others: int, granted: int
) -> None:
    assert grant(want(**row), others) == granted


def test_thresholds_are_passed_in_order_and_not_without_a_limit() -> None:
    found = [passed(spent, 1000) for spent in (499, 500, 800, 1500)]
    assert found == [[], [50], [50, 80], [50, 80, 100]]
    assert passed(5, 0) == []


def told(granted: int, left: int = 0, others: int = 0) -> Told:
    return Told("b", 0, granted, others, left)


def test_a_purse_pays_only_from_its_slice() -> None:
    one = purse()
    assert not one.fits(1)
    assert one.may_pay(1)
    one.told(told(100, left=900))
    assert one.fits(100)
    one.reserve(100)
    assert not one.fits(1)
    assert one.settle(100, Charge("CNY", 40))
    assert (one.free, one.spent, one.reserved) == (60, 40, 0)


def test_a_price_that_cannot_be_told_never_fits_a_hard_budget() -> None:
    one = purse()
    one.told(told(100))
    assert not one.fits(None)
    assert purse(kind="soft").fits(None)


def test_a_charge_without_currency_counts_nothing_and_one_in_no_rate_its_bound() -> None:
    one = purse()
    one.told(told(100))
    for charge, spent in ((Charge(), 0), (Charge("EUR", 3), 10), (Charge("USD", 1), 17)):
        one.reserve(10)
        one.settle(10, charge)
        assert one.spent == spent


def test_what_a_provider_makes_up_does_not_end_the_budget() -> None:
    one = purse()
    one.told(told(100))
    for micro in (1 << 60, -7):
        one.reserve(10)
        assert not one.settle(10, Charge("CNY", micro))
    assert (one.spent, one.reserved) == (20, 0)


def test_a_purse_asks_when_it_spent_and_when_it_is_low_and_else_seldom() -> None:
    one = purse()
    now_ms = ms("2026-11-26T00:00+00:00")
    assert one.is_due(now_ms)
    asked = one.want(now_ms)
    assert asked.wish_micro == 5 * YUAN
    one.told(told(5 * YUAN, left=995 * YUAN))
    assert not one.is_due(now_ms + HEARTBEAT_MS - 1)
    assert one.is_due(now_ms + HEARTBEAT_MS)
    one.reserve(YUAN)
    one.settle(YUAN, Charge("CNY", YUAN))
    assert not one.is_due(now_ms + RENEW_MS - 1)
    assert one.is_due(now_ms + RENEW_MS)
    one.reserve(3 * YUAN)
    assert one.is_low
    assert one.is_due(now_ms + 100)
    assert one.want(now_ms + 100).spent_micro == YUAN


def test_an_idle_purse_gives_back_before_it_asks() -> None:
    one = purse()
    now_ms = ms("2026-11-26T00:00+00:00")
    one.want(now_ms)
    one.told(told(50 * YUAN, left=8 * YUAN))
    asked = one.want(now_ms + HEARTBEAT_MS)
    assert asked.had_micro == one.granted == 2 * YUAN


def test_a_store_that_is_away_leaves_the_slice_and_promises_nothing() -> None:
    one = purse()
    now_ms = ms("2026-11-26T00:00+00:00")
    one.want(now_ms)
    one.told(told(100, left=900))
    one.want(now_ms + HEARTBEAT_MS)
    one.unheard()
    assert one.fits(100)
    assert not one.fits(101)
    assert not one.may_pay(101)
    assert not one.may_pay(-1)
    assert one.is_due(now_ms + HEARTBEAT_MS + RENEW_MS)


def test_dev_projects_are_capped_unless_they_have_a_budget() -> None:
    projects = [
        Project(tenant="acme", name=name, environment=env)  # type: ignore[arg-type]
        for name, env in (("live", "prod"), ("lab", "dev"), ("own", "test"), ("half", "dev"))
    ]
    made = {
        "own": budget(id="own", tenant="acme", project="own"),
        "half": budget(id="half", tenant="acme", project="half", model="m"),
    }
    found = scopes.in_force(made, projects, BudgetSettings())
    assert sorted(found) == ["dev:acme:half", "dev:acme:lab", "half", "own"]
    cap = found["dev:acme:lab"]
    assert (cap.limit_micro, cap.currency, cap.kind, cap.scope) == (
        200 * YUAN, "CNY", "hard", "project",
    )  # fmt: skip
    assert sorted(scopes.in_force(made, projects, BudgetSettings(dev_limit_micro=0))) == [
        "half", "own",
    ]  # fmt: skip


def test_an_index_finds_what_holds_for_a_caller() -> None:
    index = scopes.Index([
        budget(id="all"), budget(id="fw", tenant="fw"), budget(id="m", model="m"),
        budget(id="p", tenant="fw", project="p"), budget(id="one", tenant="fw/one"),
    ])  # fmt: skip

    def ids(*key: str) -> list[str]:
        return [b.id for b in index.of(*key)]

    assert ids("fw/one", "p", "m") == ["all", "fw", "m", "p", "one"]
    assert ids("fw/two", "q", "x") == ["all", "fw"]
    assert ids("other", "p", "m") == ["all", "m"]
    assert not scopes.Index([]).is_any
