"""What placement keeps between two views of the fleet: routes, pressure, pace, the tally. A thin
rim: it lays them beside each new view and decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from serving.placement import spill
from serving.placement.pacing import Headroom
from serving.placement.spill import Marks
from serving.placement.tally import Meter, Tally
from serving.placement.values import Route, Spill
from serving.records import Call, FleetView, LatencyClass, Offering, Surface
from serving.rollout import weights
from serving.rollout.values import Rollout

_PROBE = Call(
    request_id="0" * 32, surface=Surface.CHAT, tenant="", model="", alias="", fields={},
    received_s=0.0, received_ms=0, first_token_by_s=0.0, complete_by_s=0.0,
    latency_class=LatencyClass.INTERACTIVE, prompt=b"", size=0, prompt_tokens=0, max_tokens=0,
    stream=True, wants_usage=False, affinity=0,
)  # fmt: skip
"""A call without a prompt: what it would wait is the queue."""


class Beside:
    """One process's."""

    def __init__(
        self, routes: Mapping[str, Route], sold: Mapping[str, tuple[Offering, ...]], marks: Marks,
        pods: int = 1, theirs: Iterable[Offering] = (),
    ) -> None:  # fmt: skip
        self.standing = self._routes = routes
        """As the settings say."""
        self._marks = marks
        self._spills: Mapping[str, Spill] = {}
        bought = [*(o for rows in sold.values() for o in rows), *theirs]
        self.paces = {o.id: Headroom(o.concurrent, pods) for o in bought}
        is_bounded = any(route.ceilings is not None for route in routes.values())
        self.tally = Tally() if is_bounded else None

    def share(self, make: Callable[[str, int, float], Meter], clock: Callable[[], float]) -> None:
        """Count what ceilings bound together with all pods; see `Tally.share`."""
        if self.tally is not None:
            most = {
                name: (route.model, route.ceilings)
                for name, route in self.standing.items()
                if route.ceilings is not None
            }
            self.tally.share(most, make, clock)

    def obey(self, rollouts: Iterable[Rollout]) -> None:
        """From the next view on the names have these rollouts' weights."""
        self._routes = weights.over(self.standing, rollouts)

    def laid(self, view: FleetView, now_s: float) -> FleetView:
        """The view with all of it; looks at the pressure once more."""
        # Without a third party there is nowhere to spill to.
        sold = {model for model, rows in view.offerings.items() if rows}
        self._spills = {
            model: state
            for model, state in spill.stepped(
                self._spills, view, _PROBE, self._marks, now_s
            ).items()
            if model in sold
        }
        return msgspec.structs.replace(
            view, routes=self._routes, spills=self._spills, paces=self.paces, tally=self.tally
        )
