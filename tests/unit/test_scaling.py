"""Renting against overflowing: what pools, prices, schedules, budgets and lost data lead to."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest

from autoscale import windows
from autoscale.limits import bounds
from autoscale.memory import Mark, Memory
from autoscale.policy import Api, Budget, Plan, Policy, Pool, Window
from autoscale.records import Decision, Demand, Hold, Samples, Scale, Signals, Supply
from autoscale.step import step
from autoscale.work import Work

TICK_MS = 10_000
START_MS = 1_767_571_200_000
"""2026-01-05, a Monday, 00:00 UTC."""
HOUR_MICRO = 3_600_000
"""A micro-unit for a millisecond: 1000 a second."""
WORK = Work(prompt_token_s=0.0, output_token_s=0.001)
API = Api(0, 3_000_000)
"""3 micro-units a token, 1000 tokens a second of work: three times the replica."""
RENTED = Pool("rented", hour_micro=HOUR_MICRO, ready_s=100.0, most=8)
PLAN = Plan("m", 16, (RENTED,), API, WORK)


class World:
    """A fleet that does as it is told at once, and a gateway in front of it."""

    def __init__(self, policy: Policy, ready: Mapping[str, int] | None = None) -> None:
        self.policy = policy
        self.memory = Memory()
        self.ready = dict(ready or {})
        self.at_ms = START_MS
        self.output = 0.0
        self.decisions: list[Decision] = []
        self.obeys = True

    def tick(
        self,
        rate: float,
        *,
        missing: tuple[str, ...] = (),
        short: tuple[str, ...] = (),
        is_shut: bool = False,
        **more: int,
    ) -> Decision:
        """One tick of `rate` replicas' demand."""
        self.at_ms += TICK_MS
        self.output += rate * TICK_MS
        total = {"served_output_total": round(self.output), **more}
        report = Signals("g", 1, self.at_ms, {"m": Demand(**total, is_shut=is_shut)})
        supply = Supply(sum(self.ready.values()), pools=dict(self.ready))
        samples = Samples(self.at_ms, (report,), missing, {"m": supply}, short=short)
        outcome = step(samples, self.memory, self.policy)
        self.memory = outcome.memory
        (decision,) = outcome.decisions
        if isinstance(decision, Scale) and self.obeys:
            self.ready = dict(decision.pools)
        self.decisions.append(decision)
        return decision

    def run(self, rate: float, ticks: int) -> int:
        """Many ticks; replicas at their end."""
        for _ in range(ticks):
            self.tick(rate)
        return sum(self.ready.values())


def world(plan: Plan = PLAN, **policy: object) -> World:
    return World(msgspec.structs.replace(Policy((plan,)), **policy))


def test_steady_demand_is_rented_and_given_back_when_it_ends() -> None:
    fleet = world()
    assert fleet.run(1.9, 60) == 2
    assert fleet.run(0.0, 60) == 0


def test_demand_below_the_break_even_goes_to_the_api() -> None:
    assert world().run(0.3, 400) == 0
    assert world().run(0.5, 400) == 1


def test_a_brief_burst_rents_nothing() -> None:
    fleet = world(trust=0.0)
    assert fleet.run(3.0, 4) == 0


def test_an_api_cheaper_than_the_replica_leaves_zero_gpus() -> None:
    cheap = msgspec.structs.replace(PLAN, api=Api(0, 900_000))
    assert world(cheap).run(4.0, 400) == 0


def test_an_expensive_api_rents_sooner() -> None:
    dear = msgspec.structs.replace(PLAN, api=Api(0, 30_000_000))
    first = [next(i for i, d in enumerate(w.decisions) if isinstance(d, Scale))
             for w in (world(trust=0.0), world(dear, trust=0.0)) if w.run(1.0, 40)]  # fmt: skip
    assert first[1] < first[0]


def test_calls_that_wait_and_no_api_takes_rent_at_once() -> None:
    fleet = world(msgspec.structs.replace(PLAN, api=None))
    decision = fleet.tick(0.0, queued=5, queued_tokens=9000)
    assert isinstance(decision, Scale)
    assert decision.replicas >= 1
    assert "wait" in decision.reason
    assert decision.numbers["queued"] == 5


