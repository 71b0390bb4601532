"""Requests one by one on a virtual clock: engines by the step-time model, the gateway's routing."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest

from autoscale import request_law, request_runs
from autoscale.arrivals import Trace
from autoscale.calls import Row, Setup, Tally, Want
from autoscale.engines import Engine, Sequence
from autoscale.records import Demand
from autoscale.request_api import HOUR_MICRO, MICRO_PER_S, credit
from autoscale.request_fleet import Fleet
from autoscale.requests import Requests
from autoscale.simulate import Bench
from autoscale.work import of_profile
from autoscale.world import Scenario
from models.capacity import PROFILES, step_s
from serving.admission import Admission
from serving.finance.values import Grant

PROFILE = msgspec.structs.replace(PROFILES["qwen3-32b-fp8-h100"], max_num_seqs=32)


def alone(prompt: int, output: int) -> tuple[float, float]:
    engine = Engine(PROFILE, 0.0)
    one = Sequence(1, prompt, output)
    engine.add(one, 0.0)
    end_s = engine.next_s()
    assert engine.ended(end_s) == [one]
    return one.first_s, end_s


def test_a_call_alone_takes_its_prefill_and_its_steps() -> None:
    first_s, end_s = alone(1000, 100)
    step = step_s(PROFILE, 1, 1050, 0)
    assert first_s == pytest.approx(0.073 + step)
    assert end_s == pytest.approx(0.073 + 100 * step)


def test_a_full_batch_reaches_the_models_throughput() -> None:
    engine, ended, now_s = Engine(PROFILE, 0.0), 0, 0.0
    for key in range(64):
        engine.add(Sequence(key, 0, 200), 0.0)
    while ended < 64:
        now_s = engine.next_s()
        ended += len(engine.ended(now_s))
    assert now_s == pytest.approx(2 * 200 * step_s(PROFILE, 32, 32 * 100, 0), rel=0.01)


def test_a_prompt_that_does_not_fit_in_memory_waits() -> None:
    engine = Engine(PROFILE, 0.0)
    engine.add(Sequence(1, 100_000, 10), 0.0)
    engine.add(Sequence(2, 100_000, 10), 0.0)
    load = engine.load()
    assert (load.running, load.waiting) == (1, 1)
    assert load.queued_prefill_tokens >= 100_000


def trace(seed: int, count: int = 2000) -> list[Row]:
    lots, at_s, rows = random.Random(seed), 0.0, []
    for _ in range(count):
        at_s += lots.expovariate(3.0)
        rows.append(Row(at_s, lots.randint(1, 3000), lots.randint(1, 800)))
    return rows


def run(count: int, seed: int = 1, **setup: object) -> tuple[Tally, list[Demand]]:
    seen: list[Demand] = []

    def want(now_s: float, demand: Demand, ready: int, wanted: int) -> int:
        seen.append(demand)
        return count

    return Requests(Setup(PROFILE, 32, **setup), want, seed).run(trace(3)), seen  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_every_call_is_served_once_or_refused(count: int) -> None:
    tally, seen = run(count, outages=((100.0, 200.0),))
    rows = trace(3)
    for part in (0, 1):
        tokens = sum(row.prompt if part == 0 else row.output for row in rows)
        assert tally.own[part] + tally.api[part] + tally.shed[1 + part] == tokens
    assert tally.calls == len(rows)
    assert tally.kept + tally.refused <= tally.calls
    assert all(0 <= demand.running <= len(rows) for demand in seen)


def test_all_goes_to_the_api_without_replicas_and_costs_no_rent() -> None:
    tally, _ = run(0)
    assert (tally.rent_s, tally.burst_calls, tally.refused) == (0.0, 2000, 0)
    assert tally.kept > 1990


def test_without_replicas_an_outage_refuses() -> None:
    tally, _ = run(0, outages=((100.0, 200.0),))
    assert 200 < tally.refused < 400


def test_replicas_take_what_they_can_hold() -> None:
    tally, _ = run(3, ready_s=10.0)
    assert tally.own[1] > 10 * tally.api[1]
    assert tally.kept > 0.97 * tally.calls


def test_machines_by_the_month_serve_the_first_call_and_start_nothing() -> None:
    tally, seen = run(2, months=2, scenario=Scenario(month_share=0.5, taken_per_hour=9.0))
    assert (tally.starts, tally.taken) == (0, 0)
    assert tally.rent_s == pytest.approx(len(seen) * 10.0)
    assert run(2)[0].own[1] < tally.own[1]


def test_one_seed_gives_one_run() -> None:
    assert run(2)[0] == run(2)[0]
    assert run(2)[0] != run(2, seed=2)[0]


def brain(ready_s: float) -> Want:
    """The controller's own step; the API costs three times the rent."""
    none = np.zeros(1)
    return request_runs.ours(
        Bench(Trace("t", 0.0, none, none), of_profile(PROFILE, 32), Scenario(ready_s=ready_s))
    )


