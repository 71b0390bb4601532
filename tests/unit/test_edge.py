"""What replicas do at their edge: learnt from what overflows, and the optimum measured there."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from autoscale import calls, gauges, oracle, request_edge
from autoscale.arrivals import BIN_S, Trace
from autoscale.calls import Row, Setup, Tally
from autoscale.engines import Engine, Sequence
from autoscale.journal import Journal, read, replay
from autoscale.memory import Memory
from autoscale.policy import Api, Plan, Policy, Pool
from autoscale.records import Decision, Demand, Samples, Signals, Supply, Tick
from autoscale.request_edge import Edge
from autoscale.simulate import Bench
from autoscale.step import step
from autoscale.work import Work, of_profile
from autoscale.world import Scenario
from models.capacity import PROFILES, step_s

TICK_MS = 10_000
START_MS = 1_767_571_200_000
RENTED = Pool("rented", hour_micro=3_600_000, ready_s=100.0, most=8)
PLAN = Plan("m", 16, (RENTED,), Api(0, 3_000_000), Work(0.0, 0.001))
LEARNING = Policy((PLAN,), edge_least=0.5)


class World:
    """A fleet of a given size; `share` of the model's figure is all that a replica does."""

    def __init__(self, ready: int, policy: Policy = LEARNING) -> None:
        self.policy, self.memory, self.at_ms = policy, Memory(), START_MS
        self.pools, self.decisions, self.ticks = {"rented": ready}, list[Decision](), list[Tick]()
        self.served = self.burst = 0.0

    def run(
        self, rate: float, share: float, minutes: float, missing: tuple[str, ...] = ()
    ) -> float:
        """Replicas' demand for some minutes; what a replica is reckoned to do then."""
        for _ in range(round(minutes * 6)):
            self.at_ms += TICK_MS
            done = min(rate, share * sum(self.pools.values()))
            self.served += done * TICK_MS
            self.burst += (rate - done) * TICK_MS
            demand = Demand(
                served_output_total=round(self.served), burst_output_total=round(self.burst)
            )
            report = Signals("g", 1, self.at_ms, {"m": demand})
            supply = {"m": Supply(sum(self.pools.values()), pools=dict(self.pools))}
            samples = Samples(self.at_ms, (report,), missing, supply)
            outcome = step(samples, self.memory, self.policy)
            self.ticks.append(Tick(samples, self.policy, self.memory, outcome.decisions))
            self.memory = outcome.memory
            self.decisions += outcome.decisions
        return self.does

    @property
    def does(self) -> float:
        return self.memory.models["m"].does.get("rented", 1.0)


def test_replicas_that_do_less_while_calls_overflow_are_reckoned_with_as_much() -> None:
    world = World(2)
    assert world.run(6.0, 0.8, 12) > 0.85, "slowly, from the model's own figure"
    assert 0.8 <= world.run(6.0, 0.8, 90) <= 0.86
    assert world.run(6.0, 0.1, 600) >= 0.5, "never below the floor"


def test_what_overflows_below_full_replicas_rents_one_more() -> None:
    """Of 2.3 replicas' demand two do 1.4: by the model's figure a third would hardly have work."""
    counts = {}
    for least in (0.5, 1.0):
        world = World(2, msgspec.structs.replace(LEARNING, edge_least=least))
        world.run(2.3, 0.7, 60)
        counts[least] = sum(world.memory.models["m"].wanted.values())
    assert counts == {0.5: 3, 1.0: 2}


@pytest.mark.parametrize(
    ("ready", "rate", "share"),
    [(2, 1.8, 1.0), (2, 0.6, 0.1), (2, 0.0, 1.0), (0, 2.0, 1.0)],
    ids=["everything fits", "next to idle, so bunches", "no calls", "no replicas"],
)
def test_nothing_is_learnt_of_replicas_that_were_not_at_their_edge(
    ready: int, rate: float, share: float
) -> None:
    assert World(ready).run(rate, share, 120) == 1.0


def test_whatever_more_was_seen_done_is_believed_though_nothing_overflowed() -> None:
    world = World(2)
    low = world.run(6.0, 0.7, 60)
    assert low < 0.8
    assert world.run(1.96, 1.0, 60) >= low + 0.08


def test_what_was_learnt_is_forgotten_in_a_day_without_calls() -> None:
    world = World(2)
    assert world.run(6.0, 0.7, 60) < 0.8
    assert world.run(0.0, 1.0, 1440) >= 0.95


def test_a_tick_without_all_gateways_teaches_nothing() -> None:
    assert World(2).run(6.0, 0.7, 60, missing=("away",)) == 1.0


def test_a_fleet_that_changes_every_minute_teaches_nothing() -> None:
    world = World(2)
    for minute in range(60):
        world.pools = {"rented": 2 + minute % 2}
        world.run(4.0, 0.7, 1)
    assert world.does == 1.0


