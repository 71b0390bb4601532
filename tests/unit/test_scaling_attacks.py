"""Whatever is fed to `step`: it never fails, never passes its bounds, and bad data take nothing
away. Random worlds from seeds, and each fault that such worlds have shown."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscale.journal import Journal, read, replay
from autoscale.limits import bounds
from autoscale.memory import Memory, ModelMemory
from autoscale.policy import Api, Budget, Plan, Policy, Pool, Window
from autoscale.records import Decision, Demand, Hold, Samples, Scale, Signals, Supply, Tick
from autoscale.step import step
from autoscale.swaps import EVERYTHING, Room, bridged, stayed
from autoscale.work import Work
from tests.unit.test_scaling import (
    API,
    HOUR_MICRO,
    MIXED,
    PLAN,
    RENTED,
    TICK_MS,
    World,
    world,
)

TOTALS = (
    "shed_total", "burst_total", "served_prompt_total", "served_output_total",
    "shed_prompt_total", "shed_output_total", "burst_prompt_total", "burst_output_total",
    "late_total", "late_prompt_total", "late_output_total", "bound_total",
)  # fmt: skip
HOURLY = msgspec.structs.replace(RENTED, is_hourly=True)
HUGE = (0, 1, -1, 10**6, 10**12, 2**62, -(2**62))
JUMPS_MS = (*[TICK_MS] * 12, 0, -3_600_000, 86_400_000, -86_400_000, 365 * 86_400_000)


class Chaos:
    """Settings and samples as no sane deployment has them, from one seed."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self.policy = self._policy()
        self.at_ms = 1_767_571_200_000 + self._draw.randrange(7 * 86_400_000)
        self._totals: dict[tuple[str, str], list[int]] = {}

    def _policy(self) -> Policy:
        draw = self._draw
        budgets = (Budget(), Budget(), Budget(draw.choice((0, 10**7))), Budget(None, 10**8),
                   Budget(None, None, draw.choice((0, 3))))  # fmt: skip
        plans = tuple(self._plan(name) for name in "ab"[: draw.randint(1, 2)])
        return Policy(plans, draw.choice(budgets), draw.choice((0.0, 0.5, 0.99)),
                      draw.choice((1.0, 0.5, 0.01)))  # fmt: skip

    def _plan(self, name: str) -> Plan:
        draw = self._draw
        windows = tuple(
            Window(tuple(draw.sample(range(7), draw.randint(0, 7))), draw.randrange(1440),
                   draw.randrange(1441), draw.randint(0, 10), draw.choice((None, 0, 5)))
            for _ in range(draw.choice((0, 0, 2)))
        )  # fmt: skip
        return Plan(
            name, draw.choice((1, 64)), tuple(map(self._pool, range(draw.randint(0, 3)))),
            draw.choice((None, Api(0, 0), API, Api(10**12, 10**12))),
            draw.choice((Work(), Work(0.0, 0.001))), draw.choice(((), ("cn",))), windows,
            on_demand_floor=draw.choice((0, 0, 5)), insurance=draw.choice((0.0, 1.0)),
            up_max=draw.choice((1, 8)), down_max=draw.choice((1, 4)),
        )  # fmt: skip

    def _pool(self, number: int) -> Pool:
        draw = self._draw
        most = draw.choice((0, 1, 8, 40))
        least = draw.choice((0, 0, draw.randint(0, most)))
        return Pool(
            f"p{number}", draw.choice(("on_demand", "spot", "reserved")), "", "",
            draw.choice(("cn", "us")), draw.choice((0, 1, 3_600_000, 10**12)),
            draw.random() < 0.2, draw.choice((1.0, 0.01, 64.0)), draw.choice((1.0, 60.0, 3600.0)),
            least, most, draw.choice(("", "", "", "tenant")),
        )  # fmt: skip

    def samples(self, wanted: Mapping[str, Mapping[str, int]]) -> Samples:
        """What is seen next, where so many were wanted of each pool."""
        draw = self._draw
        self.at_ms = max(1, self.at_ms + draw.choice(JUMPS_MS))
        names = [g for g in ("x", "y") if draw.random() > 0.05]
        gateways = tuple(self._report(name) for name in names)
        supply = {}
        for plan in self.policy.plans:
            pools = {n: max(0, c - draw.choice((0, 0, 1))) for n, c in wanted[plan.model].items()}
            told = draw.choice((sum(pools.values()),) * 9 + (-3,))
            supply[plan.model] = Supply(told, pools=draw.choice((None, pools)))
        missing = tuple(name for name in ("x", "y") if name not in names)
        return Samples(self.at_ms, gateways, missing, draw.choice((supply,) * 9 + (None,)))

    def _report(self, gateway: str) -> Signals:
        draw = self._draw
        models = {}
        for plan in self.policy.plans:
            sums = self._totals.setdefault((gateway, plan.model), [0] * len(TOTALS))
            for place in range(len(sums)):
                sums[place] += draw.choice((0, 0, 0, 7, 5000, draw.choice(HUGE)))
            models[plan.model] = Demand(
                running=draw.choice(HUGE), queued=draw.choice((0, 0, *HUGE)),
                queued_tokens=draw.choice(HUGE), oldest_wait_s=draw.choice((0.0, -1.0, 1e300)),
                is_shut=draw.random() < 0.1, **dict(zip(TOTALS, sums, strict=True)),
            )  # fmt: skip
        at_ms = self.at_ms - draw.choice((0, 0, 0, 0, 60_000, -60_000))
        return Signals(gateway, draw.choice((1, 1, 1, 2)), at_ms, models)