def test_a_call_that_is_kept_home_wakes_an_engine() -> None:
    rows = [Row(100.0, 500, 50), Row(600.0, 500, 50)]
    setup = Setup(PROFILE, 32, first_token_s_max=300.0, ready_s=120.0, home_share=1.0,
                  hold_s_max=300.0)  # fmt: skip
    tally = Requests(setup, brain(120.0), 1).run(rows)
    assert (tally.kept, tally.refused, tally.api[0]) == (2, 0, 0)
    assert tally.starts == 2, "the first was given back long before the second call"
    assert tally.rent_s < 1.1 * 2 * (2 * 120 + 60)


def test_calls_that_are_kept_home_and_refused_start_an_engine_beside_much_that_leaves() -> None:
    rows = [Row(100.0 + k, 50, 20) for k in range(3000)]
    setup = Setup(PROFILE, 32, ready_s=60.0, home_share=0.01)
    tally = Requests(setup, brain(60.0), 1).run(rows)
    assert 0 < tally.starts <= 6
    assert 0 < tally.bound == tally.refused <= 8, "of thirty"


SPENT = of_profile(PROFILE, 32)


def priced(count: int, world: Scenario, *grants: Grant) -> Tally:
    return run(count, scenario=world, work=SPENT, grants=grants, ready_s=10.0)[0]


def worth_s(tokens: list[int]) -> float:
    return SPENT.of(*tokens)


def test_the_bill_is_that_of_the_work_at_the_price_of_its_time() -> None:
    rows = trace(3)
    half_s = rows[len(rows) // 2].at_s
    tally = priced(0, Scenario(3.0, prices=((half_s, 1.5),)))
    early = [sum(x) for x in zip(*((r.prompt, r.output) for r in rows[:1000]), strict=True)]
    late = [sum(x) for x in zip(*((r.prompt, r.output) for r in rows[1000:]), strict=True)]
    # The price of the day is seen at the next tick, as a changed row is by a gateway.
    expected = MICRO_PER_S * (3.0 * worth_s(early) + 1.5 * worth_s(late))
    assert tally.api_micro == pytest.approx(expected, rel=0.02)


def test_a_credit_pays_until_it_is_used_up_or_lapses() -> None:
    rows = trace(3)
    full = priced(0, Scenario(3.0)).api_micro
    hours = full / HOUR_MICRO
    half = priced(0, Scenario(3.0), credit(hours / 2, 86_400.0)).api_micro
    assert half == pytest.approx(full / 2, abs=2)
    lapsed = priced(0, Scenario(3.0), credit(hours, rows[1000].at_s)).api_micro
    assert 0.4 * full < lapsed < 0.6 * full
    prepaid = priced(0, Scenario(3.0), credit(2 * hours, 86_400.0, paid_hours=hours / 2)).api_micro
    assert prepaid == pytest.approx(full / 2, rel=1e-6), "what was paid for it is lost unused"


def test_a_rate_limit_refuses_what_is_above_it_and_the_breaker_hears_of_it() -> None:
    free, tight = priced(0, Scenario(3.0)), priced(0, Scenario(3.0, api_most=0.4))
    assert free.refused == 0
    demand = worth_s([free.api[0], free.api[1]]) / trace(3)[-1].at_s
    taken = worth_s([tight.api[0], tight.api[1]]) / trace(3)[-1].at_s
    assert taken < 0.45 < demand
    assert tight.refused > 200


def test_calls_of_a_spot_replica_that_is_taken_away_are_answered_elsewhere() -> None:
    calm, spot = (priced(3, Scenario(3.0, taken_per_hour=rate)) for rate in (0.0, 20.0))
    assert (calm.taken, calm.refused) == (0, 0)
    assert spot.taken >= 3
    assert spot.starts > calm.starts
    rows = trace(3)
    for part in (0, 1):
        tokens = sum(row.prompt if part == 0 else row.output for row in rows)
        assert spot.own[part] + spot.api[part] + spot.shed[1 + part] == tokens
    assert spot.kept > 0.9 * spot.calls


def test_an_order_that_never_comes_is_paid_and_asked_for_again() -> None:
    tally = priced(1, Scenario(3.0, fail_rate=1.0))
    assert tally.starts > 3
    assert tally.own == [0, 0]
    assert tally.rent_s == pytest.approx(20.0 * tally.starts, abs=20.0), "twice the mean each"


@pytest.mark.parametrize("lost", ["call", "ticket", "tokens"])
def test_a_run_that_loses_something_is_stopped(lost: str) -> None:
    rows = trace(3, 20)
    requests = Requests(Setup(PROFILE, 32), lambda *_: 0, 1)
    tally = requests.run(rows)
    if lost == "call":
        tally.answered -= 1
    elif lost == "tokens":
        tally.api[1] -= 1
    admission = Admission()
    admission.issued = int(lost == "ticket")
    with pytest.raises(AssertionError, match=r"lost|twice|asked for"):
        request_law.finally_(rows, tally, admission, Fleet(Setup(PROFILE, 32), random.Random(1)))