def test_reason_numbers_and_gauge_say_what_a_replica_does() -> None:
    world = World(2)
    world.run(6.0, 0.8, 60)
    last = world.decisions[-1]
    assert "; at its edge a replica of rented does 8" in last.reason
    assert 0.8 < last.numbers["edge"] < 0.9
    assert gauges.figures(last, PLAN)["edge"] == last.numbers["edge"]
    assert "at its edge" not in world.decisions[0].reason


def test_the_journal_replays_what_was_learnt_bit_for_bit(tmp_path: Path) -> None:
    world, journal = World(2), Journal(tmp_path)
    world.run(6.0, 0.8, 60)
    for tick in world.ticks:
        journal.write(tick)
    found = list(replay(read(tmp_path / "ticks.jsonl")))
    assert len(found) == len(world.ticks)
    for tick, decisions in found:
        assert decisions == tick.decisions


def test_a_journal_from_before_knows_no_edge_and_none_is_learnt() -> None:
    policy = msgspec.json.decode(b'{"plans": []}', type=Policy)
    assert policy.edge_least == 1.0
    world = World(2, Policy((PLAN,)))
    assert world.run(6.0, 0.7, 60) == 1.0
    assert "edge" not in world.decisions[-1].reason


def test_a_prompt_that_comes_during_a_step_waits_for_the_next_one() -> None:
    one = PROFILES["qwen3-32b-fp8-h100"]
    engine, first, late = Engine(one, 0.0), Sequence(1, 0, 4), Sequence(2, 1000, 1)
    engine.add(first, 0.0)
    alone_s = step_s(one, 1, 4, 0)
    engine.add(late, 1.5 * alone_s)
    engine.ended(engine.next_s())
    assert first.first_s == pytest.approx(alone_s)
    assert late.first_s == pytest.approx(3 * alone_s + 0.073, rel=0.05), "its step is the third"


def setup(kv_tokens: int) -> Setup:
    one = msgspec.structs.replace(
        PROFILES["qwen3-32b-fp8-h100"], max_num_seqs=32, kv_tokens=kv_tokens
    )
    return Setup(one, 32, work=of_profile(PROFILES["qwen3-32b-fp8-h100"], 32))


def test_replicas_whose_memory_fills_first_are_measured_at_less_than_the_model_says() -> None:
    rows = [(0.2 * k, 3000, 200) for k in range(1500)]
    assert request_edge.share(rows, setup(130_000)) == pytest.approx(1.0, abs=0.06)
    assert request_edge.share(rows, setup(30_000)) < 0.8
    assert request_edge.share(rows[:3], setup(130_000)) == 1.0, "too short to tell"


def test_the_optimum_with_replicas_that_do_less_rents_more_of_them_or_none() -> None:
    none, some = np.zeros(360), np.full(360, 1.6 / 0.001 * 10)
    bench = Bench(Trace("t", 0.0, none, some), Work(0.0, 0.001), Scenario(3.0, 0.0))
    whole, count = request_edge.best(bench, Edge())
    assert whole == oracle.optimum(bench.demand, bench.ratios, 0.0)
    assert count == 2
    less, count = request_edge.best(bench, Edge(0.8))
    assert (less.cost, count) == (pytest.approx(2 * 360), 2)
    out, count = request_edge.best(bench, Edge(0.3))
    assert (out.cost, count) == (pytest.approx(1.6 * 3 * 360), 0)


def test_work_that_no_idle_engine_begins_in_time_is_the_apis_in_the_optimum_too() -> None:
    none, some = np.zeros(360), np.full(360, 1.6 / 0.001 * 10)
    bench = Bench(Trace("t", 0.0, none, some), Work(0.0, 0.001), Scenario(3.0, 0.0))
    least, count = request_edge.best(bench, Edge(1.0, (0.6,) * 360))
    assert (least.cost, count) == (pytest.approx((1 + 0.6 * 3) * 360), 1)
    rows = [(30.0 * k, 90_000 if k % 4 == 0 else 900, 100) for k in range(40)]
    count = int(rows[-1][0] // BIN_S) + 1
    bench = Bench(
        Trace("t", 0.0, np.zeros(count), np.zeros(count)), setup(130_000).work, Scenario()
    )
    beyond = request_edge.found(bench, rows, setup(130_000)).beyond
    assert sum(beyond) * BIN_S == pytest.approx(10 * bench.work.of(90_000, 100), rel=0.05)


def test_a_call_that_no_idle_engine_begins_in_time_asks_for_none() -> None:
    tally = Tally()
    calls.left(tally, Row(0.0, 90_000, 100), False)
    calls.refused(tally, Row(0.0, 90_000, 100), True, False)
    assert calls.demand_of(tally, 0, [], is_shut=False) == Demand()
    calls.left(tally, Row(0.0, 900, 100), True)
    calls.refused(tally, Row(0.0, 800, 90), True, True)
    asked = calls.demand_of(tally, 0, [], is_shut=False)
    assert (asked.burst_total, asked.burst_prompt_total, asked.burst_output_total) == (1, 900, 100)
    assert (asked.shed_total, asked.shed_prompt_total, asked.bound_total) == (1, 800, 1)
