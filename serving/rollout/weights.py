"""Rollouts as the split of each name's route. Pure.

The new model's side comes first, so that a session which is on it stays there as the weight grows.
A name that has rules keeps them; a split of its own waits until the rollout's row is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from serving.placement.values import Arm, Route
from serving.rollout.values import Rollout


def side(name: str, which: str) -> str:
    """A side's name in reasons and rows; `which` is `new` or `old`."""
    return f"{name}~{which}"


def over(routes: Mapping[str, Route], rollouts: Iterable[Rollout]) -> dict[str, Route]:
    """The routes with the rollouts' weights. A rollout between models that this process does not
    know, or of a name that means neither, is left out: another gateway's settings are newer."""
    found = dict(routes)
    for one in rollouts:
        route = routes.get(one.id)
        if route is None or not is_known(one, routes) or not _counts(one, route):
            continue
        # In place the old model must lose its demand, or its engine would never make room.
        fallback = "" if one.is_in_place else one.old
        arms = (
            Arm(side(one.id, "new"), one.percent, model=one.new, fallback=fallback),
            Arm(side(one.id, "old"), 100 - one.percent, model=one.old),
        )
        found[one.id] = replace(route, arms=arms)
    return found


def is_known(one: Rollout, routes: Mapping[str, Route]) -> bool:
    """Whether both models are served here."""
    return all(model in routes and routes[model].model == model for model in (one.old, one.new))


def _counts(one: Rollout, route: Route) -> bool:
    """A rollout that went back says nothing more, unless the settings are ahead of it."""
    return one.percent > 0 or one.state in ("running", "paused") or route.model == one.new
