"""The rule for machines that are ours: more when calls find no place, never less. Pure.

Where a replica costs nothing more to keep there is nothing to weigh; work is not priced, calls are
counted against the slots of a replica.
"""

from __future__ import annotations

from autoscale.policy import Plan
from autoscale.records import Decision, Hold, Scale, Supply
from autoscale.windows import Flow


def decide(plan: Plan, flow: Flow, partial: int, supply: Supply) -> Decision:
    """Grow by what waits, was refused or went elsewhere since the tick before."""
    note = f"; partial, {partial} source(s) missing" if partial else ""
    if not flow.unplaced:
        words = f"nothing waits: {flow.running} running on {supply.ready} ready{note}"
        return Hold(plan.model, words)
    why = f"queue {flow.queued}, shed {flow.shed}, burst {flow.burst}, running {flow.running}{note}"
    if supply.is_coming:
        return Hold(plan.model, f"a replica is coming; {why}")
    wanted = max(supply.ready + 1, -(-(flow.running + flow.unplaced) // plan.slots))
    return Scale(plan.model, wanted, f"{supply.ready} ready are too few: {why}")
