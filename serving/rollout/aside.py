"""A call of the new model's side that the new model cannot answer goes to the old one. Pure.

Only before anything reached the client, and within the usual tries and retry budget. The call keeps
its side: its row names it, the failure counts there, and the next call of its session goes to the
new model again.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from serving.placement.assign import toward
from serving.placement.values import Arm
from serving.records import Burst, Call, Caller, FleetView, Placement, Refuse, Run
from serving.rollout.weights import side
from serving.routing import place

OLD_SIDE: Final = "/old_side"
"""Ends the route of a call that the old model answers in the new one's stead."""
_LACKS = frozenset({"no_capacity", "engine_loading", "deadline_unreachable"})
"""Refusals that say something of the engines, not of the caller or an operator's switch."""


class Found(NamedTuple):
    """What came of the call so far."""

    placement: Placement
    """Where it would go next as it is."""
    tried: frozenset[str]
    """Targets that failed it."""


def instead(
    call: Call, caller: Caller, view: FleetView, now_s: float, so_far: Found
) -> Call | None:
    """The call as the old model's, when a target failed it or it would be refused, and the old
    model can take it now; None where it stays as it is."""
    placement, tried = so_far
    if call.route != f"split:{side(call.alias, 'new')}":
        return None
    if not tried and not (isinstance(placement, Refuse) and placement.code in _LACKS):
        return None
    old = _old_model(call, view)
    if not old or old == call.model:
        return None
    other = toward(call, caller, view, Arm("", 100, model=old), call.route + OLD_SIDE)
    if other is None:
        return None
    found = place(other, caller, view, now_s, tried)
    # An own engine of the new model is still worth more than a third party for the old one.
    is_better = isinstance(found, Burst) and not isinstance(placement, Run)
    return other if isinstance(found, Run) or is_better else None


def _old_model(call: Call, view: FleetView) -> str:
    """What the name's other side is; once the rollout was taken back, what the name means."""
    route = view.routes.get(call.alias)
    if route is None:
        return ""
    for arm in route.arms:
        if arm.name == side(call.alias, "new"):
            return arm.fallback
    return route.model
