"""What counts as demand for engines, and what no engine could have cured."""

from __future__ import annotations

from typing import Any

import pytest

from models.capacity import PROFILES
from serving.demand import Demand
from serving.progress import Progress
from serving.records import Outcome, Usage

PROFILE = PROFILES["qwen3-32b-fp8-h100"]


def ended(make: Any, code: str, burst: str = "", **call: Any) -> Demand:
    demand = Demand({"m": PROFILE})
    progress = Progress(make.call(model="m", received_s=0.0, **call), make.caller())
    progress.outcome = Outcome.REFUSED if code else Outcome.OK
    progress.code, progress.burst_reason = code, burst
    demand.request(progress)
    return demand


@pytest.mark.parametrize("code", ["no_capacity", "deadline_unreachable", "queue_full"])
def test_a_call_refused_for_want_of_engines_is_shed(make: Any, code: str) -> None:
    shed = ended(make, code, first_token_by_s=10.0, prompt_tokens=500, max_tokens=100).totals("m")
    assert (shed["shed_total"], shed["shed_prompt_total"], shed["shed_output_total"]) == (
        1,
        500,
        100,
    )


@pytest.mark.parametrize(("code", "burst"), [("deadline_unreachable", ""), ("no_capacity", ""),
                                             ("", "overflow:predicted_wait")])  # fmt: skip
def test_a_deadline_no_engine_could_keep_is_no_demand(make: Any, code: str, burst: str) -> None:
    demand = ended(make, code, burst, first_token_by_s=0.001, prompt_tokens=500)
    assert not any(demand.totals("m").values())


def test_a_call_sent_to_an_api_is_burst_with_its_expected_tokens(make: Any) -> None:
    burst = ended(make, "", "overflow:full", first_token_by_s=10.0, prompt_tokens=7,
                  max_tokens=None).totals("m")  # fmt: skip
    assert (burst["burst_total"], burst["burst_output_total"]) == (1, 256)


def test_a_refusal_by_rule_is_no_demand(make: Any) -> None:
    demand = ended(make, "residency_refused", first_token_by_s=10.0)
    assert not any(demand.totals("m").values())


def test_served_tokens_leave_out_what_the_prefix_cache_held() -> None:
    demand = Demand({"m": PROFILE})
    demand.served("m", Usage(prompt_tokens=100, completion_tokens=5, cached_tokens=60))
    totals = demand.totals("m")
    assert (totals["served_prompt_total"], totals["served_output_total"]) == (40, 5)