def test_a_stray_refusal_beside_a_willing_api_rents_nothing() -> None:
    fleet = world(trust=0.0)
    for number in range(1, 40):
        fleet.tick(0.0, burst_total=9 * number, burst_output_total=3000 * number,
                   shed_total=number, shed_output_total=100 * number)  # fmt: skip
    assert fleet.ready == {}


def test_a_held_call_that_the_api_may_not_take_wakes_a_replica() -> None:
    fleet = world()
    decision = fleet.tick(0.0, queued=1, queued_tokens=400)
    assert isinstance(decision, Scale)
    assert (decision.replicas, decision.pools) == (1, {"rented": 1})
    assert "held" in decision.reason


def beside_an_api(fleet: World, ticks: int, *refused: int) -> list[int]:
    """Replicas wanted, tick by tick, beside much that the API takes; `refused`: ticks in which one
    small call that may not leave was refused."""
    found, before = [], 0
    for number in range(1, ticks + 1):
        before += number in refused
        fleet.tick(
            0.0, burst_total=90 * number, burst_output_total=1000 * number, shed_total=before,
            shed_output_total=50 * before, bound_total=before,
        )  # fmt: skip
        found.append(sum(fleet.memory.models["m"].wanted.values()))
    return found


def test_a_refused_call_that_may_not_leave_starts_a_replica_and_waits_for_it() -> None:
    fleet = world(trust=0.0)
    fleet.obeys = False
    wanted = beside_an_api(fleet, 20, 5)
    assert wanted[3:20] == [0] + [1] * 16, "for longer than it takes to come"
    fleet.ready, fleet.obeys = {"rented": 1}, True
    assert fleet.run(0.0, 40) == 0, "and it is given back when nobody needs it"
    refusal = next(d for d in fleet.decisions if d.numbers["bound"])
    assert "may not leave" in refusal.reason


def test_a_replica_started_for_a_refused_call_that_never_comes_is_given_up() -> None:
    fleet = world(trust=0.0)
    fleet.obeys = False
    wanted = beside_an_api(fleet, 80, 5)
    assert 30 < sum(wanted) < 50, "three times its time to ready, and a start's worth"
    assert wanted[-1] == 0


def test_a_replica_is_kept_from_one_refused_call_to_the_next_but_not_from_day_to_day() -> None:
    fleet, refused = world(trust=0.0), (5, 45)
    wanted = beside_an_api(fleet, 200, *refused)
    assert wanted[38] == 0, "a start's worth was too short"
    assert all(wanted[44:130]), "so the next one stays for twice as long as lay between"
    assert not wanted[-1]
    rare = beside_an_api(world(trust=0.0), 440, 5, 205, 430)
    assert sum(rare) < 80


def test_calls_that_may_not_leave_get_one_replica_more_at_a_time() -> None:
    fleet = World(Policy((PLAN,), trust=0.0), {"rented": 2})
    fleet.run(1.9, 20)
    fleet.obeys = False
    refused = [number for number in range(3, 20) if number % 2]
    for number in range(1, 20):
        fleet.tick(1.9, shed_total=number, bound_total=sum(r <= number for r in refused))
        assert sum(fleet.memory.models["m"].wanted.values()) == (3 if number >= 3 else 2)


def test_a_replica_is_waited_for_while_every_pool_says_that_it_has_none() -> None:
    dear = Pool("dear", hour_micro=2 * HOUR_MICRO, most=2)
    fleet = world(msgspec.structs.replace(PLAN, pools=(RENTED, dear)), trust=0.0)
    fleet.obeys = False
    fleet.tick(0.0)
    fleet.tick(0.0, shed_total=1, shed_output_total=50, bound_total=1)
    assert fleet.memory.models["m"].woken.count == 1
    for _ in range(3):
        fleet.tick(0.0, shed_total=1, shed_output_total=50, bound_total=1,
                   short=("m/rented", "m/dear"))  # fmt: skip
        assert fleet.memory.models["m"].wanted == {}
    fleet.tick(0.0, shed_total=1, bound_total=1)
    assert fleet.memory.models["m"].wanted == {"rented": 1}