def check(plan: Plan, decision: Decision, before: Mapping[str, int], *, is_rich: bool) -> None:
    """What holds of any decision on any data. `is_rich`: there is no budget, which bounds all."""
    assert decision.reason
    assert all(math.isfinite(v) and v >= 0 for v in decision.numbers.values()), decision
    if not isinstance(decision, Scale) or not plan.pools:
        return
    assert decision.replicas == sum(decision.pools.values())
    for pool in plan.pools:
        count = decision.pools.get(pool.name, 0)
        assert 0 <= count <= pool.most
        assert not pool.tenant or count == pool.least
    if is_rich and "partial" in decision.reason:
        assert all(decision.pools.get(name, 0) >= count for name, count in before.items())


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_no_data_and_no_settings_make_it_fail_or_pass_its_bounds(seed: int) -> None:
    chaos, memory = Chaos(seed), Memory()
    wanted: dict[str, Mapping[str, int]] = {plan.model: {} for plan in chaos.policy.plans}
    for _ in range(30):
        samples = chaos.samples(wanted)
        outcome = step(samples, memory, chaos.policy)
        assert outcome == step(samples, memory, chaos.policy)
        memory = outcome.memory
        assert msgspec.json.decode(msgspec.json.encode(memory), type=Memory) == memory
        for plan, decision in zip(chaos.policy.plans, outcome.decisions, strict=True):
            is_rich = chaos.policy.budget == Budget()
            check(plan, decision, wanted[plan.model], is_rich=is_rich)
            if isinstance(decision, Scale):
                wanted[plan.model] = decision.pools


@pytest.mark.parametrize("seed", range(6))
def test_the_journal_of_any_course_replays_bit_for_bit(tmp_path: Path, seed: int) -> None:
    chaos, memory, journal = Chaos(seed), Memory(), Journal(tmp_path)
    wanted: dict[str, Mapping[str, int]] = {plan.model: {} for plan in chaos.policy.plans}
    for _ in range(50):
        samples = chaos.samples(wanted)
        outcome = step(samples, memory, chaos.policy)
        journal.write(Tick(samples, chaos.policy, memory, outcome.decisions))
        memory = outcome.memory
        pools = {d.model: d.pools for d in outcome.decisions if isinstance(d, Scale)}
        wanted |= pools
    replayed = list(replay(read(tmp_path / "ticks.jsonl")))
    assert len(replayed) == 50
    for tick, decisions in replayed:
        written = msgspec.json.encode(decisions, enc_hook=str)
        assert msgspec.json.decode(written, type=tuple[Decision, ...]) == tick.decisions


