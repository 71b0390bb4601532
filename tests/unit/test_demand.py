"""What counts as demand for engines, and what no engine could have cured."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from models.capacity import PROFILES, Load, estimate
from serving.demand import Demand
from serving.progress import Progress
from serving.records import (
    Burst,
    DataLabel,
    Outcome,
    Overflow,
    Residency,
    ResidencyLevel,
    Run,
    Usage,
)

PROFILE = PROFILES["qwen3-32b-fp8-h100"]
ESTIMATE = estimate(PROFILE, Load(), 10, 0)


def asked(make: Any, *tries: Run | Burst, **call: Any) -> Progress:
    """A call that was tried there, in this order."""
    progress = Progress(make.call(model="m", received_s=0.0, **call), make.caller())
    for placement in tries:
        ticket = msgspec.structs.replace(make.ticket(placement.target), reason=placement.reason)
        progress.begin(ticket, placement)
    return progress


def counted(progress: Progress, outcome: Outcome = Outcome.OK, code: str = "") -> dict[str, int]:
    demand = Demand({"m": PROFILE})
    progress.outcome, progress.code = outcome, code
    demand.request(progress)
    return demand.totals("m")


def ended(make: Any, code: str, burst: str = "", **call: Any) -> dict[str, int]:
    tries = [Burst(make.offering(), burst)] if burst else []
    outcome = Outcome.REFUSED if code else Outcome.OK
    return counted(asked(make, *tries, **call), outcome, code)


@pytest.mark.parametrize("code", ["no_capacity", "deadline_unreachable", "queue_full"])
def test_a_call_refused_for_want_of_engines_is_shed(make: Any, code: str) -> None:
    shed = ended(make, code, first_token_by_s=10.0, prompt_tokens=500, max_tokens=100)
    assert (shed["shed_total"], shed["shed_prompt_total"], shed["shed_output_total"]) == (
        1,
        500,
        100,
    )


@pytest.mark.parametrize(("code", "burst"), [("deadline_unreachable", ""), ("no_capacity", ""),
                                             ("", "overflow:predicted_wait")])  # fmt: skip
def test_a_deadline_no_engine_could_keep_is_no_demand(make: Any, code: str, burst: str) -> None:
    totals = ended(make, code, burst, first_token_by_s=0.001, prompt_tokens=500)
    assert not any(totals.values())


def test_a_call_sent_to_an_api_is_burst_with_its_expected_tokens(make: Any) -> None:
    burst = ended(make, "", "overflow:full", first_token_by_s=10.0, prompt_tokens=7,
                  max_tokens=None)  # fmt: skip
    assert (burst["burst_total"], burst["burst_output_total"]) == (1, 256)


def test_a_refusal_by_rule_is_no_demand(make: Any) -> None:
    assert not any(ended(make, "residency_refused", first_token_by_s=10.0).values())


def test_a_call_that_our_engine_answered_in_the_end_was_no_burst(make: Any) -> None:
    abroad, home = Burst(make.offering(), "overflow:full"), Run(make.replica(), "local", ESTIMATE)
    progress = asked(make, abroad, home, first_token_by_s=10.0)
    assert progress.burst_reason == ""
    assert not any(counted(progress).values())


def test_a_call_that_an_api_answered_in_the_end_counts_once(make: Any) -> None:
    home, abroad = Run(make.replica(), "local", ESTIMATE), Burst(make.offering(), "overflow:retry")
    totals = counted(asked(make, home, abroad, abroad, first_token_by_s=10.0))
    assert (totals["burst_total"], totals["shed_total"]) == (1, 0)


@pytest.mark.parametrize(
    ("outcome", "code"),
    [(Outcome.UPSTREAM_ERROR, "no_capacity"), (Outcome.UPSTREAM_ERROR, "upstream_error"),
     (Outcome.TIMEOUT, "upstream_timeout"), (Outcome.FULL, "no_capacity")],
)  # fmt: skip
def test_a_call_that_no_api_answered_is_shed(make: Any, outcome: Outcome, code: str) -> None:
    progress = asked(make, Burst(make.offering(), "overflow:full"), first_token_by_s=10.0)
    totals = counted(progress, outcome, code)
    assert (totals["burst_total"], totals["shed_total"]) == (0, 1)


def test_a_call_stopped_on_its_way_to_an_api_is_no_demand(make: Any) -> None:
    progress = asked(make, Burst(make.offering(), "overflow:full"), first_token_by_s=10.0)
    assert not any(counted(progress, Outcome.REFUSED, "stopped").values())


def test_of_an_answer_an_api_went_on_with_only_its_part_is_burst(make: Any) -> None:
    abroad = Burst(make.offering(), "rescue:inexact")
    progress = asked(make, abroad, first_token_by_s=10.0)
    attempt = progress.attempt
    assert attempt is not None
    attempt.known, attempt.tells_whole, attempt.usage = 30, False, Usage(130, 20)
    progress.close(0)
    assert progress.usage == Usage(100, 50), "what the caller is told"
    totals = counted(progress)
    assert (totals["burst_prompt_total"], totals["burst_output_total"]) == (130, 20)


def test_served_tokens_leave_out_what_the_prefix_cache_held() -> None:
    demand = Demand({"m": PROFILE})
    demand.served("m", Usage(prompt_tokens=100, completion_tokens=5, cached_tokens=60))
    totals = demand.totals("m")
    assert (totals["served_prompt_total"], totals["served_output_total"]) == (40, 5)


LABEL = frozenset({DataLabel("us", "Api Inc")})
HOME = Residency(ResidencyLevel.PREMISES)


@pytest.mark.parametrize(
    ("reason", "call", "policy", "labels", "late"),
    [
        ("local", {"residency": HOME}, {}, LABEL, 1),
        ("local", {"is_home_only": True}, {}, LABEL, 1),
        ("local", {}, {"overflow": Overflow.NEVER}, LABEL, 1),
        ("local", {}, {}, frozenset(), 1),
        ("local:tight", {}, {}, LABEL, 1),
        ("local", {}, {}, LABEL, 0),
        ("local", {"residency": HOME, "first_token_by_s": 5.0}, {}, LABEL, 0),
    ],
    ids=["kept home", "refused", "key", "no third party", "all away", "may leave", "in time"],
)  # fmt: skip
def test_a_late_answer_asks_for_engines_where_it_had_to_stay(
    make: Any, reason: str, call: dict[str, Any], policy: dict[str, Any],
    labels: frozenset[DataLabel], late: int,
) -> None:  # fmt: skip
    asked_ = make.call(model="m", received_s=0.0, **{"first_token_by_s": 3.0, **call})
    progress = Progress(asked_, make.caller(**policy))
    progress.begin(msgspec.structs.replace(make.ticket(make.replica()), reason=reason),
                   Run(make.replica(), reason, ESTIMATE))  # fmt: skip
    progress.first_s, progress.usage = 4.0, Usage(100, 20, 60)
    progress.attempt.usage = progress.usage  # type: ignore[union-attr]
    progress.outcome = Outcome.OK
    demand = Demand({"m": PROFILE}, {"m": labels})
    demand.request(progress)
    found = demand.totals("m")
    names = ("total", "prompt_total", "output_total")
    assert [found[f"late_{name}"] for name in names] == [
        late, 40 * late, 20 * late,
    ]  # fmt: skip
    assert not found["shed_total"]
    assert not found["burst_total"]


@pytest.mark.parametrize(
    ("call", "policy", "bound"),
    [({"residency": HOME}, {}, 1), ({"is_home_only": True}, {}, 1),
     ({}, {"overflow": Overflow.NEVER}, 1), ({}, {}, 0)],
    ids=["kept home", "refused", "key", "may leave"],
)  # fmt: skip
def test_a_refused_call_that_could_not_leave_is_counted_as_bound(
    make: Any, call: dict[str, Any], policy: dict[str, Any], bound: int
) -> None:
    progress = Progress(
        make.call(model="m", received_s=0.0, first_token_by_s=10.0, **call), make.caller(**policy)
    )
    progress.outcome, progress.code = Outcome.REFUSED, "no_capacity"
    demand = Demand({"m": PROFILE}, {"m": LABEL})
    demand.request(progress)
    found = demand.totals("m")
    assert (found["shed_total"], found["bound_total"]) == (1, bound)
