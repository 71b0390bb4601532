"""How many lines may run now, where, and what becomes of one that came back. Pure.

A batch fills the room that people leave on engines of ours, and yields to whoever waits. Towards
the end of its window it takes its place among other calls, and may go to third parties if its key
may.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from serving.batch.settings import BatchSettings
from serving.batch.values import Batch, Standing, State, Status
from serving.choice import IDLE, share
from serving.records import OWN, FleetView, Offering, Outcome, Replica, Stops

WAITS = frozenset({
    "no_capacity", "engine_loading", "queue_full", "queue_timeout", "deadline_unreachable",
    "draining", "journal_full", "stopped", "rate_limit_exceeded", "budget_exceeded",
    "batches_away", "disconnected",
})  # fmt: skip
"""No fault of the line's or a target's: it is run again, as long as the window lasts."""
FLAKY = frozenset({
    "upstream_unavailable", "upstream_timeout", "stream_interrupted", "internal_error",
})  # fmt: skip
HOLD_S_MIN, HOLD_S_DEFAULT, HOLD_S_MAX = 1.0, 5.0, 60.0


class Asked(NamedTuple):
    """Who wants to run lines."""

    model: str
    """Our name of it."""
    tenant: str
    left_s: float
    """Until the window ends."""
    is_owned: bool
    """Engines of ours may be there, now or later."""
    may_overflow: bool
    running: int
    """Lines of this batch under way."""
    running_max: int
    waiting: int
    """Other calls that stand in line for the model."""


class Standby(NamedTuple):
    """Batch prices that may be used, and when."""

    rows: tuple[Offering, ...]
    now_s: float


class Release(NamedTuple):
    """How many lines more, and where they may go."""

    lines: int
    pin: str
    """See `Call.pin`. What is pinned to our own engines fills them, and asks for none more."""
    reason: str
    is_rest: bool = False
    """For those lines alone that were away as often as they may."""


def release(asked: Asked, given: BatchSettings, view: FleetView, now_s: float) -> Release:
    """What may start now."""
    room = max(0, asked.running_max - asked.running)
    if view.stops is not None and is_stopped(asked, view.stops):
        return Release(0, OWN, "stopped")
    replicas = view.replicas.get(asked.model, ())
    if not is_owned(asked, view):
        return Release(room, "", "no engine of ours")
    if asked.left_s <= given.api_before_s:
        # With its engines away it asks one by one: that wakes them, and floods nobody.
        free = sum(_free(r, r.limit, view, now_s) for r in replicas) if replicas else 1
        own = view.theirs.get(asked.tenant, {})
        if asked.may_overflow and (view.offerings.get(asked.model) or own.get(asked.model)):
            free = room
        return Release(min(room, free), "", "deadline")
    if asked.waiting:
        return Release(0, OWN, "others wait")
    free = sum(
        _free(r, int(min(r.limit, r.profile.max_num_seqs) * given.fill) or 1, view, now_s)
        for r in replicas
    )
    return Release(min(room, free), OWN, "spare room" if free else "engines are busy")


def is_owned(asked: Asked, view: FleetView) -> bool:
    """Whether engines of ours are there, or may come."""
    return asked.is_owned or bool(view.replicas.get(asked.model)) or asked.model in view.pending


def is_stopped(asked: Asked, stops: Stops) -> bool:
    """As `rules.stopped`, which every line is asked too: to leave no row of each try."""
    names = asked.tenant, asked.tenant.partition("/")[0]
    return stops.is_all or asked.model in stops.models or not stops.tenants.isdisjoint(names)


def _free(replica: Replica, most: int, view: FleetView, now_s: float) -> int:
    """How many calls more until the engine has so many; none while it holds others up."""
    state = view.state.get(replica.id, IDLE)
    if max(state.open_until_s, state.full_until_s) > now_s:
        return 0
    busy = state.unfinished
    if now_s - state.load_at_s <= view.stale_s:
        if state.load.waiting:
            return 0
        busy = max(busy, state.load.running + state.since_calls)
    return max(0, min(most - busy, share(replica, view) - state.unfinished))


class Held(NamedTuple):
    """A batch that a process works on."""

    id: str
    tenant: str
    expires_ms: int
    idle_s: float
    """For so long none of its lines could run."""


def leaving(
    held: Sequence[Held], waiting: Mapping[str, int], freed: int, idle_s_max: float
) -> dict[str, bool]:
    """Who makes way while others wait for a place: by id, whether for having been idle. `waiting`
    counts batches by tenant; so many places become free without that.

    A place moves from the tenant that has the most to one that has at least two fewer, so that
    they end up even and nothing moves to and fro; the batch with the most time left gives it."""
    left, has = Counter(waiting), Counter(one.tenant for one in held)
    idle = sorted((one for one in held if one.idle_s >= idle_s_max), key=lambda o: -o.idle_s)
    idle = idle[: max(0, left.total() - freed)]
    has.subtract(one.tenant for one in idle)
    found = {one.id: True for one in idle}
    busy = sorted((one for one in held if one.id not in found), key=lambda one: one.expires_ms)
    free = freed + len(idle)
    while poor := min((t for t in left if left[t] > 0), key=lambda t: (has[t], t), default=""):
        if not free:
            rich = max(has, key=lambda t: (has[t], t))
            if has[rich] < has[poor] + 2:
                break
            patient = [one for one in busy if one.tenant == rich].pop()
            busy.remove(patient)
            found[patient.id] = False
            has[rich] -= 1
            free = 1
        free -= 1
        left[poor] -= 1
        has[poor] += 1
    return found


class Judged(NamedTuple):
    """What becomes of a line that was run."""

    state: State
    """`WAITING`: again."""
    hold_s: float = 0.0
    """Nothing of its batch starts before that."""
    is_home_only: bool = False
    """A third party refused its content: no other may see it in a later run."""


def judged(outcome: str, code: str, run: int, after: tuple[float | None, int]) -> Judged:
    """`after`: the seconds the refusal named, and the most runs of a line that fails by others'
    fault."""
    if outcome == Outcome.OK:
        return Judged(State.DONE)
    named_s, tries_max = after
    hold_s = min(max(named_s or HOLD_S_DEFAULT, HOLD_S_MIN), HOLD_S_MAX)
    if code in WAITS:
        return Judged(State.WAITING, hold_s)
    if code in FLAKY and run < tries_max:
        return Judged(State.WAITING, HOLD_S_MIN)
    return Judged(State.FAILED)


class Ending(NamedTuple):
    """Why no more lines of a batch start."""

    status: Status
    """What it will be."""
    code: str
    message: str
    """Of each line that was not run."""


_UNRUN = {
    Status.CANCELLED: (
        "batch_cancelled", "the batch was cancelled before this request was run",
    ),
    Status.EXPIRED: (
        "batch_expired",
        "this request could not be executed before the completion window expired",
    ),
}  # fmt: skip


def ending(standing: Standing, now_ms: int, lost_key: str) -> Ending | None:
    """Whether a batch ends before its lines have. `lost_key`: why its key may do nothing more."""
    if lost_key:
        return Ending(Status.FAILED, "invalid_api_key", lost_key)
    if standing.cancel_ms:
        return Ending(Status.CANCELLED, *_UNRUN[Status.CANCELLED])
    if now_ms >= standing.batch.expires_ms:
        return Ending(Status.EXPIRED, *_UNRUN[Status.EXPIRED])
    return None


def unrun(batch: Batch) -> Ending | None:
    """What is said of the lines that a batch leaves; None when it ended with all of them."""
    if batch.ends_as in _UNRUN:
        return Ending(batch.ends_as, *_UNRUN[batch.ends_as])
    if batch.errors:
        return Ending(batch.ends_as, batch.errors[0].code, batch.errors[0].message)
    return None