@pytest.mark.parametrize("least", [1, 5])
def test_a_tenants_own_machines_bring_no_others_along(least: int) -> None:
    own = Pool("own", hour_micro=1, least=least, most=6, tenant="acme")
    plan = msgspec.structs.replace(PLAN, pools=(RENTED, own), down_max=1)
    assert bounds(plan, 0) == (0, 8)
    fleet = world(plan)
    fleet.run(0.0, 60)
    assert fleet.ready == {"own": least}


def test_what_a_tenant_pays_is_no_part_of_our_day() -> None:
    own = Pool("own", hour_micro=10**12, least=1, most=1, tenant="acme")
    plan = msgspec.structs.replace(PLAN, pools=(RENTED, own))
    fleet = world(plan, budget=Budget(day_micro_max=10 * HOUR_MICRO))
    fleet.run(0.9, 100)
    assert fleet.ready == {"own": 1, "rented": 1}


def test_each_pool_keeps_its_least_though_another_is_cheaper() -> None:
    cheap = Pool("spot", "spot", hour_micro=HOUR_MICRO // 3, ready_s=100.0, most=8)
    kept = msgspec.structs.replace(RENTED, least=2)
    fleet = world(msgspec.structs.replace(PLAN, pools=(cheap, kept)))
    fleet.run(0.0, 60)
    assert fleet.ready == {"rented": 2}
    fleet.run(3.9, 100)
    assert fleet.ready == {"rented": 2, "spot": 2}


def test_paid_machines_come_before_the_on_demand_floor_wherever_they_stand() -> None:
    month = Pool("month", "reserved", hour_micro=HOUR_MICRO, ready_s=100.0, most=1)
    plan = msgspec.structs.replace(PLAN, pools=(RENTED, month), on_demand_floor=1)
    fleet = world(plan)
    fleet.run(0.0, 60)
    assert fleet.ready == {"month": 1}


@pytest.mark.parametrize("api", [API, None], ids=["api", "no api"])
def test_a_free_replica_runs_while_there_is_work_and_no_longer(api: Api | None) -> None:
    free = msgspec.structs.replace(RENTED, hour_micro=0)
    fleet = world(msgspec.structs.replace(PLAN, pools=(free,), api=api))
    fleet.ready = {"rented": 3}
    assert fleet.run(2.9, 100) == 3
    assert fleet.run(0.0, 200) == 0


def test_a_free_pool_is_used_before_one_that_costs() -> None:
    free = msgspec.structs.replace(RENTED, name="free", hour_micro=0, most=2)
    fleet = world(msgspec.structs.replace(PLAN, pools=(RENTED, free)))
    fleet.run(2.9, 100)
    assert fleet.ready == {"free": 2, "rented": 1}


def test_no_replica_goes_before_the_one_in_its_place_is_ready() -> None:
    fleet = world(MIXED)
    fleet.ready = {"rented": 3}
    fleet.tick(2.9, short=("m/spot",))
    fleet.obeys = False
    asked = [fleet.tick(2.9) for _ in range(6)]
    told = [d for d in asked if isinstance(d, Scale)]
    assert told[-1].pools == {"rented": 3, "spot": 2}
    assert "2 of them until others are ready" in told[-1].reason
    fleet.ready = {"rented": 3, "spot": 1}
    assert fleet.tick(2.9).pools == {"rented": 2, "spot": 2}  # type: ignore[union-attr]
    fleet.ready = {"rented": 2, "spot": 2}
    assert fleet.tick(2.9).pools == {"rented": 1, "spot": 2}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("room", "rented"), [(EVERYTHING, 3), (Room(1, 1e12), 2), (Room(9, HOUR_MICRO - 1), 1)]
)
def test_what_waits_for_its_successor_stays_within_the_budget(room: Room, rented: int) -> None:
    model = ModelMemory(wanted={"rented": 3}, ready={"rented": 3})
    found, left = bridged(MIXED, model, {"rented": 1, "spot": 2}, room)
    assert found == {"rented": rented, "spot": 2}
    assert room.replicas - left.replicas == rented - 1 or room == EVERYTHING


