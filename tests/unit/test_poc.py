"""A PoC's report: six conditions, each met, not met or not proved, in two languages."""

from __future__ import annotations

import json
import re
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from ballast import identity, leaving, poc, poc_cli, poc_effort, poc_page, poc_runs
from ballast.cli import app
from ballast.poc_gates import gain, gates, longer, saving, verdict
from ballast.poc_values import Effort, Measured, Trial, Works
from ballast.problem import ProblemError
from ballast.traffic import Times
from serving.finance import entries
from serving.finance import store as finance_store
from serving.finance.values import Rental
from serving.ledger.store import opener
from serving.records import Charge, Usage
from serving.rows import AttemptBegin, AttemptEnd, RequestEnd
from serving.settings import Settings

NOW_S = 1_795_690_000.0
DAY_MS = 86_400_000
API = Measured("deepseek", "ledger", 500, 499, 500, 900_000, 100_000, 10.0,
               Times(400, 900), Times(2000, 5000))  # fmt: skip
OWN = Measured("own", "ledger", 900, 899, 900, 900_000, 100_000, 6.0,
               Times(200, 950), Times(1500, 4000))  # fmt: skip
GOOD = Trial(
    day="2026-11-26", since="2026-10-27", currency="CNY", rate="7", api=API, local=OWN,
    works=(Works("chat", 1400, 1398),), effort=Effort(8, 300, "told"), monthly_tokens=2e8,
    exit_faults=0, exit_rows=10,
)  # fmt: skip


def answers(**changes: Any) -> dict[str, str]:
    found = gates(msgspec.structs.replace(GOOD, **changes))
    return {gate.id: gate.missing or gate.answer for gate in found}


def test_good_figures_meet_all_six_conditions() -> None:
    assert set(answers().values()) == {"yes"}
    assert verdict(gates(GOOD)) == "yes"
    assert saving(GOOD) == pytest.approx(0.4)
    assert gain(GOOD) == pytest.approx(0.4 * 10 * 200 * 12)


@pytest.mark.parametrize(
    ("cost", "answer"), [(7.0, "yes"), (7.01, "no"), (12.0, "no"), (None, "rent")]
)
def test_the_gate_of_cost_stands_at_thirty_per_cent(cost: float | None, answer: str) -> None:
    local = msgspec.structs.replace(OWN, cost=cost)
    assert answers(local=local)["cost"] == answer


def test_a_slow_or_failing_side_of_ours_is_told() -> None:
    slow = msgspec.structs.replace(OWN, first_token=Times(200, 991))
    assert answers(local=slow)["latency"] == "no"
    failing = msgspec.structs.replace(OWN, ok=890)
    assert answers(local=failing)["stability"] == "no"
    assert answers(works=(Works("chat", 100, 100), Works("score", 10, 9)))["compatibility"] == "no"
    assert answers(works=(Works("chat", 5, 5),))["compatibility"] == "surfaces"


def test_effort_must_stay_below_half_of_a_years_gain() -> None:
    assert answers(effort=Effort(16, 300, ""))["effort"] == "no"
    assert answers(monthly_tokens=None)["effort"] == "tokens"
    dearer = msgspec.structs.replace(OWN, cost=11.0)
    assert answers(local=dearer)["effort"] == "no"


@pytest.mark.parametrize(
    ("changes", "lack"),
    [({"api": None}, "api"), ({"local": None}, "local"), ({"simulated": 3}, "real")],
)
def test_a_side_that_is_missing_proves_nothing(changes: dict[str, Any], lack: str) -> None:
    found = answers(**changes)
    assert {found[name] for name in ("cost", "latency", "stability", "effort")} == {lack}
    assert found["compatibility"] == ("real" if lack == "real" else "yes")
    assert verdict(gates(msgspec.structs.replace(GOOD, **changes))) == "unknown"


def test_the_way_out_is_proved_by_a_checked_export_alone() -> None:
    assert answers(exit_faults=None)["exit"] == "export"
    assert answers(exit_faults=2)["exit"] == "no"


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize(
    "trial",
    [GOOD, msgspec.structs.replace(GOOD, api=None, local=None, works=(), exit_faults=None)],
    ids=["whole", "empty"],
)
def test_the_page_stands_alone_in_either_language(trial: Trial, language: Any) -> None:
    page = poc_page.made(trial, language)
    assert not re.search(r"<script|<link|<img|@import|url\(|`", page)
    assert "<code>ballast poc export" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert ("zh-CN" if language == "zh" else '"en"') in page
    chinese = re.findall(r"[\u4e00-\u9fff]", page)
    assert bool(chinese) == (language == "zh")
    assert "poc." not in re.sub(r"poc (report|export)", "", page)


