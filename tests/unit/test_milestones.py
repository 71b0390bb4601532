"""Milestones are judged by evidence, and what cannot be judged says what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from ballast import milestones, planning_values, traffic
from ballast.cli import app
from ballast.milestones_judge import IDS, judge, monthly
from ballast.milestones_values import Even, Evidence, Growth, Month, Spending, Verdict
from ballast.traffic import Calls, Side, Times
from serving.finance import entries
from serving.finance import store as finance_store
from serving.finance.values import Rental
from serving.ledger.store import opener
from serving.records import Charge, Usage
from serving.rows import AttemptBegin, AttemptEnd, RequestEnd
from serving.settings import Settings

NOW_S = datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()
NOW_MS = int(NOW_S * 1000)
DAY_MS = 86_400_000
SIDES = (
    Side("own", "own", 900, 899, first_ms=NOW_MS - 9 * DAY_MS, first_token=Times(200, 400)),
    Side("deepseek", "api", 500, 500, first_ms=NOW_MS - 20 * DAY_MS),
    Side("azure", "hosted", 300, 300, first_ms=NOW_MS - 5 * DAY_MS),
)
GOOD = Evidence(
    since_ms=NOW_MS - 30 * DAY_MS,
    calls=Calls(
        40_000, 39_900, 50, 40, 40, 200, 199, 10**7, 10**7, 0, NOW_MS - 20 * DAY_MS, NOW_MS
    ),
    sides=SIDES,
    months=(Month("2026-08", 100, 20), Month("2026-09", 100, 40),
            Month("2026-10", 100, 71), Month("2026-11", 100, 90)),
    growth=Growth(1000, 2000, 3),
    spending=Spending("CNY", "7.0", 100, 300, 0, 900),
    spending_fault="", even=Even("qwen3-32b", 50_000.0, 200_000.0), even_fault="",
    has_rent=True, is_dry_run=False, reports=("2026-08", "2026-09", "2026-10"),
)  # fmt: skip


def verdicts(**changes: Any) -> dict[str, Verdict]:
    found = judge(msgspec.structs.replace(GOOD, **changes), NOW_S)
    assert tuple(one.id for one in found) == IDS
    return {one.id: one for one in found}


def missing(verdict: Verdict) -> list[str]:
    return [lack.what.key.rpartition(".")[2] for lack in verdict.missing]


def test_good_evidence_meets_what_it_shows_with_dates() -> None:
    found = verdicts()
    states = {name: one.state for name, one in found.items()}
    assert states == dict.fromkeys(IDS, "met") | {"to_scale": "not_met"}
    assert found["three_ways"].since == "2026-11-21"
    assert found["gateway"].since == "2026-11-17"
    assert found["share_50"].since == found["share_70"].since == "2026-10"
    assert found["compliance"].since == "2026-08"


def test_an_empty_ledger_leaves_everything_untold_and_says_how_to_begin() -> None:
    for verdict in verdicts(calls=Calls()).values():
        assert (verdict.state, missing(verdict)) == ("unknown", ["traffic"])
        assert "ballast up --stage poc" in str(verdict.missing[0].remedy)


def test_the_pace_is_a_months_and_needs_a_week() -> None:
    assert monthly(GOOD) == pytest.approx(40_000 / 20 * 365 / 12)
    short = msgspec.structs.replace(GOOD.calls, first_ms=NOW_MS - 6 * DAY_MS)
    assert missing(verdicts(calls=short)["to_beta"]) == ["week"]


def test_a_trigger_that_growth_will_reach_names_the_month() -> None:
    told = [str(said) for said in verdicts()["to_scale"].evidence]
    # 60,833 a month doubles in three weeks: 200,000 in 5.2 weeks.
    assert told[-1] == "at this growth about 2027-01"
    flat = verdicts(growth=Growth(10, 10, 3))["to_scale"].evidence
    assert len(flat) == 2


def test_a_price_at_which_gpus_never_pay_is_told_and_triggers_nothing() -> None:
    found = verdicts(even=Even("m", None, None))
    assert (found["to_beta"].state, found["to_scale"].state) == ("not_met", "not_met")
    assert "at no load" in str(found["to_beta"].evidence[1])


def test_without_a_break_even_the_reason_is_handed_on() -> None:
    found = verdicts(even=None, even_fault="no row sells it")["to_beta"]
    assert "no row sells it" in str(found.missing[0].what)


def test_a_comparison_needs_all_three_sides_and_the_rent() -> None:
    found = verdicts(sides=SIDES[:2], has_rent=False)["three_ways"]
    assert (found.state, missing(found)) == ("unknown", ["side", "rent"])


def test_a_share_counts_from_the_month_since_which_it_held() -> None:
    dipped = (Month("2026-08", 100, 80), Month("2026-09", 100, 45), Month("2026-10", 100, 60))
    found = verdicts(months=dipped)
    assert (found["share_50"].since, found["share_70"].state) == ("2026-10", "not_met")


@pytest.mark.parametrize(
    ("changes", "lack"),
    [
        ({"spending": None, "spending_fault": "no rate for EUR"}, "money"),
        ({"has_rent": False}, "rent"),
        ({"spending": Spending("CNY", "7", 1, 1, 0, 9, ("mine",))}, "price"),
        ({"sides": SIDES[1:]}, "own"),
    ],
)
def test_a_saving_without_a_baseline_is_unknown(changes: dict[str, Any], lack: str) -> None:
    found = verdicts(**changes)["saving_30"]
    assert (found.state, missing(found)) == ("unknown", [lack])


def test_a_saving_below_the_gate_is_not_met() -> None:
    found = verdicts(spending=Spending("CNY", "7", 100, 500, 0, 900))
    assert (found["saving_30"].state, found["saving_50"].state) == ("met", "not_met")
    dearer = verdicts(spending=Spending("CNY", "7", 100, 800, 0, 900))
    assert dearer["saving_30"].state == "not_met"


def test_simulated_answers_prove_nothing() -> None:
    fake = Side("simulated-a", "simulated", 500, 500)
    found = verdicts(sides=(*SIDES, fake))
    assert {one.state for name, one in found.items() if name != "compliance"} <= {
        "unknown", "not_met"}  # fmt: skip
    assert found["compliance"].state == "met"


def test_a_dry_run_is_no_automation() -> None:
    found = verdicts(is_dry_run=True)["automation"]
    assert (found.state, missing(found)) == ("not_met", ["acting"])
    quiet = msgspec.structs.replace(GOOD.calls, again=0, again_ok=0, overflowed=0, overflowed_ok=0)
    assert missing(verdicts(calls=quiet)["automation"]) == ["handled"]


def test_a_missing_report_is_named_with_the_command_that_writes_it() -> None:
    found = verdicts(reports=("2026-08",))["compliance"]
    assert "2026-09, 2026-10" in str(found.missing[0].what)
    assert "--month 2026-10" in str(found.missing[0].remedy)


def test_reports_of_months_without_traffic_show_nothing() -> None:
    found = verdicts(months=GOOD.months[1:])["compliance"]
    assert (found.state, missing(found)) == ("not_met", ["idle"])
    assert "2026-08" in str(found.missing[0].what)


def test_months_end_where_the_books_days_begin() -> None:
    """2026-11-30 16:30 UTC is December in China: November is full there, and its report due."""
    at_s = datetime(2026, 11, 30, 16, 30, tzinfo=UTC).timestamp()
    months = (*GOOD.months, Month("2026-12", 10, 1))
    there = msgspec.structs.replace(GOOD, months=months, utc_offset_hours=8)
    found = {one.id: one for one in judge(there, at_s)}
    assert "2026-11: 90.0%" in " ".join(map(str, found["share_50"].evidence))
    assert missing(found["compliance"]) == ["reports"]
    here = {one.id: one for one in judge(GOOD, at_s)}
    assert "2026-11" not in " ".join(map(str, here["share_50"].evidence))
    assert here["compliance"].state == "met"


def fill(settings: Settings, days: int = 10) -> None:
    """Ten calls a day: six own, three of DeepSeek in dollars, one of Zhipu in yuan that failed."""
    with closing(opener(settings)()) as ledger:
        for number in range(10 * days):
            at_ms = NOW_MS - DAY_MS * days + number * DAY_MS // 10 + 1
            kind = number % 10
            target, currency, micro = ("m@h:1", "", 0)
            if kind >= 6:
                target, currency, micro = ("deepseek/flash", "USD", 500)
            if kind == 9:
                target, currency, micro = ("zhipu-cn/glm", "CNY", 700)
            end = "upstream_error" if kind == 9 else "ok"
            usage, name = Usage(900, 100), f"r{number:04}"
            row = ("t", "p", "k", "chat", "chat", "interactive")
            ledger.apply([
                AttemptBegin(name, 1, at_ms - 900, at_ms - 1000, *row, target, False, "overflow:x",
                             1, 1, currency, 0, 0, is_stream=True),
                AttemptEnd(name, 1, at_ms, end, "", usage, Charge(currency, micro), 10 * kind),
                RequestEnd(name, at_ms - 1000, at_ms, *row, end, 200, "", "overflow:x", target, 1,
                           0, 4, usage),
            ])  # fmt: skip


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.server)])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    tree: dict[str, Any] = {"state_dir": tmp_path}
    if request.param == "postgresql":
        new: Callable[[], str] = request.getfixturevalue("new_database")
        tree["ledger"] = {"url": new(), "sslmode": "disable"}
    return Settings.model_validate(tree)


def test_sides_are_told_apart_on_either_database(settings: Settings) -> None:
    fill(settings)
    with closing(finance_store.open_to_read(settings)) as database:
        found = traffic.sides(database, NOW_MS - 30 * DAY_MS, NOW_MS + 1)
        calls = traffic.calls(database, NOW_MS - 30 * DAY_MS, NOW_MS + 1)
        surfaces = traffic.surfaces(database, NOW_MS - 30 * DAY_MS, NOW_MS + 1)
    assert [(s.name, s.kind, s.tries, s.ok) for s in found] == [
        ("own", "own", 60, 60), ("deepseek", "api", 30, 30), ("zhipu-cn", "api", 10, 0),
    ]  # fmt: skip
    assert found[1].money == (("USD", 15_000),)
    assert found[1].first_token == Times(70, 80)
    assert (found[0].whole, found[2].first_token) == (Times(900, 900), Times())
    assert found[2].ok_share == 0.0
    assert (calls.requests, calls.overflowed, calls.overflowed_ok) == (100, 100, 90)
    assert surfaces == [("chat", 100, 90)]


def test_an_answer_as_a_whole_has_no_first_token(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    row = ("t", "p", "k", "chat", "chat", "interactive")
    with closing(opener(settings)()) as ledger:
        ledger.apply([
            AttemptBegin("r", 1, 1, 1, *row, "deepseek/f", True, "x", 1, 1, "CNY", 0, 0),
            AttemptEnd("r", 1, 9_001, "ok", "", Usage(9, 9), Charge("CNY", 1), 9_000),
        ])  # fmt: skip
    with closing(finance_store.open_to_read(settings)) as database:
        (side,) = traffic.sides(database, 0, 10_000)
    assert (side.first_token, side.whole) == (Times(), Times(9_000, 9_000))


def test_evidence_is_gathered_and_judged_on_either_database(settings: Settings) -> None:
    fill(settings)
    rental = Rental(
        id="r", pool="p", gpu="h100-80", gpus=1, replicas=1, begin_ms=NOW_MS - 10 * DAY_MS,
        end_ms=NOW_MS, micro_per_gpu_hour=14_000_000, currency="CNY", source="x", models=("chat",),
    )  # fmt: skip
    with closing(finance_store.opener(settings)()) as database:
        entries.write(database, rental, 0)
    evidence = milestones.gather(settings, NOW_MS + 1, "CNY", planning_values.load(None))
    assert (evidence.months[-1].own_tokens, evidence.has_rent) == (60_000, True)
    assert sum(month.tokens for month in evidence.months) == 100_000
    assert evidence.even is not None
    assert evidence.even.first_gpu is None or evidence.even.first_gpu > 1e4
    found = {one.id: one for one in judge(evidence, NOW_S)}
    assert found["to_beta"].state == "not_met"
    assert found["saving_30"].state == "unknown"
    assert missing(found["saving_30"]) == ["price"]
    assert evidence.spending is not None
    assert evidence.spending.own_micro == 240 * 14_000_000
    # 0.015 dollars and 0.007 yuan, in one currency and never added as they are
    assert evidence.spending.api_micro == pytest.approx(15_000 * 7 + 7_000, rel=0.05)


def test_a_currency_without_a_rate_is_named(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    fill(settings)
    evidence = milestones.gather(settings, NOW_MS + 1, "XYZ", planning_values.load(None))
    assert evidence.spending is None
    assert "XYZ" in evidence.spending_fault


def test_the_command_tells_people_and_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    fill(Settings(state_dir=tmp_path / "ballast"))
    told = CliRunner().invoke(app, ["milestones", "--days", "90", "--lang", "zh"])
    assert told.exit_code == 0, told.output
    assert "里程碑" in told.output
    shown = json.loads(CliRunner().invoke(app, ["milestones", "--days", "90", "--json"]).output)
    assert [one["id"] for one in shown["milestones"]] == list(IDS)
    assert shown["figures"]["calls"]["requests"] in range(101)


def test_no_ledger_says_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    told = CliRunner().invoke(app, ["milestones"])
    assert told.exit_code == 1
    assert "ballast up" in told.stderr
