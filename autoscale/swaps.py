"""What may go while something else comes: no pool gives back before its work has another place.
Pure.

The ladder says how many of each pool are wanted in the end. Where that moves replicas from one pool
to another, those that run stay until the others are ready; and without the whole of the data none
moves at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from autoscale.memory import ModelMemory
from autoscale.policy import Plan


class Room(NamedTuple):
    """What the budget leaves beside all that is wanted."""

    replicas: float
    hour_micro: float


EVERYTHING: Final = Room(float("inf"), float("inf"))


@lru_cache(256)
def pinned(plan: Plan) -> Mapping[str, int]:
    """Pools that one tenant pays for, and how many it keeps of each."""
    return {pool.name: pool.least for pool in plan.pools if pool.tenant}


@lru_cache(256)
def _open(plan: Plan) -> frozenset[str]:
    """Pools that serve everybody."""
    return frozenset(pool.name for pool in plan.pools if not pool.tenant)


def common(plan: Plan, counts: Mapping[str, int]) -> Mapping[str, int]:
    """Of the plan's pools that serve everybody: neither a tenant's own nor those of settings before
    count, which hold no place for what is wanted now."""
    names = _open(plan)
    if counts.keys() <= names:
        return counts
    return {name: count for name, count in counts.items() if name in names}


def shared(plan: Plan, counts: Mapping[str, int]) -> int:
    """Replicas that serve everybody."""
    if not counts.keys() <= _open(plan):  # a call less in most ticks, which ask three times
        counts = common(plan, counts)
    return sum(counts.values())


def some(counts: Mapping[str, int]) -> Mapping[str, int]:
    """Without pools that have none."""
    if 0 not in counts.values():
        return counts
    return {name: count for name, count in counts.items() if count}


def stayed(
    plan: Plan, before: Mapping[str, int], wanted: Mapping[str, int], room: Room
) -> tuple[dict[str, int], Room] | None:
    """`wanted` where part of the data is missing: `before`, and as much more as there is room for;
    and the room that is left. None: the budget does not even allow `before`."""
    found, more = dict(before), sum(wanted.values()) - sum(before.values())
    prices = {pool.name: pool.hour_micro for pool in plan.pools if pool.terms != "reserved"}
    for name, hour_micro in prices.items():
        fewer = wanted.get(name, 0) - before.get(name, 0)
        room = Room(room.replicas + fewer, room.hour_micro + fewer * hour_micro)
    if room.replicas < 0 or room.hour_micro < -1:
        return None
    for name, count in wanted.items():
        is_paid = name not in prices
        fits = count if is_paid else _fitting(room, prices[name])
        added = min(more, count - found.get(name, 0), fits)
        if added > 0:
            found[name] = found.get(name, 0) + added
            more -= added
            if not is_paid:
                room = Room(room.replicas - added, room.hour_micro - added * prices[name])
    return found, room


def bridged(
    plan: Plan, model: ModelMemory, wanted: Mapping[str, int], room: Room
) -> tuple[dict[str, int], Room]:
    """`wanted`, and of the ready ones beyond it as many as others are not ready yet, within the
    room that there is; and the room that is left."""
    found, own, ready = dict(wanted), pinned(plan), model.ready
    coming = sum(max(0, n - ready.get(name, 0)) for name, n in wanted.items() if name not in own)
    for pool in plan.pools:
        had = min(ready.get(pool.name, 0), model.wanted.get(pool.name, 0))
        beyond = had - found.get(pool.name, 0)
        if pool.name in own or beyond <= 0 or coming <= 0:
            continue
        hour_micro = 0 if pool.terms == "reserved" else pool.hour_micro
        stay = min(beyond, coming, _fitting(room, hour_micro))
        found[pool.name] = found.get(pool.name, 0) + stay
        coming -= stay
        room = Room(room.replicas - stay, room.hour_micro - stay * hour_micro)
    return found, room


def _fitting(room: Room, hour_micro: int) -> int:
    """Replicas of that price."""
    most = min(room.replicas, room.hour_micro / hour_micro if hour_micro else room.replicas)
    return int(max(0.0, min(most, 1e6)))