def test_a_replica_woken_by_held_calls_is_kept_for_a_starts_worth_and_no_longer() -> None:
    fleet = world()
    fleet.obeys = False
    for _ in range(30):  # as long as it boots, the call waits
        fleet.tick(0.0, queued=1, queued_tokens=400)
    assert fleet.memory.models["m"].wanted == {"rented": 1}
    fleet.ready, fleet.obeys = {"rented": 1}, True
    kept = 0
    while fleet.ready:
        fleet.tick(0.0)
        kept += 1
    assert 3 <= kept <= 20
    assert fleet.run(0.0, 20) == 0


def test_work_that_had_to_stay_and_was_late_rents_the_next_replica() -> None:
    late = {}
    for share in (0, 1):
        fleet = world()
        fleet.run(0.9, 60)
        for number in range(1, 90):
            tokens = number * share * 1500
            fleet.tick(0.9, late_total=number * share, late_output_total=tokens)
        late[share] = sum(fleet.ready.values())
        assert fleet.run(0.9, 400) == 1, "and is given back when answers are in time again"
    assert late == {0: 1, 1: 2}


def once(report: Signals) -> windows.Fresh:
    """Ten seconds of one gateway."""
    return windows.Fresh((report,), 0, 10.0, windows.marked((report,)))


def test_late_work_is_not_paid_for_twice() -> None:
    now = Demand(served_output_total=5000, late_total=2, late_output_total=1000)
    seen = once(Signals("g", 1, 1, {"m": now}))
    flow = windows.flow(PLAN, seen, {("g", 1): Mark("g", 1, {"m": windows.NO_TOTALS})})
    assert (flow.rate, flow.late_rate, flow.need) == pytest.approx((0.5, 0.1, 0.6))
    assert flow.micro_per_s == pytest.approx(5000 * 3 / 10)


def test_a_mark_of_an_older_release_says_nothing_of_new_totals() -> None:
    now = Demand(shed_total=1, late_total=5, late_output_total=1000)
    seen = once(Signals("g", 1, 1, {"m": now}))
    flow = windows.flow(PLAN, seen, {("g", 1): Mark("g", 1, {"m": (0,) * 8})})
    assert (flow.shed, flow.late, flow.late_rate) == (1, 0, 0.0)


def test_held_calls_rent_no_more_than_the_bounds_allow() -> None:
    shut = Window(most=0)
    fleet = world(msgspec.structs.replace(PLAN, windows=(shut,)))
    fleet.tick(0.0, queued=1, queued_tokens=400)
    assert fleet.ready == {}


def test_without_data_nothing_changes_and_memory_stays() -> None:
    fleet = world()
    fleet.run(2.0, 60)
    outcome = step(Samples(fleet.at_ms + TICK_MS), fleet.memory, fleet.policy)
    assert isinstance(outcome.decisions[0], Hold)
    assert outcome.memory == fleet.memory


def test_partial_data_never_takes_a_replica_away() -> None:
    fleet = world()
    fleet.run(2.0, 60)
    for _ in range(200):
        fleet.tick(0.0, missing=("g/1: away",))
    assert sum(fleet.ready.values()) == 2
    assert fleet.run(0.0, 60) == 0


@pytest.mark.parametrize("jump_ms", [-3_600_000, 0, 86_400_000], ids=["back", "stands", "ahead"])
def test_a_clock_that_jumps_takes_nothing_away(jump_ms: int) -> None:
    fleet = world()
    fleet.run(2.0, 60)
    fleet.at_ms += jump_ms - TICK_MS
    fleet.tick(0.0)
    assert sum(fleet.ready.values()) == 2


