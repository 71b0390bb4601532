"""Requests one by one on a virtual clock: engines by the step-time model, the gateway's routing."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest

from autoscale import request_runs
from autoscale.arrivals import Trace
from autoscale.calls import Row, Setup, Tally, Want
from autoscale.engines import Engine, Sequence
from autoscale.records import Demand
from autoscale.requests import Requests
from autoscale.simulate import Bench
from autoscale.work import of_profile
from autoscale.world import Scenario
from models.capacity import PROFILES, step_s

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
