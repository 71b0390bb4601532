"""What a replica really does at its edge, as a share of the model's figure. Pure.

Work is reckoned for a batch as it is set; where memory fills before the batch does, or calls come
several at once, a replica does less before calls overflow. While the fleet stands still, blocks of
two minutes say how much of what came it did: with `u` the work done by a replica and `s` the share
of all work that was done here, u / (1 - s^3)^(1/3) is what it would do if much more came. Where
next to nothing stays out this says next to nothing, and weighs as little. Learnt for each pool,
from a start at the model's own figure and with the error's benefit, so it sinks slowly; forgotten
in hours; raised by whatever more was seen done.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from msgspec.structs import replace

from autoscale.memory import Edge, ModelMemory, Watch
from autoscale.policy import Plan
from autoscale.windows import Flow

BLOCK_S: Final = 120.0
"""Work is counted when an answer ends: a block is several answers long."""
SETTLE_S: Final = 60.0
"""After a change of the fleet, before which a new replica is not yet filled."""
BEND: Final = 3.0
"""How sharply work done turns from what comes to what can be done. By Erlang's loss formula a
group of ten slots offered ten calls does 79 % of them, which is a bend of 2.9; of forty, 5.6. Too
small a bend would call bursts a lack of capacity; one too large errs towards the model's figure
where calls come alone, and below it where they come in bunches."""
PRIOR: Final = 3.0
"""Blocks of saturation that count as much as the model's figure."""
FORGET_S: Final = 6 * 3600.0
"""The mix of calls is another one by then."""
STEP: Final = 0.02
"""A ladder moves by such steps, not with each block."""


def watched(
    model: ModelMemory, plan: Plan, flow: Flow, elapsed_s: float, least: float
) -> tuple[Watch, Mapping[str, Edge], Mapping[str, float]]:
    """`watch`, `edges` and `does` after one tick in which `model.ready` did what `flow` says.
    `least` bounds what may be believed; at 1 nothing is learnt."""
    old, edges, does = model.watch, model.edges, model.does
    if least >= 1.0:
        return old, edges, does
    pools = model.ready
    if pools != old.pools:
        return Watch(pools, -SETTLE_S), edges, does
    seen_s = old.seen_s + elapsed_s
    if seen_s <= 0.0:
        return Watch(pools, seen_s), edges, does
    # What waits has not overflowed, and stays out as much: on average over the block.
    out = (flow.rate - flow.served_rate + flow.late_rate) * elapsed_s
    out += flow.backlog_s * elapsed_s / BLOCK_S
    watch = Watch(pools, seen_s, old.served_s + flow.served_rate * elapsed_s, old.out_s + out)
    if seen_s < BLOCK_S:
        return watch, edges, does
    edges = _learnt(edges, plan, watch, least)
    return Watch(pools), edges, {name: _stepped(edge, least) for name, edge in edges.items()}


def _learnt(
    edges: Mapping[str, Edge], plan: Plan, watch: Watch, least: float
) -> Mapping[str, Edge]:
    """After a block. What a fleet of several pools did is laid on each by its part of it."""
    fresh = math.exp(-watch.seen_s / FORGET_S)
    found = {name: replace(edge, blocks=edge.blocks * fresh) for name, edge in edges.items()}
    sizes = {
        pool.name: watch.pools.get(pool.name, 0) * pool.capacity
        for pool in plan.pools
        if not pool.tenant
    }
    whole = sum(sizes.values())
    if whole <= 0.0:
        return found
    use = watch.served_s / (whole * watch.seen_s)
    share = watch.served_s / max(watch.served_s + watch.out_s, 1e-9)
    for name, size in sizes.items():
        if size:
            edge = found.get(name, Edge())
            found[name] = _after(edge, (use, share), size / whole, least)
    return found


def _after(edge: Edge, seen: tuple[float, float], part: float, least: float) -> Edge:
    use, share = seen
    weight = 1.0 - share**BEND
    at_edge = min(1.0, use * weight ** (-1.0 / BEND)) if weight > 0.0 else 1.0
    if use < least:
        return edge  # idle for the most part: calls came in bunches, no replica was at its edge
    if use > edge.share:  # it was done, so it can be
        weight, at_edge = 1.0, max(at_edge, min(use, 1.0))
    weight *= part
    blocks = edge.blocks + weight
    if blocks <= 0.0:
        return edge
    off = at_edge - edge.share
    mean = edge.share + off * weight / blocks
    spread = edge.spread + ((at_edge - mean) * off - edge.spread) * weight / blocks
    return Edge(mean, max(0.0, spread), blocks)


@lru_cache(256)
def share_of(edge: Edge, least: float) -> tuple[float, float]:
    """What is reckoned with, and its standard error: between the model's figure and what was seen,
    by how much was seen, and one error to the better side."""
    known = edge.blocks / (edge.blocks + PRIOR)
    error = math.sqrt(edge.spread / edge.blocks) * known if edge.blocks else 0.0
    blended = 1.0 + (edge.share - 1.0) * known
    return min(1.0, max(least, blended + error)), error


def told(model: ModelMemory, least: float) -> tuple[str, float, float]:
    """The pool that is furthest from its figure, what a replica of it does, and the error."""
    lowest = ("", 1.0, 0.0)
    if least < 1.0:
        for name, edge in model.edges.items():
            share, error = share_of(edge, least)
            if not lowest[0] or (share, error) < lowest[1:]:
                lowest = (name, share, error)
    return lowest


def _stepped(edge: Edge, least: float) -> float:
    value, _ = share_of(edge, least)
    return max(least, min(1.0, math.ceil(value / STEP - 1e-9) * STEP))
