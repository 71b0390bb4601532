"""What engines of the simulator do at the edge of the objective, for the optimum beside which
request-level costs are told.

Two replicas, rented by the month, are offered twice what the model says they can do, with an API
behind them that is never away: the gateway lets in what it foresees in time. The trace is the same
at another speed, so its mix and its bunches stay. What the replicas do then, as a share of the
model's figure, is the edge; a replica of the optimum does that much.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from autoscale import calls, oracle
from autoscale.arrivals import BIN_S, binned
from autoscale.calls import Row, Setup
from autoscale.records import Demand
from autoscale.requests import Requests
from autoscale.simulate import Bench
from models.worded import Worded
from serving.demand import could_serve

REPLICAS = 2
OFFERED = 2.0
"""Times what they can do."""
FILL_S = 120.0
"""From the start, before engines are full; at most a quarter of the run."""


class Edge(msgspec.Struct, frozen=True):
    """What the optimum of one trace may count on."""

    share: float = 1.0
    """Of the model's figure, that a replica does."""
    beyond: tuple[float, ...] = ()
    """Work, in replicas by bin, that no idle engine would begin in time: an API's at any rate."""


def found(bench: Bench, rows: Sequence[tuple[float, int, int]], setup: Setup) -> Edge:
    """By a run of two replicas offered twice what they can do."""
    work = setup.work
    asked = [calls.call(Row(*row), k, setup) for k, row in enumerate(rows, 1)]
    fits = [could_serve(setup.profile, call) for call in asked]
    far = [(row[0], work.of(*row[1:])) for row, fit in zip(rows, fits, strict=True) if not fit]
    beyond = binned(far, bench.trace.prompt.size) / BIN_S
    own = [row for row, fit in zip(rows, fits, strict=True) if fit]
    return Edge(share(own, setup), tuple(float(x) for x in beyond))


def share(rows: Sequence[tuple[float, int, int]], setup: Setup) -> float:
    """Of the model's figure; 1 where the trace is too short to tell."""
    work = setup.work
    offered_s = sum(work.of(prompt, output) for _, prompt, output in rows)
    end_s = offered_s / (REPLICAS * OFFERED)
    length_s = rows[-1][0] - rows[0][0] if rows else 0.0
    if length_s <= 0.0 or end_s <= 4 * BIN_S:
        return 1.0
    speed = length_s / end_s
    faster = [Row((at_s - rows[0][0]) / speed, *tokens) for at_s, *tokens in rows]
    seen: list[tuple[float, float]] = []

    def want(now_s: float, demand: Demand, ready: int, wanted: int) -> int:
        del ready, wanted
        if min(FILL_S, end_s / 4) <= now_s <= end_s:
            done = work.of(demand.served_prompt_total, demand.served_output_total)
            seen.append((now_s, done))
        return REPLICAS

    Requests(replace(setup, months=REPLICAS, outages=(), grants=()), want, 1).run(faster)
    (first_s, before), (last_s, done) = seen[0], seen[-1]
    return (done - before) / (REPLICAS * (last_s - first_s))


def said(share: float) -> str:
    """The note beside the costs."""
    return Worded(
        "trace.edge",
        "the optimum's replicas do {share} of the model's figure, as two do in this simulator at "
        "the edge of the objective",
        share=f"{share:.0%}",
    )


def best(bench: Bench, at: Edge) -> tuple[oracle.Best, int]:
    """The optimum with replicas that do so much of the model's figure, the API's bill for what is
    beyond them added, and the size of the best fixed fleet of such replicas. The API's price for
    a replica's work is that much less."""
    beyond = at.beyond or (0.0,) * len(bench.demand)
    demand = [max(0.0, d - x) / at.share for d, x in zip(bench.demand, beyond, strict=True)]
    ratios = [ratio * at.share for ratio in bench.ratios]
    count, _ = oracle.best_fixed(demand, ratios, bench.start)
    least = oracle.optimum(demand, ratios, bench.start)
    bill = sum(ratio * x for ratio, x in zip(bench.ratios, beyond, strict=True))
    return replace(least, cost=least.cost + bill), count
