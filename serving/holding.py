"""The line of held calls: puts the pure queue of `waiting` before the loop's clock and wakes whose
turn it is. Decides nothing: a woken call is placed anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from serving import scarce
from serving.errors import OwnError
from serving.records import Call, FleetView, LatencyClass
from serving.routing import free
from serving.waiting import Held, Pick, Queue

RANKS = {
    LatencyClass.LIVE: 0, LatencyClass.INTERACTIVE: 0, LatencyClass.PATIENT: 1,
    LatencyClass.BATCH: 2,
}  # fmt: skip
"""Live calls are never held long; people in front of a screen do not push each other out."""


class Viewed(Protocol):
    """Who knows the fleet."""

    @property
    def view(self) -> FleetView:
        """As it is now."""


class Line:
    """Where calls wait for a target."""

    def __init__(self, queue: Queue, loop: asyncio.AbstractEventLoop, fleet: Viewed) -> None:
        self._queue = queue
        self._loop = loop
        self._fleet = fleet

    def is_behind(self, call: Call) -> bool:
        """Others have waited longer for this model."""
        return self._queue.calls > 0 and self._queue.waiting(call.model) > 0

    async def hold(self, call: Call, until_s: float, own: LatencyClass) -> bool:
        """Wait until woken or `until_s`; False when it gave its place to a call that cannot wait,
        and is to be placed anew now. `own` is the key's class: a header may tighten a call's
        deadlines, but not push others out. Raises OwnError when the line is full."""
        since_s = self._loop.time()
        waiter: asyncio.Future[None] = self._loop.create_future()
        is_evicted = False

        def wake() -> None:
            if not waiter.done():
                waiter.set_result(None)

        def evict() -> None:
            nonlocal is_evicted
            is_evicted = True
            wake()

        held = Held(call.model, call.tenant, call.prompt_tokens, call.size, wake)
        held.evict, held.rank = evict, RANKS[own]
        held.call, held.haste = call, scarce.HASTE[own]
        self._put(held, until_s, since_s)
        timer = self._loop.call_at(until_s, wake)
        try:
            await waiter
            return not is_evicted
        except asyncio.CancelledError:
            if held.is_gone:
                self.wake(call.model)  # it was this call's turn: pass it on
            raise
        finally:
            timer.cancel()
            self._queue.remove(held)

    def _put(self, held: Held, until_s: float, now_s: float) -> None:
        """Stand in line, if need be in the place of calls that may rather wait. Raises OwnError."""
        if self._queue.put(held, until_s, now_s):
            return
        for victim in self._queue.victims(held.rank, held.size):
            self._queue.remove(victim)
            victim.evict()
        if not self._queue.put(held, until_s, now_s):
            raise OwnError("queue_full", "the queue of this gateway is full", retry_after_s=5.0)

    def wake(self, model: str) -> None:
        """Capacity may have come free: the next in line tries again."""
        if self._queue.calls:
            held = self._queue.pop(model, self._pick(model))
            if held is not None:
                held.wake()

    def _pick(self, model: str) -> Pick:
        """Who goes first of a tenant's calls: by deadline, unless nobody else could take them."""
        view, now_s = self._fleet.view, self._loop.time()
        engines = len(view.replicas.get(model, ()))

        def pick(head: Held, standing: Callable[[], list[Held]]) -> Held | None:
            # What was reckoned while there were engines is no use without any.
            if not engines or not scarce.is_short(model, head.tenant, view, now_s):
                return None
            lane = standing()
            if len(lane) < 2:
                return None
            needs = []
            for held in lane:
                if held.need is None and held.call is not None:
                    held.need = scarce.need(held.call, view, held.haste, held.deadline_s)
                if held.need is None:
                    return None
                needs.append(held.need)
            place = scarce.first(needs, engines, now_s)
            return None if place is None else lane[place]

        return pick

    def refreshed(self, view: FleetView) -> None:
        """A new view of the fleet: wake as many held calls as there is room for."""
        for model in self._queue.models():
            room = sum(free(replica, view) for replica in view.replicas.get(model, ()))
            for _ in range(min(room, self._queue.waiting(model))):
                self.wake(model)
