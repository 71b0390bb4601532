"""What the error budget counts, and what a scrape learns of a tick."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from autoscale.gauges import Gauges, figures
from autoscale.policy import Plan, Pool
from autoscale.records import Hold, Scale
from serving.progress import Progress
from serving.records import Outcome
from serving.slo import Kept, kept


@pytest.fixture
def ended(make):
    def build(outcome, status=200, code="", first_s=1.0, last_s=2.0, **call):
        progress = Progress(
            make.call(first_token_by_s=5.0, complete_by_s=60.0, **call), make.caller()
        )
        progress.attempts, progress.first_s, progress.last_s = 1, first_s, last_s
        progress.ended(outcome, status, code)
        return progress

    return build  # fmt: skip


def test_a_stream_is_judged_by_its_first_token(ended):
    assert kept(ended(Outcome.OK, first_s=5.0, last_s=100.0)) is Kept.GOOD
    assert kept(ended(Outcome.OK, first_s=5.1)) is Kept.LATE


def test_a_plain_answer_is_judged_by_its_last_byte(ended):
    assert kept(ended(Outcome.OK, first_s=50.0, last_s=60.0, stream=False)) is Kept.GOOD
    assert kept(ended(Outcome.OK, first_s=50.0, last_s=61.0, stream=False)) is Kept.LATE


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [
        (Outcome.REFUSED, 503, "no_capacity"),
        (Outcome.REFUSED, 503, "deadline_unreachable"),
        (Outcome.FULL, 503, "no_capacity"),
        (Outcome.UPSTREAM_ERROR, 502, "upstream_unavailable"),
        (Outcome.TIMEOUT, 504, "upstream_timeout"),
        (Outcome.CUT, 200, "stream_interrupted"),
        (Outcome.INTERNAL, 500, "internal_error"),
    ],
)
def test_what_we_could_not_do_is_a_failure(ended, outcome, status, code):
    assert kept(ended(outcome, status, code)) is Kept.FAILED


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [
        (Outcome.CALLER_ERROR, 400, "invalid_value"),
        (Outcome.DISCONNECTED, 200, ""),
        (Outcome.REFUSED, 429, "rate_limit_exceeded"),
        (Outcome.REFUSED, 429, "budget_exceeded"),
        (Outcome.REFUSED, 403, "residency_refused"),
        (Outcome.REFUSED, 503, "stopped"),
    ],
)
def test_a_callers_own_fault_or_limit_says_nothing_about_us(ended, outcome, status, code):
    assert kept(ended(outcome, status, code)) is None


def test_a_load_test_and_a_canary_say_nothing_of_what_callers_see(ended, make):
    late = {"outcome": Outcome.OK, "first_s": 9.0}
    assert kept(ended(**late)) is Kept.LATE
    assert kept(ended(**late, pin="own")) is None
    tested = ended(**late)
    tested.caller = make.caller(is_load_test=True)
    assert kept(tested) is None


def test_a_replayed_answer_counts_for_nothing(ended):
    progress = ended(Outcome.OK)
    progress.attempts = 0
    assert kept(progress) is None


NUMBERS = {"rate": 2.0, "ready": 4.0, "served": 1.0, "api_micro_per_s": 1000.0}
PLAN = Plan("m", 8, (Pool("od", hour_micro=1_800_000), Pool("spot", hour_micro=900_000)))


def test_the_busy_share_stands_beside_the_share_that_pays():
    found = figures(Scale("m", 4, "why", {"od": 4}, NUMBERS), PLAN)
    assert found == {"demand": 2.0, "ready": 4.0, "busy": 0.25, "breakeven": 0.5}
    assert figures(Scale("m", 4, "why", {"spot": 4}, NUMBERS), PLAN)["breakeven"] == 0.25


def test_without_an_api_or_a_replica_there_is_no_share_to_tell():
    none = NUMBERS | {"ready": 0.0, "api_micro_per_s": 0.0}
    assert figures(Hold("m", "why", none), PLAN) == {"demand": 2.0, "ready": 0.0}
    assert figures(Hold("m", "no data"), PLAN) == {}


def test_a_figure_that_is_no_longer_known_leaves_the_scrape():
    registry = CollectorRegistry()
    gauges = Gauges(registry)
    gauges.show([Hold("m", "why", NUMBERS)], [PLAN])
    gauges.lapsing({"gift": 3.0})
    labels = {"model": "m"}
    assert registry.get_sample_value("ballast_controller_busy_ratio", labels) == 0.25
    assert registry.get_sample_value("ballast_grant_lapse_days", {"grant": "gift"}) == 3.0
    gauges.show([Hold("m", "no data")], [PLAN])
    gauges.lapsing({})
    assert registry.get_sample_value("ballast_controller_busy_ratio", labels) is None
    assert registry.get_sample_value("ballast_grant_lapse_days", {"grant": "gift"}) is None