def test_the_page_escapes_what_it_was_told() -> None:
    local = msgspec.structs.replace(OWN, name="<b>x", source="<i>")
    page = poc_page.made(msgspec.structs.replace(GOOD, local=local), "en")
    assert "<b>x" not in page
    assert "<i>" not in page


def fill(settings: Settings, per_day: int = 40, days: int = 9) -> None:
    """Half own, half of DeepSeek in dollars; own GPUs rented for all of it."""
    now_ms = int(NOW_S * 1e3)
    row = ("t", "p", "k", "chat", "chat", "interactive")
    records: list[Any] = []
    for number in range(per_day * days):
        at_ms = now_ms - DAY_MS * days + number * DAY_MS // per_day + 1
        target, currency, micro = ("m@h:1", "", 0) if number % 2 else ("deepseek/f", "USD", 2_000)
        name, usage = f"r{number}", Usage(900, 100)
        records += [
            AttemptBegin(name, 1, at_ms - 900, at_ms - 1000, *row, target, False, "x", 1, 1,
                         currency, 0, 0, is_stream=True),
            AttemptEnd(name, 1, at_ms, "ok", "", usage, Charge(currency, micro), 100 + number % 7),
            RequestEnd(name, at_ms - 1000, at_ms, *row, "ok", 200, "", "x", target, 1, 0, 4, usage),
        ]  # fmt: skip
    with closing(opener(settings)()) as ledger:
        ledger.apply(records)
    rental = Rental(
        id="r", pool="p", gpu="h100-80", gpus=1, replicas=1, begin_ms=now_ms - days * DAY_MS,
        end_ms=now_ms, micro_per_gpu_hour=6_000, currency="CNY", source="x", models=("chat",),
    )  # fmt: skip
    with closing(finance_store.opener(settings)()) as database:
        entries.write(database, rental, 0)


def test_own_traffic_is_compared_in_one_currency(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    fill(settings)
    wish = poc.Wish(30, "CNY", Effort(8, 300, ""))
    trial = poc.gather(settings, wish, NOW_S)
    assert trial.api is not None
    assert trial.local is not None
    assert (trial.api.requests, trial.local.requests) == (180, 180)
    # 216 GPU-hours at 0.006 yuan; 180 calls at 0.002 dollars
    assert trial.local.cost == pytest.approx(1.296)
    assert trial.api.cost == pytest.approx(180 * 0.002 * float(trial.rate.split()[0]))
    assert trial.monthly_tokens == pytest.approx(360_000 / 9 * 365 / 12, rel=0.01)


def test_an_empty_ledger_is_reported_as_not_proved(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    opener(settings)().close()
    trial = poc.gather(settings, poc.Wish(30, "CNY", Effort(8, 300, "")), NOW_S)
    assert verdict(gates(trial)) == "unknown"


def run(folder: Path, **changes: Any) -> Path:
    spread = {"p50": 100.0, "p90": 150.0, "p95": 200.0, "p99": 300.0, "count": 9}
    total = {
        "sent": 200, "good": 199, "cost": 1.0, "first_ms": spread, "complete_ms": spread,
        "prompt_tokens": 90_000, "completion_tokens": 10_000, "name": "all", "api_share": -1.0,
        "cached_tokens": 0,
    }  # fmt: skip
    summary = {"total": total, "kinds": [total], "seconds": 360.0, "reasons": [], "currency": "CNY"}
    folder.mkdir()
    load = {"scenario": {"title": "Small", "price": None}, "seed": 3}
    body = {"summary": summary, "model": "m"} | load
    for name, value in changes.items():
        place = body if name in body else total if name in total else summary
        place[name] = value
    (folder / poc_runs.RESULT).write_text(json.dumps(body), "utf-8")
    return folder


def wish(api: Path | None, local: Path | None, **changes: Any) -> poc.Wish:
    return poc.Wish(30, "CNY", Effort(8, 300, ""), api, local)._replace(**changes)


def test_two_runs_of_one_load_are_compared_by_rent(tmp_path: Path) -> None:
    given = wish(run(tmp_path / "a"), run(tmp_path / "b"), gpu_hour=7.0)
    trial = poc.gather(Settings(state_dir=tmp_path), given, NOW_S)
    assert saving(trial) == pytest.approx(0.3)
    found = {gate.id: gate.missing or gate.answer for gate in gates(trial)}
    assert found["cost"] == found["stability"] == found["latency"] == "yes"
    assert found["effort"] == "tokens"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reasons": ["the sender was late"]}, "the sender was late"),
        ({"currency": "USD"}, "counts in USD"),
        ({"total": {}}, "no result of a run"),
    ],
)
def test_a_run_that_cannot_be_compared_says_why(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    given = wish(run(tmp_path / "a", **changes), run(tmp_path / "b"))
    with pytest.raises(ProblemError, match=said):
        poc.gather(Settings(state_dir=tmp_path), given, NOW_S)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 4}, "differ in their seed"),
        ({"scenario": {"title": "Other", "price": None}}, "differ in their scenario"),
        ({"api_share": 1.0}, "100.0% of the answers came from APIs"),
    ],
)
def test_two_loads_or_an_api_on_both_sides_are_no_comparison(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    given = wish(run(tmp_path / "a", api_share=1.0), run(tmp_path / "b", **changes))
    with pytest.raises(ProblemError, match=said):
        poc.gather(Settings(state_dir=tmp_path), given, NOW_S)


def test_the_api_side_may_carry_its_price(tmp_path: Path) -> None:
    priced = {"title": "Small", "price": {"input": 1}}
    given = wish(run(tmp_path / "a", scenario=priced), run(tmp_path / "b"), gpu_hour=7.0)
    assert saving(poc.gather(Settings(state_dir=tmp_path), given, NOW_S)) == pytest.approx(0.3)


def test_an_assumed_hour_is_yuan_whatever_the_report_counts_in() -> None:
    assert poc.of_yuan(300, "CNY", NOW_S) == 300
    assert 30 < poc.of_yuan(300, "USD", NOW_S) < 60
    with pytest.raises(ProblemError, match="no currency EUR"):
        poc.of_yuan(300, "EUR", NOW_S)


def test_an_export_with_faults_is_not_told_as_whole() -> None:
    page = poc_page.made(msgspec.structs.replace(GOOD, exit_faults=2), "en")
    assert "2 not as the manifest says" in page
    assert "all as the manifest says" not in page


def test_one_run_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="one run alone"):
        poc.gather(Settings(state_dir=tmp_path), wish(tmp_path, None), NOW_S)


