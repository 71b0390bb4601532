"""A replay before it is sent: which rows, how fast, at what cost; and what stops it."""

from __future__ import annotations

import json
import signal
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from ballast import poc_keys, poc_order, poc_plan, poc_run
from ballast.messages import Said
from ballast.poc_plan import Bounds, Plan, Row
from ballast.problem import ProblemError
from serving.finance import store as finance_store
from serving.ledger.store import opener
from serving.records import Price
from serving.settings import Settings

PRICE = Price("CNY", 1_000_000, 4_000_000, 500_000, "page", "2026-11-01")
BOUNDS = Bounds(requests_max=3, seconds=60.0, context_tokens=1000, spend_micro=10_000)
ROWS = [Row(at_s, 100, 50) for at_s in (0.0, 10.0, 20.0, 200.0)]


def test_the_latest_rows_are_sent_so_fast_that_they_fit_the_time() -> None:
    plan = poc_plan.made(ROWS, BOUNDS, PRICE)
    assert [row.at_s for row in plan.rows] == [0.0, 10.0, 190.0]
    assert (plan.of, plan.too_long) == (4, 0)
    assert plan.speed == pytest.approx(190 / 60)
    assert plan.seconds == pytest.approx(60)


def test_traffic_is_never_sent_slower_than_it_came() -> None:
    plan = poc_plan.made(ROWS[:2], BOUNDS, PRICE)
    assert (plan.speed, plan.seconds) == (1.0, 10.0)


def test_rows_that_fit_no_context_are_left_out_and_counted() -> None:
    rows = [*ROWS[:2], Row(30.0, 990, 11), Row(40.0, 989, 11)]
    plan = poc_plan.made(rows, BOUNDS, PRICE)
    assert [row.prompt for row in plan.rows] == [100, 100, 989]
    assert plan.too_long == 1
    assert poc_plan.made([Row(0, 2000, 1)], BOUNDS, PRICE).rows == ()


def test_the_bound_of_money_takes_prompts_twice_and_every_token_asked_for() -> None:
    plan = poc_plan.made(ROWS[:2], BOUNDS, PRICE)
    assert plan.most_micro == 2 * (100 * 2 * 1 + 50 * 4)
    assert (plan.prompt_tokens, plan.output_tokens) == (200, 100)
    assert poc_plan.made(ROWS, BOUNDS._replace(spend_micro=800), PRICE).affordable == 2


def settings(tmp_path: Path, **changes: Any) -> Settings:
    model = {"name": "chat", "context_tokens": 4096, "offerings": ["deepseek/deepseek-flash"]}
    tree = {
        "state_dir": tmp_path, "models": [model], "providers": [{"id": "deepseek"}],
        "tenants": [{"id": "t"}], "fleet": {"static": [{"model": "chat", "url": "http://127.0.0.1:1"}]},
    } | changes  # fmt: skip
    return Settings.model_validate(tree)


def trace(tmp_path: Path, count: int = 120, prompt: int = 100) -> str:
    path = tmp_path / "t.csv"
    lines = [f"{number},{prompt},50" for number in range(count)]
    path.write_text("timestamp_s,input_tokens,output_tokens\n" + "\n".join(lines) + "\n", "utf-8")
    return str(path)


def keys_of(told: list[Said]) -> list[str]:
    return [line.key.rpartition(".")[2] for line in told]


def test_an_order_says_what_it_sends_and_costs_at_most(tmp_path: Path) -> None:
    wish = poc_order.Asked(tmp_path / "out", trace(tmp_path), spend_micro=1_000_000)
    order, told = poc_order.order(settings(tmp_path), wish)
    assert (order.target, order.tenant, len(order.plan.rows)) == (
        "deepseek/deepseek-flash",
        "t",
        120,
    )
    assert keys_of(told) == ["plan", "api", "own"]
    assert f"{order.plan.most_micro / 1e6:g}" in str(told[1])
    few = poc_order.order(settings(tmp_path), wish._replace(requests=20))[1]
    assert keys_of(few)[-1] == "few"