def test_partial_data_move_nothing_between_pools() -> None:
    plan = msgspec.structs.replace(PLAN, pools=(Pool("a", hour_micro=2), Pool("b", hour_micro=1)))
    for before, wanted, found in (
        ({"a": 3, "b": 1}, {"b": 5}, {"a": 3, "b": 2}),
        ({"a": 3}, {"b": 3}, {"a": 3}),
        ({}, {"b": 2, "a": 1}, {"a": 1, "b": 2}),
    ):
        assert stayed(plan, before, wanted, EVERYTHING) == (found, EVERYTHING)
    # Of ten an hour, what is wanted takes eight; what stays takes as much already.
    assert stayed(plan, {"a": 3, "b": 2}, {"b": 8}, Room(9.0, 2.0)) == (
        {"a": 3, "b": 4}, Room(10.0, 0.0))  # fmt: skip
    assert stayed(plan, {"a": 9}, {"b": 8}, Room(9.0, 2.0)) is None


def test_partial_data_spend_no_more_than_the_budget_on_what_stays_and_what_is_added() -> None:
    cheap = msgspec.structs.replace(RENTED, name="cheap", hour_micro=HOUR_MICRO // 2)
    plan = msgspec.structs.replace(PLAN, pools=(RENTED, cheap), api=None, windows=(Window(most=8),))
    had = ModelMemory(wanted={"cheap": 4, "rented": 3}, ready={"rented": 3}, spare=3,
                      balances=(0.0,) * 4, is_on=(True,) * 4)  # fmt: skip
    report = Signals("g", 1, 1_010_000, {"m": Demand(queued=500, queued_tokens=9_000_000)})
    samples = Samples(1_010_000, (report,), ("h",), {"m": Supply(3, pools={"rented": 3})})
    bounded = Policy((plan,), Budget(hour_micro_max=5 * HOUR_MICRO))
    (decision,) = step(samples, Memory(1_000_000, (), {"m": had}), bounded).decisions
    assert isinstance(decision, Scale)
    assert decision.pools == {"cheap": 4, "rented": 3}


def test_replicas_are_rented_beside_a_dearer_api_though_a_gateway_never_answered() -> None:
    fleet = world()
    for _ in range(60):
        fleet.tick(4.0, missing=("h",))
    assert fleet.ready == {"rented": 4}


def test_partial_data_add_replicas_beside_those_of_a_tenant() -> None:
    own = Pool("own", hour_micro=1, least=5, most=6, tenant="acme")
    fleet = world(msgspec.structs.replace(PLAN, api=None, pools=(RENTED, own)))
    fleet.run(0.0, 20)
    for tick in range(5):
        fleet.tick(3.0, missing=("h",), shed_total=500 * (tick + 1), queued=50)
    assert fleet.ready["own"] == 5
    assert fleet.ready["rented"] >= 3


def test_partial_data_hold_no_place_for_pools_of_earlier_settings() -> None:
    fleet = world()
    fleet.run(2.0, 60)
    pools = (msgspec.structs.replace(RENTED, name="new"), Pool("dear", hour_micro=10**9))
    fleet.policy = Policy((msgspec.structs.replace(PLAN, pools=pools),))
    fleet.ready = {}
    for _ in range(30):
        fleet.tick(2.0, missing=("h",))
    assert fleet.ready == {"new": 2}


def test_partial_data_end_no_started_hour() -> None:
    fleet = world(msgspec.structs.replace(PLAN, pools=(HOURLY,)))
    fleet.run(1.0, 60)
    assert fleet.run(0.0, 100) == 1
    assert fleet.memory.models["m"].spare == 1
    for _ in range(400):
        fleet.tick(0.0, missing=("h",))
    assert fleet.ready == {"rented": 1}


def test_replicas_found_by_the_hour_go_and_those_ordered_since_use_theirs_up() -> None:
    fleet = World(Policy((msgspec.structs.replace(PLAN, pools=(HOURLY,)),)), {"rented": 2})
    assert fleet.run(4.0, 60) == 4
    assert len(fleet.memory.models["m"].rented_ms["rented"]) == 2
    assert fleet.run(0.0, 60) == 2  # the two whose hours nobody knows have gone
    assert len(fleet.memory.models["m"].rented_ms["rented"]) == 2
    assert fleet.run(0.0, 360) == 0


def _booting(jump_ms: int) -> World:
    """Two spot replicas are ordered, then the clock jumps for a tick, or for good."""
    fleet = world(MIXED)
    fleet.obeys, fleet.ready = False, {"rented": 1}
    for _ in range(4):
        fleet.tick(2.9)
    fleet.at_ms += jump_ms - TICK_MS
    fleet.tick(2.9)
    return fleet


@pytest.mark.parametrize("jump_ms", [86_400_000, -86_400_000, 3_600_000])
def test_a_clock_that_jumps_takes_no_order_for_late_and_closes_no_pool(jump_ms: int) -> None:
    fleet = _booting(jump_ms)
    model = fleet.memory.models["m"]
    assert model.wanted == {"rented": 1, "spot": 2}
    assert model.lost_until_ms == {}
    ages_s = [(fleet.at_ms - order.at_ms) / 1e3 for order in model.orders]
    assert ages_s
    assert all(0 <= age_s <= 60 for age_s in ages_s)


def test_an_order_from_before_a_clock_was_set_back_is_late_all_the_same() -> None:
    fleet = _booting(-86_400_000)
    for _ in range(40):  # three times its time to ready is 300 s
        fleet.tick(2.9)
    assert "spot" in fleet.memory.models["m"].lost_until_ms


@pytest.mark.parametrize("jump_ms", [86_400_000, -86_400_000])
def test_a_clock_that_jumps_for_a_tick_forgets_no_money_of_the_day(jump_ms: int) -> None:
    fleet = world(budget=Budget(day_micro_max=10 * HOUR_MICRO))
    fleet.run(1.9, 200)
    spent = fleet.memory.day_micro
    assert spent > 0
    for by_ms in (jump_ms, -jump_ms):
        fleet.at_ms += by_ms
        fleet.tick(1.9)
    fleet.tick(1.9)
    assert fleet.memory.day_micro >= spent


def test_the_money_of_a_day_begins_anew_with_the_next_and_after_a_clock_was_a_year_ahead() -> None:
    fleet = world(budget=Budget(day_micro_max=10 * HOUR_MICRO))
    fleet.at_ms += 365 * 86_400_000
    fleet.run(1.9, 200)
    spent = fleet.memory.day_micro
    fleet.at_ms -= 365 * 86_400_000
    fleet.run(1.9, 3)
    assert fleet.memory.day_micro >= spent
    fleet.at_ms += 86_400_000
    fleet.run(1.9, 3)
    assert fleet.memory.day_micro < spent / 10


def test_gateways_whose_clocks_differ_are_told_apart_from_gateways_that_are_away() -> None:
    report = Signals("g", 1, 1_000_000, {"m": Demand()})
    off = step(Samples(1_060_000, (report,)), Memory(), Policy((PLAN,))).decisions[0]
    away = step(Samples(1_060_000), Memory(), Policy((PLAN,))).decisions[0]
    assert isinstance(off, Hold)
    assert isinstance(away, Hold)
    assert "10 s" in off.reason
    assert away.reason == "no data: no gateway answered"


def test_spares_of_earlier_settings_are_not_told_of_for_ever() -> None:
    had = ModelMemory(wanted={"p": 3}, ready={"p": 3}, spare=2)
    plan = Plan("m", 8, (Pool("p", hour_micro=HOUR_MICRO, most=8),), API)
    report = Signals("g", 1, 1_010_000, {"m": Demand()})
    samples = Samples(1_010_000, (report,), ("other",), {"m": Supply(3, pools={"p": 3})})
    outcome = step(samples, Memory(1_000_000, (), {"m": had}), Policy((plan,)))
    assert outcome.memory.models["m"].spare == 0
    assert "of them" not in outcome.decisions[0].reason
