"""What `step` decided before it was made faster, it decides today: every count, pool, reason and
number over drawn days. A change of the rule changes these; then write down what this file prints as
`PYTHONPATH=. python tests/unit/test_decisions_kept.py`, and say why in the commit.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import pytest

from autoscale.arrivals import Trace
from autoscale.memory import Memory
from autoscale.policy import Api, Budget, Plan, Policy, Pool, Window
from autoscale.records import Decision, Demand, Samples, Scale, Signals, Supply
from autoscale.simulate import Bench, run_ours
from autoscale.step import step
from autoscale.work import Work
from autoscale.world import Scenario

START_MS = 1_767_571_200_000
WORK = Work(0.00001, 0.001)
API = Api(0, 9_000_000)
MONTH = Pool("month", "reserved", hour_micro=3_600_000, least=1, most=1)
HOUR = Pool("hour", hour_micro=10_800_000, ready_s=90.0, most=6, is_hourly=True)
SPOT = Pool("spot", "spot", hour_micro=5_400_000, ready_s=60.0, most=6, capacity=0.7)
AT_NIGHT = Window(until_minute=240, least=2)
PLANS = {
    "one pool": Plan("a", 8, (HOUR,), API, WORK),
    "three pools": Plan("b", 8, (MONTH, HOUR, SPOT), API, WORK, on_demand_floor=1, insurance=0.2),
    "no API": Plan("c", 8, (SPOT,), None, WORK, up_max=2, down_max=1),
    "by schedule": Plan("d", 8, (HOUR, SPOT), API, WORK, windows=(AT_NIGHT,)),
    "owned": Plan("e", 8, (), API, WORK),
}  # fmt: skip
POLICIES = {
    "each, unbounded": Policy(tuple(PLANS.values()), edge_least=0.5),
    "each, within a budget": Policy(
        tuple(PLANS.values()), Budget(hour_micro_max=50_000_000, replicas_max=9), edge_least=0.5
    ),
    "no forecast": Policy((PLANS["one pool"],), trust=0.0),
    "much trust": Policy((PLANS["three pools"],), trust=0.9, edge_least=0.5),
}
WORLDS = {
    "plain": Scenario(ready_cv=0.4, fail_rate=0.02),
    "dear API": Scenario(ratio=6.0, ready_cv=0.4),
    "away": Scenario(outages=((6000.0, 6600.0),)),
    "new prices, a rate limit, spot": Scenario(
        prices=((4000.0, 1.2), (9000.0, 5.0)), api_most=1.5, taken_per_hour=0.5
    ),
}
KEPT = {
    "each, unbounded": "e7ef7d582844cc8c",
    "each, within a budget": "de0b3aaf0c265649",
    "no forecast": "b846ff25aaf47efe",
    "much trust": "90868f4e4e43f43b",
}
COSTS = {
    "plain": (14072.451030249344, 19),
    "dear API": (14722.602620326097, 21),
    "away": (13756.12659854182, 22),
    "new prices, a rate limit, spot": (13869.471035817705, 39),
}


class Fleet:
    """Replicas that come a while after they were asked for, gateways that report, and faults."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.lots, self.memory = policy, random.Random(1), Memory()
        self.due: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        self.rates = {plan.model: 1.5 for plan in policy.plans}
        self.totals: list[dict[str, dict[str, int]]] = [
            {plan.model: defaultdict(int) for plan in policy.plans} for _ in range(2)
        ]

    def tick(self, tick: int) -> tuple[Decision, ...]:
        at_ms, lots, is_away = START_MS + tick * 10_000, self.lots, 400 <= tick < 460
        supply = {plan.model: self.supply(plan.model, tick) for plan in self.policy.plans}
        for model, there in supply.items():
            self.rates[model] = max(0.0, self.rates[model] + lots.gauss(0.0, 0.12))
            self.work(model, float(there.ready), is_away)
        reports = tuple(
            Signals(f"g{k}", 1, at_ms, {
                model: Demand(queued=lots.choice([0] * 20 + [3]), queued_tokens=500,
                              is_shut=is_away, **one)
                for model, one in mine.items()
            })
            for k, mine in enumerate(self.totals)
        )  # fmt: skip
        missing = ("g0",) if lots.random() < 0.02 else ()
        samples = Samples(at_ms, reports[len(missing) :], missing, supply)
        outcome = step(samples, self.memory, self.policy)
        self.memory = outcome.memory
        for decision in outcome.decisions:
            if isinstance(decision, Scale):
                self.want(decision.model, decision.pools, tick)
        return outcome.decisions

    def supply(self, model: str, tick: int) -> Supply:
        pools = {name: sum(at <= tick for at in due) for name, due in self.due[model].items()}
        return Supply(sum(pools.values()), pools=pools)

    def work(self, model: str, ready: float, is_away: bool) -> None:
        """Ten seconds of it, in tokens, at both gateways."""
        done = min(self.rates[model], 0.9 * ready)
        over, where = self.rates[model] - done, "shed" if is_away else "burst"
        for mine in self.totals:
            mine[model]["served_output_total"] += int(5000 * done)
            mine[model]["served_prompt_total"] += int(2000 * done)
            mine[model][f"{where}_output_total"] += int(5000 * over)
            mine[model][f"{where}_total"] += int(3 * over)
            if self.lots.random() < 0.01:
                for name in ("bound_total", "shed_total", "late_total", "late_output_total"):
                    mine[model][name] += 1

    def want(self, model: str, pools: Mapping[str, int], tick: int) -> None:
        for name in sorted({*self.due[model], *pools}):
            due, count = self.due[model][name], pools.get(name, 0)
            due += [tick + self.lots.randint(4, 20) for _ in range(count - len(due))]
            due.sort()
            del due[count:]


def decided(policy: Policy) -> str:
    """A digest. Numbers to nine digits: the tenth is the mathematical library's."""
    fleet, said = Fleet(policy), hashlib.sha256()
    for tick in range(1, 500):
        for decision in fleet.tick(tick):
            pools = dict(decision.pools) if isinstance(decision, Scale) else "hold"
            numbers = {name: f"{value:.9g}" for name, value in decision.numbers.items()}
            said.update(f"{decision.model} {pools} {decision.reason} {numbers}\n".encode())
    return said.hexdigest()[:16]


def cost(world: Scenario) -> tuple[float, int]:
    """Of a drawn day of bins that wander, gust and pause; and the starts."""
    lots, rate, demand = random.Random(2), 2.0, []
    for _ in range(1800):
        rate = max(0.0, rate + lots.gauss(0.0, 0.1) + (lots.random() < 0.01) * lots.gauss(0.0, 1.5))
        demand.append(rate * (lots.random() > 0.02))
    output = np.array(demand) * 10_000
    bench = Bench(Trace("drawn", 0.0, output * 0.5, output), WORK, world)
    spent = run_ours(bench, 3)
    return spent.cost, spent.starts


@pytest.mark.parametrize("name", POLICIES)
def test_every_decision_is_the_one_of_before(name: str) -> None:
    assert decided(POLICIES[name]) == KEPT[name]


@pytest.mark.parametrize("name", WORLDS)
def test_a_simulated_day_costs_what_it_did(name: str) -> None:
    money, starts = cost(WORLDS[name])
    assert (pytest.approx(money, rel=1e-12), starts) == COSTS[name]


if __name__ == "__main__":
    print({name: decided(policy) for name, policy in POLICIES.items()})
    print({name: cost(world) for name, world in WORLDS.items()})
