"""The exact optimum in hindsight, and the best fixed fleet. Pure.

Renting n replicas costs 1 a slot each from the order on; what exceeds those that are ready costs
r times its work at an API; a start takes L slots. The cost is the sum over layers of demand, each
with two states, so the joint optimum is the sum of the layers' (docs/autoscaler.md). No real policy
with the same capacity model is cheaper: this one orders before it knows, and never queues.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import msgspec


class Best(msgspec.Struct, frozen=True):
    """A hindsight's result. Cost in replica-slots."""

    cost: float
    starts: int
    own: float
    """Work done on own replicas, in replica-slots."""


Ratio: TypeAlias = float | Sequence[float]
"""The API's price for a replica's work against the replica's; one for all slots, or by slot."""


def optimum(demand: Sequence[float], ratio: Ratio, start: float) -> Best:
    """`demand` in replicas by slot, `start` slots from order to service."""
    ratios = _by_slot(demand, ratio)
    if start < 0 or min(ratios, default=0.0) < 0:
        raise ValueError("ratio and start are not negative")
    cost, starts, own = 0.0, 0, 0.0
    for layer in range(math.ceil(max(demand, default=0.0))):
        found = _layer([min(max(d - layer, 0.0), 1.0) for d in demand], ratios, start)
        cost, starts, own = cost + found.cost, starts + found.starts, own + found.own
    return Best(cost, starts, own)


def _by_slot(demand: Sequence[float], ratio: Ratio) -> Sequence[float]:
    return [ratio] * len(demand) if isinstance(ratio, float | int) else ratio


def _layer(part: Sequence[float], ratios: Sequence[float], start: float) -> Best:
    """One replica's place: off pays for its work, on pays for the replica."""
    off, off_starts, off_own = 0.0, 0, 0.0
    on, on_starts, on_own = start, 1, 0.0
    for work, ratio in zip(part, ratios, strict=True):
        before, before_starts, before_own = off, off_starts, off_own
        if on < off:
            off, off_starts, off_own = on, on_starts, on_own
        if before + start < on:
            on, on_starts, on_own = before + start, before_starts + 1, before_own
        off += ratio * work
        on += 1.0
        on_own += work
    return Best(off, off_starts, off_own) if off <= on else Best(on, on_starts, on_own)


def fixed(demand: Sequence[float], ratio: Ratio, start: float, count: int) -> Best:
    """A fleet of `count` all the time, the rest to the API."""
    over = [max(0.0, d - count) for d in demand]
    api = sum(o * r for o, r in zip(over, _by_slot(demand, ratio), strict=True))
    return Best(count * (len(demand) + start) + api, count, sum(demand) - sum(over))


def best_fixed(demand: Sequence[float], ratio: Ratio, start: float) -> tuple[int, Best]:
    """The fixed fleet that would have been cheapest, and its size. The cost is convex in the size,
    so the first rise ends the search."""
    count, best = 0, fixed(demand, ratio, start, 0)
    while (more := fixed(demand, ratio, start, count + 1)).cost < best.cost:
        count, best = count + 1, more
    return count, best
