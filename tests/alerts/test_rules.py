"""Every alert fires when it should, stays quiet when it should not, and says what to do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BAD = "ballast_slo_requests_total{model='m',class='live',result='failed'}"
GOOD = "ballast_slo_requests_total{model='m',class='live',result='good'}"

# alert: (minutes until judged, series that make it fire, series that must not)
CASES = {
    "BallastSloBurnFast": (
        70,
        {BAD: "0+20x100", GOOD: "0+80x100"},
        {BAD: "0+1x100", GOOD: "0+99x100"},
    ),
    "BallastSloBurnSlow": (
        400,
        {BAD: "0+8x500", GOOD: "0+92x500"},
        {BAD: "0+4x500", GOOD: "0+96x500"},
    ),
    "BallastSloBudgetGoing": (
        500,
        {BAD: "0+2x600", GOOD: "0+98x600"},
        {BAD: "0+1x600", GOOD: "0+200x600"},
    ),
    "BallastQueueWaitLong": (
        30,
        {
            "ballast_queue_wait_seconds_bucket{model='m',le='5.0'}": "0+1x40",
            "ballast_queue_wait_seconds_bucket{model='m',le='10.0'}": "0+10x40",
            "ballast_queue_wait_seconds_bucket{model='m',le='+Inf'}": "0+10x40",
        },
        {
            "ballast_queue_wait_seconds_bucket{model='m',le='1.0'}": "0+10x40",
            "ballast_queue_wait_seconds_bucket{model='m',le='+Inf'}": "0+10x40",
        },
    ),
    "BallastUnmetDemand": (
        15,
        {
            "ballast_refused_total{model='m',code='queue_full'}": "0+5x20",
            "ballast_requests_total{model='m',outcome='refused'}": "0+100x20",
        },
        {
            "ballast_refused_total{model='m',code='rate_limit_exceeded'}": "0+50x20",
            "ballast_requests_total{model='m',outcome='refused'}": "0+100x20",
        },
    ),
    "BallastOverflowShareHigh": (
        130,
        {
            "ballast_attempts_total{model='m',tier='api'}": "0+6x140",
            "ballast_attempts_total{model='m',tier='own'}": "0+4x140",
            "ballast_replicas{model='m'}": "2x140",
        },
        # With zero GPUs every call leaves: that is the plan, not a fault.
        {
            "ballast_attempts_total{model='m',tier='api'}": "0+6x140",
            "ballast_replicas{model='m'}": "0x140",
        },
    ),
    "BallastBreakerOpen": (
        10,
        {"ballast_target_breaker_open{target='t',instance='a'}": "1x20"},
        {"ballast_target_breaker_open{target='t',instance='a'}": "1 0 1 0 1 0 1 0 1 0 1 0"},
    ),
    "BallastEngineNotStarting": (
        15,
        {"ballast_engine_not_starting{model='m'}": "1x20"},
        {"ballast_engine_not_starting{model='m'}": "0x20"},
    ),
    "BallastReplicasStuckLoading": (
        40,
        {
            "ballast_controller_wanted_replicas{model='m',instance='a'}": "3x50",
            "ballast_controller_wanted_replicas{model='m',instance='standby'}": "3x50",
            "ballast_controller_ready_replicas{model='m',instance='a'}": "2x50",
            "ballast_controller_ready_replicas{model='m',instance='standby'}": "2x50",
        },
        {
            "ballast_controller_wanted_replicas{model='m'}": "3x50",
            "ballast_controller_ready_replicas{model='m'}": "2x10 3x40",
        },
    ),
    "BallastGpuBelowBreakEven": (
        90,
        {
            "ballast_controller_busy_ratio{model='m',instance='a'}": "0.2x100",
            "ballast_controller_busy_ratio{model='m',instance='standby'}": "0.2x100",
            "ballast_controller_breakeven_ratio{model='m',instance='a'}": "0.4x100",
            "ballast_controller_breakeven_ratio{model='m',instance='standby'}": "0.4x100",
        },
        {
            "ballast_controller_busy_ratio{model='m'}": "0.6x100",
            "ballast_controller_breakeven_ratio{model='m'}": "0.4x100",
        },
    ),
    "BallastKvMemoryFull": (
        15,
        {"ballast_target_kv_use_ratio{target='t'}": "0.97x20"},
        {"ballast_target_kv_use_ratio{target='t'}": "0.9x20"},
    ),
    "BallastBudgetNearlySpent": (
        2,
        {"ballast_budget_used_ratio{scope='tenant',budget='b'}": "0.8x5"},
        {"ballast_budget_used_ratio{scope='tenant',budget='b'}": "0.79x5"},
    ),
    "BallastBudgetSpent": (
        2,
        {"ballast_budget_used_ratio{scope='tenant',budget='b'}": "1x5"},
        {"ballast_budget_used_ratio{scope='tenant',budget='b'}": "0.99x5"},
    ),
    "BallastBudgetStoreAway": (
        10,
        {"ballast_budget_store_away": "1x20"},
        {"ballast_budget_store_away": "1x3 0x20"},
    ),
    "BallastGrantLapses": (
        2,
        {"ballast_grant_lapse_days{grant='g'}": "15x5"},
        {"ballast_grant_lapse_days{grant='g'}": "45x5"},
    ),
    "BallastLedgerAway": (
        10,
        {"ballast_ledger_failing{instance='a'}": "1x20"},
        {"ballast_ledger_failing{instance='a'}": "1x2 0x20"},
    ),
    "BallastLedgerLag": (
        15,
        {"ballast_journal_lag_bytes{instance='a'}": "40000000x20"},
        {"ballast_journal_lag_bytes{instance='a'}": "1000x20"},
    ),
    "BallastJournalCorrupt": (
        2,
        {"ballast_journal_corrupt_segments{instance='a'}": "1x5"},
        {"ballast_journal_corrupt_segments{instance='a'}": "0x5"},
    ),
    "BallastAuditNotSigned": (
        30,
        {"ballast_audit_checkpoints_total{result='failed'}": "0+1x40"},
        {
            "ballast_audit_checkpoints_total{result='failed'}": "0+1x40",
            "ballast_audit_checkpoints_total{result='kept'}": "0+1x40",
        },
    ),
    "BallastAuditAnchorAway": (
        100,
        {"ballast_audit_checkpoints_total{result='not_posted'}": "0+1x120"},
        {
            "ballast_audit_checkpoints_total{result='not_posted'}": "0+1x120",
            "ballast_audit_checkpoints_total{result='posted'}": "0+1x120",
        },
    ),
    "BallastAnswersDrift": (
        40,
        {"ballast_canary_drift{target='t'}": "1x50"},
        {"ballast_canary_drift{target='t'}": "0x50"},
    ),
    "BallastGatewayDown": (
        5,
        {"up{job='ns/ballast-gateway',instance='a'}": "0x10"},
        {"up{job='ns/ballast-gateway',instance='a'}": "1x10", "up{job='other'}": "0x10"},
    ),
    "BallastPolicyOld": (
        5,
        {"ballast_policy_age_seconds{instance='a'}": "11x10"},
        {"ballast_policy_age_seconds{instance='a'}": "2x10"},
    ),
    "BallastFleetUnseen": (
        5,
        {"ballast_fleet_view_age_seconds{instance='a'}": "31x10"},
        {"ballast_fleet_view_age_seconds{instance='a'}": "1x10"},
    ),
    "BallastControllerStopped": (
        15,
        {"ballast_controller_ticks_total{outcome='ok'}": "5x20"},
        {"ballast_controller_ticks_total{outcome='ok'}": "0+12x20"},
    ),
    "BallastRolloutTakenBack": (
        5,
        {"ballast_rollout_state{name='chat',state='rolled_back'}": "1x10"},
        {
            "ballast_rollout_state{name='chat',state='rolled_back'}": "0x10",
            "ballast_rollout_state{name='chat',state='done'}": "1x10",
        },
    ),
    "BallastRolloutPaused": (
        70,
        {"ballast_rollout_state{name='chat',state='paused'}": "1x80"},
        {"ballast_rollout_state{name='chat',state='paused'}": "1x50 0x30"},
    ),
    "BallastRolloutStuck": (
        30,
        {"ballast_rollout_left_seconds{name='chat'}": "300-60x60"},
        {"ballast_rollout_left_seconds{name='chat'}": "1800-60x20 3600-60x20"},
    ),
    "BallastLimitsAway": (
        10,
        {"ballast_limits_away{store='redis'}": "1x20"},
        {"ballast_limits_away{store='redis'}": "0x20"},
    ),
    "BallastLogLost": (
        10,
        {"ballast_log_lines_dropped{instance='a'}": "0+1x20"},
        {"ballast_log_lines_dropped{instance='a'}": "7x20"},
    ),
}


def rules(path):
    return [r for g in yaml.safe_load(path.read_text("utf-8"))["groups"] for r in g["rules"]]


def judged(alert, minutes, series, fires):
    """One promtool test: the alert's state read as the series Prometheus keeps of it."""
    inputs = [
        {"series": name.replace("'", '"'), "values": values} for name, values in series.items()
    ]
    query = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})'
    expected = [{"value": 1}] if fires else []
    return {
        "name": f"{alert} {'fires' if fires else 'is quiet'}",
        "interval": "1m",
        "input_series": inputs,
        "promql_expr_test": [{"expr": query, "eval_time": f"{minutes}m", "exp_samples": expected}],
    }


