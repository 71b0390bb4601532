"""Which pool the next replica comes from: paid, minima, on-demand floor, then by price. Pure.

Rung k of a ladder is the k-th replica of a model; the work-function account of `decide` belongs to
a rung, so a rung's price is the price of the replica that would be given back first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final

import msgspec

from autoscale.policy import Plan, Pool

FREE_HOUR_MICRO: Final = 1e-3
"""What a free replica that is not bought for good is reckoned at, so that its account moves: it
runs while there is work for it, and the cheapest it stays."""
NOTHING: Final[Mapping[str, int]] = {}


class Rung(msgspec.Struct, frozen=True, gc=False):
    """One replica's place. Its mapping holds numbers, so no cycle goes through it. Were 50,000 of
    them the collector's, a tick that makes a ladder anew would take 60 ms; it takes 8."""

    pool: str
    micro_per_s: float
    """What it costs more per second; 0 of one that is paid anyway."""
    below: float
    """Capacity of the rungs beneath it."""
    capacity: float
    ready_s: float
    is_sunk: bool
    least_micro_per_s: float = 0.0
    """Of this rung and all above it; sunk ones, which lie below, do not count there."""
    most_micro_per_work_s: float = 0.0
    """Price over capacity, likewise."""
    ready_s_max: float = 1.0
    """Of this rung and all above it."""
    beneath: Mapping[str, int] = NOTHING
    """Replicas of each pool on the rungs below the first of this rung's own run."""
    nth: int = 1
    """In a run of rungs of one pool, from 1."""


def ladder(
    plan: Plan,
    caps: Mapping[str, int],
    learnt: Mapping[str, float],
    does: Mapping[str, float] = NOTHING,
) -> tuple[Rung, ...]:
    """All replicas the plan may have, in the order in which they are taken. `caps` bounds pools
    that cannot give more now; `learnt` are times to ready, `does` the shares of their capacity
    that replicas really do."""
    known = [
        (pool.name, caps.get(pool.name, pool.most), round(learnt.get(pool.name, pool.ready_s)),
         does.get(pool.name, 1.0))
        for pool in plan.pools
    ]  # fmt: skip
    return _ladder(plan, tuple(known))


@lru_cache(256)
def _ladder(plan: Plan, known: tuple[tuple[str, int, int, float], ...]) -> tuple[Rung, ...]:
    """Made anew only when a pool's state changed: ticks are many, changes few."""
    caps = {name: cap for name, cap, _, _ in known}
    ready_s = {name: float(max(1, seconds)) for name, _, seconds, _ in known}
    size = {pool.name: pool.capacity * one[3] for pool, one in zip(plan.pools, known, strict=True)}
    found: list[Rung] = []
    below, taken = 0.0, dict[str, int]()
    for pool, count in _order(plan, caps, size):
        is_sunk = pool.terms == "reserved"
        price = 0.0 if is_sunk else (pool.hour_micro or FREE_HOUR_MICRO) / 3600
        capacity, beneath = size[pool.name], dict(taken)
        for nth in range(1, count + 1):
            found.append(
                Rung(pool.name, price, below, capacity, ready_s[pool.name], is_sunk,
                     beneath=beneath, nth=nth)
            )  # fmt: skip
            below += capacity
        if count:
            taken[pool.name] = beneath.get(pool.name, 0) + count
    return tuple(_bounded(found))


def _bounded(rungs: list[Rung]) -> list[Rung]:
    """With the bounds of what is above each."""
    least, most, longest = math.inf, 0.0, 1.0
    found = []
    for rung in reversed(rungs):
        least = min(least, rung.micro_per_s)
        most = max(most, rung.micro_per_s / rung.capacity)
        longest = max(longest, rung.ready_s)
        found.append(
            msgspec.structs.replace(
                rung, least_micro_per_s=least, most_micro_per_work_s=most, ready_s_max=longest
            )
        )
    return found[::-1]


def _order(
    plan: Plan, caps: Mapping[str, int], size: Mapping[str, float]
) -> Iterator[tuple[Pool, int]]:
    rented, rest, floor = [], [], plan.on_demand_floor
    for pool in usable(plan):
        count = min(pool.most, caps[pool.name])
        if pool.terms == "reserved":
            yield pool, count
        else:
            rented.append((pool, count, min(pool.least, count)))
    for pool, _, least in rented:
        yield pool, least
        floor -= least if pool.terms == "on_demand" else 0
    for pool, count, least in rented:
        more = 0 if pool.terms != "on_demand" else max(0, min(floor, count - least))
        floor -= more
        yield pool, more
        rest.append((pool, count - least - more))
    yield from sorted(rest, key=lambda one: one[0].hour_micro / size[one[0].name])


def usable(plan: Plan) -> list[Pool]:
    """Pools for everybody's calls, where the model may run."""
    allowed = plan.jurisdictions
    return [
        pool for pool in plan.pools
        if not pool.tenant and (not allowed or pool.jurisdiction in allowed)
    ]  # fmt: skip


def by_pool(rungs: tuple[Rung, ...], count: int) -> Mapping[str, int]:
    """The first `count` rungs by pool."""
    if not rungs or count <= 0:
        return NOTHING
    last = rungs[count - 1 if count < len(rungs) else -1]
    return {**last.beneath, last.pool: last.beneath.get(last.pool, 0) + last.nth}