def test_a_replica_that_loads_is_not_asked_for_twice() -> None:
    fleet = world()
    fleet.obeys = False
    fleet.run(1.0, 30)
    wishes = {d.replicas for d in fleet.decisions if isinstance(d, Scale)}
    assert wishes == {1}


def test_an_order_whose_need_has_gone_is_taken_back_and_not_only_forgotten() -> None:
    fleet = world(msgspec.structs.replace(PLAN, api=None))
    assert fleet.run(0.9, 60) == 1
    fleet.obeys = False  # the next one boots for ever
    asked = next(d for d in (fleet.tick(2.9) for _ in range(100)) if isinstance(d, Scale))
    assert asked.replicas > 1
    last = next(d for d in (fleet.tick(0.9) for _ in range(400)) if isinstance(d, Hold))
    told = [d.replicas for d in fleet.decisions if isinstance(d, Scale)]
    assert last.reason.startswith("1 wanted and ready")
    assert told[-1] == 1, "somebody who still waits for the order must hear of it"


def test_the_time_to_ready_is_learnt() -> None:
    fleet = world()
    fleet.obeys = False
    fleet.run(1.0, 30)
    asked = next(i for i, d in enumerate(fleet.decisions) if isinstance(d, Scale))
    fleet.ready = {"rented": 1}
    fleet.tick(1.0)
    took_s = (30 - asked) * TICK_MS / 1e3
    assert fleet.memory.models["m"].ready_s["rented"] == pytest.approx(100 + 0.3 * (took_s - 100))


