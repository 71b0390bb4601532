"""The rule for machines that are ours: more when calls find no place, never less. Pure.

Where a replica costs nothing more to keep there is nothing to weigh; work is not priced, calls are
counted against the slots of a replica.
"""

from __future__ import annotations

from autoscale import reasons
from autoscale.policy import Plan
from autoscale.records import Decision, Hold, Scale, Supply
from autoscale.windows import Flow


def decide(plan: Plan, flow: Flow, partial: int, supply: Supply) -> Decision:
    """Grow by what waits, was refused or went elsewhere since the tick before."""
    if not flow.unplaced:
        return Hold(plan.model, reasons.idle(flow, supply, partial))
    if supply.is_coming:
        return Hold(plan.model, reasons.coming(flow, partial))
    wanted = max(supply.ready + 1, -(-(flow.running + flow.unplaced) // plan.slots))
    return Scale(plan.model, wanted, reasons.few(flow, supply, partial))
