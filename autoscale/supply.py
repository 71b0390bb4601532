"""What came of earlier orders: times to ready learnt, replicas lost, pools that cannot give. Pure.

Failure is a normal result: an order that does not come, or a spot replica that is taken away, makes
its pool give no more for a while, and the next rung of the ladder takes its place.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from autoscale.ladder import NOTHING, by_pool, ladder
from autoscale.memory import ModelMemory, Order
from autoscale.policy import Plan
from autoscale.records import Supply
from autoscale.swaps import pinned

LEARN = 0.3
"""Weight of the newest time to ready."""
LATE = 3.0
"""An order this many times over its time is taken for lost."""
COOL_MS = 600_000
"""A pool that failed is asked again after this."""
ORDERS_MAX = 64
READY_S_BOUNDS = (1.0, 3600.0)


def ready_of(plan: Plan, supply: Supply, old: ModelMemory) -> Mapping[str, int]:
    """Ready replicas by pool."""
    if supply.pools is not None:
        return {pool.name: max(0, supply.pools.get(pool.name, 0)) for pool in plan.pools}
    ready = supply.ready if supply.ready > 0 else 0
    if len(plan.pools) == 1:
        return {plan.pools[0].name: ready}
    found: dict[str, int] = {}
    for name, least in pinned(plan).items():  # a tenant's are no rungs
        found[name] = min(ready, least)
        ready -= found[name]
    return {**found, **by_pool(ladder(plan, NOTHING, old.ready_s, old.does), ready)}


def arrived(plan: Plan, old: ModelMemory, ready: Mapping[str, int], at_ms: int) -> ModelMemory:
    """The memory after looking at what is there now."""
    if ready == old.ready and not (old.orders or old.lost_until_ms):
        return old  # nothing came, went or is waited for
    orders, lost = list(old.orders), dict(old.lost_until_ms)
    learnt = dict(old.ready_s)
    for pool in plan.pools:
        name, now = pool.name, ready.get(pool.name, 0)
        more = now - old.ready.get(name, 0)
        if more < 0 and old.wanted.get(name, 0) > now and pool.terms == "spot":
            lost[name] = at_ms + COOL_MS
        mine = [order for order in orders if order.pool == name]
        for order in mine[: max(0, more)]:
            orders.remove(order)
            took_s = min(max((at_ms - order.at_ms) / 1e3, READY_S_BOUNDS[0]), READY_S_BOUNDS[1])
            guess = learnt.get(name, pool.ready_s)
            learnt[name] = guess + LEARN * (took_s - guess)
        late_ms = LATE * 1e3 * learnt.get(name, pool.ready_s)
        late = [o for o in orders if o.pool == name and at_ms - o.at_ms > late_ms]
        if late:
            orders = [o for o in orders if o not in late]
            lost[name] = at_ms + COOL_MS
    lost = {name: until for name, until in lost.items() if until > at_ms}
    return msgspec.structs.replace(
        old, ready=ready, orders=tuple(orders), lost_until_ms=lost, ready_s=learnt
    )


def caps(plan: Plan, model: ModelMemory, short: tuple[str, ...] = ()) -> Mapping[str, int]:
    """Pools that give no more than they have, by what came of orders or because their provider
    says so (`short`). A single pool is never capped: there is no other."""
    if not (model.lost_until_ms or short) or len(plan.pools) == 1:
        return NOTHING
    told = [pool.name for pool in plan.pools if f"{plan.model}/{pool.name}" in short]
    return {name: model.ready.get(name, 0) for name in (*model.lost_until_ms, *told)}


def ordered(model: ModelMemory, plan: Plan, wanted: Mapping[str, int], at_ms: int) -> ModelMemory:
    """The memory after deciding: new orders are noted, those no longer wanted forgotten."""
    orders = list(model.orders)
    rented = dict(model.rented_ms)
    for pool in plan.pools:
        name = pool.name
        more = wanted.get(name, 0) - model.wanted.get(name, 0)
        orders += [Order(at_ms, name)] * max(0, more)
        if more < 0:
            mine = [o for o in orders if o.pool == name]
            for order in mine[max(0, len(mine) + more) :]:
                orders.remove(order)
        if pool.is_hourly:
            starts = rented.get(name, ())
            more += max(0, min(-more, model.wanted.get(name, 0) - len(starts)))
            rented[name] = _rented(starts, more, at_ms)
    return msgspec.structs.replace(
        model, wanted=wanted, orders=tuple(orders[-ORDERS_MAX:]), rented_ms=rented
    )


def _rented(since_ms: tuple[int, ...], more: int, at_ms: int) -> tuple[int, ...]:
    """Starts of the hours. Those nearest to their hour's end go first, after those whose start
    nobody knows, which are not listed."""
    if more >= 0:
        return (*since_ms, *(at_ms,) * more)
    by_rest = sorted(since_ms, key=lambda since: -((at_ms - since) % 3_600_000))
    return tuple(sorted(by_rest[-more:]))
