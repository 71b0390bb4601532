"""Which held call goes next while there is not enough for all and no third party is up. Pure.

By deadline alone each call gets its turn when it is about too late: under an overload that lasts,
who waits longest is served and nearly late, whatever it costs the others. So where those who wait
do not all fit, the one that would take most is left behind until the rest do, which keeps as many
as can be kept (Moore 1968). Where all fit nothing changes; who is left behind waits on, and goes
when there is room after all.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Final

import msgspec

from models.capacity import Load, estimate
from serving.choice import IDLE, expected_tokens
from serving.placement.spill import token_s
from serving.records import Call, FleetView, LatencyClass

HASTE: Final = {
    LatencyClass.LIVE: 0, LatencyClass.INTERACTIVE: 1, LatencyClass.PATIENT: 2,
    LatencyClass.BATCH: 3,
}  # fmt: skip
"""A call of a hastier class is never left behind for one of another."""
_IDLE: Final = Load()


class Need(msgspec.Struct, frozen=True, gc=False):
    """What one call in a line takes."""

    start_by_s: float
    """Begun later, its first token is late."""
    work_s: float
    """Of one engine with a full batch."""
    haste: int = 1


def need(call: Call, view: FleetView, haste: int, until_s: float) -> Need | None:
    """As this model's engines would serve it, held until then; None where there is none."""
    own = view.replicas.get(call.model)
    if not own:
        return None
    state = view.state.get(own[0].id, IDLE)
    profile = state.profile or own[0].profile
    tokens = expected_tokens(call, state.lengths, profile).p50
    work_s = call.prompt_tokens / profile.prefill_tokens_per_s + tokens * token_s(profile)
    # Nine idle engines of ten would have its first token by then.
    first_s = estimate(profile, _IDLE, call.prompt_tokens, 0).first_token_s.p90
    return Need(min(until_s, call.first_token_by_s - first_s), work_s, haste)


def is_short(model: str, tenant: str, view: FleetView, now_s: float) -> bool:
    """No third party that sells the model can be asked now."""
    theirs = view.theirs.get(tenant)
    sold = (*view.offerings.get(model, ()), *(theirs.get(model, ()) if theirs else ()))
    return all(view.state.get(one.id, IDLE).open_until_s > now_s for one in sold)


def first(line: Sequence[Need], engines: int, now_s: float) -> int | None:
    """The place in `line`, which is in order of deadline, of the call that goes next, where so many
    engines work the line off; None where no call can be in time any more."""
    timely = [place for place, one in enumerate(line) if one.start_by_s >= now_s]
    start_s = now_s
    for place in timely:
        if start_s > line[place].start_by_s:
            return _kept(line, timely, engines, now_s)
        start_s += line[place].work_s / engines
    return timely[0] if timely else None


def _kept(line: Sequence[Need], among: list[int], engines: int, now_s: float) -> int:
    """Of the most that can be in time, the one whose work must be done first."""
    ends = [(line[place].start_by_s + line[place].work_s / engines, place) for place in among]
    kept: list[tuple[int, float, int]] = []
    end_s = now_s
    for end_by_s, place in sorted(ends):
        one = line[place]
        heapq.heappush(kept, (-one.haste, -one.work_s, place))
        end_s += one.work_s / engines
        while end_s > end_by_s and kept:
            end_s += heapq.heappop(kept)[1] / engines
    left = {place for _, _, place in kept}
    # None is left only where one alone fits to the last bit of a float.
    return next((place for _, place in sorted(ends) if place in left), among[0])