def test_the_command_writes_a_page_in_each_language(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    settings = Settings(state_dir=tmp_path / "ballast")
    identity.ensure(settings.state_dir)
    fill(settings, days=1)
    leaving.export(settings, tmp_path / "out", NOW_S)
    page = tmp_path / "poc.html"
    words = ["poc", "report", "--html", str(page), "--export", str(tmp_path / "out"), "--json"]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.output
    shown = json.loads(told.stdout)
    assert {gate["id"]: gate["answer"] for gate in shown["gates"]}["exit"] == "yes"
    assert (
        "可以推进" in page.with_suffix(".zh.html").read_text("utf-8") or shown["verdict"] != "yes"
    )
    assert CliRunner().invoke(app, ["poc", "check", str(tmp_path / "out")]).exit_code == 0


def test_a_replay_sent_faster_pays_rent_for_the_time_that_traffic_took(tmp_path: Path) -> None:
    load = {"title": "x", "price": None,
            "arrivals": {"kind": "trace", "source": "f", "speed": 3.0}}  # fmt: skip
    given = wish(run(tmp_path / "a", scenario=load), run(tmp_path / "b", scenario=load), gpu_hour=7)
    trial = poc.gather(Settings(state_dir=tmp_path), given, NOW_S)
    assert trial.local is not None
    assert trial.local.cost == pytest.approx(3 * 7 * 360 / 3600)
    assert trial.speed == 3.0
    assert "replayed 3 times as fast" in poc_page.made(trial, "en")


def test_own_tokens_are_priced_as_the_api_would_have_priced_them(tmp_path: Path) -> None:
    price = {"currency": "CNY", "input_per_mtok": 2.0, "output_per_mtok": 8.0,
             "cached_per_mtok": 1.0}  # fmt: skip
    load = {"title": "x", "price": price}
    api = run(tmp_path / "a", scenario=load, cached_tokens=45_000)
    own = run(tmp_path / "b", scenario=load, completion_tokens=20_000)
    trial = poc.gather(Settings(state_dir=tmp_path), wish(api, own, gpu_hour=1.0), NOW_S)
    assert trial.local is not None
    # half of the prompt came from the API's cache: 1.5 yuan a million
    assert trial.local.at_api_price == pytest.approx(0.09 * 1.5 + 0.02 * 8)
    assert saving(trial) == pytest.approx(1 - 0.1 / (0.09 * 1.5 + 0.02 * 8))
    assert longer(trial) == pytest.approx(1.0)
    assert "+100%" in poc_page.made(trial, "en")
    alike = msgspec.structs.replace(OWN, ok=499)
    assert longer(msgspec.structs.replace(GOOD, local=alike)) is None


def test_a_run_that_was_pinned_to_a_simulated_provider_proves_nothing(tmp_path: Path) -> None:
    api = run(tmp_path / "a", api_share=1.0)
    body = json.loads((api / poc_runs.RESULT).read_bytes()) | {"pin": "simulated-a/x"}
    (api / poc_runs.RESULT).write_text(json.dumps(body), "utf-8")
    given = wish(api, run(tmp_path / "b"), gpu_hour=7.0)
    found = gates(poc.gather(Settings(state_dir=tmp_path), given, NOW_S))
    assert {gate.missing for gate in found} == {"real", "export"}


def test_an_api_run_that_own_engines_answered_is_refused(tmp_path: Path) -> None:
    given = wish(run(tmp_path / "a", api_share=0.5), run(tmp_path / "b"))
    with pytest.raises(ProblemError, match=r"only 50.0% of the answers came from APIs"):
        poc.gather(Settings(state_dir=tmp_path), given, NOW_S)


def test_two_runs_take_the_tokens_of_a_month_from_the_ledger(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    fill(settings)
    trial = poc.gather(
        settings, wish(run(tmp_path / "a"), run(tmp_path / "b"), gpu_hour=7.0), NOW_S
    )
    (effort,) = [gate for gate in gates(trial) if gate.id == "effort"]
    assert effort.answer == "no"
    assert effort.rests_on == ("runs", "given", "ledger")


def stated(tmp_path: Path, **changes: Any) -> Path:
    body = {"by": "Li Lei", "day": "2026-11-26", "currency": "CNY", "hour_cost": 300,
            "items": [{"what": "clients", "hours": 8}, {"what": "`tests`", "hours": 2}],
            "once": 500, "monthly": 100, "monthly_tokens": 2e9} | changes  # fmt: skip
    path = tmp_path / "effort.yaml"
    path.write_text(json.dumps(body), "utf-8")
    return path


def test_what_people_state_is_told_from_what_was_measured(tmp_path: Path) -> None:
    effort = poc_effort.read(stated(tmp_path), "CNY")
    assert (effort.hours, effort.cost) == (10, 3500)
    given = wish(run(tmp_path / "a"), run(tmp_path / "b"), gpu_hour=7.0)._replace(effort=effort)
    trial = poc.gather(Settings(state_dir=tmp_path), given, NOW_S)
    found = {gate.id: gate for gate in gates(trial)}
    # 30 % of 10 yuan a million, 2,000 million a month, less 100 yuan of running cost
    assert gain(trial) == pytest.approx((0.3 * 10 * 2000 - 100) * 12)
    assert (found["effort"].answer, found["effort"].rests_on) == (
        "yes",
        ("runs", "given", "stated"),
    )
    assert (found["cost"].rests_on, found["latency"].rests_on) == (("runs", "given"), ("runs",))
    assert found["exit"].rests_on == ()
    page = poc_page.made(trial, "en")
    for words in ("Li Lei, 2026-11-26", "not measured", "2,000,000,000 tokens a month: as stated",
                  "stated by people", "<code>tests</code>"):  # fmt: skip
        assert words in page


def test_a_week_of_own_traffic_goes_before_what_was_stated(tmp_path: Path) -> None:
    effort = poc_effort.read(stated(tmp_path), "CNY")
    told = msgspec.structs.replace(GOOD, effort=effort)
    assert told.tokens == 2e8
    assert "ledger" in {gate.id: gate.rests_on for gate in gates(told)}["effort"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"by": " "}, "by is still empty"), ({"items": []}, "value of items"),
        ({"items": [{"what": "x", "hours": -1}]}, "value of items"),
        ({"hour_cost": -1}, "value of hour_cost"), ({"monthly_tokens": 0}, "value of monthly_tok"),
        ({"currency": "USD"}, "counts in USD, not CNY"), ({"currency": "EUR"}, "Invalid enum"),
        ({"hours": 3}, "unknown field"), ({"day": "yesterday"}, "RFC3339"),
    ],
)  # fmt: skip
def test_a_statement_that_makes_no_sense_is_refused_by_its_key(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ProblemError, match=said):
        poc_effort.read(stated(tmp_path, **changes), "CNY")


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_template_is_read_once_somebody_put_a_name_to_it(tmp_path: Path, language: Any) -> None:
    path = tmp_path / "effort.yaml"
    poc_effort.write_template(path, language, date(2026, 11, 26))
    with pytest.raises(ProblemError, match="by is still empty"):
        poc_effort.read(path, "CNY")
    path.write_text(path.read_text("utf-8").replace('by: ""', "by: Li Lei"), "utf-8")
    assert poc_effort.read(path, "CNY").hours == 32
    with pytest.raises(ProblemError, match="cannot be written"):
        poc_effort.write_template(path, language, date(2026, 11, 26))


def test_effort_is_typed_or_stated_and_not_both(tmp_path: Path) -> None:
    assert poc_cli.effort_of(None, None, None, "CNY").basis == "assumed"
    assert poc_cli.effort_of(None, 3, 10, "CNY").cost == 30
    assert poc_cli.effort_of(None, 3, None, "CNY").basis == "given"
    with pytest.raises(ProblemError, match="both given"):
        poc_cli.effort_of(stated(tmp_path), 3, None, "CNY")
