"""What engines of the simulator do at the edge of the objective, for the optimum beside which
request-level costs are told.

Two replicas, rented by the month, are offered twice what the model says they can do, with an API
behind them that is never away: the gateway lets in what it foresees in time. The trace is the same
at another speed, so its mix and its bunches stay. What the replicas do then, as a share of the
model's figure, is the edge; a replica of the optimum does that much.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from autoscale import oracle
from autoscale.arrivals import BIN_S
from autoscale.calls import Row, Setup
from autoscale.records import Demand
from autoscale.requests import Requests
from autoscale.simulate import Bench
from models.worded import Worded

REPLICAS = 2
OFFERED = 2.0
"""Times what they can do."""
FILL_S = 120.0
"""From the start, before engines are full; at most a quarter of the run."""


def edge(rows: Sequence[tuple[float, int, int]], setup: Setup) -> float:
    """Share of the model's figure; 1 where the trace is too short to tell."""
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


def best(bench: Bench, share: float) -> tuple[oracle.Best, int]:
    """The optimum with replicas that do `share` of the model's figure, and the size of the best
    fixed fleet of such replicas. The API's price for a replica's work is that much less."""
    demand = [d / share for d in bench.demand]
    ratios = [ratio * share for ratio in bench.ratios]
    count, _ = oracle.best_fixed(demand, ratios, bench.start)
    return oracle.optimum(demand, ratios, bench.start), count
