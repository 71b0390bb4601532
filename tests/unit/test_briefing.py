"""From settings to policy: prices in one currency, and what is refused."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from autoscale.briefing import policy_of
from autoscale.limits import bounds
from autoscale.policy import Api
from serving.settings import SettingsError, load

TODAY = date(2026, 11, 26)
ROW = """
id: seller
name: S
jurisdiction: us
operator: S
base_url: https://api.example/v1
api_key_env: K
models:
- {id: big, context_tokens: 8192, input_per_mtok: "0.1", output_per_mtok: "0.4", source: a test, as_of: 2026-11-26}
- {id: dark, context_tokens: 8192, source: a test, as_of: 2026-11-26}
- {id: gift, context_tokens: 8192, free: true, source: a test, as_of: 2026-11-26}
"""  # noqa: E501
POOL = {"name": "p", "model": "q", "hour": "2.5"}


def scheduled(**fields: Any) -> dict[str, Any]:
    return {"schedules": [{"model": "q"} | fields]}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    (tmp_path / "seller.yaml").write_text(ROW.replace("as_of: 2026-11-26", 'as_of: "2026-11-26"'))
    return tmp_path


def policy(
    model: dict[str, Any] | None = None, root: dict[str, Any] | None = None, **scaling: Any
) -> Any:
    settings = load(None, {}, {
        "models": [{"name": "q", "profile": "qwen3-32b-fp8-h100"} | (model or {})],
        "controller": {"scaling": {"pools": [POOL]} | scaling},
    } | (root or {}))  # fmt: skip
    return policy_of(settings, TODAY)


def test_pools_and_work_come_from_the_settings() -> None:
    (plan,) = policy(hour_max=10, wait_s_max=2).plans
    assert plan.pools[0].hour_micro == 2_500_000
    assert plan.work.prompt_token_s == pytest.approx(73e-6)
    assert plan.work.output_token_s == pytest.approx(0.32e-3, rel=0.01)
    assert (plan.api, plan.wait_s_max) == (None, 2)


def offered(rows: Path, name: str, **scaling: Any) -> Any:
    (plan,) = policy({"offerings": [name]}, {"providers_dir": str(rows)}, **scaling).plans
    return plan.api


def test_the_api_is_priced_in_the_pools_currency(rows: Path) -> None:
    assert offered(rows, "seller/big") == Api(100_000, 400_000)
    assert offered(rows, "seller/big", currency="CNY") == Api(700_000, 2_800_000)
    assert offered(rows, "seller/gift") == Api(0, 0)


@pytest.mark.parametrize(
    ("scaling", "words"),
    [
        ({"pools": [POOL | {"model": "x"}]}, "pools.0.model: 'x'"),
        ({"schedules": [{"model": "x"}]}, "schedules.0.model: 'x'"),
        ({"pools": [POOL | {"least": 3, "most": 2}]}, "above most"),
        ({"pools": [POOL, POOL]}, "the same name"),
        ({"pools": [POOL | {"hour": "-1"}]}, "hour"),
        ({"pools": [{"name": "p", "model": "q"}]}, "hour"),
        (scheduled(least=3, most=1), r"schedules.0: least \(3\) is above most \(1\)"),
        (scheduled(least=9), r"least \(9\) is more than the pools of q may have \(1\)"),
        ({"pools": [], **scheduled(least=1)}, "q has no pool that serves everybody"),
        (scheduled(days=[]), "holds at no time"),
        (scheduled(from_minute=60, until_minute=60), "both 60"),
        ({"pools": [POOL | {"terms": "spot"}], "on_demand_floor": 1}, "on_demand_floor: 1, and"),
        ({"pools": [POOL | {"tenant": "acme"}]}, "pools.0.least: a tenant's pool"),
        ({"pools": [POOL | {"least": 1}], "hour_max": "2"}, "hour_max: 2, and .* take 2.5"),
        ({"pools": [POOL | {"least": 1}], "day_max": "59"}, "day_max: 59, and .* take 60"),
        ({"pools": [POOL | {"least": 1}], "replicas_max": 0}, "replicas_max: 0, and .* take 1"),
    ],
    ids=[
        "model",
        "schedule",
        "order",
        "names",
        "negative",
        "unpriced",
        "schedule's order",
        "schedule above pools",
        "schedule without pools",
        "no days",
        "no time",
        "floor",
        "tenant",
        "hour",
        "day",
        "replicas",
    ],
)
def test_contradictions_are_refused_by_name(scaling: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        policy(**scaling)


@pytest.mark.parametrize(
    ("offering", "scaling", "words"),
    [
        ("seller/nothing", {}, "no provider row sells it"),
        ("nobody/x", {}, "no provider row sells it"),
        ("seller/dark", {}, "price is unknown"),
        ("seller/big", {"currency": "EUR"}, "no rate"),
    ],
)
def test_an_api_without_a_usable_price_is_refused(
    rows: Path, offering: str, scaling: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        offered(rows, offering, **scaling)


def test_paid_minima_and_a_tenants_own_are_no_part_of_the_budget() -> None:
    month = POOL | {"name": "month", "terms": "reserved", "least": 1}
    own = POOL | {"name": "own", "tenant": "acme", "least": 1}
    assert policy(pools=[month, own], hour_max="1", replicas_max=0).budget.replicas_max == 0


def test_where_machines_may_be_rented_comes_from_the_settings() -> None:
    abroad = POOL | {"jurisdiction": "us"}
    (plan,) = policy(pools=[abroad], jurisdictions=["cn"]).plans
    assert bounds(plan, 0) == (0, 0)


def test_money_is_exact() -> None:
    assert policy(day_max=Decimal("0.000001")).budget.day_micro_max == 1