@pytest.mark.server
def test_alerts_fire_when_they_should_and_only_then(rules_file, tmp_path, tool):
    tool("promtool", "prometheus")
    tests = [
        judged(alert, minutes, series, is_firing)
        for alert, (minutes, bad, good) in CASES.items()
        for series, is_firing in ((bad, True), (good, False))
    ]
    told = {"rule_files": [str(rules_file)], "evaluation_interval": "1m", "tests": tests}
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump(told), "utf-8")
    done = subprocess.run(
        ["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.server
def test_a_controller_that_is_gone_is_missed_too(rules_file, tmp_path, tool):
    """It leaves no series of its own ticks behind."""
    tool("promtool", "prometheus")
    gone = {"up{job='ballast-controller',instance='a'}": "0x20"}
    told = {"rule_files": [str(rules_file)], "evaluation_interval": "1m",
            "tests": [judged("BallastControllerStopped", 15, gone, True)]}  # fmt: skip
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump(told), "utf-8")
    done = subprocess.run(
        ["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_here(rules_file):
    assert {r["alert"] for r in rules(rules_file) if "alert" in r} == set(CASES)


def test_every_alert_says_how_bad_it_is_and_what_to_do(rules_file):
    for rule in rules(rules_file):
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("page", "ticket", "note"), rule["alert"]
            assert {"summary", "action"} <= set(rule["annotations"]), rule["alert"]


@pytest.mark.parametrize("page", ["runbooks.md", "runbooks.zh.md"])
def test_every_alert_has_a_page_in_both_languages(rules_file, page):
    text = (ROOT / "docs" / page).read_text("utf-8")
    sections = re.findall(r"^## (Ballast\w+)", text, re.MULTILINE)
    assert sorted(sections) == sorted(CASES)