@pytest.mark.parametrize(
    ("changes", "wish", "said"),
    [
        ({"fleet": {}}, {}, "no engine of ours"),
        ({}, {"model": "x"}, "no model x"),
        ({}, {"api": "zhipu/x"}, "no API zhipu/x"),
        ({"models": [{"name": "chat"}]}, {"model": "chat"}, "no API stands behind"),
        ({}, {"spend_micro": 10}, "above --spend-max USD 0.00001"),
        ({}, {"trace": "/nowhere.csv"}, "cannot be read"),
        ({}, {"trace": ""}, "no ledger"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_before_anything_is_sent(
    tmp_path: Path, changes: dict[str, Any], wish: dict[str, Any], said: str
) -> None:
    asked = poc_order.Asked(tmp_path / "out", trace(tmp_path))._replace(**wish)
    with pytest.raises(ProblemError, match=said) as told:
        poc_order.order(settings(tmp_path, **changes), asked)
    assert told.value.remedy


def test_a_ledger_without_requests_names_a_trace(tmp_path: Path) -> None:
    empty = settings(tmp_path)
    opener(empty)().close()
    finance_store.opener(empty)().close()
    with pytest.raises(ProblemError, match="no request of the last 7 days") as told:
        poc_order.order(empty, poc_order.Asked(tmp_path / "out"))
    assert "timestamp_s,input_tokens,output_tokens" in told.value.remedy


def test_nothing_fits_into_too_small_a_context(tmp_path: Path) -> None:
    wish = poc_order.Asked(tmp_path / "out", trace(tmp_path, prompt=5000))
    with pytest.raises(ProblemError, match=r"none of 120 requests fits into a context of 4,096"):
        poc_order.order(settings(tmp_path), wish)


class Desk:
    """The admin API as the run sees it."""

    def __init__(self, fails_at: str = "", *, has_project: bool = True) -> None:
        self.keys: list[dict[str, Any]] = []
        self.budgets: list[dict[str, Any]] = []
        self.calls: list[tuple[str, str, Any]] = []
        self._fails_at = fails_at
        self._projects = [{"tenant": "t", "name": "poc-run"}] if has_project else []

    def _say(self, method: str, path: str, body: Any = None) -> Any:
        self.calls.append((method, path, body))
        if self._fails_at and self._fails_at in path:
            raise ProblemError("away", "again")
        return {"key": "sk-x", "projects": self._projects, "keys": self.keys,
                "budgets": self.budgets}  # fmt: skip

    def get(self, path: str) -> Any:
        return self._say("GET", path)

    def put(self, path: str, body: Any, **_: Any) -> Any:
        return self._say("PUT", path, body)

    def post(self, path: str, body: Any, **_: Any) -> Any:
        return self._say("POST", path, body)

    def delete(self, path: str, **_: Any) -> Any:
        return self._say("DELETE", path)


def order(tmp_path: Path) -> poc_run.Order:
    plan = Plan(tuple(ROWS[:2]), 2, 0, 1.0, 200, 100, 800, 2)
    return poc_run.Order(plan, PRICE, "chat", "deepseek/x", "own", "t", 5_000, 1, tmp_path / "out")


def sent(tmp_path: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> list[Said]:
    """Runs with children that only fail: what goes round them is looked at."""
    told: list[Said] = []
    monkeypatch.setattr(poc_run.bench, "MODULE", "benchmarks.load.nothing")
    monkeypatch.setattr(poc_run.bench, "is_here", lambda: True)
    with pytest.raises(ProblemError) as problem:
        poc_run.run(settings(tmp_path), desk, order(tmp_path), told.append)  # type: ignore[arg-type]
    told.append(problem.value.said)  # type: ignore[arg-type]
    return told


def test_keys_and_budget_are_made_for_the_run_and_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk()
    told = sent(tmp_path, desk, monkeypatch)
    methods = [(method, path.split("/")[1]) for method, path, _ in desk.calls]
    assert methods == [
        ("GET", "budgets"), ("GET", "directory"),  # whether anything was left
        ("GET", "directory"), ("PUT", "budgets"), ("POST", "keys"), ("POST", "keys"),
        ("POST", "keys"), ("POST", "keys"), ("DELETE", "budgets"),
    ]  # fmt: skip
    budget, api, own = (body for _, _, body in desk.calls[3:6])
    assert (budget["limit_micro"], budget["currency"], budget["project"]) == (
        5_000,
        "CNY",
        "poc-run",
    )
    assert (api["is_canary"], own["is_load_test"]) == (True, True)
    assert {api["project"], own["project"]} == {"poc-run"}
    assert [path.rpartition("/")[2] for _, path, _ in desk.calls[6:8]] == ["revoke", "revoke"]
    assert not list((tmp_path / "poc").iterdir()), "neither lock nor keys are left"
    assert "No module named" in str(told[-1])


def test_what_cannot_be_taken_back_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = sent(tmp_path, Desk("revoke"), monkeypatch)
    assert [line.key for line in told[:-1]].count("poc.run.left") == 2


def test_nothing_is_left_where_the_second_key_was_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk("/keys")
    sent(tmp_path, desk, monkeypatch)
    methods = [method for method, _, _ in desk.calls]
    assert methods == ["GET", "GET", "GET", "PUT", "POST", "POST", "DELETE"]
    assert desk.calls[5][1].endswith("/revoke"), "it may be there: an answer can be lost"


WANTED = poc_keys.Wanted("t", 5_000, "CNY", 86_400.0, "6a000000-abcdef")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_keys_and_budget_go_when_the_process_is_told_to_end(number: int) -> None:
    desk, before = Desk(), signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), poc_keys.lent(desk, WANTED, print):  # type: ignore[arg-type]
        signal.raise_signal(number)
    assert [method for method, _, _ in desk.calls[-3:]] == ["POST", "POST", "DELETE"]
    assert signal.getsignal(number) is before


def test_a_second_signal_does_not_stop_the_taking_back() -> None:
    class Impatient(Desk):
        def _say(self, method: str, path: str, body: Any = None) -> Any:
            if path.endswith("/revoke"):
                signal.raise_signal(signal.SIGINT)
            return super()._say(method, path, body)

    desk = Impatient()
    with pytest.raises(KeyboardInterrupt), poc_keys.lent(desk, WANTED, print):  # type: ignore[arg-type]
        signal.raise_signal(signal.SIGINT)
    assert [method for method, _, _ in desk.calls[-3:]] == ["POST", "POST", "DELETE"]


def test_what_was_asked_for_when_the_signal_came_is_taken_back_too() -> None:
    class Slow(Desk):
        def _say(self, method: str, path: str, body: Any = None) -> Any:
            super()._say(method, path, body)
            if path == "/keys":
                signal.raise_signal(signal.SIGTERM)
            return {"key": "sk-x", "projects": self._projects}

    desk = Slow()
    with pytest.raises(KeyboardInterrupt), poc_keys.lent(desk, WANTED, print):  # type: ignore[arg-type]
        pass
    assert [path.rpartition("/")[2] for _, path, _ in desk.calls[-2:-1]] == ["revoke"]
    assert desk.calls[-1][0] == "DELETE"


def test_keys_outlive_the_longest_run() -> None:
    desk = Desk()
    with poc_keys.lent(desk, WANTED, print):  # type: ignore[arg-type]
        pass
    expires = datetime.fromisoformat(desk.calls[2][2]["expires"])
    assert expires > datetime.now(UTC) + timedelta(seconds=WANTED.seconds)


def test_the_project_is_made_where_it_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(has_project=False)
    sent(tmp_path, desk, monkeypatch)
    assert desk.calls[3][:2] == ("POST", "/projects")
    assert desk.calls[3][2] == {"tenant": "t", "name": "poc-run"}


def test_one_scenario_holds_both_sides_and_is_one_that_the_generator_takes(tmp_path: Path) -> None:
    values = pytest.importorskip("benchmarks.load.values")
    made = order(tmp_path)
    body = yaml.safe_load(yaml.safe_dump(poc_run.scenario(made)))
    scenario = values.checked(msgspec.convert(body, values.Scenario))
    assert scenario.price.output_per_mtok == 4.0
    assert scenario.arrivals.kind == "trace"
    assert json.dumps(body)


def test_a_replay_is_no_traffic_to_replay(tmp_path: Path) -> None:
    from serving.records import Usage
    from serving.rows import RequestEnd

    place = settings(tmp_path)
    rows = [
        RequestEnd(f"r{n}", 1_000 + n, 2_000, "t", project, "k", "chat", "chat", "interactive",
                   "ok", 200, "", "x", "a/b", 1, 0, 4, Usage(9, 9))
        for n, project in enumerate(["p", "poc-run", "p"])
    ]  # fmt: skip
    with closing(opener(place)()) as ledger:
        ledger.apply(rows)
    finance_store.opener(place)().close()
    file = tmp_path / "x.csv"
    poc_order.ledger_trace.write(place, poc_order.ledger_trace.Wanted(1), file, 10_000)
    assert len(file.read_text("utf-8").split()) == 3
