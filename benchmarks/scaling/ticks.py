"""How long one tick of the controller's `step` takes: `python -m benchmarks.scaling.ticks`.

Many models at once, each with a reserved, an on-demand and a spot pool, demand that drifts around
what its replicas hold, and several gateways that all report every model. CPU time, so that what
else the machine does is left out as far as it can be.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Iterator, Mapping
from statistics import median
from typing import NamedTuple

from autoscale.memory import Memory
from autoscale.policy import Api, Plan, Policy, Pool
from autoscale.records import Decision, Demand, Samples, Scale, Signals, Supply
from autoscale.step import step
from autoscale.work import Work

TICK_MS = 10_000
START_MS = 1_767_571_200_000
WORK = Work(output_token_s=0.001)
API = Api(0, 9_000_000)
"""Nine times the reserved replica's hour for its work, three times the on-demand one's."""


def policy(models: int, most: int) -> Policy:
    """That many plans of three pools, `most` replicas each on demand and by the moment."""
    pools = (
        Pool("month", "reserved", hour_micro=3_600_000, least=2, most=2),
        Pool("hour", hour_micro=10_800_000, most=most),
        Pool("spot", "spot", hour_micro=5_400_000, most=most),
    )
    plans = (Plan(f"m{k}", 64, pools, API, WORK, on_demand_floor=1) for k in range(models))
    return Policy(tuple(plans), edge_least=0.5)


class Fleet:
    """Replicas that come two to four minutes after they were asked for and go at once."""

    def __init__(self, lots: random.Random) -> None:
        self._lots = lots
        self._due: dict[str, dict[str, list[int]]] = {}
        """By model and pool: the tick from which each serves, earliest first."""

    def supply(self, model: str, tick: int) -> Supply:
        """As the gateways see it."""
        due = self._due.get(model, {"month": [0, 0]})
        pools = {name: sum(at <= tick for at in one) for name, one in due.items()}
        return Supply(sum(pools.values()), pools=pools)

    def want(self, model: str, pools: Mapping[str, int], tick: int) -> None:
        """Do as decided."""
        due = self._due.setdefault(model, {"month": [0, 0]})
        for name in sorted({*due, *pools}):  # lots are drawn in this order
            one, count = due.setdefault(name, []), pools.get(name, 0)
            one += [tick + self._lots.randint(12, 24) for _ in range(count - len(one))]
            one.sort()
            del one[count:]


class Tick(NamedTuple):
    """One of them. All but the time is the same in each run, whatever the process's hash seed."""

    cpu_s: float
    ready: int
    """Replicas, of all models."""
    decisions: tuple[Decision, ...]


def ticks(models: int, replicas: int, gateways: int, count: int) -> Iterator[Tick]:
    """So many ticks of a fleet that does as it is told."""
    lots = random.Random(1)
    asked, memory = policy(models, replicas), Memory()
    each, fleet = replicas / models, Fleet(lots)
    totals = [[0] * models for _ in range(gateways)]
    for tick in range(1, count + 1):
        at_ms = START_MS + tick * TICK_MS
        for k in range(models):
            wave = 1.0 + 0.3 * math.sin(tick / 60 + k) + lots.uniform(-0.1, 0.1)
            for mine in totals:
                mine[k] += round(each * wave / gateways * TICK_MS)
        reports = tuple(
            Signals(f"g{g}", 1, at_ms, {
                plan.model: Demand(running=20, served_output_total=mine[k], served_prompt_total=1)
                for k, plan in enumerate(asked.plans)
            })
            for g, mine in enumerate(totals)
        )  # fmt: skip
        supply = {plan.model: fleet.supply(plan.model, tick) for plan in asked.plans}
        samples = Samples(at_ms, reports, (), supply)
        began_s = time.process_time()
        outcome = step(samples, memory, asked)
        cpu_s = time.process_time() - began_s
        yield Tick(cpu_s, sum(one.ready for one in supply.values()), outcome.decisions)
        memory = outcome.memory
        for decision in outcome.decisions:
            if isinstance(decision, Scale):
                fleet.want(decision.model, decision.pools, tick)


def main() -> None:
    """Print the median, the 99th percentile and the worst."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--models", type=int, default=50)
    flags.add_argument("--replicas", type=int, default=500)
    flags.add_argument("--gateways", type=int, default=3)
    flags.add_argument("--ticks", type=int, default=1000)
    given = flags.parse_args()
    rows = list(ticks(given.models, given.replicas, given.gateways, given.ticks))
    half = rows[len(rows) // 2 :]  # the fleet has grown to its size by then
    spent = sorted(one.cpu_s * 1e3 for one in half)
    fleet = sorted(one.ready for one in half)
    print(f"{given.models} models, {fleet[0]} to {fleet[-1]} replicas, {given.gateways} gateways:"
          f" median {median(spent):.1f} ms, p99 {spent[int(len(spent) * 0.99)]:.1f} ms,"
          f" worst {spent[-1]:.1f} ms of CPU ({len(spent)} ticks)")  # fmt: skip


if __name__ == "__main__":
    main()