SPOT = Pool("spot", "spot", hour_micro=HOUR_MICRO // 3, ready_s=100.0, most=8)
MIXED = msgspec.structs.replace(PLAN, pools=(RENTED, SPOT), on_demand_floor=1)


def test_spot_stands_on_an_on_demand_floor_and_is_backfilled() -> None:
    fleet = world(MIXED)
    assert fleet.run(2.9, 100) == 3
    assert fleet.ready == {"rented": 1, "spot": 2}
    fleet.ready = {"rented": 1, "spot": 0}
    fleet.tick(2.9)
    assert fleet.ready == {"rented": 3}
    fleet.run(2.9, 100)
    assert fleet.ready == {"rented": 1, "spot": 2}


def test_a_pool_whose_provider_has_nothing_to_give_is_passed_over() -> None:
    fleet = world(MIXED)
    for _ in range(100):
        fleet.tick(2.9, short=("m/spot",))
    assert fleet.ready == {"rented": 3}
    fleet.run(2.9, 100)
    assert fleet.ready == {"rented": 1, "spot": 2}


def test_a_single_pool_is_asked_though_its_provider_has_nothing_to_give() -> None:
    fleet = world()
    for _ in range(100):
        fleet.tick(2.9, short=("m/rented",))
    assert fleet.ready == {"rented": 3}


@pytest.mark.parametrize(("share", "count"), [(0.0, 1), (0.05, 2)])
def test_insurance_keeps_a_replica_that_the_api_would_be_cheaper_than(
    share: float, count: int
) -> None:
    plan = msgspec.structs.replace(PLAN, insurance=share)
    # A quarter of a second replica's work at three times the price pays for three quarters of it.
    assert world(plan, trust=0.0).run(1.28, 400) == count


def test_reserved_machines_are_used_first_and_never_given_back() -> None:
    sunk = Pool("month", "reserved", hour_micro=HOUR_MICRO, ready_s=100.0, most=2)
    fleet = world(msgspec.structs.replace(PLAN, pools=(RENTED, sunk)))
    assert fleet.run(0.0, 100) == 2
    assert fleet.run(2.9, 100) == 3
    assert fleet.ready == {"month": 2, "rented": 1}


def test_a_started_hour_is_used_up() -> None:
    hourly = msgspec.structs.replace(RENTED, is_hourly=True)
    fleet = world(msgspec.structs.replace(PLAN, pools=(hourly,)))
    assert fleet.run(1.0, 60) == 1
    ordered_ms = fleet.memory.models["m"].rented_ms["rented"][0]
    while fleet.ready:
        fleet.tick(0.0)
    assert 3_420_000 <= fleet.at_ms - ordered_ms <= 3_600_000


def test_a_jurisdiction_that_is_not_allowed_is_not_rented() -> None:
    abroad = msgspec.structs.replace(RENTED, jurisdiction="us")
    plan = msgspec.structs.replace(PLAN, pools=(abroad,), jurisdictions=("de",))
    assert world(plan).run(3.0, 100) == 0


def test_a_tenants_own_pool_is_held_at_its_least() -> None:
    own = Pool("own", hour_micro=1, least=1, most=4, tenant="acme")
    fleet = world(msgspec.structs.replace(PLAN, pools=(RENTED, own)))
    fleet.run(1.9, 100)
    assert fleet.ready == {"own": 1, "rented": 2}


def test_a_schedule_bounds_the_count() -> None:
    night = Window((0,), 22 * 60, 6 * 60, least=2, most=3)
    plan = msgspec.structs.replace(PLAN, windows=(night,))
    day_ms = 86_400_000
    assert bounds(plan, START_MS + 23 * 3_600_000) == (2, 3)
    assert bounds(plan, START_MS + day_ms + 5 * 3_600_000) == (2, 3)
    assert bounds(plan, START_MS + day_ms + 6 * 3_600_000) == (0, 8)
    assert bounds(plan, START_MS + 5 * 3_600_000) == (0, 8)


def test_one_tick_moves_no_further_than_its_step() -> None:
    plan = msgspec.structs.replace(PLAN, api=None, up_max=2)
    decision = world(plan).tick(0.0, queued=500, queued_tokens=900_000)
    assert isinstance(decision, Scale)
    assert decision.replicas == 2


def test_a_queue_is_worked_off_in_the_time_that_a_replica_takes_to_come() -> None:
    plan = msgspec.structs.replace(PLAN, api=None)
    fleet = World(Policy((plan,)), {"rented": 1})
    fleet.tick(0.5)
    fleet.obeys = False
    asked_ = [fleet.tick(0.5, queued=50, queued_tokens=tokens) for tokens in (90_000, 280_000)]
    # 45 and 140 seconds of one replica's work; it takes 100 s to come.
    assert [one.replicas if isinstance(one, Scale) else 1 for one in asked_] == [1, 2]


@pytest.mark.parametrize(
    ("budget", "count"),
    [
        (Budget(hour_micro_max=2 * HOUR_MICRO), 2),
        (Budget(replicas_max=1), 1),
        (Budget(day_micro_max=0), 0),
    ],
    ids=["hour", "replicas", "day"],
)
def test_the_budget_bounds_what_is_rented(budget: Budget, count: int) -> None:
    fleet = world(budget=budget)
    assert fleet.run(3.9, 100) == count


def test_a_days_money_is_never_passed() -> None:
    fleet = world(budget=Budget(day_micro_max=3 * HOUR_MICRO))
    spent = 0.0
    for _ in range(24 * 360 - 1):
        spent += sum(fleet.ready.values()) * HOUR_MICRO * TICK_MS / 3.6e6
        fleet.tick(2.0)
    assert 2 * HOUR_MICRO < spent <= 3 * HOUR_MICRO


def test_models_that_share_a_budget_give_up_what_saves_least() -> None:
    plans = (PLAN, msgspec.structs.replace(PLAN, model="n", api=Api(0, 9_000_000)))
    policy, memory = Policy(plans, Budget(replicas_max=1)), Memory()
    for number in range(1, 100):
        at_ms = START_MS + number * TICK_MS
        report = Demand(burst_total=number, burst_output_total=number * TICK_MS)
        signals = Signals("g", 1, at_ms, {"m": report, "n": report})
        samples = Samples(at_ms, (signals,), (), {"m": Supply(0), "n": Supply(0)})
        outcome = step(samples, memory, policy)
        memory = outcome.memory
    assert memory.models["m"].wanted == {}
    assert memory.models["n"].wanted == {"rented": 1}


def test_every_scale_carries_its_numbers() -> None:
    fleet = world()
    fleet.run(1.9, 60)
    scale = next(d for d in fleet.decisions if isinstance(d, Scale))
    assert scale.numbers["rate"] == pytest.approx(1.9, abs=0.01)
    assert scale.numbers["api_micro_per_s"] == pytest.approx(3000)
    assert sum(scale.pools.values()) == scale.replicas


def test_an_api_that_every_breaker_shuts_is_absent_before_a_call_is_lost() -> None:
    calm, shut = world(), world()
    for fleet in (calm, shut):
        for turn in range(60):
            fleet.tick(0.6 + 0.8 * (turn % 2))
    assert sum(calm.ready.values()) == sum(shut.ready.values()) == 1
    for turn in range(6):
        calm.tick(0.6 + 0.8 * (turn % 2))
        shut.tick(0.6 + 0.8 * (turn % 2), is_shut=True)
    assert sum(calm.ready.values()) == 1
    assert sum(shut.ready.values()) == 2
    assert shut.memory.models["m"].refused == 0.0, "nothing was refused, so nothing is learnt"


def test_an_api_that_took_a_call_since_the_last_tick_is_not_absent() -> None:
    fleet = world()
    for turn in range(66):
        burst = max(0, turn - 59)
        fleet.tick(0.6 + 0.8 * (turn % 2), is_shut=turn > 59, burst_total=burst,
                   burst_output_total=burst)  # fmt: skip
    assert sum(fleet.ready.values()) == 1


def away(plan: Plan = PLAN) -> World:
    """One replica stands and the API has just gone; orders take their time."""
    fleet = world(plan)
    fleet.run(0.95, 60)
    assert sum(fleet.ready.values()) == 1
    fleet.obeys = False
    return fleet


def wished(fleet: World, rate: float, refused: int, shed: float = 0.0) -> int:
    """Replicas wanted after a tick of the outage."""
    shed_total = round(shed * TICK_MS)
    fleet.tick(rate, is_shut=True, shed_total=refused, shed_output_total=shed_total)
    return sum(fleet.memory.models["m"].wanted.values())


def test_what_was_ordered_for_refused_calls_is_waited_for_when_a_tick_refuses_none() -> None:
    fleet = away()
    assert wished(fleet, 0.98, 1, 0.12) == 2
    assert [wished(fleet, 0.6, 1, 0.12) for _ in range(5)] == [2] * 5
    assert [wished(fleet, 0.6, 1, 0.12) for _ in range(30)][-1] == 1, "but not for ever"


def test_without_an_api_more_machines_are_ordered_than_needed_until_enough_are_ready() -> None:
    fleet = away()
    assert wished(fleet, 1.0, 5, 0.5) == 4, "the one that is missing, and two to have it sooner"
    assert "sooner" in fleet.decisions[-1].reason
    assert wished(fleet, 1.0, 10, 0.6) == 4, "a quieter tick takes none of them back"
    fleet.ready = {"rented": 2}
    assert wished(fleet, 1.5, 10, 0.6) == 2
    calm = away()
    calm.tick(1.0, shed_total=5, shed_output_total=5000)
    assert sum(calm.memory.models["m"].wanted.values()) == 1, "the API is there"


def test_a_spare_is_not_worth_little_work_nor_a_started_hour() -> None:
    fleet = away()
    assert wished(fleet, 1.0, 1, 0.15) == 2
    hourly = msgspec.structs.replace(RENTED, is_hourly=True)
    fleet = away(msgspec.structs.replace(PLAN, pools=(hourly,)))
    assert wished(fleet, 1.0, 5, 0.5) == 2


def test_spares_stay_within_the_bounds_and_the_budget() -> None:
    few = msgspec.structs.replace(RENTED, most=3)
    assert wished(away(msgspec.structs.replace(PLAN, pools=(few,))), 1.0, 5, 0.5) == 3
    fleet = world(PLAN, budget=Budget(replicas_max=2))
    fleet.run(0.95, 60)
    fleet.obeys = False
    assert wished(fleet, 1.0, 5, 0.5) == 2
